/**
 * What a command says about itself. This one table drives parsing, help, completions, the manual and docs/CLI.md.
 *
 * To add a command: write cli/commands/NAME.ts with one exported `Command`, and add a line to
 * cli/commands/index.ts. An option that several commands have must be of the same kind in all of them, because
 * options may stand before the name of the command; the tests check it. Then bring docs/CLI.md up to date with
 * `deno run -A cli/main.ts man --format markdown > docs/CLI.md`.
 *
 * @module
 */
import type { ExitCode } from "./exit_codes.ts";
import type { CommandIo } from "./io.ts";
import type { OptionSpec, PositionalSpec } from "./option_spec.ts";
import type { ParsedArguments } from "./parsed_arguments.ts";

export type { Completion, OptionSpec, PositionalSpec } from "./option_spec.ts";

/** One use, shown first in the help. */
export interface Example {
  /** What it does, as a sentence without a final stop. */
  readonly purpose: string;
  readonly line: string;
}

/** One command. */
export interface Command {
  /** One word, or two such as `bless merged`. */
  readonly name: string;
  /** Other names. */
  readonly aliases?: readonly string[];
  /** What it does, in a few words. */
  readonly summary: string;
  /** More about it: paragraphs. */
  readonly description?: readonly string[];
  readonly examples: readonly Example[];
  readonly positionals: readonly PositionalSpec[];
  readonly options: readonly OptionSpec[];
  /**
   * Does the work. Results go to `io.stdout`; failures are thrown.
   *
   * @returns the exit code when it is not 0, which is only ever 1: the answer is no
   */
  run(args: ParsedArguments, io: CommandIo): Promise<ExitCode | void>;
}

/** One document on standard output in place of text. For every command that has an answer. */
export const JSON_OPTION: OptionSpec = {
  name: "json",
  summary:
    "print one JSON document on standard output; a failure is one JSON object on standard error",
};

/** The options that every command has. */
export const COMMON_OPTIONS: readonly OptionSpec[] = [
  { name: "help", short: "h", summary: "show help and exit" },
  { name: "version", short: "V", summary: "show the version and exit" },
  { name: "quiet", short: "q", summary: "print errors only (and results that are asked for)" },
  {
    name: "progress",
    value: "WHEN",
    choices: ["auto", "always", "never", "json"],
    defaultText: "auto",
    summary:
      "show progress on standard error; auto: on a terminal; json: one JSON object a line, for programs",
  },
  {
    name: "color",
    value: "WHEN",
    choices: ["auto", "always", "never"],
    defaultText: "auto",
    summary: "colour the output; auto: on a terminal, unless NO_COLOR is set or TERM=dumb",
  },
  { name: "no-color", summary: "the same as --color never" },
];

/** All options of a command, its own first. */
export function optionsOf(command: Command): readonly OptionSpec[] {
  return [...command.options, ...COMMON_OPTIONS];
}

/** How an option is written: `--size`, and `--no-metadata-csum` for a flag that is on by itself. */
export function spelling(option: OptionSpec): string {
  return option.on ? `--no-${option.name}` : `--${option.name}`;
}
