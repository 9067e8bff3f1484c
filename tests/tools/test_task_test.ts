import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { withTemporaryDirectory } from "../oracle/command.ts";

const TOOL = new URL("../../tools/test.ts", import.meta.url).pathname;

/** Runs the tool on some test files. */
function runTool(files: Readonly<Record<string, string>>, ...args: string[]) {
  return withTemporaryDirectory((scratch) => {
    for (const [name, source] of Object.entries(files)) {
      Deno.writeTextFileSync(`${scratch}/${name}_test.ts`, source);
    }
    const { code, stdout } = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-lock", "--no-check", TOOL, scratch, ...args],
      env: { NO_COLOR: "1" },
    }).outputSync();
    const output = new TextDecoder().decode(stdout);
    return { code, output, lastLine: output.trimEnd().split("\n").at(-1) };
  });
}

const PASSES = 'Deno.test("good", () => {});';
const FAILS = 'Deno.test("bad", () => { throw new Error("the reason"); });';
const IGNORED = 'Deno.test({ name: "not now", ignore: true, fn() {} });';
const NOTICE = 'Deno.test("part", () => console.log("NOT RUN: the part: no kernel"));';

Deno.test("deno task test ends with the count of passed and failed tests", () => {
  const { code, output, lastLine } = runTool({ a: PASSES, b: PASSES + NOTICE });
  assertEquals([code, lastLine], [0, "3 passed, 0 failed"]);
  assertStringIncludes(output, "NOT RUN: the part: no kernel\n");
});

Deno.test("deno task test leaves out what tests print, whatever it looks like", () => {
  const prints =
    'Deno.test("loud", () => console.log("error: printed")); Deno.test("next", () => {});';
  const { code, output } = runTool({ a: prints, b: PASSES });
  assertEquals([code, output.includes("printed"), output.includes("next")], [0, false, false]);
});

Deno.test("deno task test shows failures, counts skipped tests, and exits 1", () => {
  const { code, output, lastLine } = runTool({ a: PASSES + FAILS, b: IGNORED });
  assertEquals([code, lastLine], [1, "1 passed, 1 failed, 1 skipped"]);
  assertMatch(output, /bad \.\.\. FAILED/);
  assertStringIncludes(output, "Error: the reason");
});

Deno.test("deno task test fails when a module fails outside its tests, or does not load", () => {
  assertEquals(runTool({ a: PASSES, b: 'throw new Error("top");' }).lastLine, "1 passed, 1 failed");
  const { code, lastLine } = runTool({ a: PASSES, b: 'import "./missing.ts";' });
  assertEquals([code, lastLine], [1, "0 passed, 1 failed"]);
});

Deno.test("deno task test fails when no test ran", () => {
  const { code, output } = runTool({ a: PASSES }, "--filter", "no such name");
  assertEquals(code, 1);
  assertStringIncludes(output, "no test ran");
});
