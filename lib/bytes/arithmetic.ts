/**
 * Whole-number helpers that say which way they round.
 *
 * @module
 */

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

const SIZE_UNITS = ["", "K", "M", "G", "T"];

/** A size in the largest unit that it is whole in: `128K`. */
export function shortSize(sizeBytes: number): string {
  let value = sizeBytes;
  let unit = 0;
  while (value > 0 && value % 1024 === 0 && unit < SIZE_UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value}${SIZE_UNITS[unit]}`;
}
