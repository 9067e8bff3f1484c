/** The program under a pseudo-terminal. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { readdirSync } from "node:fs";
import { spawnSync } from "node:child_process";
import {
  environment,
  hasTerminal,
  inDirectory,
  programWords,
  RunningProgram,
  terminalWords,
  WORKING,
} from "./program.ts";

const PROGRAM = programWords(WORKING).join(" ");

/** Without the codes that move the cursor, clear and colour. */
function withoutCodes(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/\x1b\[[\d;?]*[A-Za-z]/g, "");
}

/** What the terminal got, with its ends of lines made plain. */
function onTerminal(
  line: string,
  columns = 80,
  env: Record<string, string> = {},
): { code: number | null; text: string } {
  const [command, ...args] = terminalWords(line, columns);
  const run = spawnSync(command, args, { encoding: "utf8", env: environment(env) });
  return { code: run.status, text: run.stdout.replaceAll("\r\n", "\n") };
}

Deno.test("on a terminal, progress is drawn in place and cleared before the result", () => {
  if (!hasTerminal()) return;
  const { code, text } = onTerminal(`${PROGRAM} slow`);
  assertEquals(code, 0);
  assertMatch(text, /layer 1\/1 +\d+%/);
  assertEquals(text.endsWith("\r\x1b[Jfinished\n"), true, JSON.stringify(text));
});

Deno.test("on a narrow terminal, no line of progress is wider than it", () => {
  if (!hasTerminal()) return;
  const { text } = onTerminal(`${PROGRAM} slow`, 30);
  const frames = text.split("\r").map((frame) => withoutCodes(frame).trimEnd());
  assertEquals(frames.filter((frame) => frame.length > 29), []);
  assertStringIncludes(text, "layer 1/1");
});

Deno.test("on a terminal, --quiet, --progress never and TERM=dumb show no progress", () => {
  if (!hasTerminal()) return;
  for (
    const [option, env] of [["--quiet", {}], ["--progress=never", {}], ["", {
      TERM: "dumb",
    }]] as const
  ) {
    assertEquals(onTerminal(`${PROGRAM} slow ${option}`, 80, env), { code: 0, text: "finished\n" });
  }
});

Deno.test("on a terminal, errors are coloured unless NO_COLOR or TERM=dumb is set", () => {
  if (!hasTerminal()) return;
  const plain = "blessfs: command line: unknown command `strem`\nhint: did you mean `stream`?\n";
  const coloured = onTerminal(`${PROGRAM} strem`);
  assertEquals(coloured.code, 2);
  assertStringIncludes(coloured.text, "\x1b[31mblessfs:\x1b[39m");
  assertEquals(withoutCodes(coloured.text), plain);
  for (const env of [{ NO_COLOR: "1" }, { TERM: "dumb" }]) {
    assertEquals(onTerminal(`${PROGRAM} strem`, 80, env).text, plain);
  }
  assertEquals(onTerminal(`${PROGRAM} strem --no-color | cat`).text.includes("\x1b"), false);
});

Deno.test("Ctrl-C on a terminal cleans up and exits 130", async () => {
  if (!hasTerminal()) return;
  await inDirectory(async (directory) => {
    const [command, ...args] = terminalWords(`${PROGRAM} endless ${directory}/image`);
    const running = new RunningProgram(command, args, { stdin: "pipe" });
    await running.until("working");
    assertEquals(readdirSync(directory).length, 1);
    running.child.stdin!.write("\x03");
    const { code, stdout } = await running.ended;
    assertEquals(code, 130, stdout);
    assertStringIncludes(
      withoutCodes(stdout),
      "blessfs: interrupted, cleaning up\r\n",
    );
    assertEquals(readdirSync(directory), []);
  });
});

Deno.test("the second Ctrl-C on a terminal kills at once", async () => {
  if (!hasTerminal()) return;
  await inDirectory(async (directory) => {
    const [command, ...args] = terminalWords(`${PROGRAM} stubborn ${directory}/image`);
    const running = new RunningProgram(command, args, { stdin: "pipe" });
    await running.until("working");
    running.child.stdin!.write("\x03");
    await running.until("stubborn");
    assertEquals(readdirSync(directory), []);
    running.child.stdin!.write("\x03");
    // What a shell makes of a process that SIGINT killed.
    assertEquals((await running.ended).code, 130);
  });
});
