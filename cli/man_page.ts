/**
 * The manual page blessfs(1), from the tables, in the man macros (man-pages(7), groff_man(7)).
 *
 * @module
 */
import type { Command, OptionSpec } from "./command.ts";
import { COMMON_OPTIONS } from "./command.ts";
import { EXIT_MEANINGS } from "./exit_codes.ts";
import {
  ENVIRONMENT,
  optionMeaning,
  optionTerm,
  positionalMeaning,
  PURPOSE,
  usageOf,
} from "./help.ts";
import { SOURCE_FORMS } from "./source_forms.ts";
import { sentence } from "./text.ts";
import { VERSION } from "./version.ts";

/** The page as roff. */
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
      "the command. An output gets its name when it is whole; after a failure nothing of it stays behind.",
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
    ...command.examples.flatMap(({ purpose, line }) => [
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

/** Text that roff prints as it stands: backslashes and dashes as such, and no line that begins a request. */
function escaped(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replace(/^(['.])/, "\\&$1").trimEnd();
}
