/**
 * "Did you mean": the word that was probably wanted.
 *
 * @module
 */

const MAX_DISTANCE = 2;

/**
 * The words nearest to what was typed, nearest first: those it begins, and those within two slips of the fingers (and
 * no more slips than half the word).
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { nearest } from "./suggest.ts";
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

/** The hint of an error about a word that does not exist; empty when nothing is near. */
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
 * Insertions, deletions, substitutions and swaps of neighbours that lead from one word to the other (Damerau's
 * distance, no part edited twice).
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
