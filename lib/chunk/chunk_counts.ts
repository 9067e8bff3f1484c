/**
 * What a store had of a file, and what it got.
 *
 * @module
 */

/** The keys are the contract of `--json`. Bytes are those of the content unless they say otherwise. */
export interface ChunkCounts {
  /** Of the index. */
  chunks: number;
  /** Of these, the ones of nothing but zeros. A short last one is not among them. */
  zeroChunks: number;
  /** Chunks of the index, each counted once. */
  distinctChunks: number;
  /** Of these, the ones that the store did not have. */
  newChunks: number;
  /** Of the new chunks. */
  newBytes: number;
  /** Of the distinct chunks, the ones that it had. */
  reusedChunks: number;
  /** Of the reused chunks. */
  reusedBytes: number;
  /** Of the new chunks as they are stored. */
  sentBytes: number;
}

/** Nothing at all. */
export const NO_CHUNKS: Readonly<ChunkCounts> = {
  chunks: 0,
  zeroChunks: 0,
  distinctChunks: 0,
  newChunks: 0,
  newBytes: 0,
  reusedChunks: 0,
  reusedBytes: 0,
  sentBytes: 0,
};

/**
 * The sums of several files. Chunks are distinct within each file, so one that several files have is counted in each.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { NO_CHUNKS, sumOfCounts } from "./chunk_counts.ts";
 * const one = { ...NO_CHUNKS, chunks: 3, newChunks: 1 };
 * assertEquals(sumOfCounts([one, one]).chunks, 6);
 * ```
 */
export function sumOfCounts(all: readonly Readonly<ChunkCounts>[]): ChunkCounts {
  const sum = { ...NO_CHUNKS };
  for (const counts of all) {
    for (const key of Object.keys(sum) as (keyof ChunkCounts)[]) sum[key] += counts[key];
  }
  return sum;
}
