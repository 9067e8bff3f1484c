/**
 * Which test files there are, which of them belong to the long tier, and how long they take.
 *
 * @module
 */

/** What a file took: how many tests it has, and their seconds together on a machine with nothing else to do. */
export interface FileTime {
  readonly tests: number;
  readonly seconds: number;
}

/** Times by path; files that are quick have none. */
export type FileTimes = Readonly<Record<string, FileTime>>;

/** Files that only the long tier runs end so. */
const LONG_ENDING = "_long_test.ts";
/**
 * How long the sweeps of the long tier are, by the environment variables that say it. It runs every file that looks at one
 * of them; in `deno task test` those do a few rounds.
 */
export const LONG_SWEEPS: Readonly<Record<string, string>> = {
  BLESSFS_DIFF_RUNS: "1000",
  BLESSFS_HOSTILE_MEMORY: "full",
  BLESSFS_HOSTILE_ROUNDS: "1000",
  BLESSFS_LONG_TESTS: "1",
  BLESSFS_PROPERTY_RUNS: "20000",
  BLESSFS_RACE_ROUNDS: "10",
  BLESSFS_SWEEP: "all",
  BLESSFS_TREE_SEEDS: "100",
  EXT4_FUZZ_SEEDS: "100",
  EXT4_SMASHES: "5000",
  EXT4_VERIFY_FLIPS: "200",
  EXT4_VERIFY_SEEDS: "60",
  EXT4_VERIFY_SMASHES: "1500",
  REGISTRY_CHAOS_SEEDS: "500",
};
/** What a file looks at that has such a sweep. */
const SWEEP_PATTERN = new RegExp(`${Object.keys(LONG_SWEEPS).join("|")}|/sweeps\\.ts"`);
const TEST_ENDING = "_test.ts";
/** What a file that takes no time to speak of is counted with. */
const QUICK: FileTime = { tests: 5, seconds: 0.15 };
/** How many quick files there must be before they run together, and how many do. */
const GROUPED_FILES_MIN = 20;
const FILES_PER_GROUP = 30;
/** Files below this are not recorded. */
const RECORDED_SECONDS_MIN = 1;

/** Which files a run is for. */
export type Tier = "default" | "long";

/**
 * The test files below some paths, those that take longest first: what is started last should not be what is waited for.
 *
 * @param paths directories, or files, which are taken whatever their tier
 */
export function testFiles(paths: readonly string[], tier: Tier, times: FileTimes): string[] {
  const files = paths.flatMap((path) =>
    Deno.statSync(path).isFile ? [path] : filesBelow(path, tier)
  );
  const secondsOf = (path: string) => times[path]?.seconds ?? 0;
  return [...new Set(files)].sort((a, b) => secondsOf(b) - secondsOf(a) || (a < b ? -1 : 1));
}

function filesBelow(directory: string, tier: Tier): string[] {
  return [...Deno.readDirSync(directory)].flatMap(({ name, isDirectory }) => {
    const path = `${directory.replace(/\/$/, "")}/${name}`;
    if (isDirectory) return filesBelow(path, tier);
    return name.endsWith(TEST_ENDING) && isInTier(path, tier) ? [path] : [];
  });
}

function isInTier(path: string, tier: Tier): boolean {
  const isLongOnly = path.endsWith(LONG_ENDING);
  if (tier === "default") return !isLongOnly;
  return isLongOnly || SWEEP_PATTERN.test(Deno.readTextFileSync(path));
}

/** Files that one module imports, so that they run one after the other in one thread. */
export interface FileGroup {
  readonly name: string;
  readonly files: readonly string[];
}

/**
 * Parts files into those that run by themselves and groups of quick ones, for which to start a thread and load the same
 * modules again takes longer than their tests.
 */
export function groupFiles(
  files: readonly string[],
  times: FileTimes,
): { readonly single: readonly string[]; readonly groups: readonly FileGroup[] } {
  const quick = files.filter((file) => times[file] === undefined);
  if (quick.length < GROUPED_FILES_MIN) return { single: files, groups: [] };
  const groupCount = Math.ceil(quick.length / FILES_PER_GROUP);
  const groups = Array.from({ length: groupCount }, (_, group) => ({
    name: `quick-${group}_test.ts`,
    files: quick.filter((_, i) => i % groupCount === group),
  }));
  return { single: files.filter((file) => times[file] !== undefined), groups };
}

/** The times with those of groups, which are known by their names. */
export function timesWithGroups(times: FileTimes, groups: readonly FileGroup[]): FileTimes {
  const entries = groups.map(({ name, files }) => [name, {
    tests: QUICK.tests * files.length,
    seconds: QUICK.seconds * files.length,
  }]);
  return { ...times, ...Object.fromEntries(entries) };
}

/** Follows a run, and tells from the times of earlier ones how far it is. */
export class RunProgress {
  readonly #files: readonly string[];
  readonly #times: FileTimes;
  readonly #doneTests = new Map<string, number>();
  #doneSeconds = 0;

  constructor(files: readonly string[], times: FileTimes) {
    this.#files = files;
    this.#times = times;
  }

  /** Seconds that all tests take together, one after the other. */
  get totalSeconds(): number {
    return this.#files.reduce((sum, file) => sum + this.#timeOf(file).seconds, 0);
  }

  /** From 0 to 1. */
  get fraction(): number {
    return Math.min(1, this.#doneSeconds / this.totalSeconds);
  }

  /** Files of which a test has ended. */
  get startedFiles(): number {
    return this.#doneTests.size;
  }

  /** Tests that have ended. */
  get tests(): number {
    return [...this.#doneTests.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Counts one test that has ended. */
  endTest(file: string): void {
    const { tests, seconds } = this.#timeOf(file);
    const done = this.#doneTests.get(file) ?? 0;
    this.#doneTests.set(file, done + 1);
    // A file with more tests than it had is not counted twice.
    if (done < tests) this.#doneSeconds += seconds / tests;
  }

  /** What is left, judged by the speed so far; undefined as long as that says nothing. */
  secondsLeft(elapsedSeconds: number): number | undefined {
    const { fraction } = this;
    return fraction < 0.05 ? undefined : elapsedSeconds * (1 - fraction) / fraction;
  }

  #timeOf(file: string): FileTime {
    return this.#times[file] ?? QUICK;
  }
}

/** A time as people say it. */
export function aboutMinutes(seconds: number): string {
  if (seconds < 45) return `about ${Math.max(5, Math.round(seconds / 5) * 5)} seconds`;
  const minutes = Math.round(seconds / 30) / 2;
  return minutes === 1 ? "about a minute" : `about ${minutes} minutes`;
}

/** The times of a run, for the next ones. */
export function recordedTimes(
  tests: readonly { readonly file: string; readonly seconds: number }[],
): FileTimes {
  const times: Record<string, { tests: number; seconds: number }> = {};
  for (const { file, seconds } of tests) {
    const time = times[file] ??= { tests: 0, seconds: 0 };
    time.tests++;
    time.seconds += seconds;
  }
  return Object.fromEntries(
    Object.entries(times)
      .filter(([, { seconds }]) => seconds >= RECORDED_SECONDS_MIN)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map((
        [file, { tests, seconds }],
      ) => [file, { tests, seconds: Math.round(seconds * 10) / 10 }]),
  );
}
