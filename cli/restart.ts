/**
 * Runtime settings with which the built program restarts itself. Imports nothing else of the program, so that nothing
 * is loaded twice.
 *
 * @module
 */
import process from "node:process";

/**
 * How Bun should compile commands that run for about a second: its third compiler costs more than it saves, and its
 * second should wait until a function is really hot. Measured in docs/PERFORMANCE.md.
 */
const COMPILER_SETTINGS: Readonly<Record<string, string>> = {
  BUN_JSC_useFTLJIT: "0",
  BUN_JSC_thresholdForOptimizeAfterWarmUp: "10000",
  BUN_JSC_thresholdForOptimizeAfterLongWarmUp: "10000",
  BUN_JSC_thresholdForOptimizeSoon: "10000",
};
const COMPILED_LESS: ReadonlySet<string | undefined> = new Set(["bless", "probe", "verify"]);

/**
 * Restarts a binary built by Bun in the same process, with settings that Bun reads only at startup and only from its
 * environment. This takes 3 ms. Programs started by it do not inherit the settings, and if the user sets any of them,
 * none are added. If the restart fails, the command runs without it.
 */
export function restartWithSettings(): void {
  const { env, argv, argv0, execPath } = process;
  // node:worker_threads takes a millisecond to load.
  const { Bun } = globalThis as { Bun?: { isMainThread: boolean } };
  if (Bun?.isMainThread !== true) return;
  if (!COMPILED_LESS.has(argv[2])) return;
  const given = Object.keys(COMPILER_SETTINGS).filter((name) => env[name] !== undefined);
  if (given.length > 0) {
    for (const name of given) delete env[name];
    return;
  }
  const words = [argv0, ...argv.slice(2)];
  // Text that the runtime could not decode would not be passed on unchanged.
  const isExact = ![...words, ...Object.values(env)].some((word) => word?.includes("\ufffd"));
  if (!isExact || !import.meta.url.startsWith("file:///$bunfs/")) return;
  try {
    process.execve?.(execPath, words, { ...env, ...COMPILER_SETTINGS });
  } catch {
    // Continue without restarting.
  }
}
