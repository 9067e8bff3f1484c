/**
 * What a content-defined chunker is set to.
 *
 * @module
 */
import { optionError } from "../../lib/errors.ts";
import { alignUp } from "../../lib/bytes/arithmetic.ts";

/** FastCDC with normalised chunking (v2020), or the plain gear chunker. Sizes in bytes. */
export type ChunkerParameters =
  | {
    readonly kind: "fastcdc";
    readonly minBytes: number;
    readonly averageBytes: number;
    readonly maxBytes: number;
    /** How many bits the masks lie apart from the average's; 0 to 3. */
    readonly normalization: number;
    readonly seed: bigint;
  }
  | {
    readonly kind: "gear";
    readonly minBytes: number;
    readonly maxBytes: number;
    readonly maskBits: number;
  };

/** A plain gear chunker with a mask of 17 bits, 16 KiB to 1 MiB. */
export const GEAR_PARAMETERS: ChunkerParameters = {
  kind: "gear",
  minBytes: 16 * 1024,
  maxBytes: 1024 * 1024,
  maskBits: 17,
};

const AVERAGE_BYTES_LEAST = 256;
const AVERAGE_BYTES_MOST = 4 * 1024 * 1024;
const MIN_BYTES_LEAST = 64;
const MAX_BYTES_MOST = 16 * 1024 * 1024;

/**
 * FastCDC around an average. Without bounds, a quarter of it and four times it.
 *
 * @throws UsageError for sizes out of range or order
 */
export function fastCdcParameters(
  averageBytes: number,
  minBytes: number = alignUp(Math.floor(averageBytes / 4), 2),
  maxBytes: number = averageBytes * 4,
): ChunkerParameters {
  const isInRange = averageBytes >= AVERAGE_BYTES_LEAST && averageBytes <= AVERAGE_BYTES_MOST;
  if (!isInRange) {
    throw optionError("chunker", `wanted an average from 256 to 4M, found ${averageBytes}`);
  }
  const isOrdered = minBytes >= MIN_BYTES_LEAST && minBytes <= averageBytes &&
    averageBytes <= maxBytes && maxBytes <= MAX_BYTES_MOST;
  if (!isOrdered) {
    throw optionError(
      "chunker",
      `wanted 64 <= MIN <= AVG <= MAX <= 16M, found MIN ${minBytes}, AVG ${averageBytes}, ` +
        `MAX ${maxBytes}`,
    );
  }
  return { kind: "fastcdc", minBytes, averageBytes, maxBytes, normalization: 1, seed: 0n };
}

/** The parameters as they are typed after `--cdc`, in bytes. */
export function chunkerText(parameters: ChunkerParameters): string {
  if (parameters.kind === "gear") return "gear";
  return `${parameters.averageBytes}:${parameters.minBytes}:${parameters.maxBytes}`;
}
