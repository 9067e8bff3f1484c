/**
 * How values are read from the command line and displayed: sizes, counts, shares, times, and suggestions for misspelled
 * words. Units are powers of 1024 throughout.
 *
 * @module
 */
import { UsageError } from "../lib/errors.ts";

const UNITS = ["", "K", "M", "G", "T", "P", "E"] as const;
const SIZE_PATTERN = /^(\d+)(?:\.(\d+))? ?(?:([KMGTPE])(?:i?B)?|B)?$/i;

/**
 * Reads `131072`, `128K`, `128KiB`, `4M` or `1.5G` as bytes. Case does not matter; a fraction of a byte is dropped.
 *
 * @param what what the size is for, such as `--grid`, which begins the error message
 * @throws UsageError for malformed input, decimal units (`KB`), signs, fractions of bytes and sizes beyond 2^53 - 1
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseSize } from "./values.ts";
 * assertEquals(parseSize("128K", "--grid"), 131072);
 * assertEquals(parseSize("1.5GiB", "--size"), 1610612736);
 * ```
 */
export function parseSize(text: string, what: string): number {
  if (/^[\d.]+ ?[KMGTPE]B$/i.test(text)) {
    const binary = text.replace(/B$/i, "iB");
    throw sizeError(
      text,
      what,
      `units are powers of 1024: write \`${binary}\` or \`${binary.slice(0, -2)}\``,
    );
  }
  const match = SIZE_PATTERN.exec(text);
  if (match === null) throw sizeError(text, what, "wanted a size");
  const [, whole = "", fraction = "", unit = ""] = match;
  if (fraction !== "" && unit === "") throw sizeError(text, what, "wanted a whole number of bytes");
  const unitBytes = 1024n ** BigInt(UNITS.indexOf(unit.toUpperCase() as typeof UNITS[number]));
  const bytes = BigInt(whole + fraction) * unitBytes / 10n ** BigInt(fraction.length);
  if (bytes > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw sizeError(text, what, "is too large: wanted less than 8P");
  }
  return Number(bytes);
}

function sizeError(text: string, what: string, why: string): UsageError {
  return new UsageError(what, `\`${text}\`: ${why}`, {
    hint: "sizes look like 131072, 128K, 128KiB, 4M or 1.5G",
  });
}

export { formatSize } from "../lib/bytes/arithmetic.ts";

/** An exact size in the form the user may type: `128K`, `4M`, `131073`. */
export { shortSize as sizeOption } from "../lib/bytes/arithmetic.ts";

/** A duration for people: `0.42 s`, `12.3 s`, `1:23`, `1:02:03`. */
export function formatDuration(milliseconds: number): string {
  const seconds = milliseconds / 1000;
  if (seconds < 9.995) return `${seconds.toFixed(2)} s`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  return formatClock(seconds);
}

/** Whole seconds as a clock shows them: `0:07`, `1:23`, `1:02:03`. */
export function formatClock(seconds: number): string {
  const total = Math.round(seconds);
  const tail = `${total % 60}`.padStart(2, "0");
  const minutes = Math.floor(total / 60) % 60;
  const hours = Math.floor(total / 3600);
  return hours === 0 ? `${minutes}:${tail}` : `${hours}:${`${minutes}`.padStart(2, "0")}:${tail}`;
}

/** A count with separated thousands: `12,345`. */
export function formatCount(count: number): string {
  return `${count}`.replace(/\B(?=(\d{3})+$)/g, ",");
}

/**
 * Reads a whole number.
 *
 * @throws UsageError when it is not a whole number or lies outside `least` to `most`
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
 * @throws UsageError when it is not a percentage or lies outside 0 to 100
 */
export function parsePercent(text: string, what: string): number {
  const percent = /^\d+(\.\d+)?%$/.test(text) ? Number(text.slice(0, -1)) : NaN;
  if (percent <= 100) return percent;
  throw new UsageError(what, `\`${text}\`: wanted a share from 0% to 100%`);
}

/**
 * The error for a value that is not one of the allowed words.
 *
 * @param wanted the allowed forms, as shown in the help
 */
export function choiceError(
  text: string,
  what: string,
  wanted: string,
  words: readonly string[],
): UsageError {
  return new UsageError(what, `\`${text}\`: wanted ${wanted}`, suggestionHint(text, words));
}

const MAX_DISTANCE = 2;

/**
 * The words nearest to what was typed, nearest first: those it is a prefix of, and those within two typing errors (and
 * at most one error per two letters).
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { nearest } from "./values.ts";
 * assertEquals(nearest("vreify", ["bless", "verify"]), ["verify"]);
 * ```
 */
export function nearest(typed: string, words: readonly string[]): string[] {
  const folded = typed.toLowerCase();
  if (folded.length > 64) return [];
  const rated = words.map((word) => {
    const limit = Math.min(MAX_DISTANCE, Math.floor(Math.max(folded.length, word.length) / 2));
    const distance = editDistance(folded, word);
    if (distance <= limit) return { word, distance };
    const begun = folded.length >= 2 && word.startsWith(folded);
    return { word, distance: begun ? MAX_DISTANCE + 1 : Infinity };
  });
  const least = Math.min(...rated.map((entry) => entry.distance));
  if (least === Infinity) return [];
  return [...new Set(rated.filter((entry) => entry.distance === least).map((entry) => entry.word))]
    .slice(0, 3);
}

/** The hint for an unknown word; empty when no known word is close. */
export function suggestionHint(
  typed: string,
  words: readonly string[],
  show: (word: string) => string = (word) => word,
): { hint?: string } {
  const near = nearest(typed, words).map((word) => `\`${show(word)}\``);
  if (near.length === 0) return {};
  const last = near[near.length - 1];
  return {
    hint: `did you mean ${
      near.length === 1 ? last : `${near.slice(0, -1).join(", ")} or ${last}`
    }?`,
  };
}

/**
 * The number of insertions, deletions, substitutions and swaps of neighbours between two words (Damerau's distance,
 * with no part edited twice).
 */
export function editDistance(from: string, to: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: to.length + 1 }, (_, i) => i);
  for (let i = 1; i <= from.length; i++) {
    const row = [i];
    for (let j = 1; j <= to.length; j++) {
      const same = from[i - 1] === to[j - 1];
      let cost = Math.min(last[j - 1]! + (same ? 0 : 1), last[j]! + 1, row[j - 1]! + 1);
      const swapped = i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1];
      if (swapped) cost = Math.min(cost, beforeLast[j - 2]! + 1);
      row.push(cost);
    }
    beforeLast = last;
    last = row;
  }
  return last[to.length]!;
}
