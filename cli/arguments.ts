/**
 * From the words of the command line to a command and its checked arguments. The splitting into options and operands
 * is node:util's; what is known, needed, repeated or near to something known is decided here from the tables.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { UsageError } from "../lib/errors.ts";
import { displayPath } from "../lib/io/system_error.ts";
import type { Command, OptionSpec, PositionalSpec } from "./command.ts";
import { COMMON_OPTIONS, optionsOf } from "./command.ts";
import { ParsedArguments } from "./parsed_arguments.ts";
import type { ColourChoice } from "./style.ts";
import { suggestionHint } from "./suggest.ts";
import { choiceError } from "./values.ts";

/** What a command line asks for. */
export interface Request {
  /** Undefined when none was named. */
  readonly command: Command | undefined;
  /** The words that stand where a command's name belongs, for the error. */
  readonly operands: readonly string[];
  readonly wantsHelp: boolean;
  readonly wantsVersion: boolean;
  /** Whether `--json` was given, which also decides the form of errors about the rest. */
  readonly wantsJson: boolean;
  /** What `--color` and `--no-color` say, also for errors about the rest. */
  readonly colour: ColourChoice;
  /** Checks the rest. @throws UsageError */
  arguments(): ParsedArguments;
}

interface OptionToken {
  readonly kind: "option";
  readonly name: string;
  readonly rawName: string;
  readonly value: string | undefined;
  readonly inlineValue: boolean | undefined;
  /** The whole word that it came from. */
  readonly word: string;
}

type Token =
  | OptionToken
  | { readonly kind: "positional"; readonly value: string }
  | { readonly kind: "option-terminator" };

/** Splits a command line and finds its command; what is wrong with the rest comes up in `arguments()`. */
export function readCommandLine(words: readonly string[], commands: readonly Command[]): Request {
  const tokens = splitWords(words, [
    ...COMMON_OPTIONS,
    ...commands.flatMap((command) => command.options),
  ]);
  const terminator = tokens.findIndex((token) => token.kind === "option-terminator");
  const operands = tokens.flatMap((token) => token.kind === "positional" ? [token.value] : []);
  const named = tokens.slice(0, terminator < 0 ? tokens.length : terminator)
    .flatMap((token) => token.kind === "positional" ? [token.value] : []);
  const { command, nameWords } = findCommand(named.length > 0 ? named : operands, commands);
  const given = (name: string) =>
    tokens.some((token) => token.kind === "option" && token.name === name);
  return {
    command,
    operands,
    wantsHelp: given("help"),
    wantsVersion: given("version"),
    wantsJson: given("json"),
    colour: given("no-color") ? "never" : colourOf(tokens),
    arguments() {
      if (command === undefined) throw unknownCommand(operands, tokens, commands);
      const siblings = commands.filter((other) => isSibling(other, command)).map((other) =>
        other.name
      );
      return checkArguments(command, tokens, operands.slice(nameWords), siblings);
    },
  };
}

function colourOf(tokens: readonly Token[]): ColourChoice {
  const token = tokens.find((each) => each.kind === "option" && each.name === "color");
  const value = token?.kind === "option" ? token.value : undefined;
  return value === "always" || value === "never" ? value : "auto";
}

/** The command whose name or alias the words begin with; the longest wins. */
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

function splitWords(words: readonly string[], options: readonly OptionSpec[]): Token[] {
  const described = Object.fromEntries(options.map((option) => [option.name, {
    type: option.value === undefined ? "boolean" as const : "string" as const,
    ...(option.short === undefined ? {} : { short: option.short }),
  }]));
  const { tokens } = parseArgs({
    args: [...words],
    options: described,
    strict: false,
    tokens: true,
  });
  return tokens.map((token) => ({ ...token, word: words[token.index] ?? "" })) as Token[];
}

function unknownCommand(
  operands: readonly string[],
  tokens: readonly Token[],
  commands: readonly Command[],
): UsageError {
  const [first, second] = operands;
  if (first === undefined) {
    const known = commands.flatMap((command) => command.options).concat(COMMON_OPTIONS);
    for (const token of tokens) if (token.kind === "option") recognise(token, known);
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
  const near = suggestionHint(first, names);
  const looksLikeSource = /^[a-z0-9-]+:/.test(first) || first.includes("/");
  const hint = near.hint ??
    (looksLikeSource
      ? `\`blessfs bless ${displayPath(first)} -o IMAGE\` makes an image of it`
      : undefined);
  return new UsageError("command line", `unknown command \`${displayPath(first)}\``, {
    hint: hint ?? "`blessfs --help` lists the commands",
  });
}

function checkArguments(
  command: Command,
  tokens: readonly Token[],
  operands: readonly string[],
  siblings: readonly string[],
): ParsedArguments {
  const options = optionsOf(command);
  const flags = new Map<string, boolean>();
  const values = new Map<string, string[]>();
  for (const token of tokens) {
    if (token.kind !== "option") continue;
    const { option, negated } = recognise(token, options);
    if (option.value === undefined) {
      if (token.value !== undefined) throw new UsageError(shownName(token), "takes no value");
      flags.set(option.name, !negated);
      continue;
    }
    const value = checkValue(token, option);
    const before = values.get(option.name);
    if (option.list) values.set(option.name, [...before ?? [], ...splitList(token, value)]);
    else if (before === undefined) values.set(option.name, [value]);
    else {throw new UsageError(
        shownName(token),
        `was given twice: \`${before[0]}\` and \`${displayPath(value)}\``,
      );}
  }
  for (const option of options) {
    if (option.required && !values.has(option.name)) throw missingOption(command, option);
  }
  return new ParsedArguments(options, flags, values, sortOperands(command, operands, siblings));
}

function recognise(
  token: OptionToken,
  options: readonly OptionSpec[],
): { option: OptionSpec; negated: boolean } {
  const option = options.find((known) => known.name === token.name);
  // `-force` would else be read as `-f -o rce`.
  const isLongWithOneDash = /^-[^-]./.test(token.word) &&
    options.some((known) => known.name === token.word.slice(1));
  if (isLongWithOneDash) {
    throw new UsageError("command line", `unknown option \`${token.word}\``, {
      hint: `did you mean \`-${token.word}\`?`,
    });
  }
  if (option !== undefined) return { option, negated: false };
  if (token.name.startsWith("no-")) {
    const denied = options.find((known) => known.name === token.name.slice(3));
    if (denied !== undefined && denied.value === undefined) {
      return { option: denied, negated: true };
    }
  }
  throw unknownOption(token, options);
}

function unknownOption(token: OptionToken, options: readonly OptionSpec[]): UsageError {
  const names = options.flatMap((option) =>
    option.on ? [option.name, `no-${option.name}`] : [option.name]
  );
  const shorts = options.flatMap((option) => option.short === undefined ? [] : [option.short]);
  const isLong = token.rawName.startsWith("--");
  const inCase = isLong
    ? []
    : shorts.filter((short) => short.toLowerCase() === token.name.toLowerCase());
  const details = isLong
    ? suggestionHint(token.name, names, (name) => `--${name}`)
    : inCase.length > 0
    ? { hint: `did you mean \`-${inCase[0]}\`?` }
    : {};
  return new UsageError("command line", `unknown option \`${shownName(token)}\``, details);
}

function checkValue(token: OptionToken, option: OptionSpec): string {
  const name = shownName(token);
  const { value } = token;
  const needs = `needs a value: ${option.value}`;
  if (value === undefined) throw new UsageError(name, needs);
  if (value === "") throw new UsageError(name, `the value is empty: wanted ${option.value}`);
  if (!token.inlineValue && /^-./.test(value)) {
    throw new UsageError(name, `${needs}, but \`${displayPath(value)}\` looks like an option`, {
      hint: `write \`--${option.name}=${displayPath(value)}\` if it is meant`,
    });
  }
  if (token.inlineValue && !token.rawName.startsWith("--") && value.startsWith("=")) {
    throw new UsageError(name, `\`${displayPath(value)}\` begins with \`=\``, {
      hint: `write \`${token.rawName} ${displayPath(value.slice(1))}\``,
    });
  }
  if (
    option.choices !== undefined && !option.open && !option.list && !option.choices.includes(value)
  ) {
    throw choiceError(displayPath(value), name, option.choices.join(", "), option.choices);
  }
  return value;
}

function splitList(token: OptionToken, value: string): string[] {
  const items = value.split(",");
  if (items.includes("")) {
    throw new UsageError(shownName(token), `\`${displayPath(value)}\`: an item is empty`);
  }
  return items;
}

function missingOption(command: Command, option: OptionSpec): UsageError {
  const short = option.short === undefined ? "" : `-${option.short}, `;
  return new UsageError(
    `blessfs ${command.name}`,
    `${short}--${option.name} ${option.value} is missing`,
    {
      hint: `\`blessfs ${command.name} --help\` shows examples`,
    },
  );
}

function sortOperands(
  command: Command,
  operands: readonly string[],
  siblings: readonly string[],
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
  // `blessfs bless layred SOURCE` reads `layred` as the source of the command that `bless` alone stands for.
  const group = command.name.split(" ")[0]!;
  const misspelt = suggestionHint(`${group} ${operands[0]}`, siblings, (name) => `blessfs ${name}`);
  throw new UsageError(
    `blessfs ${command.name}`,
    `one operand too many: \`${displayPath(extra)}\``,
    {
      hint: misspelt.hint ?? `\`blessfs ${command.name} --help\` shows the usage`,
    },
  );
}

/** Whether two commands share the first of two words. */
function isSibling(one: Command, other: Command): boolean {
  const group = `${other.name.split(" ")[0]} `;
  return one !== other && one.name.startsWith(group) && other.name.startsWith(group);
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

function shownName(token: OptionToken): string {
  return displayPath(token.rawName);
}
