/**
 * CRC-32C (Castagnoli) on the raw register, as ext4 uses it: any start value, no final inversion.
 * The arithmetic is hash-wasm's. Its digest takes no seed, but its saved state is a 4-byte id of the function and then
 * the complement of the register (little-endian), so loading such a state starts it at any register.
 *
 * @module
 */
import { createCRC32 } from "hash-wasm";

const CASTAGNOLI_REFLECTED = 0x82f63b78;

const hasher = await createCRC32(CASTAGNOLI_REFLECTED);
const state = hasher.init().save().slice();
const stateView = new DataView(state.buffer, state.byteOffset, state.byteLength);
const REGISTER_OFFSET = 4;

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
  stateView.setUint32(REGISTER_OFFSET, ~seed >>> 0, true);
  hasher.load(state);
  for (const part of parts) hasher.update(part);
  const digest = hasher.digest("binary");
  return ~new DataView(digest.buffer, digest.byteOffset, 4).getUint32(0) >>> 0;
}
