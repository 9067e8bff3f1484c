// deno-lint-ignore-file no-console -- what it prints is what it is for
/**
 * Runs the tests and the examples in the documentation, and counts them:
 *
 *     deno task test                                all but the long tier
 *     deno task test:long                           the long tier: *_long_test.ts, and long sweeps of what has any
 *     deno task test tests/tar --filter "sparse"    a part, with what else deno test takes
 *     deno task test --verbose                      every line of it
 *     deno task test --record                       and note how long each file took, in tools/test_times.json
 *
 * Says at first how long it will take, and then how far it is. Prints failures, then one line for each part that this
 * machine could not run, then `N passed, N failed` (and `, N skipped` where there are any). Exits 1 when a test failed
 * or none ran.
 *
 * Tests that start the program start a bundle of it, which takes half the time. Temporary files lie in memory where there
 * is room, because a disk makes tests wait; TMPDIR names another directory.
 *
 * @module
 */
import { TextLineStream } from "@std/streams";
import { statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { PROGRAM_VARIABLE } from "../tests/cli/program.ts";
import { NOT_RUN_PREFIX } from "../tests/oracle/notice.ts";
import {
  aboutMinutes,
  type FileTimes,
  groupFiles,
  LONG_SWEEPS,
  recordedTimes,
  RunProgress,
  testFiles,
  timesWithGroups,
} from "./test_plan.ts";
import { bundleParts } from "./build_steps.ts";
import { addCounts, parseReport, type TestReport } from "./test_report.ts";

const ROOT = new URL("../", import.meta.url).pathname;
const TIMES = new URL("test_times.json", import.meta.url);
const DOCUMENTED = ["lib", "probe", "serve", "cli", "mod.ts", "README.md", "docs/ERRORS.md"];
const PROGRESS_MS = 15_000;
/** The examples are compiled before they are run. */
const EXAMPLES_SECONDS = 15;
/** Where files lie in memory, and how much of it must be free before tests put theirs there. */
const MEMORY_DIRECTORY = "/dev/shm";
const MOUNTS = "/proc/mounts";
const MEMORY_BYTES_MIN = 6 * 2 ** 30;
/** The exit code of a program that Ctrl-C has ended. */
const INTERRUPTED = 130;
const OWN_OPTIONS = ["--verbose", "--record", "--long"];

/** One run of `deno test`. Types are checked by `deno task check`. */
interface Run {
  readonly title: string;
  readonly args: readonly string[];
  readonly progress: RunProgress | undefined;
}

function planRuns(args: readonly string[], times: FileTimes, scratch: string): Run[] {
  const tier = args.includes("--long") ? "long" : "default";
  const others = args.filter((arg) => !OWN_OPTIONS.includes(arg));
  const paths = others.filter((arg) => !arg.startsWith("-") && exists(arg));
  const options = others.filter((arg) => !paths.includes(arg));
  const files = testFiles(paths.length > 0 ? paths : ["tests"], tier, times);
  if (files.length === 0) return [];
  // What is recorded is known by its file.
  const { single, groups } = args.includes("--record")
    ? { single: files, groups: [] }
    : groupFiles(files, times);
  for (const group of groups) {
    const lines = group.files.map((file) => `import "${pathToFileURL(resolve(file))}";\n`);
    Deno.writeTextFileSync(`${scratch}/${group.name}`, lines.join(""));
  }
  const units = [...single, ...groups.map(({ name }) => name)];
  const progress = new RunProgress(units, timesWithGroups(times, groups));
  const modules = [...single, ...groups.map(({ name }) => `${scratch}/${name}`)];
  const title = files.length === 1 ? "1 test file" : `${files.length} test files`;
  const runs: Run[] = [{ title, args: [...options, ...modules], progress }];
  const documented = DOCUMENTED.filter(exists);
  if (others.length === 0 && tier === "default" && documented.length > 0) {
    runs.push({ title: "examples", args: ["--doc", ...documented], progress: undefined });
  }
  return runs;
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function sayPlan(runs: readonly Run[]): void {
  for (const { title, progress } of runs) {
    if (progress === undefined) continue;
    const processors = navigator.hardwareConcurrency;
    const seconds = progress.totalSeconds / processors + (runs.length > 1 ? EXAMPLES_SECONDS : 0);
    console.log(`${title}: ${aboutMinutes(seconds)} where all ${processors} processors are idle`);
  }
}

function sayProgress({ title, progress }: Run, startMs: number): void {
  if (progress === undefined) return console.log(`... ${title}: running`);
  const left = progress.secondsLeft((Date.now() - startMs) / 1000);
  console.log(
    `... tests: ${Math.floor(progress.fraction * 100)} %, ${progress.tests} tests` +
      (left === undefined ? "" : `, ${aboutMinutes(left)} left`),
  );
}

/** What a run printed is shown from its failures on; of the lines before, only those that matter. */
class OutputFilter {
  readonly notices = new Set<string>();
  /** Modules that failed outside any test; they are in no report. */
  uncaughtCount = 0;
  readonly #progress: RunProgress | undefined;
  #showsAll: boolean;
  /** Between Deno's marks around what a test prints itself. */
  #isTestOutput = false;

  constructor(verbose: boolean, progress: RunProgress | undefined) {
    this.#showsAll = verbose;
    this.#progress = progress;
  }

  async drain(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    const lines = stream.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
    for await (const line of lines) this.#take(line);
  }

  #take(line: string): void {
    // deno-lint-ignore no-control-regex
    const plain = line.replace(/\x1b\[[0-9;]*m/g, "");
    const notice = plain.indexOf(NOT_RUN_PREFIX);
    if (notice >= 0) this.notices.add(plain.slice(notice));
    // Groups are known by their names alone.
    const ended = /^(?:\.\/|\S*\/(?=quick-))?(\S+\.ts) => .* \.\.\. (?:ok|FAILED|ignored)\b/.exec(
      plain,
    );
    if (ended !== null) this.#progress?.endTest(ended[1]!);
    if (plain.startsWith("Uncaught error from ")) this.uncaughtCount++;
    if (/^-+ (?:post-test )?output -+$/.test(plain)) this.#isTestOutput = true;
    if (plain.endsWith("output end -----")) this.#isTestOutput = false;
    const isFailure = plain.trim() === "ERRORS" || plain.startsWith("error: ");
    if (isFailure && !this.#isTestOutput) this.#showsAll = true;
    const isShown = this.#showsAll || / \.\.\. FAILED\b/.test(plain);
    if (isShown) console.log(Deno.stdout.isTerminal() ? line : plain);
  }
}

/** Where there is room for what tests write. */
function scratchParent(): string {
  return Deno.env.get("TMPDIR") || !isMemoryFit() ? tmpdir() : MEMORY_DIRECTORY;
}

/** Whether files in memory are a place for tests: with enough room, and for programs, too. */
function isMemoryFit(): boolean {
  if (!exists(MEMORY_DIRECTORY) || !exists(MOUNTS)) return false;
  const mount = Deno.readTextFileSync(MOUNTS).split("\n").map((line) => line.split(" "))
    .find(([, directory]) => directory === MEMORY_DIRECTORY);
  if (mount === undefined || mount[3]!.split(",").includes("noexec")) return false;
  const { bavail, bsize } = statfsSync(MEMORY_DIRECTORY);
  return Math.min(bavail * bsize, Deno.systemMemoryInfo().available) >= MEMORY_BYTES_MIN;
}

/** The environment of the tests, with a bundle of the program and a directory for what they write. */
function testEnvironment(directory: string): Record<string, string> {
  const TMPDIR = `${directory}/tmp`;
  Deno.mkdirSync(TMPDIR);
  // Tests run programs as other users.
  Deno.chmodSync(directory, 0o755);
  Deno.chmodSync(TMPDIR, 0o1777);
  const sweeps = Deno.args.includes("--long") ? LONG_SWEEPS : {};
  return { ...sweeps, ...bundledProgram(`${directory}/program`), ...Deno.env.toObject(), TMPDIR };
}

function bundledProgram(directory: string): Record<string, string> {
  if (Deno.env.has(PROGRAM_VARIABLE)) return {};
  try {
    return { [PROGRAM_VARIABLE]: bundleParts(directory) };
  } catch (error) {
    console.log(`The program is run from its sources. ${(error as Error).message}`);
    return {};
  }
}

/** Removes what tests have written, unless one that was stopped has left something mounted there. */
function removeScratch(directory: string): void {
  if (exists(MOUNTS) && Deno.readTextFileSync(MOUNTS).includes(directory)) {
    return console.log(`${directory}: something is still mounted there`);
  }
  Deno.removeSync(directory, { recursive: true });
}

async function execute(
  run: Run,
  env: Record<string, string>,
  notices: Set<string>,
  verbose: boolean,
): Promise<TestReport> {
  const report = Deno.makeTempFileSync({ prefix: "blessfs-report-", suffix: ".xml" });
  const options = ["-A", "--no-check", "--parallel", "--config=deno.json"];
  const args = ["test", ...options, `--junit-path=${report}`, ...run.args];
  const child = new Deno.Command(Deno.execPath(), {
    args,
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const filter = new OutputFilter(verbose, run.progress);
  const startMs = Date.now();
  const timer = setInterval(() => sayProgress(run, startMs), PROGRESS_MS);
  try {
    const [{ success }] = await Promise.all([
      child.status,
      filter.drain(child.stdout),
      filter.drain(child.stderr),
    ]);
    for (const notice of filter.notices) notices.add(notice);
    const found = parseReport(Deno.readTextFileSync(report));
    const failed = found.failed + filter.uncaughtCount;
    // Whatever made it fail without a failed test (a module that does not load, say) counts as one.
    return { ...found, failed: !success && failed === 0 ? 1 : failed };
  } finally {
    clearInterval(timer);
    Deno.removeSync(report);
  }
}

function record(known: FileTimes, { tests }: TestReport): void {
  const times = Object.entries({ ...known, ...recordedTimes(tests) })
    .filter(([file]) => exists(file))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  Deno.writeTextFileSync(TIMES, `${JSON.stringify(Object.fromEntries(times), null, 2)}\n`);
}

/** Fetches packages as the programs of the tests do, so that none of them prints that it downloads something. */
async function fetchPackages(): Promise<void> {
  const args = ["run", "-A", "--no-lock", "cli/main.ts", "--version"];
  await new Deno.Command(Deno.execPath(), { args, stdout: "null" }).output();
}

async function main(): Promise<number> {
  Deno.chdir(ROOT);
  await fetchPackages();
  const times = JSON.parse(Deno.readTextFileSync(TIMES)) as FileTimes;
  const notices = new Set<string>();
  const verbose = Deno.args.includes("--verbose");
  let total: TestReport = { passed: 0, failed: 0, skipped: 0, tests: [] };
  // Ctrl-C ends the tests, which have it too, and then this.
  let isInterrupted = false;
  Deno.addSignalListener("SIGINT", () => isInterrupted = true);
  const scratch = Deno.makeTempDirSync({ dir: scratchParent(), prefix: "blessfs-tests-" });
  try {
    const runs = planRuns(Deno.args, times, scratch);
    sayPlan(runs);
    const env = testEnvironment(scratch);
    for (const run of runs) {
      if (isInterrupted) return INTERRUPTED;
      total = addCounts(total, await execute(run, env, notices, verbose));
    }
  } finally {
    removeScratch(scratch);
  }
  if (Deno.args.includes("--record")) record(times, total);
  for (const notice of [...notices].sort()) console.log(notice);
  const { passed, failed, skipped } = total;
  if (passed + failed === 0) console.log("no test ran");
  console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
  return failed > 0 || passed === 0 ? 1 : 0;
}

Deno.exitCode = await main();
