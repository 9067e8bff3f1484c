/**
 * The columns of a file of fingerprints. docs/FLEET.md says what they mean.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { crc32 } from "node:zlib";
import type { SchemaElement } from "hyparquet";
import * as v from "valibot";
import { decodeCheckedJson, encodeCheckedJson } from "../../lib/bless/layered_records.ts";
import type { Packing } from "../../lib/bless/options.ts";
import { fastCdcParameters, GEAR_PARAMETERS } from "../../lib/chunk/fastcdc.ts";
import { InputError, UsageError } from "../../lib/errors.ts";
import {
  checkJson,
  fields,
  inside,
  jsonFault,
  type JsonLocation,
  listOf,
  SIZE_BYTES,
  TEXT,
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

const UTF8 = { type: "BYTE_ARRAY", converted_type: "UTF8" } as const;
const NUMBER = { type: "INT32" } as const;
const SIZE = { type: "INT64" } as const;
const DIGEST = { type: "FIXED_LEN_BYTE_ARRAY", type_length: UNIT_DIGEST_BYTES } as const;

const COLUMNS: Record<keyof FingerprintRow, [Partial<SchemaElement>, "REQUIRED" | "OPTIONAL"]> = {
  image: [UTF8, "REQUIRED"],
  image_digest: [UTF8, "OPTIONAL"],
  image_number: [NUMBER, "REQUIRED"],
  layout: [UTF8, "REQUIRED"],
  scheme: [UTF8, "REQUIRED"],
  grid: [SIZE, "OPTIONAL"],
  threshold: [SIZE, "OPTIONAL"],
  packing: [UTF8, "OPTIONAL"],
  cdc: [UTF8, "OPTIONAL"],
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

const PACKING = v.pipe(
  TEXT,
  v.regex(/^(?:tight|merge|resync:\d{1,15}:\d{1,15})$/, "merge, tight or resync:MEAN:LO"),
  v.transform((text): Packing => {
    if (text === "tight" || text === "merge") return { kind: text };
    const [, meanBytes, lowBytes] = text.split(":").map(Number) as [number, number, number];
    return { kind: "resync", meanBytes, lowBytes };
  }),
);

const CHUNKER = v.pipe(
  TEXT,
  v.regex(/^(?:gear|\d{1,15}:\d{1,15}:\d{1,15})$/, "AVG:MIN:MAX or gear"),
  v.transform((text) =>
    text === "gear"
      ? GEAR_PARAMETERS
      : fastCdcParameters(...text.split(":").map(Number) as [number, number, number])
  ),
);

const KINDS = Object.keys(SCHEME_KINDS) as SchemeKind[];
const ROW = fields({
  scheme: v.picklist(KINDS, KINDS.join(", ")),
  grid: v.nullable(SIZE_BYTES),
  threshold: v.nullable(SIZE_BYTES),
  packing: v.nullable(PACKING),
  cdc: v.nullable(CHUNKER),
});

const METADATA = fields({
  rows: listOf(v.unknown()),
  mode: v.picklist(["merged", "layered", "as-is"], "merged, layered or as-is"),
  compress: TEXT,
  images: listOf(fields({
    source: TEXT,
    manifestDigest: v.nullable(TEXT),
    platform: v.nullable(TEXT),
    counts: listOf(fields({
      logicalBytes: SIZE_BYTES,
      nonZeroBytes: SIZE_BYTES,
      unitCount: SIZE_BYTES,
      paddingBytes: SIZE_BYTES,
      unitsCrc32: SIZE_BYTES,
    })),
  })),
});

/** Decodes it. Throws an InputError that names the field. */
export function decodeMetadata(text: string, what: string): FingerprintMetadata {
  const document = decodeCheckedJson(new TextEncoder().encode(text), VERSION, what);
  const location = { what, field: "" };
  const { rows, mode, compress, images } = checkJson(METADATA, document, location);
  const rowsAt = inside(location, "rows");
  const schemes = rows.map((row, i) => readScheme(row, inside(rowsAt, i)));
  images.forEach(({ counts }, i) => {
    if (counts.length === schemes.length) return;
    const at = inside(inside(inside(location, "images"), i), "counts.length");
    throw jsonFault(at, counts.length, `${schemes.length}`);
  });
  return { mode, compress, schemes, images };
}

function readScheme(value: unknown, location: JsonLocation): Scheme {
  try {
    const { scheme: kind, grid, threshold, packing, cdc } = checkJson(ROW, value, location);
    const isAligned = threshold !== null && packing !== null;
    const scheme: Scheme = {
      kind,
      gridBytes: grid ?? 0,
      aligned: isAligned ? { thresholdBytes: threshold, packing } : undefined,
      chunker: cdc ?? undefined,
    };
    checkScheme(scheme, value as SchemeDescription, location);
    return scheme;
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new InputError(location.what, error.message, { cause: error });
  }
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
