/**
 * Hot files, which are read first and in a known order, in front of all others: the small ones packed together in cells of
 * their own, then the large ones on the grid. What is read together then lies together, and a large file has the same cells
 * as in any other image: they only move.
 *
 * @module
 */
import { type Demand, type LayoutRules, runStarts } from "./packing.ts";
import { isAligned } from "./placement.ts";

/** Files in the order in which they are placed. */
export interface HotOrder<T> {
  readonly files: readonly T[];
  /** How many of them, from the first on, are hot. */
  readonly hotCount: number;
}

/**
 * Puts hot files first.
 *
 * @param files in the order that they would have otherwise, which the others keep
 * @param rankOf when a file is read, ascending; undefined for one that is not hot
 */
export function hotFirst<T extends Demand>(
  files: readonly T[],
  rules: Pick<LayoutRules, "alignThresholdBytes">,
  rankOf: (file: T) => number | undefined,
): HotOrder<T> {
  const hot = files.flatMap((file) => {
    const rank = rankOf(file);
    return rank === undefined ? [] : [{ file, rank, isLarge: isAligned(file.payload, rules) }];
  });
  if (hot.length === 0) return { files, hotCount: 0 };
  hot.sort((a, b) => Number(a.isLarge) - Number(b.isLarge) || a.rank - b.rank);
  const others = files.filter((file) => rankOf(file) === undefined);
  return { files: [...hot.map(({ file }) => file), ...others], hotCount: hot.length };
}

/** For each file, 1 if it starts on the grid although it is small: the hot ones are packed, and the next begins a cell. */
export function runStartsBehindHot(
  demands: readonly Demand[],
  rules: LayoutRules,
  hotCount: number,
): Uint8Array {
  if (hotCount === 0) return runStarts(demands, rules);
  const starts = new Uint8Array(demands.length);
  const others = demands.slice(hotCount);
  starts.set(runStarts(others, rules), hotCount);
  if (rules.alignThresholdBytes === Infinity) return starts;
  for (const [from, part] of [[0, demands.slice(0, hotCount)], [hotCount, others]] as const) {
    const first = part.findIndex(({ payload }) => payload.dataRuns.length > 0);
    if (first >= 0) starts[from + first] = 1;
  }
  return starts;
}
