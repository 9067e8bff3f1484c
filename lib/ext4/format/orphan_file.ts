/**
 * Blocks of the orphan file (kernel documentation, "Orphan file"; COMPAT.ORPHAN_FILE): inode numbers, and at the end a
 * magic number and the checksum.
 *
 * @module
 */
import { crc32c } from "../../bytes/crc32c.ts";
import { InputError } from "../../errors.ts";
import { checkChecksum } from "./checksum.ts";
import { viewOf } from "./fields.ts";

/** ob_magic. */
export const ORPHAN_BLOCK_MAGIC = 0x0b10ca04;
/** struct ext4_orphan_block_tail: ob_magic and ob_checksum. */
export const ORPHAN_BLOCK_TAIL_SIZE_BYTES = 8;

/** What goes into an orphan block's checksum beside its bytes. */
export interface OrphanBlockOptions {
  /** The physical block. */
  readonly blockNumber: number;
  /** That of the orphan file's inode. */
  readonly inodeSeed: number;
}

/** Writes ob_checksum. */
export function sealOrphanBlock(block: Uint8Array, options: OrphanBlockOptions): void {
  viewOf(block).setUint32(block.length - 4, orphanBlockChecksum(block, options), true);
}

/** Reads the inode numbers that are not 0. Throws InputError, with `what` in it, when the magic number is missing. */
export function decodeOrphanBlock(block: Uint8Array, what: string): number[] {
  const view = viewOf(block);
  const tail = block.length - ORPHAN_BLOCK_TAIL_SIZE_BYTES;
  const magic = view.getUint32(tail, true);
  if (magic !== ORPHAN_BLOCK_MAGIC) {
    throw new InputError(what, `its magic number is 0x${magic.toString(16)}, not 0xb10ca04`);
  }
  const orphans: number[] = [];
  for (let at = 0; at + 4 <= tail; at += 4) {
    const inodeNumber = view.getUint32(at, true);
    if (inodeNumber !== 0) orphans.push(inodeNumber);
  }
  return orphans;
}

/** ob_checksum as it is stored; 0 without metadata checksums. */
export function storedOrphanBlockChecksum(block: Uint8Array): number {
  return viewOf(block).getUint32(block.length - 4, true);
}

/** Throws InputError, with `what` in it, when the checksum of an orphan block is wrong. */
export function verifyOrphanBlock(
  block: Uint8Array,
  options: OrphanBlockOptions & { readonly what: string },
): void {
  const stored = storedOrphanBlockChecksum(block);
  checkChecksum(options.what, stored, orphanBlockChecksum(block, options));
}

function orphanBlockChecksum(block: Uint8Array, options: OrphanBlockOptions): number {
  const number = new Uint8Array(8);
  const view = viewOf(number);
  view.setUint32(0, options.blockNumber % 2 ** 32, true);
  view.setUint32(4, Math.floor(options.blockNumber / 2 ** 32), true);
  const inodes = block.subarray(0, block.length - ORPHAN_BLOCK_TAIL_SIZE_BYTES);
  return crc32c(options.inodeSeed, number, inodes);
}
