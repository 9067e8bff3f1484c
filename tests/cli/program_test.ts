/** The program as a process: streams, pipes, faults and its end. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { inDirectory, MAIN, runInBash, runProgramWith, WORKING } from "./program.ts";

Deno.test("blessfs prints version and help as results", () => {
  const { version } = JSON.parse(readFileSync(new URL("../../deno.json", import.meta.url), "utf8"));
  assertEquals(runProgramWith(MAIN, ["--version"]), {
    code: 0,
    signal: null,
    stdout: `blessfs ${version}\n`,
    stderr: "",
  });
  const help = runProgramWith(MAIN, ["--help"]);
  assertEquals([help.code, help.stderr], [0, ""]);
  assertStringIncludes(help.stdout, "Exit codes:");
});

Deno.test("blessfs with a wrong command line exits 2 and prints no result", () => {
  const alone = runProgramWith(MAIN, []);
  assertEquals([alone.code, alone.stdout], [2, ""]);
  const wrong = runProgramWith(MAIN, ["completions", "bahs"]);
  assertEquals([wrong.code, wrong.stdout], [2, ""]);
  assertEquals(
    wrong.stderr,
    "blessfs: SHELL: `bahs`: wanted bash, zsh, fish\nhint: did you mean `bash`?\n",
  );
});

Deno.test("blessfs reads no file of the current directory that it was not told to", async () => {
  await inDirectory((directory) => {
    const { code } = runProgramWith(MAIN, ["--version"], { cwd: directory });
    assertEquals(code, 0);
    assertEquals(readdirSync(directory), []);
  });
});

Deno.test("a fault of the program exits 70 with a report line and no stack", () => {
  const fault = runProgramWith(WORKING, ["fault"]);
  assertEquals(fault.code, 70);
  assertMatch(
    fault.stderr,
    /^blessfs: internal error: x is undefined\nhint: this is a bug in blessfs .*\n$/,
  );
  const debug = runProgramWith(WORKING, ["fault"], { env: { BLESSFS_DEBUG: "1" } });
  assertStringIncludes(debug.stderr, "working_program.ts");
});

Deno.test("a fault outside of the command's promise exits 70 too", () => {
  const { code, stderr } = runProgramWith(WORKING, ["stray"]);
  assertEquals(code, 70);
  assertStringIncludes(stderr, "blessfs: internal error: astray\n");
});

Deno.test("nothing that is left open holds the process back", () => {
  const { code } = runProgramWith(WORKING, ["lingering"]);
  assertEquals(code, 0);
});

Deno.test("a closed pipe ends quietly with 0, for lines and for an image", () => {
  const lines = runInBash("$PROGRAM lines | head -n 2; exit ${PIPESTATUS[0]}");
  assertEquals(lines, { code: 0, signal: null, stdout: "line 0\nline 1\n", stderr: "" });
  const image = runInBash("$PROGRAM stream | head -c 10 | wc -c; exit ${PIPESTATUS[0]}");
  assertEquals([image.code, image.stdout.trim(), image.stderr], [0, "10", ""]);
});

Deno.test("standard output gets every byte, through a pipe and into a file", async () => {
  await inDirectory((directory) => {
    const piped = runInBash("$PROGRAM stream | sha256sum; exit ${PIPESTATUS[0]}");
    const filed = runInBash(
      `$PROGRAM stream > ${directory}/image && sha256sum < ${directory}/image`,
    );
    assertEquals([piped.code, filed.code], [0, 0]);
    assertEquals(piped.stdout, filed.stdout);
    const image = readFileSync(`${directory}/image`);
    assertEquals(image.length, 128 << 20);
    for (let piece = 0; piece < 64; piece++) {
      assertEquals([image[piece * 2 << 20], image[(piece * 2 + 1 << 20) + 5]], [piece, 0]);
    }
  });
  assertEquals(runProgramWith(WORKING, ["lines"]).stdout.trimEnd().split("\n").length, 200_000);
});

Deno.test("a full disk under standard output is an I/O failure", () => {
  const { code, stderr } = runInBash("$PROGRAM lines > /dev/full");
  assertEquals(code, 4);
  assertStringIncludes(
    stderr,
    "blessfs: standard output: cannot be written: no space left on the device\nhint: ",
  );
});

Deno.test("a closed standard error is no failure", () => {
  assertEquals(
    runInBash("$PROGRAM lines 2>&- | tail -n 1; exit ${PIPESTATUS[0]}").stdout,
    "line 199999\n",
  );
});

Deno.test("standard input comes through whole, from a pipe and from a file", async () => {
  await inDirectory((directory) => {
    const file = `${directory}/input`;
    writeFileSync(file, "0123456789abcdef".repeat(100_000));
    const expected = runInBash(`sha256sum < ${file}`).stdout;
    assertEquals(runInBash(`$PROGRAM echo < ${file} | sha256sum`).stdout, expected);
    assertEquals(runInBash(`cat ${file} | $PROGRAM echo | sha256sum`).stdout, expected);
  });
});

Deno.test("a limit on the size of files is told with the offset, and nothing is left", async () => {
  await inDirectory((directory) => {
    const { code, stderr } = runInBash(`ulimit -f 4096; $PROGRAM large ${directory}/image`);
    assertEquals(code, 4, stderr);
    assertStringIncludes(
      stderr,
      "cannot write 1048576 bytes at offset 4194304: the file is too large",
    );
    assertStringIncludes(stderr, "hint: raise the limit (`ulimit -f`)");
    assertEquals(readdirSync(directory), []);
  });
});

Deno.test("without a terminal there is no progress and no colour", () => {
  const slow = runProgramWith(WORKING, ["slow"]);
  assertEquals(slow, { code: 0, signal: null, stdout: "finished\n", stderr: "" });
  const always = runProgramWith(WORKING, ["slow", "--progress", "always"]);
  assertMatch(always.stderr, /^(blessfs: layer 1\/1 \d+% .*\n)+$/);
  assert(!always.stderr.includes("\x1b"));
});
