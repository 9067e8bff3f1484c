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

interface Case {
  readonly name: string;
  readonly suite: string;
  readonly body: string;
}

/** Counts tests; the steps of a test belong to it and are not counted. An empty report has none. */
export function parseReport(xml: string): TestCounts {
  const cases = casesOf(xml);
  const names = new Set(cases.map(({ suite, name }) => `${suite}\n${name}`));
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const { name, suite, body } of cases) {
    if (isStep(name, suite, names)) continue;
    if (/<(?:failure|error)\b/.test(body)) counts.failed++;
    else if (/<skipped\b/.test(body)) counts.skipped++;
    else counts.passed++;
  }
  return counts;
}

/** A step is named `TEST > STEP`, and its test is there too. */
function isStep(name: string, suite: string, names: ReadonlySet<string>): boolean {
  for (let at = name.indexOf(" &gt; "); at >= 0; at = name.indexOf(" &gt; ", at + 1)) {
    if (names.has(`${suite}\n${name.slice(0, at)}`)) return true;
  }
  return false;
}

function casesOf(xml: string): Case[] {
  const pattern = /<testcase name="([^"]*)" classname="([^"]*)"[^>]*?(?:\/>|>(.*?)<\/testcase>)/gs;
  return [...xml.matchAll(pattern)].map(([, name, suite, body]) => ({
    name: name!,
    suite: suite!,
    body: body ?? "",
  }));
}
