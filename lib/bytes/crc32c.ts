/**
 * CRC-32C (Castagnoli) on the raw register, as ext4 uses it: any start value, no final inversion. hash-wasm computes the
 * sums; this module sets the start value, which its interface does not offer.
 *
 * The hasher is created when the module loads, so that {@linkcode crc32c} is synchronous.
 *
 * @module
 */
import process from "node:process";
import { createCRC32 } from "hash-wasm";

const CASTAGNOLI_REFLECTED = 0x82f63b78;
/** A saved state is the id of the hash function followed by the complement of the register, low byte first. */
const REGISTER_OFFSET = 4;
const DIGIT_0 = 0x30;
const LETTER_A = 0x61;
/**
 * A binary digest is an array with its own buffer. In V8 that takes five times as long as text and has to be garbage
 * collected; in Bun's engine it takes half as long.
 */
const TAKES_TEXT = process.versions["bun"] === undefined;

const hasher = await createCRC32(CASTAGNOLI_REFLECTED);
const state = hasher.init().save();

/**
 * The raw register after feeding `parts` into a register that starts at `seed`. Each call has an overhead of about a
 * quarter of a microsecond: pass the parts of a structure in one call.
 */
export function crc32c(seed: number, ...parts: readonly Uint8Array[]): number {
  const start = ~seed;
  state[REGISTER_OFFSET] = start;
  state[REGISTER_OFFSET + 1] = start >>> 8;
  state[REGISTER_OFFSET + 2] = start >>> 16;
  state[REGISTER_OFFSET + 3] = start >>> 24;
  hasher.load(state);
  for (const part of parts) hasher.update(part);
  return finishedRegister();
}

/**
 * {@linkcode crc32c} for many structures of one length and one start value, in half the time per call.
 *
 * A CRC is linear: a different start value changes the sums of all inputs of one length by the same bits. So the hasher
 * uses its default start value, which is cheaper than loading a state.
 */
export function crc32cOfLength(
  seed: number,
  lengthBytes: number,
): (bytes: Uint8Array) => number {
  const zeros = new Uint8Array(lengthBytes);
  const difference = crc32c(seed, zeros) ^ registerFromStart(zeros);
  return (bytes) => (registerFromStart(bytes) ^ difference) >>> 0;
}

/**
 * How a register changes when `lengthBytes` zero bytes follow. It combines sums: the sum of two parts is the second part's
 * sum (started at 0) xor the first part's sum followed by as many zeros as the second part has bytes.
 */
export function crc32cBehindZeros(lengthBytes: number): (register: number) => number {
  let known = behindZeros.get(lengthBytes);
  if (known === undefined) behindZeros.set(lengthBytes, known = tabulateZeros(lengthBytes));
  return known;
}

/** By length: to make the tables costs as much as the sums of dozens of inodes. */
const behindZeros = new Map<number, (register: number) => number>();

function tabulateZeros(lengthBytes: number): (register: number) => number {
  const zeros = new Uint8Array(lengthBytes);
  // Each bit of a register affects the result independently: one table for each byte.
  const bits = Array.from({ length: 32 }, (_, bit) => crc32c(2 ** bit, zeros));
  const tables = new Uint32Array(4 * 256);
  for (let i = 0; i < tables.length; i++) {
    const lowest = i & -i & 0xff;
    if (lowest === 0) continue;
    tables[i] = tables[i ^ lowest]! ^ bits[8 * (i >>> 8) + 31 - Math.clz32(lowest)]!;
  }
  return (register) =>
    (tables[register & 0xff]! ^ tables[0x100 | register >>> 8 & 0xff]! ^
      tables[0x200 | register >>> 16 & 0xff]! ^ tables[0x300 | register >>> 24]!) >>> 0;
}

function registerFromStart(bytes: Uint8Array): number {
  hasher.init();
  hasher.update(bytes);
  return finishedRegister();
}

function finishedRegister(): number {
  const sum = TAKES_TEXT ? sumOfText(hasher.digest("hex")) : sumOfBytes(hasher.digest("binary"));
  return ~sum >>> 0;
}

function sumOfBytes(digest: Uint8Array): number {
  return digest[0]! << 24 | digest[1]! << 16 | digest[2]! << 8 | digest[3]!;
}

function sumOfText(digits: string): number {
  let sum = 0;
  for (let i = 0; i < digits.length; i++) {
    const code = digits.charCodeAt(i);
    sum = sum << 4 | (code < LETTER_A ? code - DIGIT_0 : code - LETTER_A + 10);
  }
  return sum;
}
