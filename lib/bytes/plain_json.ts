/**
 * JSON that can be shown on a terminal, whatever is in its texts.
 *
 * @module
 */

/** What JSON allows as it is, and a terminal takes for a command or turns the text around with. */
const COMMANDS = /[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/**
 * A document with every such character escaped, which means the same: JSON.stringify escapes those below 0x20 only.
 *
 * @param indent spaces for each level; all in one line when left out
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { plainJson } from "./plain_json.ts";
 * assertEquals(plainJson({ name: "a\x9b2J" }), '{"name":"a\\u009b2J"}');
 * ```
 */
export function plainJson(document: unknown, indent?: number): string {
  return JSON.stringify(document, undefined, indent).replace(
    COMMANDS,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
