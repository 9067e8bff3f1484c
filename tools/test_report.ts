/**
 * Counts the tests in a report of `deno test --junit-path`.
 *
 * @module
 */

/** How many tests ended how. */
export interface TestCounts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** The same with what each test took, steps included. */
export interface TestReport extends TestCounts {
  readonly tests: readonly { readonly file: string; readonly seconds: number }[];
}

interface Case {
  /** Its file and its name, as XML. */
  readonly id: string;
  readonly file: string;
  readonly seconds: number;
  readonly body: string;
}

/**
 * Counts tests. Of a test with steps, and of a `describe`, the innermost are counted; it counts by itself only when it
 * failed and none of them did. An empty report has none.
 */
export function parseReport(xml: string): TestReport {
  const cases = casesOf(xml);
  const outer = new Map<string, { hasFailedStep: boolean }>();
  for (const { id, body } of cases) {
    for (const parent of parentsOf(id)) {
      const known = outer.get(parent) ?? { hasFailedStep: false };
      outer.set(parent, { hasFailedStep: known.hasFailedStep || isFailure(body) });
    }
  }
  const ids = new Set(cases.map(({ id }) => id));
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const { id, body } of cases) {
    const steps = outer.get(id);
    if (isFailure(body)) counts.failed += steps?.hasFailedStep ? 0 : 1;
    else if (steps === undefined) counts[/<skipped\b/.test(body) ? "skipped" : "passed"]++;
  }
  const tests = cases.map(({ id, file, seconds }) => ({
    file,
    // What a step takes is in its test's time.
    seconds: parentsOf(id).some((parent) => ids.has(parent)) ? 0 : seconds,
  }));
  return { ...counts, tests };
}

/** Adds two reports. */
export function addCounts(a: TestReport, b: TestReport): TestReport {
  return {
    passed: a.passed + b.passed,
    failed: a.failed + b.failed,
    skipped: a.skipped + b.skipped,
    tests: [...a.tests, ...b.tests],
  };
}

/** Those that a step may belong to: it is named `TEST > STEP`. */
function parentsOf(id: string): string[] {
  return Array.from(id.matchAll(/ &gt; /g), ({ index }) => id.slice(0, index));
}

function isFailure(body: string): boolean {
  return /<(?:failure|error)\b/.test(body);
}

function casesOf(xml: string): Case[] {
  const pattern =
    /<testcase name="([^"]*)" classname="([^"]*)"(?: time="([^"]*)")?[^>]*?(?:\/>|>(.*?)<\/testcase>)/gs;
  return [...xml.matchAll(pattern)].map(([, name, suite, seconds, body]) => ({
    id: `${suite}\n${name}`,
    file: suite!.replace(/^\.\//, ""),
    seconds: Number(seconds ?? 0),
    body: body ?? "",
  }));
}
