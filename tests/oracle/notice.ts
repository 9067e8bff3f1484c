/**
 * How a test says that this machine cannot run a part of it. `deno task test` collects these lines and repeats them
 * before its count, so that a part that did not run is never silent.
 *
 * @module
 */

/** What every such line starts with. */
export const NOT_RUN_PREFIX = "NOT RUN: ";

/** Prints the one line. @param what the part that did not run @param why what the machine lacks */
export function notRun(what: string, why: string): void {
  // deno-lint-ignore no-console
  console.log(`${NOT_RUN_PREFIX}${what}: ${why}`);
}
