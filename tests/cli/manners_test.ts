/** What people notice first about a tool, with the real program in a process of its own. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { existsSync, writeFileSync } from "node:fs";
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
    commands.push(`cat ${image} /usr/share/lines.txt`, `export ${image} -o - --quiet`);
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
