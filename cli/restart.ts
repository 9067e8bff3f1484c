/**
 * The settings of the runtime that the built program starts itself again with. Imports nothing else of the program, so that
 * nothing is loaded twice.
 *
 * @module
 */
import process from "node:process";

/**
 * How Bun compiles commands that run for a second or so: its third compiler costs more than it saves, and its second waits
 * until a function is really hot. Measured in docs/PERFORMANCE.md.
 */
const COMPILER_SETTINGS: Readonly<Record<string, string>> = {
  BUN_JSC_useFTLJIT: "0",
  BUN_JSC_thresholdForOptimizeAfterWarmUp: "10000",
  BUN_JSC_thresholdForOptimizeAfterLongWarmUp: "10000",
  BUN_JSC_thresholdForOptimizeSoon: "10000",
};
const COMPILED_LESS: ReadonlySet<string | undefined> = new Set(["bless", "probe", "verify"]);

/**
 * Starts a binary that Bun made once more in the same process, with settings that Bun reads from its environment alone and
 * only when it starts. That takes 10 ms. Programs that it starts itself do not inherit them, and whoever sets one of them
 * decides for all. Where it cannot be done, the command runs as it is.
 */
export function restartWithSettings(): void {
  const { env, argv, argv0, execPath } = process;
  if (!COMPILED_LESS.has(argv[2])) return;
  const given = Object.keys(COMPILER_SETTINGS).filter((name) => env[name] !== undefined);
  if (given.length > 0) {
    for (const name of given) delete env[name];
    return;
  }
  const words = [argv0, ...argv.slice(2)];
  // What the runtime could not decode would not arrive as it was given.
  const isExact = ![...words, ...Object.values(env)].some((word) => word?.includes("\ufffd"));
  if (!isExact || !import.meta.url.startsWith("file:///$bunfs/")) return;
  try {
    process.execve?.(execPath, words, { ...env, ...COMPILER_SETTINGS });
  } catch {
    // This process goes on.
  }
}
