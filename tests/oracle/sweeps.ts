/**
 * Sweeps that try many cases of one kind: some of them in `deno task test`, all of them in `deno task test:long`.
 *
 * @module
 */
import process from "node:process";

/** All cases where BLESSFS_SWEEP is `all`, as the long tier sets it; otherwise the first and every so-many-th after it. */
export function sweepCases<T>(cases: readonly T[], every: number): readonly T[] {
  return process.env["BLESSFS_SWEEP"] === "all" ? cases : cases.filter((_, i) => i % every === 0);
}
