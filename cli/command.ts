/**
 * How a command describes itself, and what it receives when it runs. cli/commands.ts is the table of all commands;
 * parsing, help, completions, the manual and docs/CLI.md are generated from it.
 *
 * @module
 */
import { invariant } from "../lib/errors.ts";
import type { Progress } from "../lib/progress.ts";
import type { WarningSummary } from "../lib/warnings.ts";
import type { Rows, Style } from "./text.ts";

export type Completion = "file" | "directory" | "source" | "command" | "none";

export interface OptionSpec {
  /** The name without dashes. */
  readonly name: string;
  /** Its key in the library's options, which errors refer to; defaults to the name in camel case. */
  readonly key?: string;
  readonly short?: string;
  /** The placeholder for the value in the help, such as `SIZE`; an option without one is a flag. */
  readonly value?: string;
  /** One or two sentences, without a final stop. */
  readonly summary: string;
  /** The allowed words. Other values are rejected unless `open` is set. */
  readonly choices?: readonly string[];
  /** `choices` lists only some of the possible values. */
  readonly open?: boolean;
  /** The default value, as the user would type it. */
  readonly default?: string;
  /** The default in words, for the help, when the command computes it. */
  readonly defaultText?: string;
  /** Takes several values: the option is repeated, or values are separated by commas unless `whole` is set. */
  readonly list?: boolean;
  /** Commas are part of the value. */
  readonly whole?: boolean;
  /** A flag that is on unless `--no-NAME` is given. */
  readonly on?: boolean;
  readonly required?: boolean;
  readonly completion?: Completion;
}

export interface PositionalSpec {
  /** In capitals, such as `SOURCE`. */
  readonly name: string;
  readonly summary: string;
  readonly completion?: Completion;
  /** How many are required; defaults to 1, and 0 makes the operand optional. */
  readonly least?: number;
  /** Takes all remaining operands. Only the last operand may be repeated. */
  readonly repeated?: boolean;
  readonly choices?: readonly string[];
}

/**
 * Does the work of a command. Results go to `io.stdout`; failures are thrown.
 *
 * @returns the exit code when it is not 0; it can only be 1, meaning that the answer is no
 */
export type Run = (args: ParsedArguments, io: CommandIo) => Promise<0 | 1 | void>;

export interface Command {
  /** One word, or two, such as `bless merged`. */
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly summary: string;
  readonly description?: readonly string[];
  /** Examples, shown first in the help: a sentence without a final stop that says what the line does, and the line. */
  readonly examples: readonly (readonly [purpose: string, line: string])[];
  readonly positionals: readonly PositionalSpec[];
  readonly options: readonly OptionSpec[];
  /** The option that replaces the operands and the required options with a list of calls. */
  readonly batchOption?: string;
  /** Handles signals itself: it runs until asked to stop, then shuts down at its own pace. */
  readonly handlesSignals?: boolean;
  /** Loads the command's code, which other commands do not need. */
  load(): Promise<Run>;
}

/** A command that builds its options on demand, so that most runs build only those of one command. */
export function command(
  { options: optionsOnDemand, ...rest }: Omit<Command, "options"> & {
    readonly options: () => readonly OptionSpec[];
  },
): Command {
  let options: readonly OptionSpec[] | undefined;
  return {
    ...rest,
    get options() {
      return options ??= optionsOnDemand();
    },
  };
}

/**
 * An option, written as the help shows it: `-o, --output FILE`. A value followed by `,...` may be a list; one followed
 * by `...` may be repeated and contain commas.
 *
 * Lower-case words between bars are choices; if any part is not such a word, other values are allowed too. Shells
 * complete files or directories when the placeholder says so.
 */
export function option(
  shown: string,
  summary: string,
  more: Partial<OptionSpec> = {},
): OptionSpec {
  // Options are built on every start, so this avoids regular expressions.
  const dashes = shown.indexOf("--");
  const space = shown.indexOf(" ", dashes);
  const spec: { -readonly [K in keyof OptionSpec]: OptionSpec[K] } = {
    name: shown.slice(dashes + 2, space < 0 ? undefined : space),
    summary,
  };
  if (dashes > 0) spec.short = shown[1]!;
  if (space > 0) {
    let value = shown.slice(space + 1);
    if (value.endsWith("...") && !value.endsWith("/...")) {
      spec.list = true;
      if (!value.endsWith(",...")) spec.whole = true;
      value = value.slice(0, spec.whole ? -3 : -4);
    }
    spec.value = value;
    if (value !== value.toUpperCase()) {
      const parts = value.split("|");
      const choices = parts.filter((part) => /^[a-z-]+$/.test(part));
      if (choices.length > 0) spec.choices = choices;
      if (choices.length > 0 && choices.length < parts.length) spec.open = true;
    }
    const completion = completionOf(value);
    if (completion !== undefined) spec.completion = completion;
  }
  return Object.assign(spec, more);
}

/** An operand, written as the help shows it: `IMAGE`, `IMAGE...`, `[PATH]`, `[TOPIC...]`. */
export function operand(
  shown: string,
  summary: string,
  more: Partial<PositionalSpec> = {},
): PositionalSpec {
  const name = shown.replace(/[[\].]/g, "");
  const completion = completionOf(name);
  return {
    name,
    summary,
    ...shown.startsWith("[") ? { least: 0 } : {},
    ...shown.includes("...") ? { repeated: true } : {},
    ...completion === undefined ? {} : { completion },
    ...more,
  };
}

const FILES = ["FILE", "IMAGE", "INDEX", "TAR"];

function completionOf(value: string): Completion | undefined {
  if (value === "SOURCE") return "source";
  if (FILES.some((word) => value.includes(word))) return "file";
  return value.includes("DIR") ? "directory" : undefined;
}

/** Examples from pairs of lines: `# WHAT THE LINE DOES`, then the line itself. */
export function examples(text: string): [purpose: string, line: string][] {
  const lines = text.trim().split("\n").map((line) => line.trim());
  return lines.flatMap((line, i) => i % 2 === 1 ? [] : [[line.slice("# ".length), lines[i + 1]!]]);
}

/** Prints one document on standard output instead of text. For every command that prints results. */
export const JSON_OPTION: OptionSpec = option(
  "--json",
  "print one JSON document on standard output; a failure is one JSON object on standard error",
);

export const COMMON_OPTIONS: readonly OptionSpec[] = [
  option("-h, --help", "show help and exit"),
  option("-V, --version", "show the version and exit; with --json, its runtime"),
  option("-q, --quiet", "print errors only (and results that are asked for)"),
  option(
    "--progress WHEN",
    "show progress on standard error; auto: on a terminal; json: one JSON object a line, for programs",
    { choices: ["auto", "always", "never", "json"], default: "auto" },
  ),
  option(
    "--color WHEN",
    "colour the output; auto: on a terminal, unless NO_COLOR is set or TERM=dumb",
    { choices: ["auto", "always", "never"], default: "auto" },
  ),
  option("--no-color", "the same as --color never"),
];

/** The first word of the hidden command that completion scripts call. */
export const COMPLETE_WORD = "__complete";

/** All options of a command, its own first. */
export function optionsOf(command: Command): readonly OptionSpec[] {
  return [...command.options, ...COMMON_OPTIONS];
}

/** How an option is typed: `--size`, or `--no-metadata-csum` for a flag that is on by default. */
export function spelling(option: OptionSpec): string {
  return option.on ? `--no-${option.name}` : `--${option.name}`;
}

interface GivenArguments {
  readonly flags: ReadonlyMap<string, boolean>;
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly positionals: ReadonlyMap<string, readonly string[]>;
  /** The names of the options that take values, once per value, in the order given. */
  readonly order: readonly string[];
}

/** The arguments of one command, checked against its table. Asking for a name that is not in the table is a bug. */
export class ParsedArguments {
  /** The command's options, which determine how errors spell them. */
  readonly options: readonly OptionSpec[];
  readonly #options: ReadonlyMap<string, OptionSpec>;
  readonly #given: GivenArguments;

  constructor(options: readonly OptionSpec[], given: GivenArguments) {
    this.options = options;
    this.#options = new Map(options.map((option) => [option.name, option]));
    this.#given = given;
  }

  has(name: string): boolean {
    return this.#options.has(name);
  }

  flag(name: string): boolean {
    const option = this.#options.get(name);
    invariant(option !== undefined && option.value === undefined, `flag --${name} is in the table`);
    return this.#given.flags.get(name) ?? option.on ?? false;
  }

  /** The value of an option; undefined when it was not given. */
  value(name: string): string | undefined {
    const option = this.#options.get(name);
    invariant(option?.value !== undefined && !option.list, `option --${name} is in the table`);
    return this.#given.values.get(name)?.[0] ?? option.default;
  }

  /** The value of an option that is required or has a default. */
  text(name: string): string {
    const text = this.value(name);
    invariant(text !== undefined, `option --${name} was checked`);
    return text;
  }

  /** The value of an option as read by `parse`, which receives the option's name for its errors. */
  parsed<T>(name: string, parse: (text: string, what: string) => T): T | undefined {
    const text = this.value(name);
    return text === undefined ? undefined : parse(text, `--${name}`);
  }

  /** Like `parsed`, for an option that is required or has a default. */
  read<T>(name: string, parse: (text: string, what: string) => T): T {
    return parse(this.text(name), `--${name}`);
  }

  /** The values of a list option; undefined when it was not given and has no default. */
  values(name: string): readonly string[] | undefined {
    const option = this.#options.get(name);
    invariant(option?.list === true, `list --${name} is in the table`);
    return this.#given.values.get(name) ?? option.default?.split(",");
  }

  /** The values of a list option, each read by `parse`. */
  parsedValues<T>(name: string, parse: (text: string, what: string) => T): T[] | undefined {
    return this.values(name)?.map((text) => parse(text, `--${name}`));
  }

  /** The values of several list options, in the order given. Only for options that do not split at commas. */
  inOrder(names: readonly string[]): { readonly name: string; readonly value: string }[] {
    const lists = new Map(names.map((name) => [name, [...this.values(name) ?? []]]));
    return this.#given.order.filter((name) => lists.has(name))
      .map((name) => ({ name, value: lists.get(name)!.shift()! }));
  }

  /** These options, overridden by those of `call`, with the operands of `call`. */
  withCall(call: ParsedArguments): ParsedArguments {
    const { flags, values, order } = this.#given;
    const other = call.#given;
    return new ParsedArguments(this.options, {
      flags: new Map([...flags, ...other.flags]),
      values: new Map([...values, ...other.values]),
      positionals: other.positionals,
      order: [...order.filter((name) => !other.values.has(name)), ...other.order],
    });
  }

  /** The first of the named options that was given. */
  firstGiven(names: readonly string[]): string | undefined {
    return names.find((name) => {
      invariant(this.#options.has(name), `option --${name} is in the table`);
      return this.#given.values.has(name) || this.#given.flags.get(name) === true;
    });
  }

  /** An operand that occurs exactly once. */
  positional(name: string): string {
    const [value] = this.positionals(name);
    invariant(value !== undefined, `operand ${name} was checked`);
    return value;
  }

  /** All operands with that name; empty when an optional operand is missing. */
  positionals(name: string): readonly string[] {
    const found = this.#given.positionals.get(name);
    invariant(found !== undefined, `operand ${name} is in the table`);
    return found;
  }
}

/** Standard output, for results only. */
export interface ResultStream {
  readonly isTerminal: boolean;
  /** Takes text or bytes; await it, so that a slow reader slows the writer. */
  write(data: string | Uint8Array): void | Promise<void>;
  /** Writes out everything buffered. */
  flush(): Promise<void>;
  /** Bypasses the buffer, for image bytes; the caller may reuse `bytes` afterwards. */
  writeThrough(bytes: Uint8Array): Promise<void>;
}

/** Standard error: progress, warnings and errors. Writes are immediate, and write failures are ignored. */
export interface NoticeStream {
  readonly isTerminal: boolean;
  /** The current width of the terminal; undefined when unknown. */
  columns(): number | undefined;
  write(text: string): void;
}

/** Standard input, for arguments that accept `-`. */
export interface InputStream {
  readonly isTerminal: boolean;
  chunks(): AsyncIterable<Uint8Array>;
}

/** What the process provides to the program, so that tests can run it as a shell would. */
export interface ProcessIo {
  readonly stdin: InputStream;
  readonly stdout: ResultStream;
  readonly stderr: NoticeStream;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** Aborted by the first SIGINT, SIGTERM or SIGHUP, with an InterruptedError as its reason. */
  readonly signal: AbortSignal;
  /** Milliseconds from a monotonic clock; only for reports and progress. */
  now(): number;
  /** Throws when this process cannot handle the command line. */
  checkEnvironment?(words: readonly string[]): void;
}

/** What the program provides to a command, with the common options already applied. */
export interface CommandIo extends ProcessIo {
  readonly quiet: boolean;
  readonly json: boolean;
  /** Draws on a terminal, or does nothing. */
  readonly progress: Progress;
  readonly style: Style;
  /**
   * Shows warnings on standard error, unless `--quiet` or `--json` is set (with `--json` they go into the document).
   */
  warn(warnings: readonly WarningSummary[]): void;
  writeJson(document: unknown): Promise<void>;
  /** Like `writeJson`, for a report about something that was made; adds the `version` of the program that made it. */
  writeReport(report: object): Promise<void>;
  /**
   * Reports what was made: through `writeReport` with `--json`, otherwise as rows, unless `--quiet` is set. The rows go
   * to standard error when standard output carries one of the outputs.
   */
  answer(
    report: object,
    rows: Rows,
    outputs?: readonly (string | null | undefined)[],
  ): Promise<void>;
}
