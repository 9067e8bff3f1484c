/**
 * Blocks that few file systems have.
 *
 * The multiple mount protection block (kernel documentation, "Multiple Mount Protection"; INCOMPAT.MMP): 1024 bytes
 * that a machine keeps changing while it has the file system mounted. This program never creates one.
 *
 * Orphan file blocks ("Orphan file"; COMPAT.ORPHAN_FILE): inode numbers, then a magic number and the checksum.
 *
 * @module
 */
import { crc32c } from "../../bytes/crc32c.ts";
import { InputError, invariant } from "../../errors.ts";
import { checkChecksum } from "./checksum.ts";
import type { FieldTable } from "./fields.ts";
import { paddedBytes, readFields, u16, u32, u64, viewOf } from "./fields.ts";

interface MmpBlock {
  /** MMP_SEQUENCE_CLEAN when the file system is not in use. */
  readonly sequence: number;
  /** Time of the last change, in seconds since 1970. */
  readonly time: number;
  readonly nodeName: Uint8Array;
  readonly deviceName: Uint8Array;
  readonly checkIntervalSeconds: number;
}

const MMP_MAGIC = 0x004d4d50;
/** mmp_seq of a file system that is not in use (EXT4_MMP_SEQ_CLEAN). */
export const MMP_SEQUENCE_CLEAN = 0xff4d4d50;
/** Size of the structure; the rest of its block is zero. */
export const MMP_SIZE_BYTES = 1024;

const MAGIC_OFFSET = 0x00; // mmp_magic
const CHECKSUM_OFFSET = 0x3fc; // mmp_checksum

const FIELDS: FieldTable<MmpBlock> = {
  sequence: u32(0x04), // mmp_seq
  time: u64(0x08), // mmp_time
  nodeName: paddedBytes(0x10, 64), // mmp_nodename
  deviceName: paddedBytes(0x50, 32), // mmp_bdevname
  checkIntervalSeconds: u16(0x70), // mmp_check_interval
};

/** Reads the 1024 bytes. Throws InputError, with `what` in it, if the magic number is missing. */
export function decodeMmpBlock(encoded: Uint8Array, what: string): MmpBlock {
  checkSize(encoded);
  const magic = viewOf(encoded).getUint32(MAGIC_OFFSET, true);
  if (magic !== MMP_MAGIC) {
    throw new InputError(what, `its magic number is 0x${magic.toString(16)}, not 0x4d4d50`);
  }
  return readFields(FIELDS, encoded);
}

/** Writes the checksum, or zero without a seed. `seed` is the file system's. */
export function sealMmpBlock(encoded: Uint8Array, seed: number | undefined): void {
  checkSize(encoded);
  const checksum = seed === undefined ? 0 : crc32c(seed, encoded.subarray(0, CHECKSUM_OFFSET));
  viewOf(encoded).setUint32(CHECKSUM_OFFSET, checksum, true);
}

/** Throws InputError, with `what` in it, if the checksum is wrong. `seed` is the file system's. */
export function verifyMmpBlock(encoded: Uint8Array, seed: number, what: string): void {
  checkSize(encoded);
  const stored = viewOf(encoded).getUint32(CHECKSUM_OFFSET, true);
  checkChecksum(what, stored, crc32c(seed, encoded.subarray(0, CHECKSUM_OFFSET)));
}

function checkSize(encoded: Uint8Array): void {
  invariant(encoded.length === MMP_SIZE_BYTES, `an MMP block of ${encoded.length} bytes`);
}

export const ORPHAN_BLOCK_MAGIC = 0x0b10ca04;
/** struct ext4_orphan_block_tail: ob_magic and ob_checksum. */
export const ORPHAN_BLOCK_TAIL_SIZE_BYTES = 8;

/** What an orphan block's checksum covers besides its bytes. */
interface OrphanBlockOptions {
  readonly blockNumber: number;
  /** Seed of the orphan file's inode. */
  readonly inodeSeed: number;
}

export function sealOrphanBlock(block: Uint8Array, options: OrphanBlockOptions): void {
  viewOf(block).setUint32(block.length - 4, orphanBlockChecksum(block, options), true);
}

/** Reads the non-zero inode numbers. Throws InputError, with `what` in it, if the magic number is missing. */
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

/** The stored ob_checksum; 0 without metadata checksums. */
export function storedOrphanBlockChecksum(block: Uint8Array): number {
  return viewOf(block).getUint32(block.length - 4, true);
}

/** Throws InputError, with `what` in it, if an orphan block's checksum is wrong. */
export function verifyOrphanBlock(
  block: Uint8Array,
  options: OrphanBlockOptions & { readonly what: string },
): void {
  const stored = storedOrphanBlockChecksum(block);
  checkChecksum(options.what, stored, orphanBlockChecksum(block, options));
}

function orphanBlockChecksum(block: Uint8Array, options: OrphanBlockOptions): number {
  const number = new Uint8Array(8);
  viewOf(number).setBigUint64(0, BigInt(options.blockNumber), true);
  const inodes = block.subarray(0, block.length - ORPHAN_BLOCK_TAIL_SIZE_BYTES);
  return crc32c(options.inodeSeed, number, inodes);
}
