/**
 * Hot files, which are read first and in a known order, in front of all others: the small ones packed together in cells of
 * their own, then the large ones on the grid. What is read together then lies together, and a large file has the same cells
 * as in any other image: they only move.
 *
 * A small file would leave a gap in the cell that it shared with others, and that cell would no longer be the one that other
 * images have. So a copy of it stays there, in blocks that are free: the store has them already.
 *
 * @module
 */
import { type Demand, type LayoutRules, runStarts } from "./packing.ts";
import { isAligned } from "./placement.ts";

/** Files and copies in the order in which they are placed. */
export interface HotOrder<T> {
  readonly files: readonly T[];
  /** For each, 1 if it is a copy of a hot file, in blocks that stay free. */
  readonly isCopy: Uint8Array;
  /** For each, 1 if it starts on the grid although it is small. */
  readonly runStarts: Uint8Array;
}

/**
 * Puts hot files first.
 *
 * @param files in the order that they would have otherwise, which the others keep
 * @param rankOf when a file is read, ascending; undefined for one that is not hot
 */
export function hotFirst<T extends Demand>(
  files: readonly T[],
  rules: LayoutRules,
  rankOf: (file: T) => number | undefined,
): HotOrder<T> {
  const starts = runStarts(files, rules);
  const hasCells = rules.alignThresholdBytes !== Infinity;
  const hot: { readonly file: T; readonly rank: number; readonly isLarge: boolean }[] = [];
  const others: { readonly file: T; readonly start: number; readonly isCopy: boolean }[] = [];
  files.forEach((file, i) => {
    const rank = rankOf(file);
    const isLarge = isAligned(file.payload, rules);
    if (rank !== undefined) hot.push({ file, rank, isLarge });
    const stays = rank === undefined || (hasCells && !isLarge && file.payload.dataRuns.length > 0);
    if (stays) others.push({ file, start: starts[i]!, isCopy: rank !== undefined });
  });
  hot.sort((a, b) => Number(a.isLarge) - Number(b.isLarge) || a.rank - b.rank);
  const placed = [...hot.map(({ file }) => file), ...others.map(({ file }) => file)];
  const isCopy = new Uint8Array(placed.length);
  isCopy.set(others.map((other) => Number(other.isCopy)), hot.length);
  const placedStarts = new Uint8Array(placed.length);
  placedStarts.set(others.map(({ start }) => start), hot.length);
  if (hot.length > 0 && hasCells) {
    startCell(placed, placedStarts, 0);
    startCell(placed, placedStarts, hot.length);
  }
  return { files: placed, isCopy, runStarts: placedStarts };
}

/** Has the first file with blocks, from an index on, start on the grid. */
function startCell(files: readonly Demand[], starts: Uint8Array, from: number): void {
  const first = files.findIndex(({ payload }, i) => i >= from && payload.dataRuns.length > 0);
  if (first >= 0) starts[first] = 1;
}
