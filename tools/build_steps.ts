/**
 * The steps that make the bundle and the binaries.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { makeArchive } from "./release_archive.ts";

export const ROOT: string = new URL("../", import.meta.url).pathname;
export const DEFAULT_BUNDLE: string = join(ROOT, "dist/blessfs.mjs");

/** The version of Bun that binaries are made with; the one that `npx` fetches where it is not installed. */
export const BUN_VERSION = "1.4.5";

/**
 * The oldest runtimes that do what this program needs. The node:fs of older Deno has descriptors of its own, so that a
 * worker cannot open what another thread hands it.
 */
export const RUNTIME_VERSIONS_MIN = { deno: "2.9.0", bun: "1.4.0" } as const;

/** What a runtime calls a target; `undefined` where it has none. */
export interface Target {
  readonly deno: string | undefined;
  readonly bun: string;
}

/**
 * The targets by the names that archives of releases carry. Bun's for x64 are those that need no AVX2. There is none for
 * Windows, where a thread cannot open what another one holds open.
 */
export const TARGETS: Readonly<Record<string, Target>> = {
  "linux-x64": { deno: "x86_64-unknown-linux-gnu", bun: "bun-linux-x64-baseline" },
  "linux-arm64": { deno: "aarch64-unknown-linux-gnu", bun: "bun-linux-arm64" },
  "linux-x64-musl": { deno: undefined, bun: "bun-linux-x64-musl-baseline" },
  "linux-arm64-musl": { deno: undefined, bun: "bun-linux-arm64-musl" },
  "macos-x64": { deno: "x86_64-apple-darwin", bun: "bun-darwin-x64-baseline" },
  "macos-arm64": { deno: "aarch64-apple-darwin", bun: "bun-darwin-arm64" },
};

/** What a binary is made with. */
export type Runtime = "deno" | "bun";

/** The target that this process runs on. */
export function hostTarget(): string {
  const system = Deno.build.os === "darwin" ? "macos" : Deno.build.os;
  return `${system}-${Deno.build.arch === "aarch64" ? "arm64" : "x64"}`;
}

/** Runs a command; throws with the end of what it said when it fails. */
export function runStep(
  program: string,
  args: readonly string[],
  options: {
    readonly env?: Record<string, string>;
    readonly clearEnv?: boolean;
    readonly cwd?: string;
  } = {},
): string {
  let output: Deno.CommandOutput;
  try {
    output = new Deno.Command(program, { args: [...args], cwd: ROOT, stdin: "null", ...options })
      .outputSync();
  } catch (cause) {
    throw new Error(`${program}: cannot be started: ${(cause as Error).message}`, { cause });
  }
  const text = new TextDecoder();
  if (!output.success) {
    const said = text.decode(output.stderr).split("\n")
      .filter((line) => !/^(?:\s*|Stack backtrace:|\s+\d+: <unknown>)$/.test(line))
      .slice(-4).join("\n");
    throw new Error(`${program} ${args[0] ?? ""} failed with status ${output.code}: ${said}`);
  }
  return text.decode(output.stdout);
}

/** Writes the bundle of cli/main.ts and of everything that it imports. */
export function bundleProgram(path: string): void {
  Deno.mkdirSync(dirname(path), { recursive: true });
  runBundler([`--output=${path}`]);
  Deno.writeTextFileSync(path, withoutCachePaths(Deno.readTextFileSync(path)));
}

/** Writes the same in parts, of which a command loads those that it needs; returns the one to begin with. */
export function bundleParts(directory: string): string {
  if (existsSync(directory)) Deno.removeSync(directory, { recursive: true });
  runBundler(["--code-splitting", `--outdir=${directory}`]);
  for (const { name } of Deno.readDirSync(directory)) {
    const path = join(directory, name);
    Deno.writeTextFileSync(path, withoutCachePaths(Deno.readTextFileSync(path)));
  }
  return join(directory, "main.js");
}

function runBundler(outputOptions: readonly string[]): void {
  const options = ["--platform=deno", "--packages=bundle", "--format=esm", "--frozen-lockfile"];
  // Paths in the bundle's comments are relative to the working directory, which runStep makes the root.
  runStep(Deno.execPath(), ["bundle", ...options, ...outputOptions, "cli/main.ts"], {
    env: { NO_COLOR: "1" },
  });
}

/** Names packages as `npm:NAME/VERSION/FILE`, wherever this machine's cache keeps them. */
export function withoutCachePaths(bundle: string): string {
  return bundle.replace(
    /(?<=^\/\/ |")[^"\s]*\/npm\/[^/"\s]+\/((?:@[^/"\s]+\/)?[^/"\s]+\/\d[^"\s]*)/gm,
    "npm:$1",
  );
}

/**
 * Makes a binary. One for this machine is proved, and removed when it is not this program or does not work: a DENORT_BIN
 * that names Deno itself, say, would give a binary that is Deno.
 *
 * @throws when the runtime has no such target or cannot be had
 */
export function compile(
  runtime: Runtime,
  bundle: string,
  target: string,
  output: string,
  version: string,
): void {
  try {
    if (runtime === "deno") compileWithDeno(bundle, target, output);
    else compileWithBun(join(dirname(bundle), "parts"), target, output);
    if (target === hostTarget()) proveBinary(output, version);
  } catch (error) {
    if (existsSync(output)) Deno.removeSync(output);
    throw error;
  }
}

/** Makes a binary with `deno compile`, which downloads a runtime unless DENORT_BIN names one. */
function compileWithDeno(bundle: string, target: string, output: string): void {
  const name = TARGETS[target]?.deno;
  if (name === undefined) throw new Error(`deno compile has no runtime for ${target}`);
  checkRuntime("deno", Deno.version.deno);
  const options = ["--no-check", "--no-config", "--no-lock", "-A", `--target=${name}`];
  withRuntime(
    "deno compile",
    target,
    () =>
      runStep(Deno.execPath(), ["compile", ...options, `--output=${output}`, bundle], {
        env: { NO_COLOR: "1" },
      }),
  );
}

/** Says first what could not be made. */
function withRuntime(maker: string, target: string, make: () => void): void {
  try {
    make();
  } catch (cause) {
    const why = (cause as Error).message;
    throw new Error(`${maker} could not make a binary for ${target}: ${why}`, { cause });
  }
}

/**
 * Makes a binary with `bun build --compile`. It reads no file of the directory that it is started in.
 *
 * @param partsDirectory where the parts of the bundle are written
 */
function compileWithBun(partsDirectory: string, target: string, output: string): void {
  const name = TARGETS[target]?.bun;
  if (name === undefined) throw new Error(`bun has no runtime for ${target}`);
  const [program, ...prefix] = findBun();
  const options = [
    "--compile",
    `--target=${name}`,
    // Compiled ahead of time, it starts in a third of the time. Bytecode wants the format to be said.
    "--bytecode",
    "--format=esm",
    // What a command does not need is not loaded: the runtime's own modules take longest.
    "--splitting",
    "--no-compile-autoload-dotenv",
    "--no-compile-autoload-bunfig",
    "--no-compile-autoload-tsconfig",
    "--no-compile-autoload-package-json",
  ];
  withRuntime(
    "bun build --compile",
    target,
    () => {
      const main = bundleParts(partsDirectory);
      runStep(program, [...prefix, "build", ...options, `--outfile=${output}`, main]);
      if (!target.startsWith("linux")) return;
      disarm(output);
      forgetSections(output);
    },
  );
}

/** The words that run Bun: the one of the right version that is installed, or npx to fetch it. */
export function findBun(): [string, ...string[]] {
  try {
    if (runStep("bun", ["--version"]).trim() === BUN_VERSION) return ["bun"];
  } catch {
    // Not installed: npx fetches it.
  }
  return ["npx", "-y", `bun@${BUN_VERSION}`];
}

/**
 * Variables by which a binary that Bun made would run other code than its own, or become Bun itself. Whoever sets them
 * decides what the program does, and may have it say that it succeeded.
 */
const OBEYED_VARIABLES = ["BUN_OPTIONS", "BUN_BE_BUN", "BUN_INSPECT"];

/**
 * Makes a binary for Linux deaf to those variables: their names in the runtime become ones that no shell can set. The
 * signature of a binary for macOS would be broken by it; there the program refuses to start.
 */
function disarm(path: string): void {
  const bytes = Buffer.from(Deno.readFileSync(path));
  for (const name of OBEYED_VARIABLES) {
    let count = 0;
    for (let at = bytes.indexOf(name); at >= 0; at = bytes.indexOf(name, at + 1)) {
      bytes[at] = "=".charCodeAt(0);
      count++;
    }
    if (count === 0) throw new Error(`the runtime does not name ${name}: look how it reads it now`);
  }
  Deno.writeFileSync(path, bytes);
}

/** Fields of the header of a 64-bit ELF file, little-endian: where the table of sections is, and how many there are. */
const ELF_AT = { class: 4, sectionTable: 0x28, sectionCount: 0x3c, sectionNames: 0x3e } as const;
const ELF_64_BITS = 2;

/**
 * Makes a binary for Linux forget its table of sections, which nobody needs to run it. By that table strip(1) would throw
 * away the program and leave the bare runtime, which cannot notice; without it GNU strip refuses, and LLVM's keeps all that
 * is loaded.
 */
function forgetSections(path: string): void {
  const file = Deno.openSync(path, { read: true, write: true });
  try {
    const header = Buffer.alloc(64);
    file.readSync(header);
    if (header.toString("latin1", 0, 4) !== "\x7fELF" || header[ELF_AT.class] !== ELF_64_BITS) {
      throw new Error("the binary is not a 64-bit ELF file: look what it is now");
    }
    header.writeBigUInt64LE(0n, ELF_AT.sectionTable);
    header.writeUInt16LE(0, ELF_AT.sectionCount);
    header.writeUInt16LE(0, ELF_AT.sectionNames);
    file.seekSync(0, Deno.SeekMode.Start);
    file.writeSync(header);
  } finally {
    file.close();
  }
}

/** Throws unless a binary is this program in this version, on a runtime that is not too old. */
export function checkBinary(path: string, version: string): void {
  const said = runStep(path, ["--version", "--json"], { clearEnv: true }).trim();
  const wanted = `wanted blessfs ${version}`;
  const fault = `${path} --version --json: found ${JSON.stringify(said)}, ${wanted}`;
  let facts: Record<string, string>;
  try {
    facts = JSON.parse(said);
  } catch (cause) {
    throw new Error(fault, { cause });
  }
  if (facts["blessfs"] !== version) throw new Error(fault);
  const { runtime = "", runtimeVersion = "" } = facts;
  checkRuntime(runtime, runtimeVersion);
}

/** Throws for a runtime that is too old. */
export function checkRuntime(runtime: string, version: string): void {
  const least = RUNTIME_VERSIONS_MIN[runtime as Runtime];
  if (least === undefined) {
    throw new Error(`${runtime} is not a runtime that binaries are made with`);
  }
  const [found, wanted] = [version, least].map((text) => text.split(".").map(Number));
  const at = wanted!.findIndex((part, i) => part !== found![i]);
  if (at < 0 || found![at]! > wanted![at]!) return;
  throw new Error(`the runtime is ${runtime} ${version}: wanted ${least} or later`);
}

/** A layer that is long enough to be read by a thread of its own, and inflated into a file that two threads share. */
const PROOF_BYTES = 2 << 20;

/**
 * Throws unless a binary is this program and works: it blesses a layer in a worker, proves the image, and gives back
 * what was in it. One that Bun made for Linux does so whatever Bun's variables say.
 */
export function proveBinary(path: string, version: string): void {
  checkBinary(path, version);
  const scratch = Deno.makeTempDirSync({ prefix: "blessfs-proof-" });
  try {
    const bytes = new Uint8Array(PROOF_BYTES);
    let state = 1;
    for (let i = 0; i < bytes.length; i++) {
      state = Math.imul(state, 1_664_525) + 1_013_904_223 | 0;
      bytes[i] = state >>> 24;
    }
    const [tar, image] = [join(scratch, "layer.tar.gz"), join(scratch, "image.ext4")];
    Deno.writeFileSync(tar, makeArchive("proof", [{ path: "data", bytes }], 0));
    const trap = join(scratch, "trap.js");
    Deno.writeTextFileSync(trap, "console.log('trapped'); process.exit(0);");
    const env: Record<string, string> = Deno.build.os === "linux"
      ? { BUN_OPTIONS: `--preload=${trap}`, BUN_BE_BUN: "1", TMPDIR: scratch }
      : { TMPDIR: scratch };
    const run = (...args: string[]) => runStep(path, args, { clearEnv: true, env });
    run("bless", `tar:${tar}`, "-o", image, "--jobs", "2");
    run("verify", image);
    const listed = run("ls", "-l", image, "/proof/data");
    if (!listed.includes(` ${PROOF_BYTES} `)) throw new Error(`ls shows ${listed.trim()}`);
  } catch (cause) {
    throw new Error(`${path} was made, but does not work: ${(cause as Error).message}`, { cause });
  } finally {
    Deno.removeSync(scratch, { recursive: true });
  }
}
