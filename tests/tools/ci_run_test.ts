import { assertEquals, assertStringIncludes } from "@std/assert";
import { withTemporaryDirectory } from "../oracle/command.ts";

const SCRIPT = new URL("../../.ci/run", import.meta.url).pathname;

/** Stands in for npx: its first two arguments are dropped, then each task does what the environment says. */
const FAKE_NPX = `#!/bin/bash
shift 2
case "$*" in
  "task test") printf "$FAKE_OUTPUT"; exit "$FAKE_STATUS" ;;
  "task lint") exit "$FAKE_LINT" ;;
esac
`;

function runScript(output: string, status: number, lintStatus = 0) {
  return withTemporaryDirectory((scratch) => {
    Deno.writeTextFileSync(`${scratch}/npx`, FAKE_NPX, { mode: 0o755 });
    const { code, stdout } = new Deno.Command(SCRIPT, {
      env: {
        PATH: `${scratch}:${Deno.env.get("PATH") ?? ""}`,
        FAKE_OUTPUT: output,
        FAKE_STATUS: String(status),
        FAKE_LINT: String(lintStatus),
      },
    }).outputSync();
    const text = new TextDecoder().decode(stdout);
    return { code, text, lastLine: text.trimEnd().split("\n").at(-1) };
  });
}

Deno.test("the CI script ends with the count of the tests and their exit status", () => {
  const good = runScript("some output\\n7 passed, 0 failed\\n", 0);
  assertEquals([good.code, good.lastLine], [0, "7 passed, 0 failed"]);
  assertStringIncludes(good.text, "some output\n7 passed");
  const bad = runScript("7 passed, 2 failed, 1 skipped\\n", 1);
  assertEquals([bad.code, bad.lastLine], [1, "7 passed, 2 failed, 1 skipped"]);
});

Deno.test("the CI script counts a failed gate as a failure and runs the tests all the same", () => {
  const { code, text, lastLine } = runScript("7 passed, 0 failed\\n", 0, 1);
  assertEquals([code, lastLine], [1, "7 passed, 1 failed"]);
  assertStringIncludes(text, "gate lint: FAILED");
  assertEquals(text.match(/passed, \d+ failed/g)?.length, 1);
});

Deno.test("the CI script fails when the tests end without a count, or say one and fail", () => {
  for (const output of ["crashed\\n", ""]) {
    const { code, lastLine } = runScript(output, 1);
    assertEquals([code, lastLine], [1, "0 passed, 1 failed"]);
  }
  assertEquals(runScript("0 passed, 0 failed\\n", 1).code, 1);
});
