/**
 * The version, which is defined only in deno.json, and the runtime that this program runs on.
 *
 * @module
 */
import process from "node:process";
import config from "../deno.json" with { type: "json" };

export const VERSION: string = config.version;

/** What reports say about the program that made them. */
interface ProgramVersion {
  readonly blessfs: string;
  /** `deno`, `bun` or `node`; a binary includes its runtime. */
  readonly runtime: string;
  readonly runtimeVersion: string;
}

export function programVersion(): ProgramVersion {
  // Deno and Bun also report the version of Node that they are compatible with.
  const { versions } = process;
  const runtime = ["deno", "bun", "node"].find((name) => versions[name] !== undefined) ?? "unknown";
  return { blessfs: VERSION, runtime, runtimeVersion: versions[runtime] ?? "unknown" };
}
