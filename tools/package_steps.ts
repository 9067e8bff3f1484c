/**
 * The steps that make the packages of the library: one for JSR, one for npm.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import config from "../deno.json" with { type: "json" };
import {
  bundleProgram,
  ROOT,
  runStep,
  RUNTIME_VERSIONS_MIN,
  withoutCachePaths,
} from "./build_steps.ts";

/** Where the packages are, as directories. */
export interface Packages {
  readonly jsr: string;
  readonly npm: string;
}

/** The oldest Node that runs the library: it has zstd, and buffers that can be freed. */
export const NODE_VERSION_MIN = "22.15";
/** The module that holds the code of threads as text. */
const WORKER_CODE = "lib/io/worker_code.ts";
/** The command, in the npm package. */
const PROGRAM = "bin/blessfs.mjs";
const DESCRIPTION =
  "Turn container images into ext4 images that fixed-block stores deduplicate well.";

/** Makes both packages in a directory, which is emptied first. */
export function makePackages(directory: string): Packages {
  const packages = { jsr: join(directory, "jsr"), npm: join(directory, "npm") };
  for (const path of Object.values(packages)) remove(path);
  makeJsrPackage(packages.jsr);
  makeNpmPackage(packages);
  return packages;
}

/** The sources as they are, but for the code of threads. */
function makeJsrPackage(target: string): void {
  const { publish, name, version, license, exports, imports, compilerOptions } = config;
  for (const path of publish.include) copy(join(ROOT, path), join(target, path));
  const { types: _types, ...strictness } = compilerOptions;
  writeJson(join(target, "deno.json"), {
    name,
    version,
    license,
    exports,
    publish,
    imports: Object.fromEntries(
      Object.entries(imports).filter(([key]) => isImported(target, key)),
    ),
    compilerOptions: strictness,
  });
  Deno.writeTextFileSync(join(target, WORKER_CODE), workerCodeModule(bundleWorker()));
}

/** Packages that only the command line or the tests need are left out. */
function isImported(directory: string, specifier: string): boolean {
  const quoted = [`from "${specifier}"`, `import("${specifier}")`];
  return filesIn(directory, /\.ts$/).some((path) => {
    const text = Deno.readTextFileSync(path)
      // Examples are no imports.
      .replace(/^ *\*.*$/gm, "");
    return quoted.some((part) => text.includes(part));
  });
}

/** Everything that a thread runs, as one module that imports nothing but what runtimes have. */
function bundleWorker(): string {
  const path = Deno.makeTempFileSync({ suffix: ".mjs" });
  try {
    runStep(Deno.execPath(), [
      "bundle",
      "--minify",
      "--platform=deno",
      "--packages=bundle",
      "--format=esm",
      "--frozen-lockfile",
      `--output=${path}`,
      "worker.ts",
    ], { env: { NO_COLOR: "1" } });
    return checkedWorker(withoutCachePaths(Deno.readTextFileSync(path)));
  } finally {
    Deno.removeSync(path);
  }
}

function checkedWorker(code: string): string {
  // Of a `data:` URL, Node makes no require; what is required are modules of the runtime.
  const fixed = code.replace(/(createRequire\w*\()import\.meta\.url\)/g, '$1"file:///")');
  const foreign = [...fixed.matchAll(/(?:^|[;}])import[^"'();]*["']([^"']+)["']/gm)]
    .map(([, specifier]) => specifier!).filter((specifier) => !specifier.startsWith("node:"));
  if (foreign.length > 0) throw new Error(`the worker imports ${foreign.join(", ")}`);
  return fixed;
}

function workerCodeModule(code: string): string {
  const packed = gzipSync(Buffer.from(code), { level: 9 });
  // The name of the system that it was packed on.
  packed[9] = 255;
  return `/** The code of the worker as one module, gzip in base64; made by tools/package.ts. */
export const WORKER_CODE: string | undefined =
  "${packed.toString("base64")}";
`;
}

/** The sources compiled to JavaScript and declarations, and the program. */
function makeNpmPackage({ jsr, npm }: Packages): void {
  const archive = join(dirname(npm), "deno-pack.tgz");
  Deno.mkdirSync(npm, { recursive: true });
  // It looks for the files of a repository; here is none.
  runStep(Deno.execPath(), [
    "pack",
    "--allow-dirty",
    "--no-source-maps",
    `--config=${join(jsr, "deno.json")}`,
    `--output=${archive}`,
  ], { env: { NO_COLOR: "1" }, cwd: jsr });
  runStep("tar", ["-xzf", archive, "-C", npm, "--strip-components=1"]);
  Deno.removeSync(archive);
  renameImports(npm);
  const path = join(npm, "package.json");
  const { dependencies, ...found } = JSON.parse(Deno.readTextFileSync(path));
  bundleProgram(join(npm, PROGRAM));
  const program = Deno.readTextFileSync(join(npm, PROGRAM));
  Deno.writeTextFileSync(join(npm, PROGRAM), `#!/usr/bin/env node\n${program}`);
  Deno.chmodSync(join(npm, PROGRAM), 0o755);
  const { deno, bun } = RUNTIME_VERSIONS_MIN;
  writeJson(path, {
    ...found,
    description: DESCRIPTION,
    keywords: ["ext4", "oci", "container", "image", "deduplication", "overlayfs", "dm-verity"],
    bin: { blessfs: PROGRAM },
    engines: { node: `>=${NODE_VERSION_MIN}`, bun: `>=${bun}`, deno: `>=${deno}` },
    sideEffects: ["./worker.js"],
    dependencies,
  });
}

/** Names what is imported as npm does, where the import map has another name for it. */
function renameImports(directory: string): void {
  const names = Object.entries(config.imports).flatMap(([name, target]) => {
    const found = /^npm:((?:@[^/]+\/)?[^@/]+)@[^/]+(\/.*)?$/.exec(target);
    const npmName = found === null ? name : `${found[1]}${found[2] ?? ""}`;
    return npmName === name ? [] : [[name, npmName] as const];
  });
  for (const path of filesIn(directory, /\.(?:js|d\.ts)$/)) {
    const text = Deno.readTextFileSync(path);
    const renamed = names.reduce(
      (before, [name, npmName]) => before.replaceAll(`from "${name}"`, `from "${npmName}"`),
      text,
    );
    if (renamed !== text) Deno.writeTextFileSync(path, renamed);
  }
}

function copy(from: string, to: string): void {
  Deno.mkdirSync(dirname(to), { recursive: true });
  if (Deno.statSync(from).isFile) return Deno.copyFileSync(from, to);
  Deno.mkdirSync(to, { recursive: true });
  for (const { name } of Deno.readDirSync(from)) copy(join(from, name), join(to, name));
}

function remove(path: string): void {
  try {
    Deno.removeSync(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function writeJson(path: string, value: unknown): void {
  Deno.writeTextFileSync(path, `${JSON.stringify(value, null, 2)}\n`);
}

function filesIn(directory: string, pattern: RegExp): string[] {
  return [...Deno.readDirSync(directory)].flatMap(({ name, isDirectory }) => {
    const path = join(directory, name);
    return isDirectory ? filesIn(path, pattern) : pattern.test(path) ? [path] : [];
  });
}
