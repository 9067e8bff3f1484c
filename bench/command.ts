/**
 * Running programs to be timed: whole processes, with their wall time, their processor time and, where time(1) is there,
 * their peak of memory.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import process from "node:process";

/** A program to run. A shell line is `sh -c`. */
export interface Command {
  readonly program: string;
  readonly args: readonly string[];
}

/** What one run took. */
export interface Run {
  readonly milliseconds: number;
  /** User and system time of the process and its children. */
  readonly processorMs: number;
  /** The largest resident set of the process; undefined without time(1). */
  readonly peakBytes: number | undefined;
}

const TIME = "/usr/bin/time";
/** Bash's own `time` knows milliseconds; that of time(1) knows the peak of memory. */
const TIMED_LINE = 'TIMEFORMAT="%3R %3U %3S"; time "$@" 2> "$0"';
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
 * @param scratch a directory for the figures
 * @throws {Error} when it fails
 */
export function run({ program, args }: Command, scratch: string): Run {
  const [times, peak, errors] = ["times", "peak", "stderr"].map((name) => `${scratch}/${name}`) as [
    string,
    string,
    string,
  ];
  const hasTime = existsSync(TIME);
  const words = [...hasTime ? [TIME, "-o", peak, "-f", "%M"] : [], program, ...args];
  const descriptor = openSync(times, "w");
  const { status } = spawnSync("bash", ["-c", TIMED_LINE, errors, ...words], {
    env: { ...process.env, LC_ALL: "C" },
    stdio: ["ignore", "ignore", descriptor],
  });
  closeSync(descriptor);
  if (status !== 0) {
    throw new Error(`${words.join(" ")} ended with ${status}:\n${readFileSync(errors, "utf8")}`);
  }
  const [wall, user, system] = readFileSync(times, "utf8").trim().split(" ").map(Number) as [
    number,
    number,
    number,
  ];
  return {
    milliseconds: 1000 * wall,
    processorMs: 1000 * (user + system),
    peakBytes: hasTime ? Number(readFileSync(peak, "utf8")) * 1024 : undefined,
  };
}
