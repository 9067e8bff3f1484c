/**
 * The record beside a layer's image, `NAME.json` beside `NAME.ext4`: what it was made of and how, and the checksums that
 * prove it to be whole. It ends with a CRC-32 of itself.
 *
 * @module
 */
import { InputError, type OptionDifference } from "../errors.ts";
import {
  asObject,
  asSizeBytes,
  asString,
  eachOf,
  inside,
  type JsonPlace,
  optional,
  required,
} from "../source/json.ts";
import { CHECKSUM_PIECE_BYTES, type FileChecksums } from "./layered_checksums.ts";
import { asWarning, type LayerWarning } from "./layered_placement.ts";
import { journalText, type LayoutOptions, NONE, packingText, thresholdText } from "./options.ts";
import type { ImageReport } from "./report.ts";
import { openSealedJson, sealJson } from "./sealed_json.ts";

/** Version of the record's own fields. That of the image's bytes is its `formatVersion`. */
const RECORD_VERSION = 3;

/** The options that decide the bytes, each under its key; one that is not there has its default. */
export type OptionFacts = Readonly<Record<string, string>>;

/** One image of a layer. */
export interface LayerRecord {
  /** FORMAT_VERSION of the program that made the image; records that do not state it are of version 1. */
  readonly formatVersion: number;
  readonly diffId: string;
  /** Of the tree that it was made from (layered_digest.ts). */
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
