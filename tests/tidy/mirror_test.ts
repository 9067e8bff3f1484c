import { assertEquals } from "@std/assert";
import { listFiles, readSources } from "./repository.ts";
import { exportsBehaviour } from "./source_text.ts";

/** Files that export functions and have no test file of their own, each with what tests it instead. */
const TESTED_ELSEWHERE: Readonly<Record<string, string>> = {};

function testPathOf(path: string): string {
  return `tests/${path.replace(/^lib\//, "").replace(/\.ts$/, "_test.ts")}`;
}

Deno.test("every file of lib that exports a function has a test file of its own", () => {
  const tests = new Set(listFiles("tests/"));
  const sources = readSources("lib/");
  const untested = sources
    .filter((source) => exportsBehaviour(source))
    .map(({ path }) => path)
    .filter((path) => !tests.has(testPathOf(path)));
  assertEquals(untested.filter((path) => !(path in TESTED_ELSEWHERE)), []);
  assertEquals(Object.keys(TESTED_ELSEWHERE).filter((path) => !untested.includes(path)), []);
});
