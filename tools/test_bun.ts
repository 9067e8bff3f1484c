// deno-lint-ignore-file no-console -- what it prints is what it is for
/**
 * Runs the tests of the same sources under Bun:
 *
 *     deno task test:bun                  all of them that are about the program
 *     deno task test:bun --quick          those that take seconds, as .ci/run does it
 *     deno task test:bun tests/tar ...    a part
 *
 * The sources are copied to a directory of their own, with the packages of deno.json beside them, because Bun does not
 * read that file's import map. tools/bun/deno_shim.ts gives the tests what they use of Deno. Prints failures, the parts
 * that did not run, and `N passed, N failed` at the end.
 *
 * @module
 */
import { TextLineStream } from "@std/streams";
import { cpSync, existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import config from "../deno.json" with { type: "json" };
import { NOT_RUN_PREFIX } from "../tests/oracle/notice.ts";
import { findBun, ROOT, runStep } from "./build_steps.ts";
import { parseReport, type TestCounts } from "./test_report.ts";

/** What is copied; the sources and what tests read beside them. */
const COPIED = [
  "lib",
  "probe",
  "serve",
  "cli",
  "tests",
  "tools",
  "fixtures",
  "docs",
  "mod.ts",
  "worker.ts",
  "deno.json",
];
/** These are about the repository, or start Deno themselves. */
const LEFT_OUT = ["tests/tidy", "tests/tools", "tests/binary"];
/** So is this one, which tries a tool that is written for Deno. */
const IGNORED = "**/tests/oracle/compare_image_test.ts";
/** What is quick: the parts by themselves, without processes, the kernel, large images and long series of damage. */
const QUICK = [
  "tests/bytes",
  "tests/ext4/format",
  "tests/ext4/plan",
  "tests/ext4/write",
  "tests/io",
  "tests/layout",
  "tests/model",
  "tests/probe/fast_cdc",
  "tests/probe/units",
  "tests/source",
  "tests/tar",
  "tests/tree",
];
const TIMEOUT_MS = 600_000;

/** Packages by what they are called in npm, and where each name of the import map leads. */
function resolutions(): { packages: string[]; paths: Record<string, string[]> } {
  const packages = new Set<string>();
  const paths: Record<string, string[]> = {};
  for (const [name, target] of Object.entries(config.imports)) {
    if (target.startsWith("node:")) paths[name] = [`./${builtinModule(name)}`];
    const match = /^npm:((?:@[^/]+\/)?[^@/]+)@([^/]+)(?:\/(.+))?$/.exec(target);
    if (match === null) continue;
    packages.add(`${match[1]}@${match[2]}`);
    if (match[3] !== undefined) paths[name] = [`./node_modules/${match[1]}/${match[3]}`];
  }
  return { packages: [...packages], paths };
}

/** Where the module is that stands for a name of the map which a builtin module has; tsconfig.json maps to files alone. */
function builtinModule(name: string): string {
  return `${name.replace(/\W+/g, "_")}.ts`;
}

/** A copy of the sources that Bun can run. */
function prepare(directory: string): void {
  for (const name of COPIED) {
    cpSync(join(ROOT, name), join(directory, name), { recursive: true, preserveTimestamps: true });
  }
  const { packages, paths } = resolutions();
  const write = (name: string, value: unknown) =>
    Deno.writeTextFileSync(join(directory, name), JSON.stringify(value));
  for (const [name, target] of Object.entries(config.imports)) {
    if (!target.startsWith("node:")) continue;
    Deno.writeTextFileSync(join(directory, builtinModule(name)), `export * from "${target}";\n`);
  }
  write("package.json", { private: true, type: "module" });
  write("tsconfig.json", { compilerOptions: { paths } });
  const options = ["--no-save", "--ignore-scripts", "--no-audit", "--no-fund"];
  runStep("npm", ["install", `--prefix=${directory}`, ...options, ...packages]);
}

function testPaths(args: readonly string[]): string[] {
  const named = args.filter((arg) => !arg.startsWith("--"));
  if (named.length > 0) return named;
  if (args.includes("--quick")) return QUICK.filter((path) => existsSync(join(ROOT, path)));
  return readdirSync(join(ROOT, "tests"), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() || entry.name.endsWith("_test.ts"))
    .map((entry) => `tests/${entry.name}`)
    .filter((path) => !LEFT_OUT.includes(path));
}

/** Shows the failures and keeps the notices. */
async function show(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  notices: Set<string>,
): Promise<void> {
  const lines = stream.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
  for await (const line of lines) {
    const at = line.indexOf(NOT_RUN_PREFIX);
    if (at >= 0) notices.add(line.slice(at));
    else if (line.trim() !== "") console.log(line);
  }
}

async function runTests(
  directory: string,
  paths: readonly string[],
  notices: Set<string>,
): Promise<TestCounts> {
  const report = join(directory, "report.xml");
  const [program, ...prefix] = findBun();
  const child = new Deno.Command(program, {
    args: [
      ...prefix,
      "test",
      "--preload=./tools/bun/deno_shim.ts",
      `--timeout=${TIMEOUT_MS}`,
      "--parallel",
      "--only-failures",
      `--path-ignore-patterns=${IGNORED}`,
      "--reporter=junit",
      `--reporter-outfile=${report}`,
      ...paths.map((path) => `./${path}`),
    ],
    cwd: directory,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const [{ success }] = await Promise.all([
    child.status,
    show(child.stdout, notices),
    show(child.stderr, notices),
  ]);
  const counts = parseReport(existsSync(report) ? Deno.readTextFileSync(report) : "");
  return { ...counts, failed: !success && counts.failed === 0 ? 1 : counts.failed };
}

async function main(): Promise<number> {
  const unknown = Deno.args.find((arg) => arg.startsWith("--") && arg !== "--quick");
  if (unknown !== undefined) {
    console.error(
      `test:bun: unknown option ${unknown}\nusage: deno task test:bun [--quick] [PATH...]`,
    );
    return 2;
  }
  const directory = Deno.makeTempDirSync({ prefix: "blessfs-bun-" });
  const notices = new Set<string>();
  try {
    prepare(directory);
    const { passed, failed, skipped } = await runTests(directory, testPaths(Deno.args), notices);
    for (const notice of [...notices].sort()) console.log(notice);
    console.log(`under Bun: ${passed} passed, ${failed} failed, ${skipped} skipped`);
    return failed > 0 || passed === 0 ? 1 : 0;
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

Deno.exitCode = await main();
