/** The table of the real commands, and what is made from it. */
import {
  assert,
  assertEquals,
  assertLessOrEqual,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import { readFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import {
  type Command,
  COMMON_OPTIONS,
  optionsOf,
  ParsedArguments,
  spelling,
} from "../../cli/command.ts";
import { COMMANDS } from "../../cli/commands.ts";
import { layoutOptions } from "../../cli/table/options.ts";
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { readCommandLine } from "../../cli/arguments.ts";
import { commandHelp, mainHelp, SOURCE_FORMS, topicHelp, TOPICS } from "../../cli/help.ts";
import { renderCliMarkdown, renderManPage } from "../../cli/manual.ts";
import { EXIT_MEANINGS } from "../../cli/errors.ts";
import { SOURCE_KINDS } from "../../lib/source/source_name.ts";
import { runFake } from "./fake_io.ts";
import { SAMPLE_COMMANDS } from "./sample_commands.ts";
import { notRun } from "../oracle/notice.ts";
import { listFiles, ROOT } from "../tidy/repository.ts";

const TABLES = [COMMANDS, SAMPLE_COMMANDS];

Deno.test("COMMANDS has each name once and examples for all", () => {
  const names = COMMANDS.flatMap((command) => [command.name, ...command.aliases ?? []]);
  assertEquals(new Set(names).size, names.length);
  for (const command of COMMANDS) {
    assert(command.examples.length > 0, `${command.name} has no examples`);
    assertMatch(command.name, /^[a-z]+( [a-z]+)?$/);
  }
});

Deno.test("COMMANDS give an option the same kind everywhere, as it may stand before the command", () => {
  const kinds = new Map<string, string>();
  for (const command of COMMANDS) {
    for (const option of optionsOf(command)) {
      const kind = JSON.stringify([option.value === undefined, option.short ?? null]);
      assertEquals(kinds.get(option.name) ?? kind, kind, `--${option.name} of ${command.name}`);
      kinds.set(option.name, kind);
      if (option.short === undefined) continue;
      assertEquals(
        kinds.get(`-${option.short}`) ?? option.name,
        option.name,
        `-${option.short} of ${command.name}`,
      );
      kinds.set(`-${option.short}`, option.name);
    }
  }
});

Deno.test("COMMANDS have the defaults that the documents show: each is a value, or words for what decides", () => {
  // Of these the library has the defaults; tests/cli/commands/bless_options_test.ts compares them.
  const layout = new Set(layoutOptions(MERGED_DEFAULTS).map(({ name }) => name));
  for (const command of COMMANDS) {
    for (const { name, default: text, defaultText, list, choices, open } of optionsOf(command)) {
      const what = `--${name} of ${command.name}`;
      if (defaultText !== undefined) {
        assertEquals(text, undefined, what);
        assert(layout.has(name) || / |^all$/.test(defaultText), `${what}: make it the default`);
      }
      if (text === undefined) continue;
      const given = { flags: new Map(), values: new Map(), positionals: new Map(), order: [] };
      const args = new ParsedArguments(optionsOf(command), given);
      assertEquals(list ? args.values(name)?.join() : args.text(name), text, what);
      assert(choices === undefined || open || choices.includes(text), what);
      assertEquals(args.firstGiven([name]), undefined);
    }
  }
});

Deno.test("COMMANDS have examples that the parser accepts", () => {
  for (const command of COMMANDS) {
    for (const [, line] of command.examples) {
      const words = shellWords(line);
      const at = words.indexOf("blessfs");
      assert(at >= 0, line);
      const end = words.findIndex((word, i) => i > at && /^(\||>|>>|2>|&&|<)$/.test(word));
      const request = readCommandLine(words.slice(at + 1, end < 0 ? words.length : end), COMMANDS);
      assertEquals(request.command?.name, command.name, line);
      request.arguments();
    }
  }
});

/** Enough of a shell for examples: words, quotes, and the call inside `<(...)`. */
function shellWords(line: string): string[] {
  const inner = /<\((.*)\)/.exec(line)?.[1] ?? line;
  return [...inner.matchAll(/'[^']*'|"[^"]*"|[^\s]+/g)].map(([word]) =>
    word.replace(/^(['"])(.*)\1$/, "$2")
  );
}

Deno.test("commandHelp and mainHelp keep to 80 columns, put examples first and name every option", () => {
  for (const table of TABLES) {
    assertColumns(mainHelp(table));
    for (const command of table) {
      const help = commandHelp(command, table);
      assertColumns(help);
      assert(help.indexOf("Examples:") < help.indexOf("Usage:"), command.name);
      for (const option of optionsOf(command)) assertStringIncludes(help, spelling(option));
      for (const { name, choices } of command.positionals) {
        assertStringIncludes(help, choices?.[0] ?? name);
      }
    }
  }
});

function assertColumns(help: string): void {
  for (const line of help.split("\n")) {
    assertLessOrEqual(line.length, 80, line);
    assertEquals(line, line.trimEnd());
  }
}

Deno.test("topicHelp knows its topics, and help finds commands and near misses", async () => {
  for (const topic of TOPICS) assertColumns(topicHelp(topic)!);
  for (const code of Object.keys(EXIT_MEANINGS)) {
    assertStringIncludes(topicHelp("exit-codes")!, code);
  }
  const completions = await runFake(["help", "completions"], COMMANDS);
  assertEquals(completions.stdout, (await runFake(["completions", "--help"], COMMANDS)).stdout);
  assertEquals((await runFake(["help"], COMMANDS)).stdout, mainHelp(COMMANDS));
  const missed = await runFake(["help", "exit-code"], COMMANDS);
  assertEquals([missed.code, missed.stderr.split("\n")[1]], [
    2,
    "hint: did you mean `exit-codes`?",
  ]);
});

Deno.test("docs/CLI.md is what the tables make of it", () => {
  const path = new URL("../../docs/CLI.md", import.meta.url);
  assertEquals(
    readFileSync(path, "utf8"),
    renderCliMarkdown(COMMANDS),
    "bring it up to date: deno run -A cli/main.ts man --format markdown > docs/CLI.md",
  );
});

Deno.test("renderCliMarkdown and renderManPage name every command and option", () => {
  for (const table of TABLES) {
    const markdown = renderCliMarkdown(table);
    const manual = renderManPage(table).replaceAll("\\-", "-");
    for (const command of table) {
      assertStringIncludes(markdown, `## blessfs ${command.name}\n`);
      assertStringIncludes(manual, `.SS blessfs ${command.name}\n`);
      for (const option of optionsOf(command)) {
        assertStringIncludes(markdown, spelling(option));
        assertStringIncludes(manual, spelling(option));
      }
    }
  }
});

Deno.test("renderManPage is accepted by groff and mandoc without a warning", () => {
  for (const table of TABLES) {
    const input = renderManPage(table);
    checkWith("groff", ["-man", "-ww", "-Tascii"], input, (stderr) => stderr);
    checkWith(
      "mandoc",
      ["-Tlint", "-W", "warning"],
      input,
      (_stderr, stdout) =>
        stdout.split("\n").filter((line) => line !== "" && !line.includes("missing date")).join(
          "\n",
        ),
    );
  }
});

function checkWith(
  program: string,
  args: string[],
  input: string,
  complaints: (stderr: string, stdout: string) => string,
): void {
  const run = spawnSync(program, args, { input, encoding: "utf8" });
  if (run.error !== undefined) {
    notRun("the check of the manual page", `${program} is not installed`);
  } else assertEquals(complaints(run.stderr, run.stdout), "");
}

Deno.test("a page that begins with a dot or has backslashes is no request to roff", () => {
  const command: Command = {
    ...SAMPLE_COMMANDS[0]!,
    summary: ".SH a\\b 'c",
    description: ["'quoted", ".dotted"],
  };
  const manual = renderManPage([command]);
  assertStringIncludes(manual, "\\&.SH a\\eb 'c");
  assertStringIncludes(manual, "\\&'quoted\n");
  assertStringIncludes(manual, "\\&.dotted\n");
});

Deno.test("SOURCE_FORMS are the kinds that the library reads", () => {
  const kinds = SOURCE_FORMS.map(({ prefix }) => prefix.replace(/:.*/, ""));
  assertEquals(kinds.toSorted(), [...SOURCE_KINDS].toSorted());
});

Deno.test("the library names no option of the command line", () => {
  // Options of tar, xz, veritysetup and the like have names of ours, too.
  const others = /^(?:directory|format|hash-offset|name|output|size|version)$/;
  const names = new Set(
    COMMANDS.flatMap((command) => command.options).concat(COMMON_OPTIONS).map(({ name }) => name)
      .filter((name) => !others.test(name)),
  );
  const found = [...listFiles("lib/"), ...listFiles("probe/")].filter((path) =>
    path.endsWith(".ts")
  ).flatMap((path) =>
    readFileSync(new URL(path, ROOT), "utf8").split("\n").filter((line) =>
      !/^\s*(?:\*|\/\/|\/\*)/.test(line)
    )
      .flatMap((line) => [...line.matchAll(/["'`][^"'`]*--(?:no-)?([a-z][a-z-]*)/g)])
      .filter(([, name]) => names.has(name!)).map(([text]) => `${path}: ${text}`)
  );
  assertEquals(found, []);
});
