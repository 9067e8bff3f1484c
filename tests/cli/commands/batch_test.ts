/** `bless --batch`: many images from one list. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { COMMANDS } from "../../../cli/commands.ts";
import { runCommandLine } from "../../../cli/run.ts";
import { InterruptedError } from "../../../lib/errors.ts";
import { withTemporaryDirectory } from "../../oracle/command.ts";
import { writeOciLayout } from "../../source/build_layout.ts";
import { sampleTar } from "../../source/helpers.ts";
import { fakeProcess, runFake } from "../fake_io.ts";

const TINY = `oci:${fileURLToPath(new URL("../../../fixtures/oci-tiny", import.meta.url))}`;

type Report = Record<string, unknown> & { error?: { message: string; exitCode: number } };

function reportsOf(stdout: string): Report[] {
  return stdout.trim().split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
}

function linesFor(items: readonly unknown[]): string {
  return items.map((item) => typeof item === "string" ? item : JSON.stringify(item)).join("\n");
}

/** Images that share a base, and a list of them. */
function writeImages(directory: string): { source: string; output: string; options?: unknown }[] {
  return [3, 4, 5].map((seed) => {
    const path = join(directory, `layout-${seed}`);
    writeOciLayout(path, { layers: [sampleTar(1), sampleTar(2), sampleTar(seed)] });
    return { source: `oci:${path}`, output: join(directory, `${seed}.ext4`) };
  });
}

Deno.test("a batch makes the images and reports of single calls, in the order of its lines", async () => {
  await withTemporaryDirectory(async (directory) => {
    const items = writeImages(directory);
    items[1]!.options = { size: "+8M", label: "two", compat: ["grub", "u-boot"], grid: 65536 };
    items[2]!.options = { "metadata-csum": false, "inline-data": true, journal: "none" };
    const words = [
      ["--size", "+8M", "--label", "two", "--compat", "grub,u-boot", "--grid", "65536"],
      ["--no-metadata-csum", "--inline-data", "--journal", "none", "--size", "20M"],
    ];
    const list = join(directory, "list");
    writeFileSync(list, `\n${linesFor(items)}`);
    const both: [words: string[], stdin: Uint8Array[]][] = [
      [["--batch", list], []],
      [["--batch=-", "--jobs=1"], [new TextEncoder().encode(`\n${linesFor(items)}`)]],
    ];
    const expected: Uint8Array[] = [];
    for (const [i, { source, output }] of items.entries()) {
      const more = i === 0 ? ["--size", "20M"] : words[i - 1]!;
      const { code, stderr } = await runFake(["bless", source, "-o", output, ...more], COMMANDS);
      assertEquals(code, 0, stderr);
      expected.push(readFileSync(output));
    }
    for (const [more, stdin] of both) {
      const run = ["bless", ...more, "--size", "20M", "--force"];
      const { code, stdout, stderr } = await runFake(run, COMMANDS, { stdin });
      assertEquals([code, stderr], [0, "blessfs: 3 images made\n"]);
      const reports = reportsOf(stdout);
      assertEquals(reports.map(({ line, source, image }) => ({ line, source, image })), [
        { line: 2, source: items[0]!.source, image: items[0]!.output },
        { line: 3, source: items[1]!.source, image: items[1]!.output },
        { line: 4, source: items[2]!.source, image: items[2]!.output },
      ]);
      for (const [i, { output }] of items.entries()) {
        assertEquals(readFileSync(output).compare(expected[i]!), 0, output);
      }
    }
  });
});

Deno.test("what is wrong with a line is told with its number, and the others are made", async () => {
  await withTemporaryDirectory(async (directory) => {
    const [first, second] = writeImages(directory);
    const taken = join(directory, "taken");
    writeFileSync(taken, "mine");
    const cases: [line: unknown, message: RegExp | undefined, exitCode: number][] = [
      [first, undefined, 0],
      ["{", /^line 2: is not JSON/, 3],
      ["[]", /^line 3: wanted a JSON object$/, 3],
      [{ output: "x" }, /^line 4: wanted `source` to be a text$/, 3],
      [{ source: TINY }, /^line 5: wanted `output` to be a text$/, 3],
      [{ source: TINY, output: "x", size: "1G" }, /^line 6: has `size`: wanted source, output/, 3],
      [{ source: TINY, output: "x", options: { sise: 1 } }, /unknown option `--sise`/, 2],
      [
        { source: TINY, output: "x", options: { json: true } },
        /^line 8: `json` is not an option/,
        3,
      ],
      [
        { source: TINY, output: "x", options: { size: {} } },
        /^line 9: the option size is neither/,
        3,
      ],
      [{ source: TINY, output: "x", options: { size: "big" } }, /^--size: `big`: wanted a size/, 2],
      [{ source: "-", output: "x" }, /^line 11: a batch reads nothing from standard input/, 3],
      [{ source: TINY, output: "-" }, /^line 12: standard output takes the reports/, 3],
      [
        { source: TINY, output: "x", options: { config: "-" } },
        /^line 13: standard output takes/,
        3,
      ],
      [{ source: "oci:/nowhere", output: join(directory, "x") }, /nowhere: does not exist/, 3],
      [{ source: TINY, output: taken }, /taken: already exists/, 4],
      [{ source: TINY, output: first!.output }, /is the output of line 1 too/, 2],
      [second, undefined, 0],
    ];
    const list = join(directory, "list");
    writeFileSync(list, linesFor(cases.map(([line]) => line)));
    for (const json of [false, true]) {
      const run = ["bless", "--batch", list, ...json ? ["--json", "--force"] : []];
      const { code, stdout, stderr } = await runFake(run, COMMANDS);
      assertEquals(code, 1);
      const reports = reportsOf(stdout);
      assertEquals(reports.map(({ line }) => line), cases.map((_, i) => i + 1));
      for (const [i, [, message, exitCode]] of cases.entries()) {
        if (json && message?.source.includes("already exists")) continue;
        const { error } = reports[i]!;
        assertEquals(error?.exitCode ?? 0, exitCode, `line ${i + 1}: ${error?.message}`);
        if (message !== undefined) assertMatch(error!.message, message);
      }
      if (json) assertEquals(stderr, "");
      else {
        assertStringIncludes(stderr, "blessfs: line 2: is not JSON");
        assertStringIncludes(stderr, "blessfs: line 14: /nowhere: does not exist");
        assertStringIncludes(stderr, "blessfs: 2 images made, 15 failed\n");
      }
    }
    const outputs = readdirSync(directory).filter((name) => !name.startsWith("layout")).sort();
    assertEquals(outputs, ["3.ext4", "4.ext4", "list", "taken"]);
  });
});

Deno.test("a batch and what its lines say exclude each other, and an empty batch is done", async () => {
  await withTemporaryDirectory(async (directory) => {
    const list = join(directory, "list");
    writeFileSync(list, "\n \n");
    const empty = await runFake(["bless", "--batch", list], COMMANDS);
    assertEquals([empty.code, empty.stdout], [0, ""]);
    for (const more of [[TINY], ["-o", "x"]]) {
      const { code, stderr } = await runFake(["bless", ...more, "--batch", list], COMMANDS);
      assertEquals(code, 2);
      assertStringIncludes(stderr, "--batch: every line names its own");
    }
    const missing = await runFake(["bless", "--batch", join(directory, "none")], COMMANDS);
    assertEquals(missing.code, 3);
    assertStringIncludes(missing.stderr, "does not exist: wanted a batch");
    const terminal = await runFake(["bless", "--batch=-"], COMMANDS, { stdinIsTerminal: true });
    assertEquals(terminal.code, 2);
  });
});

Deno.test("an interrupted batch leaves nothing half made, and ends with the code of the signal", async () => {
  await withTemporaryDirectory(async (directory) => {
    const list = join(directory, "list");
    writeFileSync(list, linesFor(writeImages(directory)));
    const fake = fakeProcess();
    fake.controller.abort(
      new InterruptedError("interrupted", "SIGINT", { data: { signal: "SIGINT" } }),
    );
    const code = await runCommandLine(["bless", "--batch", list], fake.io, COMMANDS);
    assertEquals(code, 130);
    assert(readdirSync(directory).every((name) => !name.includes("ext4")));
  });
});

Deno.test("a reader of the reports that leaves early fails the batch", async () => {
  await withTemporaryDirectory(async (directory) => {
    const list = join(directory, "list");
    writeFileSync(list, linesFor(writeImages(directory)));
    const failWrite = () => Object.assign(new Error("EPIPE"), { code: "EPIPE" });
    const { code, stderr } = await runFake(["bless", "--batch", list], COMMANDS, { failWrite });
    assertEquals(code, 4);
    assertStringIncludes(stderr, "standard output");
  });
});

Deno.test("no two lines of a batch write one file, whatever it is for", async () => {
  await withTemporaryDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    const line = (output: string, options: Record<string, unknown>) => ({
      source: TINY,
      output: at(output),
      options: {
        store: at("store"),
        "create-store": true,
        index: at(`${output}.caibx`),
        ...options,
      },
    });
    const cases: [item: unknown, message: RegExp | undefined][] = [
      [line("1", { config: at("config") }), undefined],
      [line("2", { config: at("config") }), /config: is the output of line 1 too/],
      [line("3", { index: at("1.caibx") }), /1\.caibx: is the output of line 1 too/],
      [line("4", { verity: at("1") }), /1: is the output of line 1 too/],
      [line("5", { config: at("5") }), /5: is named for the image and for the config/],
      [line("6", { index: at("5") }), undefined],
    ];
    writeFileSync(at("list"), linesFor(cases.map(([item]) => item)));
    const run = ["bless", "--batch", at("list"), "--jobs=1", "--json"];
    const { stdout } = await runFake(run, COMMANDS);
    const reports = reportsOf(stdout);
    for (const [i, [, message]] of cases.entries()) {
      assertMatch(reports[i]!.error?.message ?? "", message ?? /^$/, `line ${i + 1}`);
    }
  });
});

Deno.test("a line that failed keeps no output from the lines behind it", async () => {
  await withTemporaryDirectory(async (directory) => {
    const output = join(directory, "x.ext4");
    const list = join(directory, "list");
    const items = [{ source: `oci:${join(directory, "none")}`, output }, { source: TINY, output }];
    writeFileSync(list, linesFor(items));
    const { stdout } = await runFake(["bless", "--batch", list, "--jobs=1"], COMMANDS);
    const [first, second] = reportsOf(stdout);
    assertEquals([first!.error?.exitCode, second!.error, second!["image"]], [3, undefined, output]);
  });
});

Deno.test("a batch on standard input ends when its reports have no reader, and waits for no line", async () => {
  await withTemporaryDirectory(async (directory) => {
    const failWrite = () => Object.assign(new Error("EPIPE"), { code: "EPIPE" });
    const fake = fakeProcess({ failWrite });
    const line = `${JSON.stringify({ source: TINY, output: join(directory, "x.ext4") })}\n`;
    const stdin = {
      isTerminal: false,
      async *chunks() {
        yield new TextEncoder().encode(line);
        // Its writer goes on living.
        await new Promise(() => {});
      },
    };
    const words = ["bless", "--batch=-", "--jobs=2"];
    assertEquals(await runCommandLine(words, { ...fake.io, stdin }, COMMANDS), 4);
    assertStringIncludes(fake.stderr(), "was closed before all images were made");
  });
});
