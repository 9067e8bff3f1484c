/** What people notice first about a tool, with the real program in a process of its own. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { inDirectory, MAIN, runInBash, runProgramWith } from "./program.ts";

const SOURCE = `oci:${fileURLToPath(new URL("../../fixtures/oci-tiny", import.meta.url))}`;

Deno.test("a slip in a command, an option or a value is answered with what was meant", () => {
  const cases: [words: string[], hint: string][] = [
    [["blss", SOURCE, "-o", "x"], "did you mean `bless`?"],
    [["bless", "layred", "-o", "x", SOURCE], "did you mean `blessfs bless layered`?"],
    [["bless", SOURCE, "--ouptut", "x"], "did you mean `--output`?"],
    [["bless", SOURCE, "-o", "x", "--backups", "spares"], "did you mean `sparse`?"],
    [["probe", SOURCE, SOURCE, "--format", "jsno"], "did you mean `json`?"],
    [["help", "exit-code"], "did you mean `exit-codes`?"],
  ];
  for (const [words, hint] of cases) {
    const { code, stdout, stderr } = runProgramWith(MAIN, words);
    assertEquals([code, stdout], [2, ""], words.join(" "));
    assertMatch(stderr, /^blessfs: .*\nhint: .*\n$/);
    assertStringIncludes(stderr, hint);
  }
  assertEquals(existsSync("x"), false);
});

Deno.test("under --json each kind of failure is one JSON object on standard error, with its code", async () => {
  await inDirectory((directory) => {
    writeFileSync(`${directory}/there`, "");
    writeFileSync(`${directory}/text.tar`, "no tar at all".repeat(100));
    const cases: [words: string[], exitCode: number, category: string][] = [
      [["bless", SOURCE, "--json", "--grid", "5"], 2, "usage"],
      [["bless", `tar:${directory}/text.tar`, "-o", `${directory}/x`, "--json"], 3, "input"],
      [["bless", SOURCE, "-o", `${directory}/there`, "--json"], 4, "io"],
    ];
    for (const [words, exitCode, category] of cases) {
      const { code, stdout, stderr } = runProgramWith(MAIN, words);
      assertEquals([code, stdout], [exitCode, ""], stderr);
      const { error, ...rest } = JSON.parse(stderr);
      assertEquals([error.category, error.exitCode, rest], [category, exitCode, {}]);
      assertEquals([typeof error.message, "hint" in error, "data" in error], [
        "string",
        true,
        true,
      ]);
    }
  });
});

Deno.test("a pager that is left early ends every long text quietly", async () => {
  await inDirectory((directory) => {
    const image = `${directory}/image`;
    assertEquals(runProgramWith(MAIN, ["bless", SOURCE, "-o", image]).code, 0);
    const commands = ["man", "completions bash", "probe --help", `ls -lR ${image}`];
    commands.push(`cat ${image} /usr/share/lines.txt`);
    for (const command of commands) {
      const { code, stderr } = runInBash(`$BLESSFS ${command} | head -n 1; exit \${PIPESTATUS[0]}`);
      assertEquals([code, stderr], [0, ""], command);
    }
  });
});

Deno.test("a command without what it needs says so in one line, and has help", () => {
  for (const words of [["bless"], ["bless", "layered"], ["probe"], ["completions"]]) {
    const help = runProgramWith(MAIN, [...words, "--help"]);
    assertEquals([help.code, help.stderr], [0, ""], words.join(" "));
    assertStringIncludes(help.stdout, `blessfs ${words.join(" ")}`);
    const bare = runProgramWith(MAIN, words);
    assertEquals([bare.code, bare.stdout], [2, ""], words.join(" "));
    assertMatch(bare.stderr, /^blessfs: .*\n(?:hint: .*\n)?$/);
  }
});

Deno.test("an image in a pipe comes with one summary line, and with none under --quiet", () => {
  const loud = runInBash(`$BLESSFS bless ${SOURCE} -o - 2>&1 >/dev/null`);
  assertMatch(loud.stdout, /^blessfs: streamed [\d.]+ MiB, \d+ files in .*\n$/);
  assertEquals(runInBash(`$BLESSFS bless ${SOURCE} -o - --quiet 2>&1 >/dev/null`).stdout, "");
});

Deno.test("a reader that leaves before what it asked for is whole makes that a failure", async () => {
  await inDirectory((directory) => {
    const image = `${directory}/image`;
    assertEquals(runProgramWith(MAIN, ["bless", SOURCE, "-o", image]).code, 0);
    const lines = [
      [`bless ${SOURCE} -o -`, "image"],
      [
        `bless ${SOURCE} -o - --create-store --store ${directory}/store --index ${directory}/index`,
        "image",
      ],
      [`export ${image} -o -`, "tar"],
      [`diff rootfs:${directory}/empty ${image} -o -`, "tar"],
    ] as const;
    mkdirSync(`${directory}/empty`);
    for (const [line, what] of lines) {
      const { code, stderr } = runInBash(
        `$BLESSFS ${line} --quiet | head -c 1; exit \${PIPESTATUS[0]}`,
      );
      assertEquals([code, stderr], [
        4,
        `blessfs: standard output: was closed before the ${what} was whole\n`,
      ], line);
    }
    assertEquals(existsSync(`${directory}/index`), false);
  });
});

Deno.test("what the runtime would decide by itself is refused in this program's words", async () => {
  await inDirectory((directory) => {
    const few = runInBash(`ulimit -n 30; $BLESSFS verify ${directory}/x`);
    assertEquals([few.code, few.stderr.split("\n")[0]], [
      4,
      "blessfs: open files: the limit is 30: wanted 32",
    ]);
    const odd = runInBash(`$BLESSFS verify ${directory}/$'\\xff'`);
    assertEquals(odd.code, 2);
    assertStringIncludes(odd.stderr, "is not UTF-8");
    assertStringIncludes(odd.stderr, "hint: make a symbolic link to it");
    // The character that stands for such bytes is as good as any other.
    const real = runInBash(`$BLESSFS verify ${directory}/\ufffd`);
    assertEquals([real.code, real.stderr.includes("does not exist")], [3, true]);
  });
});
