/**
 * Values of options that are no sizes. Every error begins with the name of the option.
 *
 * @module
 */
import { UsageError } from "../lib/errors.ts";
import { suggestionHint } from "./suggest.ts";

/**
 * Reads a whole number.
 *
 * @throws UsageError when it is none or lies outside `least` to `most`
 */
export function parseCount(
  text: string,
  what: string,
  least = 1,
  most = Number.MAX_SAFE_INTEGER,
): number {
  const count = /^\d{1,16}$/.test(text) ? Number(text) : NaN;
  if (count >= least && count <= most) return count;
  const range = most === Number.MAX_SAFE_INTEGER
    ? `of at least ${least}`
    : `from ${least} to ${most}`;
  throw new UsageError(what, `\`${text}\`: wanted a whole number ${range}`);
}

/**
 * Reads a share such as `5%` or `0.5%` as the number before the sign.
 *
 * @throws UsageError when it is none or lies outside 0 to 100
 */
export function parsePercent(text: string, what: string): number {
  const percent = /^\d+(\.\d+)?%$/.test(text) ? Number(text.slice(0, -1)) : NaN;
  if (percent <= 100) return percent;
  throw new UsageError(what, `\`${text}\`: wanted a share from 0% to 100%`);
}

/**
 * The error of a value that is none of the words that are possible.
 *
 * @param wanted the forms that are possible, as shown in the help
 */
export function choiceError(
  text: string,
  what: string,
  wanted: string,
  words: readonly string[],
): UsageError {
  return new UsageError(what, `\`${text}\`: wanted ${wanted}`, suggestionHint(text, words));
}

/**
 * SOURCE_DATE_EPOCH of the environment, in seconds; undefined when it is not set or empty.
 *
 * @throws UsageError when it is no whole number
 */
export function sourceDateEpoch(
  env: Readonly<Record<string, string | undefined>>,
): number | undefined {
  const text = env["SOURCE_DATE_EPOCH"];
  if (text === undefined || text === "") return undefined;
  return parseCount(text, "SOURCE_DATE_EPOCH", 0);
}
