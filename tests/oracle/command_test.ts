import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { hasCommand, mustRun, runCommand, withTemporaryDirectory } from "./command.ts";

Deno.test("withTemporaryDirectory removes its directory after work of every outcome", async () => {
  const seen: string[] = [];
  const note = (path: string) => {
    Deno.writeTextFileSync(`${path}/file`, "");
    seen.push(path);
  };
  assertEquals(withTemporaryDirectory((path) => (note(path), 1)), 1);
  assertEquals(await withTemporaryDirectory((path) => Promise.resolve((note(path), 2))), 2);
  const fail = (path: string): never => {
    note(path);
    throw new Error("the work failed");
  };
  assertThrows(() => withTemporaryDirectory(fail), Error, "the work failed");
  const reject = (path: string) => Promise.resolve().then(() => fail(path));
  await assertRejects(() => withTemporaryDirectory(reject), Error, "the work failed");
  assertEquals(seen.length, 4);
  for (const path of seen) assertThrows(() => Deno.statSync(path), Deno.errors.NotFound);
});

Deno.test("withTemporaryDirectory tells of the work's error when the directory is gone too", () => {
  const work = (path: string): never => {
    Deno.removeSync(path, { recursive: true });
    throw new Error("the work failed");
  };
  assertThrows(() => withTemporaryDirectory(work), Error, "the work failed");
});

Deno.test("runCommand gives status and output, and names a program that is missing", () => {
  const { status, stdout, stderr } = runCommand("sh", ["-c", "echo out; echo err >&2; exit 3"]);
  assertEquals([status, stdout, stderr], [3, "out\n", "err\n"]);
  assertThrows(
    () => runCommand("no-such-program", []),
    Error,
    "no-such-program: cannot be started",
  );
  assertThrows(() => mustRun("sh", ["-c", "echo why >&2; exit 1"]), Error, "why");
  assertEquals([hasCommand("sh"), hasCommand("no-such-program")], [true, false]);
});
