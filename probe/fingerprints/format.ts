/**
 * The columns of a file of fingerprints. docs/FLEET.md says what they mean.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { crc32 } from "node:zlib";
import type { SchemaElement } from "hyparquet";
import { decodeCheckedJson, encodeCheckedJson } from "../../lib/bless/checked_json.ts";
import type { Packing } from "../../lib/bless/options.ts";
import { fastCdcParameters, GEAR_PARAMETERS } from "../../lib/chunk/fastcdc.ts";
import { InputError, UsageError } from "../../lib/errors.ts";
import {
  asObject,
  asSizeBytes,
  asString,
  eachOf,
  inside,
  jsonFault,
  type JsonLocation,
  required,
} from "../../lib/source/json.ts";
import type { ImageFacts } from "../images.ts";
import type { ProbeReport } from "../report.ts";
import {
  describeScheme,
  isContinued,
  type Scheme,
  SCHEME_KINDS,
  type SchemeDescription,
  type SchemeKind,
} from "../schemes.ts";

/** One unit of one image in one row of the report. */
export interface FingerprintRow {
  /** The source, as it was given. */
  readonly image: string;
  readonly image_digest: string | null;
  /** Counted from 0 in the file. */
  readonly image_number: number;
  /** The label of the row of the report. */
  readonly layout: string;
  readonly scheme: string;
  readonly grid: bigint | null;
  readonly threshold: bigint | null;
  readonly packing: string | null;
  readonly cdc: string | null;
  /** SHA-256. */
  readonly unit: Uint8Array;
  readonly unit_bytes: bigint;
  readonly raw: bigint;
  readonly stored: bigint;
  /** Which file system of the image: 0, or the number of the layer. */
  readonly part: number;
  /** Where the image has the unit first; null for whole files. */
  readonly offset: bigint | null;
}

/** Length of a digest. */
export const UNIT_DIGEST_BYTES = 32;

const TEXT = { type: "BYTE_ARRAY", converted_type: "UTF8" } as const;
const NUMBER = { type: "INT32" } as const;
const SIZE = { type: "INT64" } as const;
const DIGEST = { type: "FIXED_LEN_BYTE_ARRAY", type_length: UNIT_DIGEST_BYTES } as const;

const COLUMNS: Record<keyof FingerprintRow, [Partial<SchemaElement>, "REQUIRED" | "OPTIONAL"]> = {
  image: [TEXT, "REQUIRED"],
  image_digest: [TEXT, "OPTIONAL"],
  image_number: [NUMBER, "REQUIRED"],
  layout: [TEXT, "REQUIRED"],
  scheme: [TEXT, "REQUIRED"],
  grid: [SIZE, "OPTIONAL"],
  threshold: [SIZE, "OPTIONAL"],
  packing: [TEXT, "OPTIONAL"],
  cdc: [TEXT, "OPTIONAL"],
  unit: [DIGEST, "REQUIRED"],
  unit_bytes: [SIZE, "REQUIRED"],
  raw: [SIZE, "REQUIRED"],
  stored: [SIZE, "REQUIRED"],
  part: [NUMBER, "REQUIRED"],
  offset: [SIZE, "OPTIONAL"],
};

/** The columns in their order. */
export const COLUMN_NAMES = Object.keys(COLUMNS) as (keyof FingerprintRow)[];

/** The schema as Parquet has it: the root, then the columns. */
export const PARQUET_SCHEMA: SchemaElement[] = [
  { name: "units", num_children: COLUMN_NAMES.length },
  ...COLUMN_NAMES.map((name): SchemaElement => {
    const [type, repetition_type] = COLUMNS[name];
    return { ...type, name, repetition_type };
  }),
];

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
  const location = { what, field: "" };
  const schemes = required(document, "rows", location, eachOf(asScheme));
  return {
    mode: required(document, "mode", location, asMode),
    compress: required(document, "compress", location, asString),
    schemes,
    images: required(
      document,
      "images",
      location,
      eachOf((image, at) => asImage(image, at, schemes.length)),
    ),
  };
}

function asMode(value: unknown, location: JsonLocation): ProbeReport["mode"] {
  if (value === "merged" || value === "layered" || value === "as-is") return value;
  throw jsonFault(location, value, "merged, layered or as-is");
}

function asImage(value: unknown, location: JsonLocation, schemeCount: number): FingerprintedImage {
  const image = asObject(value, location);
  const counts = required(image, "counts", location, eachOf(asCounts));
  if (counts.length !== schemeCount) {
    throw jsonFault(inside(location, "counts.length"), counts.length, `${schemeCount}`);
  }
  return {
    source: required(image, "source", location, asString),
    manifestDigest: required(image, "manifestDigest", location, orNull(asString)),
    platform: required(image, "platform", location, orNull(asString)),
    counts,
  };
}

function asCounts(value: unknown, location: JsonLocation): ImageCounts {
  const counts = asObject(value, location);
  const count = (name: keyof ImageCounts) => required(counts, name, location, asSizeBytes);
  return {
    logicalBytes: count("logicalBytes"),
    nonZeroBytes: count("nonZeroBytes"),
    unitCount: count("unitCount"),
    paddingBytes: count("paddingBytes"),
    unitsCrc32: count("unitsCrc32"),
  };
}

const KINDS = Object.keys(SCHEME_KINDS) as SchemeKind[];

function asScheme(value: unknown, location: JsonLocation): Scheme {
  const row = asObject(value, location);
  const kind = KINDS.find((each) => each === row["scheme"]);
  if (kind === undefined) {
    throw jsonFault(inside(location, "scheme"), row["scheme"], KINDS.join(", "));
  }
  const grid = required(row, "grid", location, orNull(asSizeBytes));
  const threshold = required(row, "threshold", location, orNull(asSizeBytes));
  const packing = required(row, "packing", location, orNull(asPacking));
  const chunker = required(row, "cdc", location, orNull(asChunker));
  const scheme: Scheme = {
    kind,
    gridBytes: grid ?? 0,
    aligned: threshold === null || packing === null
      ? undefined
      : { thresholdBytes: threshold, packing },
    chunker: chunker ?? undefined,
  };
  checkScheme(scheme, row as unknown as SchemeDescription, location);
  return scheme;
}

/** Each kind of row has its own things and no others. */
function checkScheme(scheme: Scheme, row: SchemeDescription, location: JsonLocation): void {
  const { kind, gridBytes, aligned, chunker } = scheme;
  const isWhole = (gridBytes > 0) === (kind !== "file") &&
    (aligned !== undefined) === (kind === "aligned" || isContinued(scheme)) &&
    (chunker !== undefined) === (kind === "fastcdc");
  const again = describeScheme(scheme);
  const isSame = (Object.keys(again) as (keyof SchemeDescription)[])
    .every((name) => again[name] === row[name]);
  if (!isWhole || !isSame) throw jsonFault(location, row, `a row of the kind ${kind}`);
}

function asPacking(value: unknown, location: JsonLocation): Packing {
  const text = asString(value, location);
  if (text === "tight" || text === "merge") return { kind: text };
  const [, mean, low] = /^resync:(\d{1,15}):(\d{1,15})$/.exec(text) ?? [];
  if (mean === undefined) throw jsonFault(location, value, "merge, tight or resync:MEAN:LO");
  return { kind: "resync", meanBytes: Number(mean), lowBytes: Number(low) };
}

function asChunker(value: unknown, location: JsonLocation): NonNullable<Scheme["chunker"]> {
  const text = asString(value, location);
  if (text === "gear") return GEAR_PARAMETERS;
  const [, average, min, max] = /^(\d{1,15}):(\d{1,15}):(\d{1,15})$/.exec(text) ?? [];
  if (average === undefined) throw jsonFault(location, value, "AVG:MIN:MAX or gear");
  try {
    return fastCdcParameters(Number(average), Number(min), Number(max));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new InputError(location.what, error.message, { cause: error });
  }
}

function orNull<T>(
  read: (value: unknown, location: JsonLocation) => T,
): (value: unknown, location: JsonLocation) => T | null {
  return (value, location) => value === null ? null : read(value, location);
}
