/**
 * Block and inode bitmaps (kernel documentation, "Block and Inode Bitmaps"): bit i is bit i % 8 of byte i / 8.
 *
 * @module
 */
import { crc32c } from "../../bytes/crc32c.ts";
import { invariant } from "../../errors.ts";

/** Sets `count` bits from `firstBit` on; whole bytes at once where it can. */
export function setBits(bitmap: Uint8Array, firstBit: number, count: number): void {
  const end = firstBit + count;
  invariant(
    firstBit >= 0 && count >= 0 && end <= bitmap.length * 8,
    `bits ${firstBit} to ${end} of a bitmap of ${bitmap.length} bytes`,
  );
  if (count === 0) return;
  const firstByte = Math.floor(firstBit / 8);
  const lastByte = Math.floor((end - 1) / 8);
  const firstMask = (0xff << (firstBit % 8)) & 0xff;
  const lastMask = 0xff >> (7 - ((end - 1) % 8));
  if (firstByte === lastByte) {
    orByte(bitmap, firstByte, firstMask & lastMask);
    return;
  }
  orByte(bitmap, firstByte, firstMask);
  bitmap.fill(0xff, firstByte + 1, lastByte);
  orByte(bitmap, lastByte, lastMask);
}

/** Whether a bit is set. */
export function testBit(bitmap: Uint8Array, bit: number): boolean {
  const byte = bitmap[Math.floor(bit / 8)];
  invariant(byte !== undefined, `bit ${bit} of a bitmap of ${bitmap.length} bytes`);
  return ((byte >> (bit % 8)) & 1) === 1;
}

/** How many of the first `bitCount` bits are set. */
export function countBits(bitmap: Uint8Array, bitCount: number): number {
  invariant(bitCount <= bitmap.length * 8, `${bitCount} bits of ${bitmap.length} bytes`);
  const wholeBytes = Math.floor(bitCount / 8);
  let count = 0;
  for (let i = 0; i < wholeBytes; i++) count += BITS_IN_BYTE[bitmap[i] ?? 0] ?? 0;
  for (let bit = wholeBytes * 8; bit < bitCount; bit++) if (testBit(bitmap, bit)) count++;
  return count;
}

/**
 * The checksum that the group descriptor stores for a bitmap. Only the bits of the group are covered: clusters_per_group
 * / 8 bytes of a block bitmap, inodes_per_group / 8 of an inode bitmap.
 */
export function bitmapChecksum(seed: number, bitmap: Uint8Array, usedBytes: number): number {
  invariant(usedBytes <= bitmap.length, `${usedBytes} bytes of a bitmap of ${bitmap.length}`);
  return crc32c(seed, bitmap.subarray(0, usedBytes));
}

const BITS_IN_BYTE = Uint8Array.from({ length: 256 }, (_, byte) => {
  let count = 0;
  for (let rest = byte; rest > 0; rest >>= 1) count += rest & 1;
  return count;
});

function orByte(bitmap: Uint8Array, index: number, mask: number): void {
  bitmap[index] = (bitmap[index] ?? 0) | mask;
}
