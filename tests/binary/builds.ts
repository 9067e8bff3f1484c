/**
 * What users get: the binaries and the bundle, made once for a test file and each with the words that run it.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import config from "../../deno.json" with { type: "json" };
import {
  bundleProgram,
  checkBinary,
  compile,
  findBun,
  hostTarget,
} from "../../tools/build_steps.ts";
import type { Runtime } from "../../tools/build_steps.ts";
import { notRun } from "../oracle/notice.ts";

/** One way to have the program. */
export interface Build {
  readonly name: string;
  readonly words: readonly [command: string, ...args: string[]];
  /** A file that needs no runtime. */
  readonly isBinary: boolean;
}

/** The versions of Node that the bundle is promised to run under. */
const NODE_VERSION = "22";
/** How npm, Deno and Bun say that they did not reach a server. Anything else that goes wrong is a failure. */
const NOT_REACHED =
  /error sending request|dns error|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ConnectionRefused|ENETUNREACH/;

/** Where the builds are; removed by `removeBuilds`. */
const directory = mkdtempSync(join(tmpdir(), "blessfs-builds-"));
const bundle = join(directory, "blessfs.mjs");
let made: readonly Build[] | undefined;

/**
 * All builds that this machine can make. For each that it cannot, one line says so. BLESSFS_BINARY names one that is
 * there already, such as that of a release: then it is the only one.
 */
export function builds(): readonly Build[] {
  if (made !== undefined) return made;
  const given = process.env["BLESSFS_BINARY"];
  if (given) {
    checkBinary(given, config.version);
    const { runtime } = JSON.parse(said(given, "--version", "--json"));
    return made = [{ name: `the binary made with ${runtime}`, words: [given], isBinary: true }];
  }
  bundleProgram(bundle);
  return made = [...binary("bun"), ...binary("deno"), ...underBun(), ...underNode()];
}

/** Removes what was built. */
export function removeBuilds(): void {
  rmSync(directory, { recursive: true });
}

/** None, and a line, when a server was not reached; throws on everything else. */
function unlessUnreachable(name: string, make: () => Build): Build[] {
  try {
    return [make()];
  } catch (error) {
    const why = (error as Error).message;
    if (!NOT_REACHED.test(why)) throw error;
    notRun(name, "its runtime cannot be downloaded here");
    return [];
  }
}

function binary(runtime: Runtime): Build[] {
  const name = `the binary made with ${runtime}`;
  return unlessUnreachable(name, () => {
    const path = join(directory, runtime, "blessfs");
    compile(runtime, bundle, hostTarget(), path, config.version);
    return { name, words: [path], isBinary: true };
  });
}

function underBun(): Build[] {
  const name = "the bundle under Bun";
  return unlessUnreachable(name, () => {
    const [program, ...args] = findBun();
    const bun = said(program, ...args, "--print", "process.execPath");
    return { name, words: [bun, bundle], isBinary: false };
  });
}

/** The Node that is installed is mostly another version; npm has them all. */
function underNode(): Build[] {
  const name = `the bundle under Node ${NODE_VERSION}`;
  return unlessUnreachable(name, () => {
    const node = said("npx", "-y", `node@${NODE_VERSION}`, "-p", "process.execPath");
    return { name, words: [node, bundle], isBinary: false };
  });
}

function said(program: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8", cwd: directory });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: ${stderr}`);
  return args.includes("--json") ? stdout : stdout.trim().split("\n").at(-1)!;
}
