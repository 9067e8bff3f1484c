/**
 * Numbers as tars write them: octal digits, base-256, and the decimal numbers and times of PAX records.
 *
 * The octal and base-256 functions answer NaN for what is no number and an infinity for what is too large to be exact, so
 * that a field nobody needs costs no error.
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import { byteStringFromBytes } from "../bytes/byte_string.ts";
import type { HeaderField } from "./format.ts";

const SPACE = 0x20;
const DIGIT_0 = 0x30;
const DIGIT_7 = 0x37;
const DIGIT_9 = 0x39;
const POINT = 0x2e;

/**
 * A numeric field of a header block at `base`: base-256 when the top bit of its first byte is set, else octal digits with
 * spaces and NULs around them. An empty field is 0.
 */
export function readNumberField(bytes: Uint8Array, base: number, field: HeaderField): number {
  const start = base + field.offset;
  const end = start + field.lengthBytes;
  return bytes[start]! >= 0x80 ? readBase256(bytes, start, end) : readOctal(bytes, start, end);
}

/** Octal digits; spaces and NULs may come first; a NUL, or spaces up to the end, come after. */
function readOctal(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end && (bytes[at] === SPACE || bytes[at] === 0)) at++;
  let value = 0;
  for (; at < end; at++) {
    const code = bytes[at]!;
    if (code < DIGIT_0 || code > DIGIT_7) break;
    value = value * 8 + (code - DIGIT_0);
  }
  if (at < end && bytes[at] !== 0) {
    while (at < end && (bytes[at] === SPACE || bytes[at] === 0)) at++;
    if (at < end) return NaN;
  }
  return value <= Number.MAX_SAFE_INTEGER ? value : Infinity;
}

/** Big-endian two's complement; the top bit only marks the encoding, the next one is the sign. */
function readBase256(bytes: Uint8Array, start: number, end: number): number {
  const negative = (bytes[start]! & 0x40) !== 0;
  const flip = negative ? 0xff : 0;
  let value = (bytes[start]! ^ flip) & 0x7f;
  for (let at = start + 1; at < end; at++) value = value * 256 + (bytes[at]! ^ flip);
  if (value >= Number.MAX_SAFE_INTEGER) return negative ? -Infinity : Infinity;
  return negative ? -value - 1 : value;
}

/** A decimal number with an optional sign; NaN when it is not one, an infinity when it is too large to be exact. */
export function parseDecimal(text: ByteString): number {
  if (!/^[+-]?[0-9]+$/.test(text)) return NaN;
  const value = Number(text);
  if (Number.isSafeInteger(value)) return value + 0 || 0; // never -0
  return value < 0 ? -Infinity : Infinity;
}

/** A time as the tree keeps it. */
export interface TarTime {
  /** Rounded down. */
  readonly seconds: number;
  /** 0 to 999,999,999, forward from the seconds. */
  readonly nanoseconds: number;
}

/** So many digits are exact in a number. */
const EXACT_DIGITS = 15;

/**
 * The PAX time that lies in `bytes[start, end)`, as {@linkcode parsePaxTime} reads it. What nearly all times look like,
 * digits with a point in between, is read where it lies: every entry of a PAX tar has one.
 */
export function readPaxTime(bytes: Uint8Array, start: number, end: number): TarTime | undefined {
  let at = start;
  let seconds = 0;
  for (; at < end && isDigit(bytes[at]!); at++) seconds = seconds * 10 + (bytes[at]! - DIGIT_0);
  const isPlain = at > start && at - start <= EXACT_DIGITS && (at === end || bytes[at] === POINT);
  if (!isPlain) return parsePaxTime(byteStringFromBytes(bytes, start, end));
  let nanoseconds = 0;
  let worth = 100_000_000;
  for (at++; at < end && isDigit(bytes[at]!); at++) {
    nanoseconds += (bytes[at]! - DIGIT_0) * worth;
    worth = Math.floor(worth / 10);
  }
  return at < end ? undefined : { seconds, nanoseconds };
}

function isDigit(code: number): boolean {
  return code >= DIGIT_0 && code <= DIGIT_9;
}

/**
 * A PAX time: decimal seconds with an optional fraction. The number is taken at its real value, as GNU tar and Go write
 * it: `-0.5` is half a second before 1970. (bsdtar writes the seconds rounded down with a fraction that counts forward;
 * nothing in the record tells the two apart.) Digits beyond nanoseconds are cut off. Undefined when it is no number.
 */
export function parsePaxTime(text: ByteString): TarTime | undefined {
  const parts = /^([+-]?[0-9]+)(?:\.([0-9]*))?$/.exec(text);
  if (!parts) return undefined;
  const seconds = parseDecimal(parts[1]!);
  if (!Number.isSafeInteger(seconds)) return undefined;
  const nanoseconds = Number((parts[2] ?? "").slice(0, 9).padEnd(9, "0"));
  if (!parts[1]!.startsWith("-") || nanoseconds === 0) return { seconds, nanoseconds };
  return { seconds: seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds };
}
