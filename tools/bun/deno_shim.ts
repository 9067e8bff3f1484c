/**
 * What the tests use of Deno, made of Bun's own parts, so that the same test files run under Bun. Loaded before them by
 * `bun test --preload`. What is not here is not used by a test that runs there.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import { join } from "node:path";
import process from "node:process";
import { loadLibrary, UnsafePointerView } from "./deno_ffi.ts";
// @ts-types="./bun_modules.d.ts"
import { afterAll, test } from "bun:test";

class NotFound extends Error {}

/** Deno's errors have classes where Node's have codes. */
function translated<A extends unknown[], R>(call: (...args: A) => R): (...args: A) => R {
  return (...args) => {
    try {
      return call(...args);
    } catch (error) {
      if ((error as { code?: unknown }).code !== "ENOENT") throw error;
      throw new NotFound((error as Error).message, { cause: error });
    }
  };
}

interface TestContext {
  step(name: string, body: () => unknown): Promise<void>;
}

interface TestDefinition {
  readonly name: string;
  readonly ignore?: boolean;
  fn(context: TestContext): unknown;
}

const CONTEXT: TestContext = {
  async step(_name, body) {
    await body();
  },
};

function defineTest(first: string | TestDefinition, body?: TestDefinition["fn"]): void {
  const { name, ignore, fn } = typeof first === "string" ? { name: first, fn: body! } : first;
  if (ignore) test.skip(name, () => {});
  else test(name, async () => void await fn(CONTEXT));
}

/** An open file with a position of its own, as Deno.FsFile has one. */
class ShimFile {
  readonly #descriptor: number;
  #position = 0;

  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  seekSync(offset: number | bigint): number {
    this.#position = Number(offset);
    return this.#position;
  }

  readSync(bytes: Uint8Array): number | null {
    const count = fs.readSync(this.#descriptor, bytes, 0, bytes.length, this.#position);
    this.#position += count;
    return count === 0 && bytes.length > 0 ? null : count;
  }

  writeSync(bytes: Uint8Array): number {
    const count = fs.writeSync(this.#descriptor, bytes, 0, bytes.length, this.#position);
    this.#position += count;
    return count;
  }

  statSync(): { size: number } {
    return { size: fs.fstatSync(this.#descriptor).size };
  }

  truncateSync(length = 0): void {
    fs.ftruncateSync(this.#descriptor, length);
  }

  close(): void {
    fs.closeSync(this.#descriptor);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

interface OpenOptions {
  readonly write?: boolean;
  readonly create?: boolean;
  readonly truncate?: boolean;
}

function openSync(path: string | URL, options: OpenOptions = {}): ShimFile {
  const { write = false, create = false, truncate = false } = options;
  const { O_RDWR, O_RDONLY, O_CREAT, O_TRUNC } = fs.constants;
  const flags = (write ? O_RDWR : O_RDONLY) | (create ? O_CREAT : 0) | (truncate ? O_TRUNC : 0);
  return new ShimFile(fs.openSync(path, flags));
}

interface CommandOptions {
  readonly args?: readonly string[];
  readonly env?: Record<string, string>;
  readonly clearEnv?: boolean;
  readonly cwd?: string | URL;
}

/** What Deno is told by `run --options FILE ARGS`, for Bun. */
function wordsForBun(args: readonly string[]): readonly string[] {
  if (args[0] !== "run") throw new Error(`no way to run \`deno ${args[0]}\` under Bun`);
  return args.slice(args.findIndex((arg, i) => i > 0 && !arg.startsWith("-")));
}

class Command {
  readonly #program: string;
  readonly #options: CommandOptions;

  constructor(program: string, options: CommandOptions = {}) {
    this.#program = program;
    this.#options = options;
  }

  outputSync() {
    const { args = [], env = {}, clearEnv = false, cwd } = this.#options;
    const words = this.#program === process.execPath ? wordsForBun(args) : args;
    const { status, signal, stdout, stderr, error } = spawnSync(this.#program, [...words], {
      cwd,
      env: clearEnv ? env : { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
      maxBuffer: 1 << 30,
    });
    if (error !== undefined) throw error;
    const code = status ?? 128 + (os.constants.signals[signal!] ?? 0);
    return { code, success: code === 0, signal, stdout, stderr };
  }
}

/** Deno gives bytes that belong to nobody else; Node's buffers may share memory. */
function readFileSync(path: string | URL): Uint8Array {
  return new Uint8Array(fs.readFileSync(path));
}

function entryOf(entry: fs.Dirent) {
  return {
    name: entry.name,
    isFile: entry.isFile(),
    isDirectory: entry.isDirectory(),
    isSymlink: entry.isSymbolicLink(),
  };
}

function statusOf(stats: fs.Stats) {
  return {
    size: stats.size,
    mode: stats.mode,
    uid: stats.uid,
    gid: stats.gid,
    ino: stats.ino,
    nlink: stats.nlink,
    blocks: stats.blocks,
    mtime: stats.mtime,
    isFile: stats.isFile(),
    isDirectory: stats.isDirectory(),
    isSymlink: stats.isSymbolicLink(),
  };
}

const shim = {
  test: Object.assign(defineTest, { afterAll }),
  errors: { NotFound },
  SeekMode: { Start: 0 },
  args: [],
  build: {
    arch: process.arch === "arm64" ? "aarch64" : "x86_64",
    os: process.platform,
  },
  env: {
    get: (name: string) => process.env[name],
  },
  osRelease: () => os.release(),
  cwd: () => process.cwd(),
  execPath: () => process.execPath,
  Command,
  dlopen: loadLibrary,
  UnsafePointerView,
  openSync: translated(openSync),
  readFileSync: translated(readFileSync),
  readTextFileSync: translated((path: string | URL) => fs.readFileSync(path, "utf8")),
  writeFileSync: (path: string | URL, bytes: Uint8Array, options?: { mode?: number }) =>
    fs.writeFileSync(path, bytes, options),
  writeTextFileSync: (path: string | URL, text: string, options?: { mode?: number }) =>
    fs.writeFileSync(path, text, options),
  readDirSync: translated((path: string | URL) =>
    fs.readdirSync(path, { withFileTypes: true }).map(entryOf)
  ),
  statSync: translated((path: string | URL) => statusOf(fs.statSync(path))),
  lstatSync: translated((path: string | URL) => statusOf(fs.lstatSync(path))),
  mkdirSync: (path: string | URL, options?: { recursive?: boolean; mode?: number }) =>
    void fs.mkdirSync(path, options),
  removeSync: translated((path: string | URL, options?: { recursive?: boolean }) =>
    fs.lstatSync(path).isDirectory() && !options?.recursive
      ? fs.rmdirSync(path)
      : fs.rmSync(path, options)
  ),
  makeTempDirSync: ({ prefix = "" } = {}) => fs.mkdtempSync(join(os.tmpdir(), prefix)),
  chmodSync: fs.chmodSync,
  chownSync: fs.chownSync,
  copyFileSync: fs.copyFileSync,
  linkSync: fs.linkSync,
  renameSync: fs.renameSync,
  symlinkSync: fs.symlinkSync,
  truncateSync: fs.truncateSync,
  utimeSync: fs.utimesSync,
};

(globalThis as unknown as { Deno: typeof shim }).Deno = shim;
