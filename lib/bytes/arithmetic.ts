/**
 * Whole numbers: rounding, bits, words in bytes, zeros, and sizes as text.
 *
 * @module
 */
import { Buffer } from "node:buffer";

const ZEROS = Buffer.alloc(64 << 10);

/** a / b rounded up. Both non-negative, b positive. */
export function divCeil(a: number, b: number): number {
  return Math.ceil(a / b);
}

/** The smallest multiple of `alignment` that is at least `value`. */
export function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

/** The largest multiple of `alignment` that is at most `value`. */
export function alignDown(value: number, alignment: number): number {
  return Math.floor(value / alignment) * alignment;
}

/** Whether `value` is a power of two, 1 included. */
export function isPowerOfTwo(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0 && 2 ** Math.round(Math.log2(value)) === value;
}

/** Whether `bytes[start, end)` are all zeros. */
export function isZero(bytes: Uint8Array, start = 0, end = bytes.length): boolean {
  // The first and the last byte of most data say that it is not.
  if (start < end && (bytes[start] !== 0 || bytes[end - 1] !== 0)) return false;
  for (let at = start; at < end; at += ZEROS.length) {
    const piece = bytes.subarray(at, Math.min(at + ZEROS.length, end));
    if (Buffer.compare(piece, ZEROS.subarray(0, piece.length)) !== 0) return false;
  }
  return true;
}

/** The 32 bits of `value`, each of which then depends on all of them: the last step of MurmurHash3. */
export function mixedBits(value: number): number {
  let bits = value;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}

/** The 32 bits of `value` moved left by 1 to 31 places, those that fall out coming in at the right; a signed number. */
export function rotateLeft(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}

/** The first index below `count` for which `holds`, which must hold for all behind it as well; `count` for none. */
export function firstIndex(count: number, holds: (index: number) => boolean): number {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Whether this machine keeps the low byte of a word first, as ext4 does. Few do not. */
const IS_LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/**
 * The little-endian words of some bytes, a number of whole words. They are the same memory where the machine and the
 * place of the bytes allow it, and a copy elsewhere. An index into an array of words costs a fraction of what four bytes or a
 * DataView cost before a runtime has compiled the loop around it, and much of a short run is over by then.
 *
 * @param isLittleEndian what the machine is
 */
export function littleEndianWords(
  bytes: Uint8Array,
  isLittleEndian = IS_LITTLE_ENDIAN,
): Int32Array {
  if (isLittleEndian && (bytes.byteOffset & 3) === 0) {
    return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
  }
  const words = new Int32Array(bytes.length >>> 2);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i < words.length; i++) words[i] = view.getInt32(4 * i, true);
  return words;
}

const SIZE_UNITS = ["", "K", "M", "G", "T", "P", "E"];

/** A size in the largest unit that it is whole in, and options take: `128K`. */
export function shortSize(sizeBytes: number): string {
  let value = sizeBytes;
  let unit = 0;
  while (value > 0 && value % 1024 === 0 && unit < SIZE_UNITS.indexOf("T")) {
    value /= 1024;
    unit++;
  }
  return `${value}${SIZE_UNITS[unit]}`;
}

/** A size for people: `512 B`, `128.0 KiB`, `1.5 GiB`. */
export function formatSize(sizeBytes: number): string {
  if (sizeBytes < 1024) return `${Math.round(sizeBytes)} B`;
  let value = sizeBytes;
  let unit = 0;
  // 1023.95 would be shown as 1024.0, which is 1.0 of the next unit.
  while (value >= 1023.95 && unit < SIZE_UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value.toFixed(1)} ${SIZE_UNITS[unit]}iB`;
}

/**
 * A size that has to be exact, such as one that is typed again: `5275648 bytes (5.0 MiB)`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { exactSize } from "./arithmetic.ts";
 * assertEquals(exactSize(5275648), "5275648 bytes (5.0 MiB)");
 * assertEquals(exactSize(512), "512 bytes");
 * ```
 */
export function exactSize(sizeBytes: number): string {
  const bytes = `${sizeBytes} bytes`;
  return sizeBytes < 1024 ? bytes : `${bytes} (${formatSize(sizeBytes)})`;
}
