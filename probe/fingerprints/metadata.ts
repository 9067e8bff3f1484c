/**
 * What a file of fingerprints says beside its rows, as JSON in the file's metadata: the rows of the report, and of each
 * image what its units do not say.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { crc32 } from "node:zlib";
import { InputError, UsageError } from "../../lib/errors.ts";
import {
  asObject,
  asSizeBytes,
  asString,
  eachOf,
  inside,
  jsonFault,
  type JsonPlace,
  required,
} from "../../lib/source/json.ts";
import { decodeCheckedJson, encodeCheckedJson } from "../../lib/bless/checked_json.ts";
import type { Packing } from "../../lib/bless/options.ts";
import { fastCdcParameters, GEAR_PARAMETERS } from "../fast_cdc/parameters.ts";
import type { ImageFacts } from "../image_parts.ts";
import type { Scheme } from "../options.ts";
import type { ProbeReport } from "../report.ts";
import { describeScheme, type SchemeDescription } from "../report.ts";

/** The key of the JSON in the file. */
export const METADATA_KEY = "blessfs.fingerprints";
/** Raised when readers of older files would read something wrong. */
const VERSION = 1;

/** Counts of one image in one row. */
export interface ImageCounts {
  readonly logicalBytes: number;
  readonly nonZeroBytes: number;
  readonly unitCount: number;
  readonly paddingBytes: number;
  /** {@link unitsCrc32} of its units, in the order of the file. */
  readonly unitsCrc32: number;
}

/** Goes on with the CRC-32 of units: what a report takes from each is in it. */
export function unitsCrc32(
  before: number,
  unit: {
    readonly id: string;
    readonly sizeBytes: number;
    readonly raw: number;
    readonly stored: number;
  },
): number {
  const { id, sizeBytes, raw, stored } = unit;
  return crc32(Buffer.from(`${id} ${sizeBytes} ${raw} ${stored}\n`, "latin1"), before);
}

/** One image. */
export interface FingerprintedImage extends ImageFacts {
  /** In the order of the schemes. */
  readonly counts: readonly ImageCounts[];
}

/** All of it. */
export interface FingerprintMetadata {
  readonly mode: ProbeReport["mode"];
  /** As reports have it. */
  readonly compress: string;
  readonly schemes: readonly Scheme[];
  readonly images: readonly FingerprintedImage[];
}

/** Encodes it. */
export function encodeMetadata(metadata: FingerprintMetadata): string {
  const { mode, compress, schemes, images } = metadata;
  const bytes = encodeCheckedJson(VERSION, {
    mode,
    compress,
    rows: schemes.map(describeScheme),
    images: images.map(({ source, manifestDigest, platform, counts }) => ({
      source,
      manifestDigest,
      platform,
      counts,
    })),
  });
  return new TextDecoder().decode(bytes);
}

/** Decodes it. Throws an InputError that names the field. */
export function decodeMetadata(text: string, what: string): FingerprintMetadata {
  const document = decodeCheckedJson(new TextEncoder().encode(text), VERSION, what);
  const place = { what, field: "" };
  const schemes = required(document, "rows", place, eachOf(asScheme));
  return {
    mode: required(document, "mode", place, asMode),
    compress: required(document, "compress", place, asString),
    schemes,
    images: required(
      document,
      "images",
      place,
      eachOf((image, at) => asImage(image, at, schemes.length)),
    ),
  };
}

function asMode(value: unknown, place: JsonPlace): ProbeReport["mode"] {
  if (value === "merged" || value === "layered" || value === "as-is") return value;
  throw jsonFault(place, value, "merged, layered or as-is");
}

function asImage(value: unknown, place: JsonPlace, schemeCount: number): FingerprintedImage {
  const image = asObject(value, place);
  const counts = required(image, "counts", place, eachOf(asCounts));
  if (counts.length !== schemeCount) {
    throw jsonFault(inside(place, "counts.length"), counts.length, `${schemeCount}`);
  }
  return {
    source: required(image, "source", place, asString),
    manifestDigest: required(image, "manifestDigest", place, orNull(asString)),
    platform: required(image, "platform", place, orNull(asString)),
    counts,
  };
}

function asCounts(value: unknown, place: JsonPlace): ImageCounts {
  const counts = asObject(value, place);
  const count = (name: keyof ImageCounts) => required(counts, name, place, asSizeBytes);
  return {
    logicalBytes: count("logicalBytes"),
    nonZeroBytes: count("nonZeroBytes"),
    unitCount: count("unitCount"),
    paddingBytes: count("paddingBytes"),
    unitsCrc32: count("unitsCrc32"),
  };
}

const KINDS = ["file", "unaligned", "fastcdc", "aligned", "as-is"] as const;

function asScheme(value: unknown, place: JsonPlace): Scheme {
  const row = asObject(value, place);
  const kind = KINDS.find((each) => each === row["scheme"]);
  if (kind === undefined) throw jsonFault(inside(place, "scheme"), row["scheme"], KINDS.join(", "));
  const grid = required(row, "grid", place, orNull(asSizeBytes));
  const threshold = required(row, "threshold", place, orNull(asSizeBytes));
  const packing = required(row, "packing", place, orNull(asPacking));
  const chunker = required(row, "cdc", place, orNull(asChunker));
  const scheme: Scheme = {
    kind,
    gridBytes: grid ?? 0,
    aligned: threshold === null || packing === null
      ? undefined
      : { thresholdBytes: threshold, packing },
    chunker: chunker ?? undefined,
  };
  checkScheme(scheme, row as unknown as SchemeDescription, place);
  return scheme;
}

/** Each kind of row has its own things and no others. */
function checkScheme(scheme: Scheme, row: SchemeDescription, place: JsonPlace): void {
  const { kind, gridBytes, aligned, chunker } = scheme;
  const isWhole = (gridBytes > 0) === (kind !== "file") &&
    (aligned !== undefined) === (kind === "aligned") &&
    (chunker !== undefined) === (kind === "fastcdc");
  const again = describeScheme(scheme);
  const isSame = (Object.keys(again) as (keyof SchemeDescription)[])
    .every((name) => again[name] === row[name]);
  if (!isWhole || !isSame) throw jsonFault(place, row, `a row of the kind ${kind}`);
}

function asPacking(value: unknown, place: JsonPlace): Packing {
  const text = asString(value, place);
  if (text === "tight") return { kind: "tight" };
  const [, mean, low] = /^resync:(\d{1,15}):(\d{1,15})$/.exec(text) ?? [];
  if (mean === undefined) throw jsonFault(place, value, "tight or resync:MEAN:LO");
  return { kind: "resync", meanBytes: Number(mean), lowBytes: Number(low) };
}

function asChunker(value: unknown, place: JsonPlace): NonNullable<Scheme["chunker"]> {
  const text = asString(value, place);
  if (text === "gear") return GEAR_PARAMETERS;
  const [, average, min, max] = /^(\d{1,15}):(\d{1,15}):(\d{1,15})$/.exec(text) ?? [];
  if (average === undefined) throw jsonFault(place, value, "AVG:MIN:MAX or gear");
  try {
    return fastCdcParameters(Number(average), Number(min), Number(max));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new InputError(place.what, error.message, { cause: error });
  }
}

function orNull<T>(
  read: (value: unknown, place: JsonPlace) => T,
): (value: unknown, place: JsonPlace) => T | null {
  return (value, place) => value === null ? null : read(value, place);
}
