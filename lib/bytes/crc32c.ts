/**
 * CRC-32C (Castagnoli) on the raw register, as ext4 uses it: any start value, no final inversion.
 *
 * By tables, sixteen bytes a step ("slicing", Kounavis and Berry, Intel 2005). Much of what ext4 sums ends in zeros, such
 * as the room behind the last name of a directory: those are not fed one by one. What 2^k words of zeros make of a
 * register is linear, so a table for each k does it.
 *
 * @module
 */
import { invariant } from "../errors.ts";
import { littleEndianWords } from "./words.ts";

const CASTAGNOLI_REFLECTED = 0x82f63b78;
/** 16 tables of 256: what a byte makes of the register, with 0 to 15 zero bytes behind it. */
const TABLE = makeTable();
/** Table k: what 2^k words of zeros make of each of the four bytes of a register. Made when first needed. */
const ZERO_TABLES: Int32Array[] = [];
/** Zeros are counted by so many words; fewer are fed like any other word. */
const ZERO_WORDS_MIN = 8;
/** Shorter parts are fed byte by byte: to look at them as words would cost more than it saves. */
const LONG_BYTES_MIN = 512;

/**
 * The raw register after feeding `parts` into a register that starts at `seed`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { crc32c } from "./crc32c.ts";
 * assertEquals(crc32c(0xffffffff, new TextEncoder().encode("123456789")), 0x1cf96d7c);
 * ```
 */
export function crc32c(seed: number, ...parts: readonly Uint8Array[]): number {
  let register = seed;
  for (const part of parts) {
    let done = 0;
    if (part.length >= LONG_BYTES_MIN) {
      const words = littleEndianWords(part);
      register = crc32cWords(register, words, 0, words.length);
      done = 4 * words.length;
    }
    register = crc32cRange(register, part, done, part.length);
  }
  return register >>> 0;
}

/** The raw register after feeding the bytes `[start, end)`, which are few. */
export function crc32cRange(
  seed: number,
  bytes: Uint8Array,
  start: number,
  end: number,
): number {
  if (start < 0 || end > bytes.length) {
    invariant(false, `bytes ${start} to ${end} of ${bytes.length}`);
  }
  let register = seed | 0;
  let at = start;
  for (; at + 4 <= end; at += 4) {
    register = afterWord(
      register ^ (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) |
        (bytes[at + 3]! << 24)),
    );
  }
  for (; at < end; at++) register = (register >>> 8) ^ TABLE[(register ^ bytes[at]!) & 0xff]!;
  return register >>> 0;
}

/**
 * The raw register after feeding the words `[start, end)`, low bytes first.
 *
 * @param words as littleEndianWords() gives them
 */
export function crc32cWords(
  seed: number,
  words: Int32Array,
  start: number,
  end: number,
): number {
  if (start < 0 || end > words.length) {
    invariant(false, `words ${start} to ${end} of ${words.length}`);
  }
  const last = endOfNonZero(words, start, end);
  const table = TABLE;
  let register = seed | 0;
  let at = start;
  for (; at + 4 <= last; at += 4) {
    register ^= words[at]!;
    const second = words[at + 1]!;
    const third = words[at + 2]!;
    const fourth = words[at + 3]!;
    register = table[3840 + (register & 0xff)]! ^ table[3584 + ((register >>> 8) & 0xff)]! ^
      table[3328 + ((register >>> 16) & 0xff)]! ^ table[3072 + (register >>> 24)]! ^
      table[2816 + (second & 0xff)]! ^ table[2560 + ((second >>> 8) & 0xff)]! ^
      table[2304 + ((second >>> 16) & 0xff)]! ^ table[2048 + (second >>> 24)]! ^
      table[1792 + (third & 0xff)]! ^ table[1536 + ((third >>> 8) & 0xff)]! ^
      table[1280 + ((third >>> 16) & 0xff)]! ^ table[1024 + (third >>> 24)]! ^
      table[768 + (fourth & 0xff)]! ^ table[512 + ((fourth >>> 8) & 0xff)]! ^
      table[256 + ((fourth >>> 16) & 0xff)]! ^ table[fourth >>> 24]!;
  }
  for (; at < last; at++) register = afterWord(register ^ words[at]!);
  return crc32cZeroWords(register, end - last);
}

/** The raw register after feeding so many words of zeros. */
export function crc32cZeroWords(seed: number, count: number): number {
  let register = seed;
  for (let level = 0; count >>> level > 0; level++) {
    if ((count >>> level & 1) === 0) continue;
    register = applied(ZERO_TABLES[level] ?? makeZeroTable(level), register);
  }
  return register >>> 0;
}

/** Where the words end that are followed by zeros alone; the end itself when those are few. */
function endOfNonZero(words: Int32Array, start: number, end: number): number {
  let last = end;
  while (
    last - ZERO_WORDS_MIN >= start &&
    (words[last - 1]! | words[last - 2]! | words[last - 3]! | words[last - 4]! |
        words[last - 5]! | words[last - 6]! | words[last - 7]! | words[last - 8]!) === 0
  ) last -= ZERO_WORDS_MIN;
  return last;
}

/** The register after a word that was mixed into it. */
function afterWord(mixed: number): number {
  return TABLE[768 + (mixed & 0xff)]! ^ TABLE[512 + ((mixed >>> 8) & 0xff)]! ^
    TABLE[256 + ((mixed >>> 16) & 0xff)]! ^ TABLE[mixed >>> 24]!;
}

function applied(table: Int32Array, register: number): number {
  return table[register & 0xff]! ^ table[256 + ((register >>> 8) & 0xff)]! ^
    table[512 + ((register >>> 16) & 0xff)]! ^ table[768 + (register >>> 24)]!;
}

/** Twice the step of the level below. It is enough to know what becomes of single bits: the rest are sums of them. */
function makeZeroTable(level: number): Int32Array {
  const below = level === 0 ? undefined : ZERO_TABLES[level - 1] ?? makeZeroTable(level - 1);
  const table = new Int32Array(4 * 256);
  for (let at = 0; at < table.length; at++) {
    const byte = at & 0xff;
    const lowest = byte & -byte;
    if (byte !== lowest) table[at] = table[at ^ lowest]! ^ table[(at & ~0xff) | lowest]!;
    else if (byte !== 0) {
      const register = byte << (8 * (at >>> 8));
      table[at] = below === undefined
        ? afterWord(register)
        : applied(below, applied(below, register));
    }
  }
  ZERO_TABLES[level] = table;
  return table;
}

function makeTable(): Int32Array {
  const table = new Int32Array(16 * 256);
  // A byte of one bit is the next lower bit, shifted on; any other is a sum of those.
  let register = CASTAGNOLI_REFLECTED;
  for (let bit = 128; bit > 0; bit >>= 1) {
    for (let at = 0; at < 256; at += 2 * bit) table[at + bit] = table[at]! ^ register;
    register = (register >>> 1) ^ ((register & 1) === 0 ? 0 : CASTAGNOLI_REFLECTED);
  }
  for (let at = 256; at < table.length; at++) {
    const before = table[at - 256]!;
    table[at] = (before >>> 8) ^ table[before & 0xff]!;
  }
  return table;
}
