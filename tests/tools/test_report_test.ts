import { assertEquals } from "@std/assert";
import { parseReport, type TestCounts } from "../../tools/test_report.ts";

function report(...cases: string[]): string {
  return `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="deno test"><testsuite name="./a_test.ts">${
    cases.join("\n")
  }</testsuite></testsuites>`;
}

function countsOf(xml: string): TestCounts {
  const { passed, failed, skipped } = parseReport(xml);
  return { passed, failed, skipped };
}

function testCase(name: string, body = "\n", suite = "./a_test.ts"): string {
  return `<testcase name="${name}" classname="${suite}" time="0.1" line="1" col="6">${body}</testcase>`;
}

Deno.test("parseReport counts what passed, failed, was cancelled and was skipped", () => {
  const xml = report(
    testCase("a"),
    testCase("b &amp; c", '<failure message="x">text &lt;skipped/&gt;\n</failure>'),
    testCase("d", '<error message="Cancelled"/>'),
    testCase("e", "<skipped/>"),
    testCase("f"),
  );
  assertEquals(countsOf(xml), { passed: 2, failed: 2, skipped: 1 });
});

Deno.test("parseReport counts the steps of a test, and not the test that they are in", () => {
  const xml = report(
    testCase("a &gt; b"),
    testCase("steps", '<failure message="1 test step failed">1 test step failed.</failure>'),
    testCase("steps &gt; one"),
    testCase("steps &gt; two", '<failure message="1 test step failed"/>'),
    testCase("steps &gt; two &gt; three", "<failure/>"),
    testCase("steps &gt; one", "\n", "./b_test.ts"),
  );
  // `a > b`, and `steps > one` of each file; step three.
  assertEquals(countsOf(xml), { passed: 3, failed: 1, skipped: 0 });
});

Deno.test("parseReport counts a test that fails behind its steps", () => {
  const xml = report(
    testCase("steps", '<failure message="at the end"/>'),
    testCase("steps &gt; one"),
  );
  assertEquals(countsOf(xml), { passed: 1, failed: 1, skipped: 0 });
});

Deno.test("parseReport has the time of each test once, and a file for each", () => {
  const xml = report(testCase("a"), testCase("steps"), testCase("steps &gt; one"));
  assertEquals(parseReport(xml).tests, [
    { file: "a_test.ts", seconds: 0.1 },
    { file: "a_test.ts", seconds: 0.1 },
    { file: "a_test.ts", seconds: 0 },
  ]);
});

Deno.test("parseReport finds no tests in an empty report", () => {
  assertEquals(parseReport(""), { passed: 0, failed: 0, skipped: 0, tests: [] });
});
