/**
 * The JSON documents beside the images of layers. `NAME.json` beside `NAME.ext4` says what the image was made of and how,
 * with the checksums that prove it to be whole. `NAME@KEY.json` says which tree a layer gives in a certain position, so that
 * it need not be read again. Each ends with a CRC-32 of itself.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { InputError, type OptionDifference } from "../errors.ts";
import {
  asObject,
  asSizeBytes,
  asString,
  eachOf,
  inside,
  jsonFault,
  type JsonObject,
  type JsonPlace,
  optional,
  parseJsonObject,
  required,
} from "../source/json.ts";
import { Warnings } from "../warnings.ts";
import { layerFileName } from "./layered_identity.ts";
import { journalText, type LayoutOptions, NONE, packingText, thresholdText } from "./options.ts";
import type { ImageReport } from "./report.ts";

/** The bytes of a document; equal documents give equal bytes. */
export function sealJson(version: number, document: object): Uint8Array {
  const body = { version, ...document };
  return Buffer.from(`${JSON.stringify({ ...body, crc32: crc32(JSON.stringify(body)) })}\n`);
}

/**
 * Reads a document.
 *
 * @param what the document's file, safe to print
 * @throws {InputError} when it is damaged, or of another version
 * @example
 * ```ts
 * import { assertEquals, assertThrows } from "@std/assert";
 * import { openSealedJson, sealJson } from "./layered_records.ts";
 * const bytes = sealJson(1, { name: "base" });
 * assertEquals(openSealedJson(bytes, 1, "record"), { version: 1, name: "base" });
 * assertThrows(() => openSealedJson(bytes, 2, "record"), Error, "version is 1: wanted 2");
 * ```
 */
export function openSealedJson(bytes: Uint8Array, version: number, what: string): JsonObject {
  const { crc32: checksum, ...body } = parseJsonObject(bytes, what);
  const place = { what, field: "" };
  const { version: found } = body;
  if (found !== version) throw jsonFault(inside(place, "version"), found, String(version));
  const computed = crc32(JSON.stringify(body));
  if (computed !== checksum) {
    throw jsonFault(
      inside(place, "crc32"),
      checksum,
      `${computed}, as the document's bytes have it`,
    );
  }
  return body;
}

/** Each piece of an image but the last is so long. */
export const CHECKSUM_PIECE_BYTES = 1024 * 1024;

/** What a file was when it was whole. */
export interface FileChecksums {
  readonly sizeBytes: number;
  /** Of each piece in turn; holes count as zeros. */
  readonly crc32s: readonly number[];
}

/** Version of the record's own fields. That of the image's bytes is its `formatVersion`. */
const RECORD_VERSION = 3;

/** The options that decide the bytes, each under its key; one that is not there has its default. */
export type OptionFacts = Readonly<Record<string, string>>;

/** One image of a layer. */
export interface LayerRecord {
  /** FORMAT_VERSION of the program that made the image; records that do not state it are of version 1. */
  readonly formatVersion: number;
  readonly diffId: string;
  /** Of the tree that it was made from (layered_identity.ts). */
  readonly tree: string;
  readonly options: OptionFacts;
  readonly checksums: FileChecksums;
  readonly image: ImageReport;
  /** Of making the image. */
  readonly warnings: readonly LayerWarning[];
}

/** The options of an image, for its record. */
export function optionFacts(layout: LayoutOptions, timestampSeconds: number): OptionFacts {
  const { size, reservedBlocks, payloadOrder = "path" } = layout;
  return {
    gridBytes: String(layout.gridBytes),
    alignThresholdBytes: thresholdText(layout.alignThresholdBytes),
    packing: packingText(layout.packing),
    size: size.kind === "exact"
      ? "exact"
      : size.kind === "free"
      ? `+${size.freeBytes}`
      : String(size.sizeBytes),
    journalBytes: journalText(layout.journalBytes),
    uuid: layout.uuid?.toLowerCase() ?? "derived",
    label: JSON.stringify(layout.label ?? ""),
    backups: layout.backups,
    inlineData: layout.inlineData ? "yes" : "no",
    metadataChecksums: layout.metadataChecksums ? "yes" : "no",
    compat: layout.compat ?? NONE,
    inodeCount: String(layout.inodeCount ?? "derived"),
    reservedBlocks: reservedBlocks.kind === "percent"
      ? `${reservedBlocks.percent}%`
      : String(reservedBlocks.bytes),
    // Only programs can ask for another one.
    ...payloadOrder === "path" ? {} : { payloadOrder },
    timestamp: String(timestampSeconds),
  };
}

/** Which options differ. */
export function optionDifferences(found: OptionFacts, wanted: OptionFacts): OptionDifference[] {
  return [...new Set([...Object.keys(wanted), ...Object.keys(found)])]
    .filter((option) => found[option] !== wanted[option])
    .map((option) => ({
      option,
      found: found[option] ?? "default",
      wanted: wanted[option] ?? "default",
    }));
}

/** The bytes of a record; they depend on the layer's tree and the options alone. */
export function encodeRecord(record: LayerRecord): Uint8Array {
  return sealJson(RECORD_VERSION, record);
}

/**
 * Reads a record.
 *
 * @param what the record's file, safe to print
 * @throws {InputError} when it is damaged, or of another version
 */
export function decodeRecord(bytes: Uint8Array, what: string): LayerRecord {
  const body = openSealedJson(bytes, RECORD_VERSION, what);
  const place = { what, field: "" };
  return {
    formatVersion: optional(body, "formatVersion", place, asSizeBytes) ?? 1,
    diffId: required(body, "diffId", place, asString),
    tree: required(body, "tree", place, asString),
    options: required(body, "options", place, asStrings),
    checksums: required(body, "checksums", place, asChecksums),
    image: required(body, "image", place, asImage),
    warnings: required(body, "warnings", place, eachOf(asWarning)),
  };
}

function asStrings(value: unknown, place: JsonPlace): OptionFacts {
  const object = asObject(value, place);
  return Object.fromEntries(
    Object.entries(object).map(([name, text]) => [name, asString(text, inside(place, name))]),
  );
}

function asChecksums(value: unknown, place: JsonPlace): FileChecksums {
  const object = asObject(value, place);
  const sizeBytes = required(object, "sizeBytes", place, asSizeBytes);
  const crc32s = required(object, "crc32s", place, eachOf(asSizeBytes));
  const wantedCount = Math.ceil(sizeBytes / CHECKSUM_PIECE_BYTES);
  if (crc32s.length !== wantedCount) {
    throw new InputError(
      place.what,
      `${place.field} has ${crc32s.length} pieces: wanted ${wantedCount}`,
    );
  }
  return { sizeBytes, crc32s };
}

function asImage(value: unknown, place: JsonPlace): ImageReport {
  const object = asObject(value, place);
  const count = (key: string) => required(object, key, place, asSizeBytes);
  return {
    uuid: required(object, "uuid", place, asString),
    sizeBytes: count("sizeBytes"),
    usedBytes: count("usedBytes"),
    storedBytes: count("storedBytes"),
    paddingBytes: count("paddingBytes"),
    files: count("files"),
    directories: count("directories"),
    symlinks: count("symlinks"),
    specialFiles: count("specialFiles"),
    inodes: count("inodes"),
    freeInodes: count("freeInodes"),
    alignedFiles: count("alignedFiles"),
  };
}

/** Raised whenever layers begin to give other trees or warnings. */
const PLACEMENT_VERSION = 2;
const KEY_HEX_DIGITS = 16;

/** A layer in its place, as the source states it. */
export interface LayerPlace {
  readonly diffId: string;
  /** Of the layer and those below (layered_identity.ts). */
  readonly chainKey: string;
  /** Of the stored bytes; undefined where the source states none. */
  readonly digest: string | undefined;
  readonly mediaType: string | undefined;
  readonly sizeBytes: number | undefined;
}

/** What was found out about a layer while it was read. */
export interface LayerFacts {
  /** Of the stored bytes that it was read from. */
  readonly digest: string;
  readonly sizeBytes: number;
  readonly uncompressedBytes: number;
  readonly entries: number;
}

/** A warning that belongs to one layer. */
export interface LayerWarning {
  readonly kind: string;
  /** One text, or two that the name of the layer belongs between: it has another one in every image. */
  readonly what: readonly string[];
  readonly why: string;
  readonly count: number;
}

/** What is known of a layer in its place. */
export interface LayerPlacement {
  /** Its {@link placeKey}. */
  readonly place: string;
  /** Of the tree that the image must have (layered_identity.ts). */
  readonly tree: string;
  readonly facts: LayerFacts;
  /** Of reading the layer and of applying it. */
  readonly warnings: readonly LayerWarning[];
}

/** A place in words that differ whenever the layer could give another tree or other warnings there. */
export function placeKey(place: LayerPlace): string {
  const { diffId, chainKey, digest, mediaType, sizeBytes } = place;
  return JSON.stringify([diffId, chainKey, digest ?? null, mediaType ?? null, sizeBytes ?? null]);
}

/** The name, without an ending, of the file that says what is known of a layer in its place. */
export function placementFileName(place: LayerPlace): string {
  const hex = createHash("sha256").update(placeKey(place)).digest("hex");
  return `${layerFileName(place.diffId)}@${hex.slice(0, KEY_HEX_DIGITS)}`;
}

/** The bytes of a placement; they depend on the image alone. */
export function encodePlacement(placement: LayerPlacement): Uint8Array {
  return sealJson(PLACEMENT_VERSION, placement);
}

/**
 * Reads a placement.
 *
 * @param what the file, safe to print
 * @throws {InputError} when it is damaged, or of another version
 */
export function decodePlacement(bytes: Uint8Array, what: string): LayerPlacement {
  const body = openSealedJson(bytes, PLACEMENT_VERSION, what);
  const place = { what, field: "" };
  return {
    place: required(body, "place", place, asString),
    tree: required(body, "tree", place, asString),
    facts: required(body, "facts", place, asFacts),
    warnings: required(body, "warnings", place, eachOf(asWarning)),
  };
}

/** Reads one warning of a record. */
export function asWarning(value: unknown, place: JsonPlace): LayerWarning {
  const object = asObject(value, place);
  return {
    kind: required(object, "kind", place, asString),
    what: required(object, "what", place, eachOf(asString)),
    why: required(object, "why", place, asString),
    count: required(object, "count", place, asSizeBytes),
  };
}

function asFacts(value: unknown, place: JsonPlace): LayerFacts {
  const object: JsonObject = asObject(value, place);
  return {
    digest: required(object, "digest", place, asString),
    sizeBytes: required(object, "sizeBytes", place, asSizeBytes),
    uncompressedBytes: required(object, "uncompressedBytes", place, asSizeBytes),
    entries: required(object, "entries", place, asSizeBytes),
  };
}

/** A warning as it was added. */
export interface NotedWarning extends Omit<LayerWarning, "what"> {
  readonly what: string;
}

/** What says something of the source, and nothing of the layer that was read. */
const SOURCE_KINDS: ReadonlySet<string> = new Set(["diffIdMismatch"]);

/** Passes warnings on and notes them. */
export class NotingWarnings extends Warnings {
  readonly #target: Warnings;
  readonly #isByKind: boolean;
  #notes = new Map<string, NotedWarning>();

  /** @param grouping `kind`: one note a kind, with its first case, as reports have them; `case`: one each */
  constructor(target: Warnings, grouping: "kind" | "case") {
    super(target.strict);
    this.#target = target;
    this.#isByKind = grouping === "kind";
  }

  override add(kind: string, what: string, why: string, count = 1): void {
    this.#target.add(kind, what, why, count);
    const key = this.#isByKind ? kind : `${kind} ${what}`;
    const known = this.#notes.get(key);
    this.#notes.set(key, { kind, what, why, ...known, count: (known?.count ?? 0) + count });
  }

  /** What was noted since the last time. */
  take(): NotedWarning[] {
    const notes = [...this.#notes.values()];
    this.#notes = new Map();
    return notes;
  }
}

/** The notes that name a layer; warnings about the source itself are left out. */
export function notesAbout(notes: readonly NotedWarning[], layerName: string): NotedWarning[] {
  return notes.filter(({ kind, what }) => what.includes(layerName) && !SOURCE_KINDS.has(kind));
}

/** Notes for a record, without the name that the layer has in this image only. */
export function recordedWarnings(
  notes: readonly NotedWarning[],
  layerName: string,
): LayerWarning[] {
  return notes.map(({ what, ...note }) => {
    const at = what.indexOf(layerName);
    if (at < 0) return { ...note, what: [what] };
    return { ...note, what: [what.slice(0, at), what.slice(at + layerName.length)] };
  });
}

/** Adds the warnings of a record, with the name that the layer has here. Under `strict` the first is thrown. */
export function addRecorded(
  recorded: readonly LayerWarning[],
  layerName: string,
  warnings: Warnings,
): void {
  for (const { kind, what, why, count } of recorded) {
    warnings.add(kind, what.join(layerName), why, count);
  }
}
