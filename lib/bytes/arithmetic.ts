/**
 * Whole numbers: rounding, bits, words, zeros, and sizes as text.
 *
 * @module
 */
import { Buffer } from "node:buffer";

let zeros = new Uint8Array(64 << 10);

/** `count` zeros, which nobody may change. Large ones are made on demand, not in every start of the program. */
export function zeroBytes(count: number): Uint8Array {
  if (count > zeros.length) zeros = new Uint8Array(count);
  return zeros.subarray(0, count);
}

/** a / b rounded up. Both must be non-negative, and b positive. */
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

/** Whether `value` is a power of two; 1 counts. */
export function isPowerOfTwo(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0 && 2 ** Math.round(Math.log2(value)) === value;
}

const COMPARED_BYTES = 64 << 10;

/** Whether `bytes[start, end)` are all zeros. */
export function isZero(bytes: Uint8Array, start = 0, end = bytes.length): boolean {
  // For most data that is not zero, the first or last byte already shows it.
  if (start < end && (bytes[start] !== 0 || bytes[end - 1] !== 0)) return false;
  for (let at = start; at < end; at += COMPARED_BYTES) {
    const piece = bytes.subarray(at, Math.min(at + COMPARED_BYTES, end));
    if (Buffer.compare(piece, zeroBytes(piece.length)) !== 0) return false;
  }
  return true;
}

/** Mixes the 32 bits of `value` so that each result bit depends on all of them: the finaliser of MurmurHash3. */
export function mixedBits(value: number): number {
  let bits = value;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}

/** Rotates the 32 bits of `value` left by 1 to 31 places; the result is signed. */
export function rotateLeft(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}

/**
 * The first index below `count` for which `holds` is true, or `count` if there is none. `holds` must stay true after it
 * first is.
 */
export function firstIndex(count: number, holds: (index: number) => boolean): number {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Whether this machine is little-endian, as ext4 is. */
const IS_LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/**
 * The little-endian words of `bytes`, whose length must be a multiple of four. The result shares memory if byte order and
 * alignment allow it, and is a copy otherwise. Until a runtime has compiled the loop around it, indexing an array of words
 * costs a fraction of reading four bytes or using a DataView, and much of a short run is over by then.
 *
 * @param isLittleEndian the machine's byte order
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

/** A size in the largest unit that divides it, in the form that options accept: `128K`. */
export function shortSize(sizeBytes: number): string {
  let value = sizeBytes;
  let unit = 0;
  while (value > 0 && value % 1024 === 0 && unit < SIZE_UNITS.indexOf("T")) {
    value /= 1024;
    unit++;
  }
  return `${value}${SIZE_UNITS[unit]}`;
}

/** A human-readable size: `512 B`, `128.0 KiB`, `1.5 GiB`. */
export function formatSize(sizeBytes: number): string {
  if (sizeBytes < 1024) return `${Math.round(sizeBytes)} B`;
  let value = sizeBytes;
  let unit = 0;
  // 1023.95 would round to 1024.0, which is 1.0 of the next unit.
  while (value >= 1023.95 && unit < SIZE_UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value.toFixed(1)} ${SIZE_UNITS[unit]}iB`;
}

/**
 * A size that has to be exact, such as one the user may copy: `5275648 bytes (5.0 MiB)`.
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
