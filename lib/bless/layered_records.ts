/**
 * The JSON documents beside the images of layers. `NAME.json` beside `NAME.ext4` records the layer, the options and the
 * checksums of an image. `NAME@KEY.json` records which tree a layer gives in a certain position, so that it need not be
 * read again.
 *
 * @module
 */
import { compatText } from "../ext4/plan/compat.ts";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import * as v from "valibot";
import type { OptionDifference } from "../errors.ts";
import { checkJson, fields, listOf, SIZE_BYTES, TEXT } from "../source/json.ts";
import { Warnings } from "../warnings.ts";
import { decodeCheckedJson, encodeCheckedJson } from "./checked_json.ts";
import type { VerityReport } from "../verity/verity_sink.ts";
import type { EnvelopeOptions } from "./envelope.ts";
import { layerFileName } from "./layered_identity.ts";
import { journalText, type LayoutOptions, packingText, thresholdText } from "./options.ts";
import type { LikeReport } from "./previous_image.ts";
import type { ImageReport } from "./report.ts";

/** The length of a piece of an image; the last may be shorter. */
export const CHECKSUM_PIECE_BYTES = 1024 * 1024;

/** The length and checksums of a complete file. */
export interface FileChecksums {
  readonly sizeBytes: number;
  /** One for each piece; holes count as zeros. */
  readonly crc32s: readonly number[];
}

/** What `image.json` says that it is. */
export const DESCRIPTION_KIND = "blessfs layered image";
/** The file that describes the layers of an image. */
export const DESCRIPTION_FILE = "image.json";

/** Version of the record's fields; `formatVersion` is that of the image's bytes. */
const RECORD_VERSION = 4;

/** The options that decide the bytes, by their keys; those left out have their defaults. */
export type OptionFacts = Readonly<Record<string, string>>;

/** The record of an image. */
export interface LayerRecord {
  /** FORMAT_VERSION of the program that made the image. */
  readonly formatVersion: number;
  readonly diffId: string;
  /** The digest of its tree (layered_identity.ts). */
  readonly tree: string;
  readonly options: OptionFacts;
  readonly checksums: FileChecksums;
  readonly image: ImageReport;
  /** Of its hash tree; undefined when there is none. */
  readonly verity?: VerityReport | undefined;
  /** Of the file of the hash tree; undefined when the tree is behind the image. */
  readonly hashFile?: FileChecksums | undefined;
  /** Of the image that it was laid out like, by the name of its file; left out when it was not. */
  readonly like?: LikeReport | undefined;
  /** What was warned of when it was made. */
  readonly warnings: readonly LayerWarning[];
}

/** The options of an image, for its record. */
export function optionFacts(
  layout: LayoutOptions,
  timestampSeconds: number,
  envelope: EnvelopeOptions = {},
): OptionFacts {
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
    compat: compatText(layout.compat ?? []),
    inodeCount: String(layout.inodeCount ?? "derived"),
    reservedBlocks: reservedBlocks.kind === "percent"
      ? `${reservedBlocks.percent}%`
      : String(reservedBlocks.bytes),
    // Only programs can ask for another one.
    ...payloadOrder === "path" ? {} : { payloadOrder },
    timestamp: String(timestampSeconds),
    ...envelopeFacts(envelope),
  };
}

/** Of the fact `verity`: each tree is in a file beside its image. */
export const BESIDE = "beside";

/** An image without anything around it has no such facts. */
function envelopeFacts({ verity, vhd, disk }: EnvelopeOptions): OptionFacts {
  return {
    ...verity === undefined ? {} : {
      verity: verity.beside ? BESIDE : "append",
      veritySalt: verity.randomSalt ? "random" : Buffer.from(verity.salt).toString("hex"),
    },
    // The partitions leave out the footer of the disk.
    ...vhd && disk === undefined ? { vhd: "yes" } : {},
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

/** The bytes of a record; they depend only on the tree, the options and the image that it was laid out like. */
export function encodeRecord(record: LayerRecord): Uint8Array {
  return encodeCheckedJson(RECORD_VERSION, record);
}

/**
 * Reads a record.
 *
 * @param what the record's file, safe to print
 * @throws {InputError} when it is damaged, or of another version
 */
export function decodeRecord(bytes: Uint8Array, what: string): LayerRecord {
  return checkJson(RECORD, decodeCheckedJson(bytes, RECORD_VERSION, what), { what, field: "" });
}

/** A warning that belongs to one layer. */
export interface LayerWarning {
  readonly kind: string;
  /** One text, or two with the name of the layer between them: the name differs from source to source. */
  readonly what: readonly string[];
  readonly why: string;
  readonly count: number;
}

const WARNINGS = listOf(
  fields({ kind: TEXT, what: listOf(TEXT), why: TEXT, count: SIZE_BYTES }),
);

/** The figures of an image. */
export const IMAGE_COUNTS = {
  sizeBytes: SIZE_BYTES,
  usedBytes: SIZE_BYTES,
  files: SIZE_BYTES,
  directories: SIZE_BYTES,
  symlinks: SIZE_BYTES,
  specialFiles: SIZE_BYTES,
  inodes: SIZE_BYTES,
  freeInodes: SIZE_BYTES,
  alignedFiles: SIZE_BYTES,
  paddingBytes: SIZE_BYTES,
  cellBytes: SIZE_BYTES,
} satisfies Record<keyof Omit<ImageReport, "uuid">, v.GenericSchema>;

const CHECKSUMS = v.pipe(
  fields({ sizeBytes: SIZE_BYTES, crc32s: listOf(SIZE_BYTES) }),
  v.check(
    ({ sizeBytes, crc32s }) => crc32s.length === Math.ceil(sizeBytes / CHECKSUM_PIECE_BYTES),
    "one checksum for each MiB",
  ),
);

const RECORD: v.GenericSchema<unknown, LayerRecord> = fields({
  formatVersion: SIZE_BYTES,
  diffId: TEXT,
  tree: TEXT,
  options: v.record(TEXT, TEXT, "an object"),
  checksums: CHECKSUMS,
  hashFile: v.optional(CHECKSUMS),
  image: fields({ uuid: TEXT, ...IMAGE_COUNTS }),
  verity: v.optional(fields({
    rootHash: TEXT,
    salt: TEXT,
    uuid: TEXT,
    dataBlocks: SIZE_BYTES,
    hashOffset: SIZE_BYTES,
    hashBytes: SIZE_BYTES,
  })),
  like: v.optional(fields({
    previous: TEXT,
    digest: TEXT,
    keptFiles: SIZE_BYTES,
    placedFiles: SIZE_BYTES,
    staleBytes: SIZE_BYTES,
    staleCleared: v.nullable(TEXT),
    afresh: v.nullable(TEXT),
    cells: fields({ kept: SIZE_BYTES, changed: SIZE_BYTES, new: SIZE_BYTES }),
  })),
  warnings: WARNINGS,
});

/** Raised whenever layers begin to result in other trees or warnings. */
const POSITION_VERSION = 2;
const KEY_HEX_DIGITS = 16;

/** A layer and its position in a source: what decides its tree and its warnings. */
export interface LayerPosition {
  readonly diffId: string;
  /** The chain key of the layer and those below (layered_identity.ts). */
  readonly chainKey: string;
  /** Of the stored bytes; undefined if the source states none. */
  readonly digest: string | undefined;
  readonly mediaType: string | undefined;
  readonly sizeBytes: number | undefined;
}

/** What was found out about a layer while it was read. */
export interface LayerFacts {
  /** Of the stored bytes. */
  readonly digest: string;
  readonly sizeBytes: number;
  readonly uncompressedBytes: number;
  readonly entries: number;
}

/** What was recorded of a layer in a position. */
export interface PositionRecord {
  /** Its {@link positionKey}. */
  readonly position: string;
  /** The digest of its tree (layered_identity.ts). */
  readonly tree: string;
  readonly facts: LayerFacts;
  /** From reading and applying the layer. */
  readonly warnings: readonly LayerWarning[];
}

const POSITION: v.GenericSchema<unknown, PositionRecord> = fields({
  position: TEXT,
  tree: TEXT,
  facts: fields({
    digest: TEXT,
    sizeBytes: SIZE_BYTES,
    uncompressedBytes: SIZE_BYTES,
    entries: SIZE_BYTES,
  }),
  warnings: WARNINGS,
});

/** A position as text. */
export function positionKey(position: LayerPosition): string {
  const { diffId, chainKey, digest, mediaType, sizeBytes } = position;
  return JSON.stringify([diffId, chainKey, digest ?? null, mediaType ?? null, sizeBytes ?? null]);
}

/** The name of the record of a position, without extension. */
export function positionFileName(position: LayerPosition): string {
  const hex = createHash("sha256").update(positionKey(position)).digest("hex");
  return `${layerFileName(position.diffId)}@${hex.slice(0, KEY_HEX_DIGITS)}`;
}

/** The bytes of the record of a position; they depend only on the source. */
export function encodePosition(record: PositionRecord): Uint8Array {
  return encodeCheckedJson(POSITION_VERSION, record);
}

/**
 * Reads the record of a position.
 *
 * @param what the file, safe to print
 * @throws {InputError} when it is damaged, or of another version
 */
export function decodePosition(bytes: Uint8Array, what: string): PositionRecord {
  return checkJson(POSITION, decodeCheckedJson(bytes, POSITION_VERSION, what), { what, field: "" });
}

/** A warning as it was added. */
export interface NotedWarning extends Omit<LayerWarning, "what"> {
  readonly what: string;
}

/** Warnings about the source rather than about the content of the layer. */
const SOURCE_KINDS: ReadonlySet<string> = new Set(["diffIdMismatch"]);

/** Passes warnings on, and keeps notes of them for the records. */
export class NotingWarnings extends Warnings {
  readonly #target: Warnings;
  readonly #isByKind: boolean;
  #notes = new Map<string, NotedWarning>();

  /** @param grouping `kind`: one note for each kind, with its first case, as in reports; `case`: one for each case */
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

  /** The notes since the last call. */
  take(): NotedWarning[] {
    const notes = [...this.#notes.values()];
    this.#notes = new Map();
    return notes;
  }
}

/** The notes that name a layer, without those about the source itself. */
export function notesAbout(notes: readonly NotedWarning[], layerName: string): NotedWarning[] {
  return notes.filter(({ kind, what }) => what.includes(layerName) && !SOURCE_KINDS.has(kind));
}

/** Notes as they are recorded, without the name that the layer has in this source. */
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

/** Adds the warnings of a record, with the name that the layer has in this source. Under `strict` the first throws. */
export function addRecorded(
  recorded: readonly LayerWarning[],
  layerName: string,
  warnings: Warnings,
): void {
  for (const { kind, what, why, count } of recorded) {
    warnings.add(kind, what.join(layerName), why, count);
  }
}
