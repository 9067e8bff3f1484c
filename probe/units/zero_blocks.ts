/**
 * Which blocks hold nothing.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { BLOCK_SIZE_BYTES } from "../../lib/model/payload.ts";

const ZEROS = Buffer.alloc(BLOCK_SIZE_BYTES);

/** Whether a part of at most a block is all zeros. */
export function isZeroBlock(bytes: Uint8Array, start: number, end: number): boolean {
  // A first look spares the call for most blocks that hold something.
  if (bytes[start] !== 0) return false;
  return Buffer.compare(ZEROS.subarray(0, end - start), bytes.subarray(start, end)) === 0;
}

/** Bytes in blocks that are not all zeros; the first block begins where the bytes begin. */
export function countNonZeroBytes(bytes: Uint8Array): number {
  let count = 0;
  for (let at = 0; at < bytes.length; at += BLOCK_SIZE_BYTES) {
    const end = Math.min(at + BLOCK_SIZE_BYTES, bytes.length);
    if (!isZeroBlock(bytes, at, end)) count += end - at;
  }
  return count;
}
