/** What the documents tell people to type does what they say. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { ROOT } from "../../tools/build_steps.ts";
import { hasCommand } from "../oracle/command.ts";
import { kernelUnavailable } from "../oracle/kernel.ts";
import { notRun } from "../oracle/notice.ts";
import { inDirectory } from "../cli/program.ts";
import { COMMANDS } from "../../cli/commands.ts";
import type { ShellBlock } from "./documents.ts";
import { exchanges, furnish, printedPattern, runScript, shellBlocks } from "./documents.ts";

/** The examples of docs/CLI.md come from the table of commands, tests/serve runs docs/SERVE.md, tests/boot docs/VM.md. */
const TESTED_ELSEWHERE = ["docs/CLI.md", "docs/SERVE.md", "docs/VM.md"];
const DOCUMENTS = documentPaths().filter((path) =>
  !TESTED_ELSEWHERE.includes(path) && shellBlocks(read(path)).length > 0
);

function read(path: string): string {
  return Deno.readTextFileSync(ROOT + path);
}

/** What a block needs and this machine has not. */
function missing(block: ShellBlock): string | undefined {
  for (const need of block.needs) {
    if (need === "root") {
      const reason = kernelUnavailable();
      if (reason !== undefined) return reason;
    } else if (!hasCommand(need)) return `${need} is not installed`;
  }
  return undefined;
}

function runBlock(directory: string, path: string, block: ShellBlock): void {
  const place = `${path}:${block.line}`;
  const commands = block.kind === "sh"
    ? [{ command: block.text, printed: undefined }]
    : exchanges(block);
  // Between two commands comes a line that none of them prints; all run in one shell.
  const mark = "=== next ===";
  const script = commands.map(({ command }) => command).join(`\necho '${mark}'\n`);
  // On a terminal both streams are seen.
  const { code, stdout, stderr } = runScript(
    directory,
    block.kind === "console" ? `exec 2>&1\n${script}` : script,
    block.needs.includes("root"),
  );
  assertEquals(code, 0, `${place}: ${stderr}\n${stdout}`);
  const outputs = stdout.split(`${mark}\n`);
  for (const [i, { command, printed }] of commands.entries()) {
    if (printed !== undefined) {
      assertMatch(outputs[i]!, printedPattern(printed), `${place}: ${command}`);
    }
  }
}

for (const path of DOCUMENTS) {
  Deno.test(`the shell blocks of ${path} do what they say`, async () => {
    const blocks = shellBlocks(read(path));
    await inDirectory((directory) => {
      furnish(directory, ROOT);
      for (const block of blocks.filter((one) => one.notRun === undefined)) {
        const why = missing(block);
        if (why === undefined) runBlock(directory, path, block);
        else notRun(`${path}, the block at line ${block.line}`, why);
      }
    });
  });
}

Deno.test("README.md shows every command", () => {
  const text = shellBlocks(read("README.md")).map((block) => block.text).join("\n");
  const unseen = COMMANDS.map(({ name }) => name.replace(" merged", ""))
    .filter((name) => !text.includes(`blessfs ${name}`));
  assertEquals(unseen, []);
});

/** All documents of the repository itself. */
function documentPaths(): string[] {
  const inFolder = (folder: string) =>
    [...Deno.readDirSync(ROOT + folder)].filter(({ name }) => name.endsWith(".md"))
      .map(({ name }) => folder + name);
  return ["", "docs/", "docs/decisions/", "bench/"].flatMap(inFolder);
}

/** What a link can name behind `#`: headings in lower case, words joined, without punctuation. */
function anchors(document: string): string[] {
  const prose = document.replace(/^```.*?^```$/gms, "");
  return [...prose.matchAll(/^#+ (.*)$/gm)].map((match) =>
    match[1]!.toLowerCase().replace(/[^\w\- ]/g, "").replaceAll(" ", "-")
  );
}

Deno.test("documents link to files and headings that are there", () => {
  const paths = documentPaths();
  assert(paths.length > 20, `${paths}`);
  for (const path of paths) {
    const links = [...read(path).matchAll(/\]\((?!https?:)([^)#]*)#?([^)]*)\)/g)];
    const broken = links.filter(([, file, anchor]) => {
      const target = file === "" ? path : join(dirname(path), file!);
      if (!existsSync(ROOT + target)) return true;
      return anchor !== "" && !anchors(read(target)).includes(anchor!);
    });
    assertEquals(broken.map(([link]) => link), [], path);
  }
});

Deno.test("printedPattern lets times and left out lines vary, and nothing else", () => {
  const pattern = printedPattern("a (1)\n...\ntime  0.04 s\n");
  assertEquals(pattern.test("a (1)\nb\nc\ntime  1.30 s\n"), true);
  assertEquals(pattern.test("a (1)\ntime  1.30 s\n"), false);
  assertEquals(pattern.test("a (2)\nb\ntime  1.30 s\n"), false);
});

Deno.test("shellBlocks reads what a comment says of a block", () => {
  const fence = "```";
  const text = `<!-- needs root, jq -->\n\n${fence}sh\na\n${fence}\n\n${fence}ts\nb\n${fence}\n\n` +
    `<!-- not run by tests: why -->\n${fence}console\n$ c\nd\n${fence}\n`;
  const [first, second, ...rest] = shellBlocks(text);
  assertEquals([first!.needs, first!.text, first!.notRun], [["root", "jq"], "a\n", undefined]);
  assertEquals([second!.notRun, exchanges(second!)], ["why", [{ command: "c", printed: "d" }]]);
  assertEquals(rest, []);
});
