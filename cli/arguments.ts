/**
 * Turns the words of the command line into a command and its checked arguments. `@std/cli/parse-args` splits them into
 * options and operands; this module uses the table to find unknown, missing, repeated and misspelled options.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { UsageError } from "../lib/errors.ts";
import { displayPath } from "../lib/io/system_error.ts";
import type { Command, OptionSpec, PositionalSpec } from "./command.ts";
import { COMMON_OPTIONS, optionsOf, ParsedArguments } from "./command.ts";
import type { ColourChoice } from "./text.ts";
import { choiceError, suggestionHint } from "./values.ts";

export interface Request {
  /** Undefined when the line names no command. */
  readonly command: Command | undefined;
  /** The words found where a command's name belongs, for the error. */
  readonly operands: readonly string[];
  readonly wantsHelp: boolean;
  readonly wantsVersion: boolean;
  /** Whether `--json` was given; it also decides how errors in the remaining arguments are printed. */
  readonly wantsJson: boolean;
  /** The choice made by `--color` and `--no-color`; it also applies to errors in the remaining arguments. */
  readonly colour: ColourChoice;
  /** Checks the remaining arguments. @throws UsageError */
  arguments(): ParsedArguments;
}

interface GivenOption {
  /** With its dashes: `--size`, `-o`. */
  readonly spelling: string;
  /** The whole word that contained it. */
  readonly word: string;
  /** The name without dashes; a known short letter is replaced by its long name. */
  readonly name: string;
  readonly inlineValue: string | undefined;
  readonly next: string | undefined;
}

/** A command line split with the options of all commands, because options may come before the command. */
interface SplitLine {
  readonly given: readonly GivenOption[];
  /** Values by option; an empty string where the value is missing. */
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly flags: ReadonlyMap<string, boolean>;
  readonly operands: readonly string[];
  /** How many operands come before `--`. */
  readonly operandsBefore: number;
}

/** Splits a command line and finds its command; errors in the remaining arguments are thrown by `arguments()`. */
export function readCommandLine(words: readonly string[], commands: readonly Command[]): Request {
  const line = splitLine(words, [
    ...COMMON_OPTIONS,
    ...candidates(words, commands).flatMap((command) => command.options),
  ]);
  const { operands, operandsBefore } = line;
  const named = operandsBefore > 0 ? operands.slice(0, operandsBefore) : operands;
  const { command, nameWords } = findCommand(named, commands);
  const given = (name: string) => line.given.some((option) => option.name === name);
  const colour = line.values.get("color")?.[0];
  return {
    command,
    operands,
    wantsHelp: given("help"),
    wantsVersion: given("version"),
    wantsJson: given("json"),
    colour: given("no-color")
      ? "never"
      : colour === "always" || colour === "never"
      ? colour
      : "auto",
    arguments() {
      if (command === undefined) throw unknownCommand(line, commands);
      return checkArguments(command, line, operands.slice(nameWords), commands);
    },
  };
}

/** The commands the line may name: all of them when the first word is an option, which may belong to any command. */
function candidates(words: readonly string[], commands: readonly Command[]): readonly Command[] {
  const [first] = words;
  if (words.length === 1 && COMMON_OPTIONS.some(({ name }) => `--${name}` === first)) return [];
  const group = commands.filter(({ name, aliases = [] }) =>
    [name, ...aliases].some((text) => text.split(" ")[0] === first)
  );
  return group.length > 0 ? group : commands;
}

/** The command whose name or alias matches the first words; the longest match wins. */
export function findCommand(
  words: readonly string[],
  commands: readonly Command[],
): { command: Command | undefined; nameWords: number } {
  for (const nameWords of [2, 1]) {
    const name = words.slice(0, nameWords).join(" ");
    if (words.length < nameWords) continue;
    const command = commands.find((known) => known.name === name || known.aliases?.includes(name));
    if (command !== undefined) return { command, nameWords };
  }
  return { command: undefined, nameWords: 0 };
}

/**
 * parseArgs takes `-oFILE` for five flags, `--output -` for an output without a value, the word `true` after a flag for
 * its value, and `--no-size=4K` for `--size=4K`. It therefore gets only known long options, with flags as
 * `--force=true`.
 */
function splitLine(words: readonly string[], options: readonly OptionSpec[]): SplitLine {
  const end = words.includes("--") ? words.indexOf("--") : words.length;
  const valued = options.filter(({ value }) => value !== undefined).map(({ name }) => name);
  const flags = options.filter(({ value }) => value === undefined).map(({ name }) => name);
  const given: GivenOption[] = [];
  const normal: string[] = [];
  for (let at = 0; at < end; at++) {
    const word = words[at]!;
    // A value never begins with a dash, except for a single dash, so every such word is an option.
    if (!/^-./.test(word)) {
      normal.push(word);
      continue;
    }
    const next = at + 1 < end ? words[at + 1] : undefined;
    for (const option of optionsInWord(word, next, options)) {
      given.push(option);
      const { name, inlineValue } = option;
      if (flags.includes(name)) normal.push(`--on:${name}=true`);
      else if (flags.includes(name.replace(/^no-/, ""))) {
        normal.push(`--on:${name.slice(3)}=false`);
      } else if (!valued.includes(name)) continue;
      else if (inlineValue !== undefined) normal.push(`--${name}=${inlineValue}`);
      else if (next === "-" || next === "") normal.push(`--${name}=${words[++at]}`);
      else if (next === undefined || next.startsWith("-")) normal.push(`--${name}=`);
      else normal.push(`--${name}`);
    }
  }
  const parsed = parseArgs([...normal, ...words.slice(end)], {
    string: [...valued, "_"],
    boolean: flags.map((name) => `on:${name}`),
    collect: valued,
    "--": true,
  });
  const operands = [...parsed._, ...parsed["--"] ?? []];
  return {
    given,
    values: new Map(
      valued.map((name) => [name, parsed[name] as string[]] as const)
        .filter(([, texts]) => texts.length > 0),
    ),
    flags: new Map(flags.map((name) => [name, parsed[`on:${name}`] as boolean])),
    operands,
    operandsBefore: parsed._.length,
  };
}

/** The options in one word: one for `--size=4K`, several for `-fo`, plus any value attached to the last one. */
function optionsInWord(
  word: string,
  next: string | undefined,
  options: readonly OptionSpec[],
): GivenOption[] {
  if (word.startsWith("--")) {
    const equals = word.indexOf("=");
    const spelling = equals < 0 ? word : word.slice(0, equals);
    const inlineValue = equals < 0 ? undefined : word.slice(equals + 1);
    return [{ spelling, word, name: spelling.slice(2), inlineValue, next }];
  }
  const found: GivenOption[] = [];
  for (let at = 1; at < word.length; at++) {
    const letter = String.fromCodePoint(word.codePointAt(at)!);
    const option = options.find(({ short }) => short === letter);
    const rest = word.slice(at + letter.length);
    const inlineValue = option?.value === undefined || rest === "" ? undefined : rest;
    const name = option?.name ?? letter;
    found.push({
      spelling: `-${letter}`,
      word,
      name,
      inlineValue,
      next: rest === "" ? next : undefined,
    });
    if (inlineValue !== undefined) break;
    at += letter.length - 1;
  }
  return found;
}

function unknownCommand(line: SplitLine, commands: readonly Command[]): UsageError {
  const [first, second] = line.operands;
  if (first === undefined) {
    const known = commands.flatMap((command) => command.options).concat(COMMON_OPTIONS);
    for (const option of line.given) recognise(option, known);
    return new UsageError("command line", "no command was given", {
      hint: "`blessfs --help` lists the commands",
    });
  }
  const group = commands.filter((command) => command.name.startsWith(`${first} `));
  if (group.length > 0) {
    const names = group.map((command) => command.name.slice(first.length + 1));
    const what = second === undefined
      ? "needs one more word"
      : `\`${displayPath(second)}\` is not known`;
    return new UsageError(`blessfs ${first}`, `${what}: wanted ${names.join(" or ")}`);
  }
  const names = commands.flatMap((command) => [command.name, ...command.aliases ?? []])
    .map((name) => name.split(" ")[0]!);
  const looksLikeSource = /^[a-z0-9-]+:/.test(first) || first.includes("/");
  const hint = suggestionHint(first, names).hint ??
    (looksLikeSource
      ? `\`blessfs bless ${displayPath(first)} -o IMAGE\` makes an image of it`
      : "`blessfs --help` lists the commands");
  return new UsageError("command line", `unknown command \`${displayPath(first)}\``, { hint });
}

function checkArguments(
  command: Command,
  line: SplitLine,
  operands: readonly string[],
  commands: readonly Command[],
): ParsedArguments {
  const options = optionsOf(command);
  const values = new Map<string, readonly string[]>();
  for (const given of line.given) {
    const option = recognise(given, options);
    if (option.value === undefined) {
      if (given.inlineValue === undefined) continue;
      throw new UsageError(shownName(given), "takes no value");
    }
    const texts = line.values.get(option.name)!;
    if (texts.includes("")) throw missingValue(given, option);
    if (!option.list && values.has(option.name)) {
      // What looks like a second value may be a typo, such as `-force`.
      for (const other of line.given) recognise(other, options);
      const [one, other] = texts.map(displayPath);
      throw new UsageError(shownName(given), `was given twice: \`${one}\` and \`${other}\``);
    }
    checkValue(given, option, texts[0]!);
    values.set(option.name, option.list && !option.whole ? splitLists(given, texts) : texts);
  }
  const { batchOption } = command;
  const isBatch = batchOption !== undefined && values.has(batchOption);
  if (isBatch) refuseCall(command, batchOption, values, operands);
  for (const option of options) {
    if (option.required && !isBatch && !values.has(option.name)) {
      throw missingOption(command, option);
    }
  }
  const flags = new Map(
    [...line.flags].filter(([name]) =>
      line.given.some((given) => given.name === name || given.name === `no-${name}`)
    ),
  );
  const order = line.given.map(({ name }) => name).filter((name) => values.has(name));
  const positionals = isBatch
    ? new Map(command.positionals.map(({ name }) => [name, []]))
    : sortOperands(command, operands, commands);
  return new ParsedArguments(options, { flags, values, positionals, order });
}

function refuseCall(
  command: Command,
  batchOption: string,
  values: ReadonlyMap<string, unknown>,
  operands: readonly string[],
): void {
  const [operand] = operands;
  const option = command.options.find(({ name, required }) => required && values.has(name));
  if (operand === undefined && option === undefined) return;
  const given = option === undefined ? `\`${displayPath(operand!)}\`` : `--${option.name}`;
  throw new UsageError(`--${batchOption}`, `every line names its own: found ${given} as well`, {
    hint: `write it on a line of the batch, or leave out --${batchOption}`,
  });
}

/** Finds the option in the command's table. @throws UsageError when the command has no such option */
function recognise(given: GivenOption, options: readonly OptionSpec[]): OptionSpec {
  const find = (name: string) => options.find((known) => known.name === name);
  // `-force` would otherwise be read as `-f -o rce`.
  if (/^-[^-]./.test(given.word) && find(given.word.slice(1)) !== undefined) {
    throw new UsageError("command line", `unknown option \`${given.word}\``, {
      hint: `did you mean \`-${given.word}\`?`,
    });
  }
  const option = find(given.name);
  if (option !== undefined) return option;
  const denied = given.name.startsWith("no-") ? find(given.name.slice(3)) : undefined;
  if (denied !== undefined && denied.value === undefined) return denied;
  throw unknownOption(given, options);
}

function unknownOption(given: GivenOption, options: readonly OptionSpec[]): UsageError {
  const shown = shownName(given);
  const error = (details: { readonly hint?: string }) =>
    new UsageError("command line", `unknown option \`${shown}\``, details);
  if (given.spelling.startsWith("--")) {
    const login = /^(user|username|password|creds|src-creds)$/.test(given.name);
    if (login && options.some(({ name }) => name === "authfile")) {
      return error({
        hint: "log in with `docker login` or `podman login`, or name the file with --authfile FILE",
      });
    }
    const owner = options.find(({ choices }) => choices?.includes(given.name));
    if (owner !== undefined) {
      return error({ hint: `did you mean \`--${owner.name} ${given.name}\`?` });
    }
    const names = options.flatMap(({ name, on }) => on ? [name, `no-${name}`] : [name]);
    return error(suggestionHint(given.name, names, (name) => `--${name}`));
  }
  const letter = given.spelling.slice(1).toLowerCase();
  const near = options.find(({ short }) => short?.toLowerCase() === letter);
  return error(near === undefined ? {} : { hint: `did you mean \`-${near.short}\`?` });
}

function missingValue(given: GivenOption, { name, value }: OptionSpec): UsageError {
  const { next, inlineValue } = given;
  const shown = shownName(given);
  if (inlineValue === "" || next === "") {
    return new UsageError(shown, `the value is empty: wanted ${value}`);
  }
  if (next === undefined) return new UsageError(shown, `needs a value: ${value}`);
  const found = displayPath(next);
  return new UsageError(shown, `needs a value: ${value}, but \`${found}\` looks like an option`, {
    hint: `write \`--${name}=${found}\` if it is meant`,
  });
}

function checkValue(given: GivenOption, option: OptionSpec, value: string): void {
  const shown = shownName(given);
  const { choices, open, list } = option;
  if (!given.spelling.startsWith("--") && given.inlineValue?.startsWith("=")) {
    throw new UsageError(shown, `\`${displayPath(value)}\` begins with \`=\``, {
      hint: `write \`${given.spelling} ${displayPath(value.slice(1))}\``,
    });
  }
  if (choices === undefined || open || list || choices.includes(value)) return;
  throw choiceError(displayPath(value), shown, choices.join(", "), choices);
}

function splitLists(given: GivenOption, texts: readonly string[]): string[] {
  return texts.flatMap((text) => {
    const items = text.split(",");
    if (!items.includes("")) return items;
    throw new UsageError(shownName(given), `\`${displayPath(text)}\`: an item is empty`);
  });
}

function missingOption(command: Command, option: OptionSpec): UsageError {
  const short = option.short === undefined ? "" : `-${option.short}, `;
  const why = `${short}--${option.name} ${option.value} is missing`;
  return new UsageError(`blessfs ${command.name}`, why, {
    hint: `\`blessfs ${command.name} --help\` shows examples`,
  });
}

function sortOperands(
  command: Command,
  operands: readonly string[],
  commands: readonly Command[],
): Map<string, readonly string[]> {
  const sorted = new Map<string, readonly string[]>();
  let rest = operands;
  for (const spec of command.positionals) {
    const taken = rest.slice(0, spec.repeated ? rest.length : 1);
    checkOperands(command, spec, taken);
    sorted.set(spec.name, taken);
    rest = rest.slice(taken.length);
  }
  const [extra] = rest;
  if (extra === undefined) return sorted;
  // In `blessfs bless layred SOURCE`, `layred` is parsed as the source of plain `bless`.
  const group = command.name.split(" ")[0]!;
  const siblings = commands.map(({ name }) => name)
    .filter((name) => name !== command.name && name.startsWith(`${group} `));
  const misspelt = suggestionHint(`${group} ${operands[0]}`, siblings, (name) => `blessfs ${name}`);
  const why = `one operand too many: \`${displayPath(extra)}\``;
  throw new UsageError(`blessfs ${command.name}`, why, {
    hint: misspelt.hint ?? `\`blessfs ${command.name} --help\` shows the usage`,
  });
}

function checkOperands(command: Command, spec: PositionalSpec, taken: readonly string[]): void {
  const least = spec.least ?? 1;
  if (taken.length < least) {
    const found = least === 1 ? "" : `: ${taken.length} given, wanted at least ${least}`;
    throw new UsageError(`blessfs ${command.name}`, `${spec.name} is missing${found}`, {
      hint: `\`blessfs ${command.name} --help\` shows examples`,
    });
  }
  for (const operand of taken) {
    if (operand === "") throw new UsageError(`blessfs ${command.name}`, `${spec.name} is empty`);
    if (spec.choices === undefined || spec.choices.includes(operand)) continue;
    throw choiceError(displayPath(operand), spec.name, spec.choices.join(", "), spec.choices);
  }
}

function shownName(given: GivenOption): string {
  return displayPath(given.spelling);
}
