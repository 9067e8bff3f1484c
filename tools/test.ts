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
 * @module
 */
import { TextLineStream } from "@std/streams";
import { NOT_RUN_PREFIX } from "../tests/oracle/notice.ts";
import {
  aboutMinutes,
  type FileTimes,
  LONG_SWEEPS,
  recordedTimes,
  RunProgress,
  testFiles,
} from "./test_plan.ts";
import { addCounts, parseReport, type TestReport } from "./test_report.ts";

const ROOT = new URL("../", import.meta.url).pathname;
const TIMES = new URL("test_times.json", import.meta.url);
const DOCUMENTED = ["lib", "probe", "serve", "cli", "mod.ts", "README.md", "docs/ERRORS.md"];
const PROGRESS_MS = 15_000;
/** The examples are compiled before they are run. */
const EXAMPLES_SECONDS = 15;
const OWN_OPTIONS = ["--verbose", "--record", "--long"];

/** One run of `deno test`. Types are checked by `deno task check`. */
interface Run {
  readonly title: string;
  readonly args: readonly string[];
  readonly progress: RunProgress | undefined;
}

function planRuns(args: readonly string[], times: FileTimes): Run[] {
  const tier = args.includes("--long") ? "long" : "default";
  const others = args.filter((arg) => !OWN_OPTIONS.includes(arg));
  const paths = others.filter((arg) => !arg.startsWith("-") && exists(arg));
  const options = others.filter((arg) => !paths.includes(arg));
  const files = testFiles(paths.length > 0 ? paths : ["tests"], tier, times);
  if (files.length === 0) return [];
  const progress = new RunProgress(files, times);
  const runs: Run[] = [{ title: "tests", args: [...options, ...files], progress }];
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
  for (const { progress, args } of runs) {
    if (progress === undefined) continue;
    const processors = navigator.hardwareConcurrency;
    const seconds = progress.totalSeconds / processors + (runs.length > 1 ? EXAMPLES_SECONDS : 0);
    const fileCount = args.filter((arg) => arg.endsWith(".ts")).length;
    console.log(
      `${fileCount} test files: ${
        aboutMinutes(seconds)
      } where all ${processors} processors are idle`,
    );
  }
}

function sayProgress({ title, progress }: Run, startMs: number): void {
  if (progress === undefined) return console.log(`... ${title}: running`);
  const left = progress.secondsLeft((Date.now() - startMs) / 1000);
  console.log(
    `... ${title}: ${Math.floor(progress.fraction * 100)} %, ${progress.tests} tests` +
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
    const ended = /^(?:\.\/)?(\S+\.ts) => .* \.\.\. (?:ok|FAILED|ignored)\b/.exec(plain);
    if (ended !== null) this.#progress?.endTest(ended[1]!);
    if (plain.startsWith("Uncaught error from ")) this.uncaughtCount++;
    if (plain.trim() === "ERRORS" || plain.startsWith("error: ")) this.#showsAll = true;
    const isShown = this.#showsAll || / \.\.\. FAILED\b/.test(plain);
    if (isShown) console.log(Deno.stdout.isTerminal() ? line : plain);
  }
}

async function execute(run: Run, notices: Set<string>, verbose: boolean): Promise<TestReport> {
  const report = Deno.makeTempFileSync({ prefix: "blessfs-report-", suffix: ".xml" });
  const args = ["test", "-A", "--no-check", "--parallel", `--junit-path=${report}`, ...run.args];
  const child = new Deno.Command(Deno.execPath(), {
    args,
    env: Deno.args.includes("--long") ? { ...LONG_SWEEPS, ...Deno.env.toObject() } : {},
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
  const runs = planRuns(Deno.args, times);
  sayPlan(runs);
  let total: TestReport = { passed: 0, failed: 0, skipped: 0, tests: [] };
  for (const run of runs) total = addCounts(total, await execute(run, notices, verbose));
  if (Deno.args.includes("--record")) record(times, total);
  for (const notice of [...notices].sort()) console.log(notice);
  const { passed, failed, skipped } = total;
  if (passed + failed === 0) console.log("no test ran");
  console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
  return failed > 0 || passed === 0 ? 1 : 0;
}

Deno.exitCode = await main();
