/** Signals in the middle of work, sent to the real process. */
import { assertEquals } from "@std/assert";
import { readdirSync } from "node:fs";
import type { Outcome } from "./program.ts";
import { inDirectory, programWords, RunningProgram, WORKING } from "./program.ts";

/** Starts a command that writes into a directory, and does something once it is at work. */
async function interrupt(
  words: readonly string[],
  act: (running: RunningProgram, directory: string) => Promise<void> | void,
): Promise<Outcome> {
  let outcome: Outcome | undefined;
  await inDirectory(async (directory) => {
    const [command, ...args] = programWords(WORKING);
    const running = new RunningProgram(command, [...args, ...words, `${directory}/image`]);
    await running.until("working");
    assertEquals(readdirSync(directory).length, 1);
    await act(running, directory);
    outcome = await running.ended;
    assertEquals(readdirSync(directory), [], `${words}`);
  });
  return outcome!;
}

Deno.test("the first signal cleans up and gives its exit code, even from loops that hold the thread", async () => {
  for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]] as const) {
    const outcome = await interrupt(["endless"], (running) => running.signal(signal));
    assertEquals(outcome, {
      code,
      signal: null,
      stdout: "",
      stderr: "working\nblessfs: interrupted, cleaning up\n",
    });
  }
});

Deno.test("work that never looks at the signal is ended after the clean-up", async () => {
  const outcome = await interrupt(["deaf"], (running) => running.signal("SIGTERM"));
  assertEquals([outcome.code, outcome.signal], [143, null]);
});

Deno.test("the second signal kills at once, in the middle of a loop, with nothing left behind", async () => {
  const outcome = await interrupt(["stubborn"], async (running, directory) => {
    running.signal("SIGINT");
    await running.until("stubborn");
    assertEquals(readdirSync(directory), []);
    running.signal("SIGINT");
  });
  assertEquals([outcome.code, outcome.signal], [null, "SIGINT"]);
});

Deno.test("an interruption under --json is one JSON object on standard error", async () => {
  const outcome = await interrupt(
    ["endless", "--json"],
    (running) => running.signal("SIGINT"),
  );
  assertEquals(outcome.code, 130);
  const [working, document, ...rest] = outcome.stderr.split("\n");
  assertEquals([working, rest], ["working", [""]]);
  assertEquals(JSON.parse(document!).error.category, "interrupted");
});

Deno.test("a signal is served while the reader of the stream stalls", async () => {
  const [command, ...args] = programWords(WORKING);
  const running = new RunningProgram(command, [...args, "stream"], { readsStdout: false });
  await running.until("streaming");
  const stdout = running.child.stdout!;
  // The reader takes more than a pipe holds, and then no more: the rest has no room.
  await new Promise<void>((resolve) => {
    let takenBytes = 0;
    stdout.on("data", (piece: Uint8Array) => {
      takenBytes += piece.length;
      if (takenBytes < 1 << 20) return;
      stdout.pause();
      resolve();
    });
  });
  running.signal("SIGINT");
  const { code, stderr } = await running.ended;
  assertEquals([code, stderr], [130, "streaming\nblessfs: interrupted, cleaning up\n"]);
});

Deno.test("under nohup, SIGHUP changes nothing", async () => {
  await inDirectory(async (directory) => {
    const running = new RunningProgram("nohup", [
      ...programWords(WORKING),
      "endless",
      `${directory}/image`,
    ]);
    await running.until("working");
    running.signal("SIGHUP");
    running.signal("SIGTERM");
    const { code } = await running.ended;
    assertEquals(code, 143);
  });
});
