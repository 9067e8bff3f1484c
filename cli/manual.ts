/**
 * Output generated from the table of commands: `blessfs help`, `completions` and `man`, which prints docs/CLI.md or the
 * manual page blessfs(1), written in the man macros (man-pages(7), groff_man(7)).
 *
 * @module
 */
import { findCommand } from "./arguments.ts";
import {
  type Command,
  type CommandIo,
  COMMON_OPTIONS,
  type OptionSpec,
  type ParsedArguments,
  type Run,
} from "./command.ts";
import { BASH_COMPLETIONS, FISH_COMPLETIONS, ZSH_COMPLETIONS } from "./completions.ts";
import { EXIT_MEANINGS, safeLine } from "./errors.ts";
import {
  commandHelp,
  ENVIRONMENT,
  mainHelp,
  optionMeaning,
  optionTerm,
  positionalMeaning,
  PURPOSE,
  SOURCE_FORMS,
  topicHelp,
  TOPICS,
  usageOf,
} from "./help.ts";
import { sentence } from "./text.ts";
import { suggestionHint } from "./values.ts";
import { VERSION } from "./version.ts";
import { UsageError } from "../lib/errors.ts";

const SHELLS = { bash: BASH_COMPLETIONS, zsh: ZSH_COMPLETIONS, fish: FISH_COMPLETIONS } as const;

export function runHelp(commands: readonly Command[]): Run {
  return async (args, io) => {
    await io.stdout.write(helpOn(args.positionals("COMMAND|TOPIC"), commands));
  };
}

export function runMan(commands: readonly Command[]): Run {
  return async (args, io) => {
    const render = args.value("format") === "markdown" ? renderCliMarkdown : renderManPage;
    await io.stdout.write(render(commands));
  };
}

export async function runCompletions(args: ParsedArguments, io: CommandIo): Promise<void> {
  await io.stdout.write(SHELLS[args.positional("SHELL") as keyof typeof SHELLS]);
}

function helpOn(words: readonly string[], commands: readonly Command[]): string {
  const [first] = words;
  if (first === undefined) return mainHelp(commands);
  const topic = words.length === 1 ? topicHelp(first) : undefined;
  if (topic !== undefined) return topic;
  const { command } = findCommand(words, commands);
  if (command !== undefined) return commandHelp(command, commands);
  const known = [...commands.flatMap(({ name, aliases }) => [name, ...aliases ?? []]), ...TOPICS];
  const typed = words.join(" ");
  throw new UsageError(
    "blessfs help",
    `\`${safeLine(typed)}\` is neither a command nor a topic`,
    suggestionHint(typed, known),
  );
}

export function renderManPage(commands: readonly Command[]): string {
  const lines = [
    `.TH BLESSFS 1 "" "blessfs ${VERSION}" "User Commands"`,
    ".SH NAME",
    `blessfs \\- ${escaped(PURPOSE)}`,
    ".SH SYNOPSIS",
    ".nf",
    ...commands.map((command) => escaped(usageOf(command)[0]!)),
    ".fi",
    ".SH DESCRIPTION",
    escaped(`blessfs ${PURPOSE}.`),
    ".PP",
    escaped(
      "Results go to standard output, everything else to standard error. Options may stand before or after ",
    ),
    escaped(
      "the command. An output appears under its name only when it is complete; a failure leaves nothing behind.",
    ),
    ".SH COMMANDS",
    ...commands.flatMap(commandLines),
    ".SH OPTIONS OF EVERY COMMAND",
    ...COMMON_OPTIONS.flatMap(optionLines),
    ".SH SOURCES",
    ...SOURCE_FORMS.flatMap(({ prefix, rest, meaning }) => tagged(prefix + rest, meaning)),
    ".SH EXIT STATUS",
    ...Object.entries(EXIT_MEANINGS).flatMap(([code, meaning]) => tagged(code, meaning)),
    ".SH ENVIRONMENT",
    ...ENVIRONMENT.flatMap(([name, meaning]) => tagged(name, meaning)),
    ".SH SEE ALSO",
    ".BR ext4 (5),",
    ".BR e2fsck (8),",
    ".BR mke2fs (8),",
    ".BR resize2fs (8),",
    ".BR skopeo (1)",
  ];
  return `${lines.join("\n")}\n`;
}

function commandLines(command: Command): string[] {
  return [
    `.SS ${escaped(`blessfs ${command.name}`)}`,
    escaped(sentence(command.summary)),
    ...(command.description ?? []).flatMap((text) => [".PP", escaped(text)]),
    ".PP",
    "Examples:",
    ...command.examples.flatMap(([purpose, line]) => [
      ".PP",
      `${escaped(purpose)}:`,
      ".RS 4",
      ".nf",
      escaped(line),
      ".fi",
      ".RE",
    ]),
    ...command.positionals.flatMap((spec) => tagged(spec.name, positionalMeaning(spec))),
    ...command.options.flatMap(optionLines),
  ];
}

function optionLines(option: OptionSpec): string[] {
  return tagged(optionTerm(option).trim(), optionMeaning(option));
}

function tagged(term: string, meaning: string): string[] {
  return [".TP", `.B ${escaped(term)}`, escaped(meaning)];
}

/** Escapes text so that roff prints it unchanged: literal backslashes and dashes, and no line that begins a request. */
function escaped(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replace(/^(['.])/, "\\&$1").trimEnd();
}

export function renderCliMarkdown(commands: readonly Command[]): string {
  const parts = [
    "# The command line",
    "<!-- Made from the table in cli/commands.ts: deno run -A cli/main.ts man --format markdown > docs/CLI.md -->",
    `blessfs ${PURPOSE}.`,
    table(
      ["command", "does"],
      commands.map(({ name, summary }) => [`[${code(name)}](#${anchor(name)})`, summary]),
    ),
    "Results go to standard output, everything else to standard error. `-` stands for standard input or output where " +
    "a file is meant. Options may stand before or after the command; `--` ends them.",
    "An output is written under a temporary name beside its own and renamed when it is complete. If the work fails or " +
    "is interrupted, nothing is left behind. If the output is a symbolic link, the file that it points to is replaced.",
    ...commands.flatMap(commandParts),
    "## Options of every command",
    optionTable(COMMON_OPTIONS),
    "## Sources",
    "A source is written as the container tools write it. A bare path is recognised by its content.",
    table(
      ["written as", "is"],
      SOURCE_FORMS.map(({ prefix, rest, meaning }) => [code(prefix + rest), meaning]),
    ),
    "## Sizes",
    "Sizes are bytes, or a number with `K`, `M`, `G`, `T` or `P` (also `KiB`, `MiB`, ...), in powers of 1024: " +
    "`131072`, `128K`, `128KiB`, `4M`, `1.5G`. A bare number is bytes.",
    "## Exit codes",
    table(["code", "meaning"], Object.entries(EXIT_MEANINGS)),
    "An error is one line, `blessfs: WHAT: WHY`, often followed by a line `hint: REMEDY`. With `--json` it " +
    'is one JSON object on standard error: `{"error":{"category","exitCode","message","hint","data"}}`, where the ' +
    "category is `usage`, `input`, `io`, `interrupted` or `internal`.",
    "## Environment",
    table(["variable", "meaning"], ENVIRONMENT.map(([name, meaning]) => [code(name), meaning])),
  ];
  return `${parts.join("\n\n")}\n`;
}

function commandParts(command: Command): string[] {
  const operands = command.positionals.map((spec) => [code(spec.name), positionalMeaning(spec)]);
  return [
    `## blessfs ${command.name}`,
    sentence(command.summary),
    fenced(command.examples.map(([purpose, line]) => `# ${purpose}\n${line}`).join("\n")),
    fenced(usageOf(command).join("\n")),
    ...command.description ?? [],
    ...operands.length > 0 ? [table(["operand", "meaning"], operands)] : [],
    ...command.options.length > 0 ? [optionTable(command.options)] : [],
  ];
}

function optionTable(options: Command["options"]): string {
  return table(
    ["option", "meaning"],
    options.map((option) => [code(optionTerm(option).trim()), optionMeaning(option)]),
  );
}

/** A table with columns as wide as their widest cell, as `deno fmt` formats it. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [head, ...rows].map((row) => row.map((cell) => cell.replaceAll("|", "\\|")));
  const widths = head.map((_, at) => Math.max(...cells.map((row) => row[at]!.length)));
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, at) => cell.padEnd(widths[at]!)).join(" | ")} |`;
  const [shownHead = [], ...shownRows] = cells;
  return [line(shownHead), line(widths.map((width) => "-".repeat(width))), ...shownRows.map(line)]
    .join("\n");
}

function code(text: string): string {
  return `\`${text}\``;
}

function fenced(text: string): string {
  return `\`\`\`sh\n${text}\n\`\`\``;
}

function anchor(name: string): string {
  return `blessfs-${name.replaceAll(" ", "-")}`;
}
