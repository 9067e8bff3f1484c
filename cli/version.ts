/**
 * The version, which is kept in deno.json alone, and the runtime that this program runs on.
 *
 * @module
 */
import process from "node:process";
import config from "../deno.json" with { type: "json" };

export const VERSION: string = config.version;

/** What reports say of the program that made them. */
interface ProgramVersion {
  readonly blessfs: string;
  /** `deno`, `bun` or `node`; a binary has its runtime in it. */
  readonly runtime: string;
  readonly runtimeVersion: string;
}

export function programVersion(): ProgramVersion {
  // Deno and Bun state a version of node too, the one that they are compatible with.
  const { versions } = process;
  const runtime = ["deno", "bun", "node"].find((name) => versions[name] !== undefined) ?? "unknown";
  return { blessfs: VERSION, runtime, runtimeVersion: versions[runtime] ?? "unknown" };
}
