/**
 * The steps that make the bundle and the binaries.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";

export const ROOT: string = new URL("../", import.meta.url).pathname;
export const DEFAULT_BUNDLE: string = join(ROOT, "dist/blessfs.mjs");

/** The version of Bun that binaries are made with; the one that `npx` fetches where it is not installed. */
export const BUN_VERSION = "1.4.5";

/** What a runtime calls a target; `undefined` where it has none. */
export interface Target {
  readonly deno: string | undefined;
  readonly bun: string;
}

/** The targets by the names that archives of releases carry. */
export const TARGETS: Readonly<Record<string, Target>> = {
  "linux-x64": { deno: "x86_64-unknown-linux-gnu", bun: "bun-linux-x64" },
  "linux-arm64": { deno: "aarch64-unknown-linux-gnu", bun: "bun-linux-arm64" },
  "linux-x64-musl": { deno: undefined, bun: "bun-linux-x64-musl" },
  "linux-arm64-musl": { deno: undefined, bun: "bun-linux-arm64-musl" },
  "macos-x64": { deno: "x86_64-apple-darwin", bun: "bun-darwin-x64" },
  "macos-arm64": { deno: "aarch64-apple-darwin", bun: "bun-darwin-arm64" },
  "windows-x64": { deno: "x86_64-pc-windows-msvc", bun: "bun-windows-x64" },
  "windows-arm64": { deno: "aarch64-pc-windows-msvc", bun: "bun-windows-arm64" },
};

/** What a binary is made with. */
export type Runtime = "deno" | "bun";

/** The name that a binary of a target has: Windows starts only what ends in `.exe`, and Bun adds that by itself. */
export function binaryPath(target: string, path: string): string {
  return target.startsWith("windows") && !path.endsWith(".exe") ? `${path}.exe` : path;
}

/** The target that this process runs on. */
export function hostTarget(): string {
  const systems: Readonly<Record<string, string>> = { darwin: "macos", windows: "windows" };
  const system = systems[Deno.build.os] ?? "linux";
  return `${system}-${Deno.build.arch === "aarch64" ? "arm64" : "x64"}`;
}

/** Runs a command; throws with the end of what it said when it fails. */
export function runStep(
  program: string,
  args: readonly string[],
  options: { readonly env?: Record<string, string>; readonly clearEnv?: boolean } = {},
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
function bundleParts(directory: string): string {
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
 * Makes a binary. One for this machine is started with an empty environment, and removed when it is not this program: a
 * DENORT_BIN that names Deno itself, say, would give a binary that is Deno.
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
    if (target === hostTarget()) checkBinary(output, version);
  } catch (error) {
    if (existsSync(output)) Deno.removeSync(output);
    throw error;
  }
}

/** Makes a binary with `deno compile`, which downloads a runtime unless DENORT_BIN names one. */
function compileWithDeno(bundle: string, target: string, output: string): void {
  const name = TARGETS[target]?.deno;
  if (name === undefined) throw new Error(`deno compile has no runtime for ${target}`);
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

/** Throws unless a binary starts with an empty environment and is this program in this version. */
export function checkBinary(path: string, version: string): void {
  const said = runStep(path, ["--version"], { clearEnv: true }).trim();
  if (!said.includes(version) || !said.startsWith("blessfs")) {
    throw new Error(`${path} --version: found ${JSON.stringify(said)}, wanted blessfs ${version}`);
  }
}
