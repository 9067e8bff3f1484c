/**
 * Names in images are bytes, not text. They are kept as byte strings, in which every character is one byte (0x00 to 0xff).
 * Such strings are compact, work as map keys, and compare in byte order with `<`.
 *
 * @module
 */
import { Buffer } from "node:buffer";

/** A string in which each character code is one byte. */
export type ByteString = string;

const utf8 = new TextEncoder();
const strictUtf8 = new TextDecoder("utf-8", { fatal: true });

/** Converts the bytes `[start, end)` to a byte string. */
export function byteStringFromBytes(bytes: Uint8Array, start = 0, end = bytes.length): ByteString {
  // A Buffer of the bytes would take longer to make than the string.
  return Buffer.prototype.latin1Slice.call(bytes, start, end);
}

/** The bytes of a byte string. */
export function bytesFromByteString(text: ByteString): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** The UTF-8 bytes of ordinary text as a byte string. */
export function byteStringFromText(text: string): ByteString {
  return byteStringFromBytes(utf8.encode(text));
}

/** The text, if the bytes are valid UTF-8; undefined otherwise. */
export function textFromByteString(text: ByteString): string | undefined {
  try {
    return strictUtf8.decode(bytesFromByteString(text));
  } catch {
    return undefined;
  }
}

/**
 * Makes a byte string safe for a terminal or a log. UTF-8 is shown as is; other bytes and control characters become `\xNN`
 * (C0, DEL) or `\u{N}` (C1 and bidirectional controls).
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { displayName } from "./byte_string.ts";
 * assertEquals(displayName("a\x1b[2J"), "a\\x1b[2J");
 * ```
 */
export function displayName(name: ByteString): string {
  const text = textFromByteString(name);
  if (text === undefined) {
    return name.replace(/[^\x20-\x7e]/g, (c) => `\\x${hexByte(c.charCodeAt(0))}`);
  }
  return text
    // deno-lint-ignore no-control-regex
    .replace(/[\x00-\x1f\x7f]/g, (c) => `\\x${hexByte(c.charCodeAt(0))}`)
    .replace(
      /[\u0080-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
      (c) => `\\u{${c.charCodeAt(0).toString(16)}}`,
    );
}

function hexByte(value: number): string {
  return value.toString(16).padStart(2, "0");
}

/** Characters that JSON allows unescaped but that control a terminal or change text direction. */
const COMMANDS = /[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/**
 * Serialises a document with those characters escaped too; JSON.stringify escapes only the ones below 0x20. The meaning is
 * unchanged.
 *
 * @param indent spaces for each level; everything is on one line if omitted
 */
export function plainJson(document: unknown, indent?: number): string {
  return JSON.stringify(document, undefined, indent).replace(
    COMMANDS,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Longer texts are cut in the middle in messages. */
const SHOWN_TEXT_CHARACTERS = 1000;
const SHOWN_END_CHARACTERS = 200;

/** Makes ordinary text safe for a terminal and cuts it to a readable length. */
export function displayText(text: string): string {
  const start = SHOWN_TEXT_CHARACTERS - SHOWN_END_CHARACTERS;
  const shown = text.length <= SHOWN_TEXT_CHARACTERS
    ? text
    : `${text.slice(0, start)}...${text.slice(-SHOWN_END_CHARACTERS)}`;
  return displayName(byteStringFromText(shown));
}
