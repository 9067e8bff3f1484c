/**
 * The tables of random numbers that gear hashes add up: one 64-bit number for each value of a byte.
 *
 * @module
 */
import { createHash } from "node:crypto";

const MASK_64 = 2n ** 64n - 1n;
const BYTE_VALUES = 256;

/** The canonical table of FastCDC: for a byte, the first 8 bytes, big-endian, of the MD5 of 64 times that byte. */
export function fastCdcGearTable(seed = 0n): BigUint64Array {
  return BigUint64Array.from({ length: BYTE_VALUES }, (_, byte) => {
    const digest = createHash("md5").update(new Uint8Array(64).fill(byte)).digest();
    return digest.readBigUInt64BE(0) ^ seed;
  });
}

/** A table of splitmix64 (Steele, Lea and Flood, OOPSLA 2014), whose state begins at the golden ratio. */
export function splitMixGearTable(): BigUint64Array {
  const step = 0x9e3779b97f4a7c15n;
  let state = step;
  return BigUint64Array.from({ length: BYTE_VALUES }, () => {
    state = (state + step) & MASK_64;
    let mixed = ((state ^ (state >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK_64;
    mixed = ((mixed ^ (mixed >> 27n)) * 0x94d049bb133111ebn) & MASK_64;
    return mixed ^ (mixed >> 31n);
  });
}
