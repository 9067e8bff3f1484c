/**
 * An ascending list of block ranges in which ranges that touch are one.
 *
 * @module
 */
import { invariant } from "../../errors.ts";
import type { BlockRange } from "./geometry.ts";

/** Merges ranges that may come in any order; they must not overlap. */
export function mergeRanges(ranges: readonly BlockRange[]): BlockRange[] {
  const sorted = [...ranges].sort((a, b) => a.startBlock - b.startBlock);
  const merged: { startBlock: number; blockCount: number }[] = [];
  for (const { startBlock, blockCount } of sorted) {
    const last = merged.at(-1);
    const lastEnd = last === undefined ? 0 : last.startBlock + last.blockCount;
    invariant(
      startBlock >= lastEnd,
      `blocks from ${startBlock} handed out twice, up to ${lastEnd}`,
    );
    if (last !== undefined && startBlock === lastEnd) last.blockCount += blockCount;
    else merged.push({ startBlock, blockCount });
  }
  return merged;
}

/** Ranges of many lists in the order given, those that touch the one before joined to it: far fewer, for {@linkcode mergeRanges}. */
export function joinedInOrder(lists: readonly (readonly BlockRange[])[]): BlockRange[] {
  const joined: { startBlock: number; blockCount: number }[] = [];
  let last: { startBlock: number; blockCount: number } | undefined;
  for (const ranges of lists) {
    for (const { startBlock, blockCount } of ranges) {
      if (last !== undefined && startBlock === last.startBlock + last.blockCount) {
        last.blockCount += blockCount;
      } else {
        joined.push(last = { startBlock, blockCount });
      }
    }
  }
  return joined;
}

/** Blocks in all the ranges. */
export function countBlocks(ranges: readonly BlockRange[]): number {
  return ranges.reduce((sum, range) => sum + range.blockCount, 0);
}

/** Calls back with each part of the ranges that lies in `[startBlock, endBlock)`. */
export function forEachOverlap(
  ranges: readonly BlockRange[],
  window: { readonly startBlock: number; readonly endBlock: number },
  visit: (startBlock: number, blockCount: number) => void,
): void {
  for (let i = firstRangeAfter(ranges, window.startBlock); i < ranges.length; i++) {
    const range = ranges[i]!;
    if (range.startBlock >= window.endBlock) return;
    const from = Math.max(range.startBlock, window.startBlock);
    visit(from, Math.min(range.startBlock + range.blockCount, window.endBlock) - from);
  }
}

/** Index of the first range that ends after `block`. */
function firstRangeAfter(ranges: readonly BlockRange[], block: number): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const range = ranges[middle]!;
    if (range.startBlock + range.blockCount > block) high = middle;
    else low = middle + 1;
  }
  return low;
}
