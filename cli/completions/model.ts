/**
 * What the three shells need to know, worked out once from the table of commands.
 *
 * @module
 */
import type { Command, Completion, OptionSpec, PositionalSpec } from "../command.ts";
import { COMMON_OPTIONS, optionsOf, spelling } from "../command.ts";
import { TOPICS } from "../help.ts";

/** A value or an operand that can be completed. */
export interface Completable {
  /** Words to offer. */
  readonly words: readonly string[];
  readonly completion: Completion;
}

/** An option as a shell sees it. */
export interface ShellOption extends Completable {
  /** With dashes: `-o`, `--output`. */
  readonly spellings: readonly string[];
  readonly summary: string;
  readonly takesValue: boolean;
  readonly valueName: string;
  readonly repeatable: boolean;
}

/** An operand as a shell sees it. */
export interface ShellOperand extends Completable {
  readonly name: string;
  readonly repeated: boolean;
}

/** One name of a command: the command itself or an alias. */
export interface ShellCommand {
  readonly name: string;
  readonly summary: string;
  readonly options: readonly ShellOption[];
  readonly operands: readonly ShellOperand[];
  /** Second words that may follow this name in place of an operand. */
  readonly secondWords: readonly string[];
}

/** Everything that a completion script is made from. */
export interface ShellModel {
  readonly commands: readonly ShellCommand[];
  /** The words that may come first, with their meaning. */
  readonly firstWords: readonly (readonly [word: string, summary: string])[];
  readonly commonOptions: readonly ShellOption[];
  /** Every spelling of an option that takes a value. */
  readonly valueSpellings: readonly string[];
}

/** Works the model out. */
export function shellModel(commands: readonly Command[]): ShellModel {
  const helpWords = [...commands.map((command) => command.name.split(" ")[0]!), ...TOPICS];
  const entries = commands.flatMap((command) =>
    [command.name, ...command.aliases ?? []].map((name): ShellCommand => ({
      name,
      summary: command.summary,
      options: optionsOf(command).map(shellOption),
      operands: command.positionals.map((spec) => shellOperand(spec, helpWords)),
      secondWords: commands.filter((other) => other.name.startsWith(`${name} `))
        .map((other) => other.name.slice(name.length + 1)),
    }))
  );
  const firstWords = new Map<string, string>();
  for (const { name, summary } of entries) {
    const [first = ""] = name.split(" ");
    if (!firstWords.has(first)) firstWords.set(first, summary);
  }
  const options = [...commands.flatMap((command) => command.options), ...COMMON_OPTIONS].map(
    shellOption,
  );
  const valueSpellings = options.filter((option) => option.takesValue).flatMap((option) =>
    option.spellings
  );
  return {
    commands: entries,
    firstWords: [...firstWords],
    commonOptions: COMMON_OPTIONS.map(shellOption),
    valueSpellings: [...new Set(valueSpellings)],
  };
}

function shellOption(option: OptionSpec): ShellOption {
  const short = option.short === undefined ? [] : [`-${option.short}`];
  return {
    spellings: [...short, spelling(option)],
    summary: option.summary,
    takesValue: option.value !== undefined,
    valueName: option.value ?? "",
    repeatable: option.list ?? false,
    words: option.choices ?? [],
    completion: option.completion ?? "none",
  };
}

function shellOperand(spec: PositionalSpec, helpWords: readonly string[]): ShellOperand {
  return {
    name: spec.name,
    repeated: spec.repeated ?? false,
    words: spec.choices ?? (spec.completion === "command" ? [...new Set(helpWords)] : []),
    completion: spec.completion ?? "none",
  };
}

/** A text as one word of a POSIX shell. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
