/**
 * The record beside a layer's image, `NAME.json` beside `NAME.ext4`: what it was made of and how, and the checksums that
 * prove it to be whole. It ends with a CRC-32 of itself.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { crc32 } from "node:zlib";
import { InputError } from "../errors.ts";
import {
  asObject,
  asSizeBytes,
  asString,
  eachOf,
  inside,
  jsonFault,
  type JsonObject,
  type JsonPlace,
  parseJsonObject,
  required,
} from "../source/json.ts";
import { CHECKSUM_PIECE_BYTES, type FileChecksums } from "./layered_checksums.ts";
import type { LayoutOptions } from "./options.ts";
import { type ImageReport, layoutReport } from "./report.ts";

/** Raised whenever the same layer and options begin to give other bytes. */
const RECORD_VERSION = 1;

/** The options that decide the bytes, each under its name on the command line. */
export type OptionFacts = Readonly<Record<string, string>>;

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
  readonly what: string;
  readonly why: string;
  readonly count: number;
  /** Whether `what` goes on after the layer's name. */
  readonly isNamed: boolean;
}

/** One image of a layer. */
export interface LayerRecord {
  readonly diffId: string;
  /** The chain keys (layered_chain.ts) for which the layer has exactly these bytes. */
  readonly chains: readonly string[];
  readonly options: OptionFacts;
  readonly checksums: FileChecksums;
  readonly facts: LayerFacts;
  readonly image: ImageReport;
  /** Of reading the layer and of applying it. */
  readonly readWarnings: readonly LayerWarning[];
  /** Of making the image. */
  readonly planWarnings: readonly LayerWarning[];
}

/** The options of an image, for its record. */
export function optionFacts(layout: LayoutOptions, timestampSeconds: number): OptionFacts {
  const { grid, alignThreshold, packing } = layoutReport(layout);
  const { size, reservedBlocks } = layout;
  return {
    "--grid": String(grid),
    "--align-threshold": String(alignThreshold ?? "none"),
    "--packing": packing,
    "--size": size.kind === "exact"
      ? "exact"
      : size.kind === "free"
      ? `+${size.freeBytes}`
      : String(size.sizeBytes),
    "--journal": layout.journalBytes === 0 ? "none" : String(layout.journalBytes),
    "--uuid": layout.uuid?.toLowerCase() ?? "derived",
    "--label": JSON.stringify(layout.label ?? ""),
    "--backups": layout.backups,
    "--inline-data": layout.inlineData ? "yes" : "no",
    "--metadata-csum": layout.metadataChecksums ? "yes" : "no",
    "--compat": layout.compat ?? "none",
    "--inodes": String(layout.inodeCount ?? "derived"),
    "--reserved": reservedBlocks.kind === "percent"
      ? `${reservedBlocks.percent}%`
      : String(reservedBlocks.bytes),
    "SOURCE_DATE_EPOCH": String(timestampSeconds),
  };
}

/** Which options differ, in words; empty when none does. */
export function describeOptionDifference(found: OptionFacts, wanted: OptionFacts): string {
  return Object.keys(wanted)
    .filter((name) => found[name] !== wanted[name])
    .map((name) => `${name} ${found[name] ?? "unknown"} (wanted ${wanted[name]})`)
    .join(", ");
}

/** The bytes of a record; the same record always gives the same. */
export function encodeRecord(record: LayerRecord): Uint8Array {
  const body = { version: RECORD_VERSION, ...record };
  const checksum = crc32(JSON.stringify(body));
  return Buffer.from(`${JSON.stringify({ ...body, crc32: checksum })}\n`);
}

/**
 * Reads a record.
 *
 * @param what the record's file, safe to print
 * @throws {InputError} when it is damaged, or of another version
 */
export function decodeRecord(bytes: Uint8Array, what: string): LayerRecord {
  const { crc32: checksum, ...body } = parseJsonObject(bytes, what);
  const place = { what, field: "" };
  const { version } = body;
  if (version !== RECORD_VERSION) {
    throw jsonFault(inside(place, "version"), version, String(RECORD_VERSION));
  }
  const computed = crc32(JSON.stringify(body));
  if (computed !== checksum) {
    throw jsonFault(inside(place, "crc32"), checksum, `${computed}, as the record's bytes have it`);
  }
  const { facts, image } = body;
  return {
    diffId: required(body, "diffId", place, asString),
    chains: required(body, "chains", place, eachOf(asString)),
    options: required(body, "options", place, asStrings),
    checksums: required(body, "checksums", place, asChecksums),
    facts: readFacts(asObject(facts, inside(place, "facts")), inside(place, "facts")),
    image: asImage(image, inside(place, "image")),
    readWarnings: required(body, "readWarnings", place, eachOf(asWarning)),
    planWarnings: required(body, "planWarnings", place, eachOf(asWarning)),
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

function readFacts(object: JsonObject, place: JsonPlace): LayerFacts {
  return {
    digest: required(object, "digest", place, asString),
    sizeBytes: required(object, "sizeBytes", place, asSizeBytes),
    uncompressedBytes: required(object, "uncompressedBytes", place, asSizeBytes),
    entries: required(object, "entries", place, asSizeBytes),
  };
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

function asWarning(value: unknown, place: JsonPlace): LayerWarning {
  const object = asObject(value, place);
  return {
    kind: required(object, "kind", place, asString),
    what: required(object, "what", place, asString),
    why: required(object, "why", place, asString),
    count: required(object, "count", place, asSizeBytes),
    isNamed: required(object, "isNamed", place, asBoolean),
  };
}

function asBoolean(value: unknown, place: JsonPlace): boolean {
  if (typeof value !== "boolean") throw jsonFault(place, value, "true or false");
  return value;
}
