/**
 * CRC-32C (Castagnoli) on the raw register, as ext4 uses it: any start value, no final inversion.
 * The arithmetic is hash-wasm's, but for short parts, which a table of its own does before hash-wasm has begun: the
 * inodes of a large image are some hundred thousand parts of 256 bytes. The digest of hash-wasm takes no seed, but its saved state is a 4-byte id of the function and then
 * the complement of the register (little-endian), so loading such a state starts it at any register.
 *
 * @module
 */
import { createCRC32 } from "hash-wasm";
import { invariant } from "../errors.ts";

const CASTAGNOLI_REFLECTED = 0x82f63b78;

const hasher = await createCRC32(CASTAGNOLI_REFLECTED);
const state = hasher.init().save().slice();
const stateView = new DataView(state.buffer, state.byteOffset, state.byteLength);
const REGISTER_OFFSET = 4;
/** Up to here the table is faster, measured. */
const SHORT_BYTES_MAX = 2048;
const TABLE = makeTable();

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
    register = part.length <= SHORT_BYTES_MAX
      ? crc32cRange(register, part, 0, part.length)
      : crc32cLong(register, part);
  }
  return register >>> 0;
}

/** The raw register after feeding the bytes `[start, end)`, which are few: without a call into hash-wasm. */
export function crc32cRange(
  seed: number,
  bytes: Uint8Array,
  start: number,
  end: number,
): number {
  invariant(start >= 0 && end <= bytes.length, `bytes ${start} to ${end} of ${bytes.length}`);
  let register = seed | 0;
  let at = start;
  for (; at + 4 <= end; at += 4) {
    register ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) |
      (bytes[at + 3]! << 24);
    register = TABLE[768 + (register & 0xff)]! ^ TABLE[512 + ((register >>> 8) & 0xff)]! ^
      TABLE[256 + ((register >>> 16) & 0xff)]! ^ TABLE[register >>> 24]!;
  }
  for (; at < end; at++) register = (register >>> 8) ^ TABLE[(register ^ bytes[at]!) & 0xff]!;
  return register >>> 0;
}

function crc32cLong(seed: number, bytes: Uint8Array): number {
  stateView.setUint32(REGISTER_OFFSET, ~seed >>> 0, true);
  hasher.load(state);
  hasher.update(bytes);
  const digest = hasher.digest("binary");
  return ~new DataView(digest.buffer, digest.byteOffset, 4).getUint32(0) >>> 0;
}

/** Four tables of 256: what a byte makes of the register, with 0 to 3 zero bytes behind it ("slicing by 4"). */
function makeTable(): Int32Array {
  const table = new Int32Array(4 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let register = byte;
    for (let bit = 0; bit < 8; bit++) {
      register = (register >>> 1) ^ ((register & 1) === 0 ? 0 : CASTAGNOLI_REFLECTED);
    }
    table[byte] = register;
  }
  for (let at = 256; at < table.length; at++) {
    const before = table[at - 256]!;
    table[at] = (before >>> 8) ^ table[before & 0xff]!;
  }
  return table;
}
