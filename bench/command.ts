/**
 * Running programs to be timed: whole processes, with their wall time and, where time(1) is there, their
 * processor time and peak memory.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";

/** A program to run. A shell line is `sh -c`. */
export interface Command {
  readonly program: string;
  readonly args: readonly string[];
}

/** What one run took. */
export interface Run {
  readonly milliseconds: number;
  /** User and system time of the process and its children, to 10 ms each; undefined without time(1). */
  readonly processorMs: number | undefined;
  /** The largest resident set of the process; undefined without time(1). */
  readonly peakBytes: number | undefined;
}

const TIME = "/usr/bin/time";
const MAIN = new URL("../cli/main.ts", import.meta.url).pathname;
const CONFIG = new URL("../deno.json", import.meta.url).pathname;

/** blessfs from source, or the program that BLESSFS_BINARY names. */
export function blessfs(...args: string[]): Command {
  const binary = Deno.env.get("BLESSFS_BINARY");
  if (binary !== undefined) return { program: binary, args };
  return { program: Deno.execPath(), args: ["run", "-A", "--config", CONFIG, MAIN, ...args] };
}

/** A line for sh(1). */
export function shell(line: string): Command {
  return { program: "/bin/sh", args: ["-c", line] };
}

/** A word for a shell line. */
export function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/** Whether a program is installed. */
export function isInstalled(program: string): boolean {
  return spawnSync("sh", ["-c", `command -v ${program}`], { stdio: "ignore" }).status === 0;
}

/**
 * Runs a command to its end; what it prints is dropped.
 *
 * @param scratch a directory for the figures of time(1)
 * @throws {Error} when it fails
 */
export function run({ program, args }: Command, scratch: string): Run {
  const figures = `${scratch}/time`;
  const hasTime = existsSync(TIME);
  const line = hasTime
    ? [TIME, "-o", figures, "-f", "%M %U %S", program, ...args]
    : [program, ...args];
  const errors = `${scratch}/stderr`;
  const stderr = openSync(errors, "w");
  const start = performance.now();
  const { status } = spawnSync(line[0]!, line.slice(1), { stdio: ["ignore", "ignore", stderr] });
  const milliseconds = performance.now() - start;
  closeSync(stderr);
  if (status !== 0) {
    throw new Error(`${line.join(" ")} ended with ${status}:\n${readFileSync(errors, "utf8")}`);
  }
  if (!hasTime) return { milliseconds, processorMs: undefined, peakBytes: undefined };
  const [kibibytes = NaN, user = NaN, system = NaN] = readFileSync(figures, "utf8").trim()
    .split(" ").map(Number);
  return { milliseconds, processorMs: 1000 * (user + system), peakBytes: kibibytes * 1024 };
}
