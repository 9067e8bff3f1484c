/**
 * Failures: the table of exit codes, how errors spell option names, and how errors are shown, as lines for people or as
 * one JSON object.
 *
 * @module
 */
import { LIMITS } from "../lib/bless/options.ts";
import { byteStringFromText, displayName, plainJson } from "../lib/bytes/byte_string.ts";
import {
  BlessfsError,
  differencesText,
  type ErrorCode,
  InterruptedError,
  type Remedy,
} from "../lib/errors.ts";
import { systemErrorFacts } from "../lib/io/system_error.ts";
import { type OptionSpec, spelling } from "./command.ts";
import type { Style } from "./text.ts";
import { VERSION } from "./version.ts";

export const EXIT = {
  done: 0,
  answerNo: 1,
  usage: 2,
  input: 3,
  io: 4,
  internal: 70,
  hangup: 129,
  interrupted: 130,
  terminated: 143,
} as const;

export type ExitCode = typeof EXIT[keyof typeof EXIT];

export const EXIT_MEANINGS: Readonly<Record<ExitCode, string>> = {
  0: "done",
  1: "the answer is no: verify found damage, diff found a difference, probe found less than --min-dedup, an image of a batch failed",
  2: "the command line is wrong",
  3: "the input is missing, damaged or not supported",
  4: "reading, writing or the network failed; an output exists and --force was not given",
  70: "a bug in blessfs",
  129: "interrupted by SIGHUP",
  130: "interrupted by SIGINT (Ctrl-C)",
  143: "interrupted by SIGTERM",
};

export const SIGNAL_EXITS = {
  SIGHUP: EXIT.hangup,
  SIGINT: EXIT.interrupted,
  SIGTERM: EXIT.terminated,
} as const;

/** What kind of failure an error is, in the words of the library's errors. */
type FailureCategory = BlessfsError["category"] | "internal";

export function categoryOf(error: unknown): FailureCategory {
  if (error instanceof BlessfsError) return error.category;
  return systemErrorFacts(error) === undefined ? "internal" : "io";
}

export function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof InterruptedError) {
    const signal = error.data["signal"];
    return SIGNAL_EXITS[signal as keyof typeof SIGNAL_EXITS] ?? EXIT.interrupted;
  }
  return EXIT[categoryOf(error)];
}

/** Library options that can only be set through the environment. */
const VARIABLES: Readonly<Record<string, string>> = { timestamp: "SOURCE_DATE_EPOCH" };

/** A key as typed on the command line: `layerEntries` becomes `layer-entries`. */
export function kebabCase(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** The error's subject and problem, with the option spelled as the command spells it. */
export function messageOf(error: BlessfsError, options: readonly OptionSpec[]): string {
  const { option, what, why, differences } = error;
  const name = option === undefined ? undefined : nameOf(option, options);
  const list = differencesText(differences, (key) => {
    const spec = specOf(key, options);
    return spec === undefined ? VARIABLES[key] ?? key : `--${spec.name}`;
  });
  return `${name ?? what}: ${why}${list === "" ? "" : `: ${list}`}`;
}

/** The error's hint and the options that would help, if the command has them; undefined when there are none. */
export function hintOf(error: BlessfsError, options: readonly OptionSpec[]): string | undefined {
  const parts = [
    error.hint,
    ...error.remedies.map((remedy) => remedyText(remedy, options)),
  ].filter((part) => part !== undefined);
  return parts.length === 0 ? undefined : parts.join("; ");
}

function remedyText(remedy: Remedy, options: readonly OptionSpec[]): string | undefined {
  const { option, change, value, when, to } = remedy;
  const name = nameOf(option, options);
  if (name === undefined) return undefined;
  const wanted = value ?? (isLimit(option) ? undefined : specOf(option, options)?.value);
  const advice = change === "omit"
    ? `leave out ${name}`
    : `use ${name}${wanted === undefined ? "" : ` ${wanted}`}`;
  return `${when === undefined ? "" : `${when}, `}${advice}${to === undefined ? "" : ` to ${to}`}`;
}

function nameOf(key: string, options: readonly OptionSpec[]): string | undefined {
  const spec = specOf(key, options);
  if (spec !== undefined) return spelling(spec);
  const hasLimits = options.some(({ name }) => name === "limit");
  if (hasLimits && isLimit(key)) return `--limit ${kebabCase(key)}=VALUE`;
  return VARIABLES[key];
}

function specOf(key: string, options: readonly OptionSpec[]): OptionSpec | undefined {
  return options.find((spec) => spec.key === key) ??
    options.find((spec) => spec.key === undefined && spec.name === kebabCase(key));
}

function isLimit(key: string): boolean {
  return LIMITS.some(({ name, isFixed }) => name === key && !isFixed);
}

/** The reader of standard output has closed it: the program may stop, and this is not a failure. */
export class ClosedPipeError extends Error {
  override readonly name = "ClosedPipeError";
  constructor() {
    super("the reader of standard output has closed it");
  }
}

const REPORT_HINT =
  `this is a bug in blessfs ${VERSION}: please report it with the command line and the output of ` +
  "BLESSFS_DEBUG=1";

/** Any text on one line, without control characters. */
export function safeLine(text: string): string {
  return displayName(byteStringFromText(text.replace(/\s*\n\s*/g, " ")));
}

interface Failure {
  readonly message: string;
  readonly hint: string | undefined;
}

function describe(error: unknown, options: readonly OptionSpec[]): Failure {
  if (error instanceof BlessfsError) {
    return { message: messageOf(error, options), hint: hintOf(error, options) };
  }
  const message = error instanceof Error ? error.message : String(error);
  const facts = systemErrorFacts(error);
  if (facts === undefined) return { message: `internal error: ${message}`, hint: REPORT_HINT };
  const path = (error as { path?: unknown }).path;
  return {
    message: typeof path === "string" ? `${path}: ${facts.text}` : message,
    hint: facts.hint,
  };
}

/**
 * `blessfs: WHAT: WHY`, then `hint: REMEDY` if there is one, then, when `withStack` is set, the stacks of the error and
 * its causes.
 *
 * @param options the command's options, which determine how the option at fault is spelled
 */
export function errorLines(
  error: unknown,
  style: Style,
  withStack: boolean,
  options: readonly OptionSpec[] = [],
): string {
  const { message, hint } = describe(error, options);
  const lines = [`${style.bold(style.red("blessfs:"))} ${safeLine(message)}`];
  if (hint !== undefined) lines.push(`${style.cyan("hint:")} ${safeLine(hint)}`);
  if (withStack) lines.push(...stackLines(error));
  return lines.map((line) => `${line}\n`).join("");
}

/**
 * The same error as one JSON object on one line: `{"error":{"category","exitCode","message","hint","data"}}`, with
 * `stack` when `withStack` is set.
 */
export function errorJson(
  error: unknown,
  withStack: boolean,
  options: readonly OptionSpec[] = [],
): string {
  const stack = withStack ? { stack: stackLines(error) } : {};
  return `${plainJson({ error: { ...failureFacts(error, options), ...stack } })}\n`;
}

interface FailureFacts {
  readonly category: FailureCategory;
  /** A code from docs/ERRORS.md; `bug` for unexpected errors. */
  readonly code: ErrorCode | "bug";
  readonly exitCode: ExitCode;
  readonly message: string;
  readonly hint: string | null;
  readonly data: BlessfsError["data"];
}

export function failureFacts(
  error: unknown,
  options: readonly OptionSpec[] = [],
): FailureFacts {
  const { message, hint } = describe(error, options);
  return {
    category: categoryOf(error),
    code: error instanceof BlessfsError ? error.code : "bug",
    exitCode: exitCodeOf(error),
    message,
    hint: hint ?? null,
    data: error instanceof BlessfsError ? error.data : {},
  };
}

/** Whether BLESSFS_DEBUG asks for stacks: it is neither empty nor `0`. */
export function isDebug(env: Readonly<Record<string, string | undefined>>): boolean {
  return !["", "0"].includes(env["BLESSFS_DEBUG"] ?? "");
}

const MAX_CAUSES = 8;

function stackLines(error: unknown): string[] {
  const lines: string[] = [];
  let current = error;
  for (let depth = 0; depth < MAX_CAUSES && current instanceof Error; depth++) {
    const stack = (current.stack ?? current.message).split("\n").map(safeLine);
    lines.push(...(depth === 0 ? stack : [`caused by ${stack[0]}`, ...stack.slice(1)]));
    current = current.cause;
  }
  return lines;
}
