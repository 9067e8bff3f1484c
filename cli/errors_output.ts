/**
 * How a failure is told: lines for people, or one JSON object.
 *
 * @module
 */
import { BlessfsError } from "../lib/errors.ts";
import { byteStringFromText, displayName, plainJson } from "../lib/bytes/byte_string.ts";
import { systemErrorFacts } from "../lib/io/system_error.ts";
import { categoryOf, type ExitCode, exitCodeOf, type FailureCategory } from "./exit_codes.ts";
import { hintOf, messageOf } from "./option_names.ts";
import type { OptionSpec } from "./option_spec.ts";
import type { Style } from "./style.ts";
import { VERSION } from "./version.ts";

const REPORT_HINT =
  `this is a fault of blessfs ${VERSION}, not of yours: please report it with the command line ` +
  "and what BLESSFS_DEBUG=1 shows";

/** A text that may hold anything, on one line and without control characters. */
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
 * `blessfs: WHAT: WHY`, then `hint: REMEDY` where there is one, and the stacks of the error and its causes when
 * `withStack` is set.
 *
 * @param options those of the command, which say how the option at fault is spelled
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
 * The same as one JSON object on one line:
 * `{"error":{"category","exitCode","message","hint","data"}}`, with `stack` when `withStack` is set.
 */
export function errorJson(
  error: unknown,
  withStack: boolean,
  options: readonly OptionSpec[] = [],
): string {
  const stack = withStack ? { stack: stackLines(error) } : {};
  return `${plainJson({ error: { ...failureFacts(error, options), ...stack } })}\n`;
}

/** What `--json` tells of a failure. */
export interface FailureFacts {
  readonly category: FailureCategory;
  readonly exitCode: ExitCode;
  readonly message: string;
  readonly hint: string | null;
  readonly data: BlessfsError["data"];
}

/** The facts of anything that was thrown. */
export function failureFacts(
  error: unknown,
  options: readonly OptionSpec[] = [],
): FailureFacts {
  const { message, hint } = describe(error, options);
  return {
    category: categoryOf(error),
    exitCode: exitCodeOf(error),
    message,
    hint: hint ?? null,
    data: error instanceof BlessfsError ? error.data : {},
  };
}

/** Whether BLESSFS_DEBUG asks for stacks: neither empty nor `0`. */
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
