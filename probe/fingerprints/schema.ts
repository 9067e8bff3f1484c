/**
 * The columns of a file of fingerprints. docs/FLEET.md says what they mean.
 *
 * @module
 */
import type { SchemaElement } from "hyparquet";

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
