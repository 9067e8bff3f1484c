/**
 * The columns of a fingerprint file. docs/FLEET.md explains them.
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
  /** The source as the caller gave it. */
  readonly image: string;
  readonly image_digest: string | null;
  /** Counted from 0 in the file. */
  readonly image_number: number;
  /** The label of the report's row. */
  readonly layout: string;
  readonly scheme: string;
  readonly grid: bigint | null;
  readonly threshold: bigint | null;
  readonly packing: string | null;
  readonly cdc: string | null;
  readonly unit: Uint8Array;
  readonly unit_bytes: bigint;
  readonly raw: bigint;
  readonly stored: bigint;
  /** Which file system of the image: 0, or the number of the layer. */
  readonly part: number;
  /** Offset of the unit's first occurrence in the image; null for whole files. */
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

export const COLUMN_NAMES = Object.keys(COLUMNS) as (keyof FingerprintRow)[];

/** The Parquet schema: the root, then the columns. */
export const PARQUET_SCHEMA: SchemaElement[] = [
  { name: "units", num_children: COLUMN_NAMES.length },
  ...COLUMN_NAMES.map((name): SchemaElement => {
    const [type, repetition_type] = COLUMNS[name];
    return { ...type, name, repetition_type };
  }),
];

/** The key of the JSON metadata in the file. */
export const METADATA_KEY = "blessfs.fingerprints";
/** To be raised when older readers would misread the file. */
const VERSION = 1;

/** The counts of one image in one row; the CRC-32 covers its units, in file order. */
export type ImageCounts = v.InferOutput<typeof COUNTS>;

/** Continues the CRC-32 of units; it covers everything that a report uses of each unit. */
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

export interface FingerprintedImage extends ImageFacts {
  /** In the order of the schemes. */
  readonly counts: readonly ImageCounts[];
}

export interface FingerprintMetadata {
  readonly mode: ProbeReport["mode"];
  /** Written as in reports. */
  readonly compress: string;
  readonly schemes: readonly Scheme[];
  readonly images: readonly FingerprintedImage[];
}

export function encodeMetadata(metadata: FingerprintMetadata): string {
  const { mode, compress, schemes, images } = metadata;
  const rows = schemes.map(describeScheme);
  return new TextDecoder().decode(encodeCheckedJson(VERSION, { mode, compress, rows, images }));
}

const COUNTS = fields({
  logicalBytes: SIZE_BYTES,
  nonZeroBytes: SIZE_BYTES,
  unitCount: SIZE_BYTES,
  paddingBytes: SIZE_BYTES,
  unitsCrc32: SIZE_BYTES,
});

const KINDS = Object.keys(SCHEME_KINDS) as SchemeKind[];

const METADATA = fields({
  mode: v.picklist(["merged", "layered", "as-is"], "merged, layered or as-is"),
  compress: TEXT,
  rows: listOf(fields({
    scheme: v.picklist(KINDS, KINDS.join(", ")),
    grid: v.nullable(SIZE_BYTES),
    threshold: v.nullable(SIZE_BYTES),
    packing: v.nullable(TEXT),
    cdc: v.nullable(TEXT),
  })),
  images: listOf(fields({
    source: TEXT,
    manifestDigest: v.nullable(TEXT),
    platform: v.nullable(TEXT),
    counts: listOf(COUNTS),
  })),
});

export function decodeMetadata(text: string, what: string): FingerprintMetadata {
  const document = decodeCheckedJson(new TextEncoder().encode(text), VERSION, what);
  const { rows, images, ...rest } = checkJson(METADATA, document, { what, field: "" });
  for (const [i, { counts }] of images.entries()) {
    if (counts.length === rows.length) continue;
    const location = { what, field: `images[${i}].counts.length` };
    throw jsonFault(location, counts.length, `${rows.length}`);
  }
  const schemes = rows.map((row, i) => schemeOf(row, { what, field: `rows[${i}]` }));
  return { ...rest, schemes, images };
}

/** Each kind of row requires its own fields and allows no others. */
function schemeOf(row: SchemeDescription, location: JsonLocation): Scheme {
  const { scheme: kind, grid, threshold, packing, cdc } = row;
  const scheme: Scheme = {
    kind,
    gridBytes: grid ?? 0,
    aligned: threshold === null || packing === null
      ? undefined
      : { thresholdBytes: threshold, packing: packingOf(packing, inside(location, "packing")) },
    chunker: cdc === null ? undefined : chunkerOf(cdc, inside(location, "cdc")),
  };
  const isWhole = (scheme.gridBytes > 0) === (kind !== "file") &&
    (scheme.aligned !== undefined) === (kind === "aligned" || isContinued(scheme)) &&
    (scheme.chunker !== undefined) === (kind === "fastcdc");
  const again = describeScheme(scheme);
  const isSame = (Object.keys(again) as (keyof SchemeDescription)[])
    .every((name) => again[name] === row[name]);
  if (isWhole && isSame) return scheme;
  throw jsonFault(location, row, `a row of the kind ${kind}`);
}

function packingOf(text: string, location: JsonLocation): Packing {
  if (text === "tight" || text === "merge") return { kind: text };
  const [, mean, low] = /^resync:(\d{1,15}):(\d{1,15})$/.exec(text) ?? [];
  if (mean === undefined) throw jsonFault(location, text, "merge, tight or resync:MEAN:LO");
  return { kind: "resync", meanBytes: Number(mean), lowBytes: Number(low) };
}

function chunkerOf(text: string, location: JsonLocation): NonNullable<Scheme["chunker"]> {
  if (text === "gear") return GEAR_PARAMETERS;
  const [, average, min, max] = /^(\d{1,15}):(\d{1,15}):(\d{1,15})$/.exec(text) ?? [];
  if (average === undefined) throw jsonFault(location, text, "AVG:MIN:MAX or gear");
  try {
    return fastCdcParameters(Number(average), Number(min), Number(max));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new InputError(location.what, error.message, { cause: error });
  }
}
