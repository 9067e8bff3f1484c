// deno-lint-ignore-file no-console -- what it prints is what it is for
/**
 * Runs the tests and the examples in the documentation, and counts them:
 *
 *     deno task test                                everything
 *     deno task test tests/tar --filter "sparse"    what deno test would run with these arguments
 *     deno task test --verbose                      every line of it
 *
 * Prints failures, then one line for each part that this machine could not run, then `N passed, N failed` (and
 * `, N skipped` where there are any). Exits 1 when a test failed or none ran.
 *
 * @module
 */
import { NOT_RUN_PREFIX } from "../tests/oracle/notice.ts";
import { parseReport } from "./test_report.ts";
import type { TestCounts } from "./test_report.ts";

const ROOT = new URL("../", import.meta.url).pathname;
const DOCUMENTED = ["lib", "probe", "cli", "mod.ts", "README.md"];
const HEARTBEAT_MS = 30_000;

/** One run of `deno test`. Types are checked by `deno task check`. */
interface Run {
  readonly title: string;
  readonly args: readonly string[];
}

function planRuns(args: readonly string[]): Run[] {
  const passed = args.filter((arg) => arg !== "--verbose");
  if (passed.length > 0) return [{ title: "tests", args: passed }];
  const documented = DOCUMENTED.filter(exists);
  const runs: Run[] = [{ title: "tests", args: ["tests"] }];
  if (documented.length > 0) runs.push({ title: "examples", args: ["--doc", ...documented] });
  return runs;
}

function exists(path: string): boolean {
  try {
    Deno.statSync(ROOT + path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** What a run printed is shown from its failures on; of the lines before, only those that matter. */
class OutputFilter {
  readonly notices = new Set<string>();
  #showsAll: boolean;
  /** Modules that failed outside any test; they are in no report. */
  uncaughtCount = 0;
  lineCount = 0;

  constructor(verbose: boolean) {
    this.#showsAll = verbose;
  }

  line(line: string): void {
    this.lineCount++;
    // deno-lint-ignore no-control-regex
    const plain = line.replace(/\x1b\[[0-9;]*m/g, "");
    const notice = plain.indexOf(NOT_RUN_PREFIX);
    if (notice >= 0) this.notices.add(plain.slice(notice));
    if (plain.startsWith("Uncaught error from ")) this.uncaughtCount++;
    if (plain.trim() === "ERRORS" || plain.startsWith("error: ")) this.#showsAll = true;
    const isShown = this.#showsAll || / \.\.\. FAILED\b/.test(plain);
    if (isShown) console.log(Deno.stdout.isTerminal() ? line : plain);
  }

  async drain(stream: ReadableStream<Uint8Array>): Promise<void> {
    let rest = "";
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      for (const line of lines) this.line(line);
    }
    if (rest !== "") this.line(rest);
  }
}

async function execute(
  run: Run,
  notices: Set<string>,
  verbose: boolean,
): Promise<TestCounts> {
  const report = Deno.makeTempFileSync({ prefix: "blessfs-report-", suffix: ".xml" });
  const args = ["test", "-A", "--no-check", "--parallel", `--junit-path=${report}`, ...run.args];
  const child = new Deno.Command(Deno.execPath(), {
    args,
    cwd: ROOT,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const filter = new OutputFilter(verbose);
  const heartbeat = setInterval(
    () => console.log(`... ${run.title}: running, ${filter.lineCount} lines of output so far`),
    HEARTBEAT_MS,
  );
  try {
    const [{ success }] = await Promise.all([
      child.status,
      filter.drain(child.stdout),
      filter.drain(child.stderr),
    ]);
    for (const notice of filter.notices) notices.add(notice);
    const counts = parseReport(Deno.readTextFileSync(report));
    const failed = counts.failed + filter.uncaughtCount;
    // Whatever made it fail without a failed test (a module that does not load, say) counts as one.
    return { ...counts, failed: !success && failed === 0 ? 1 : failed };
  } finally {
    clearInterval(heartbeat);
    Deno.removeSync(report);
  }
}

function add(a: TestCounts, b: TestCounts): TestCounts {
  return {
    passed: a.passed + b.passed,
    failed: a.failed + b.failed,
    skipped: a.skipped + b.skipped,
  };
}

async function main(): Promise<number> {
  const notices = new Set<string>();
  const verbose = Deno.args.includes("--verbose");
  let total: TestCounts = { passed: 0, failed: 0, skipped: 0 };
  for (const run of planRuns(Deno.args)) {
    total = add(total, await execute(run, notices, verbose));
  }
  for (const notice of [...notices].sort()) console.log(notice);
  const { passed, failed, skipped } = total;
  if (passed + failed === 0) console.log("no test ran");
  console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
  return failed > 0 || passed === 0 ? 1 : 0;
}

Deno.exitCode = await main();
