/**
 * The block group descriptor (kernel documentation, "Block Group Descriptors"): where a group's bitmaps and inode table
 * are, and how much of the group is free. 32 bytes, or with INCOMPAT_64BIT the size in s_desc_size, of which 64 bytes
 * are used.
 *
 * Also the bitmaps themselves ("Block and Inode Bitmaps"): bit i is bit i % 8 of byte i / 8.
 *
 * @module
 */
import { crc32c } from "../../bytes/crc32c.ts";
import { invariant } from "../../errors.ts";
import { COMPAT, RO_COMPAT } from "./constants.ts";
import type { FieldTable } from "./fields.ts";
import { readFields, u16, u16WithHigh, u32WithHigh, viewOf, writeFields } from "./fields.ts";
import type { Superblock } from "./superblock.ts";

/** One group's descriptor. Block numbers are absolute. */
export interface GroupDescriptor {
  /** bg_block_bitmap. */
  readonly blockBitmapBlock: number;
  /** bg_inode_bitmap. */
  readonly inodeBitmapBlock: number;
  /** bg_inode_table: the first block of the table. */
  readonly inodeTableBlock: number;
  /** Free clusters, which are blocks without bigalloc. */
  readonly freeBlocksCount: number;
  /** bg_free_inodes_count. */
  readonly freeInodesCount: number;
  /** bg_used_dirs_count. */
  readonly usedDirectoriesCount: number;
  /** GROUP_FLAG bits. */
  readonly flags: number;
  /** bg_block_bitmap_csum; 16 bits in a descriptor of 32 bytes. */
  readonly blockBitmapChecksum: number;
  /** bg_inode_bitmap_csum; 16 bits in a descriptor of 32 bytes. */
  readonly inodeBitmapChecksum: number;
  /** Inodes at the end of the table that have never been used. */
  readonly itableUnusedCount: number;
}

/** bg_checksum, at the same offset in both sizes. */
const CHECKSUM_OFFSET = 0x1e;

const CRC16_POLYNOMIAL_REFLECTED = 0xa001;

const FIELDS: FieldTable<GroupDescriptor> = {
  blockBitmapBlock: u32WithHigh(0x00, 0x20, 4), // bg_block_bitmap_lo, bg_block_bitmap_hi
  inodeBitmapBlock: u32WithHigh(0x04, 0x24, 4), // bg_inode_bitmap_lo, bg_inode_bitmap_hi
  inodeTableBlock: u32WithHigh(0x08, 0x28, 4), // bg_inode_table_lo, bg_inode_table_hi
  freeBlocksCount: u16WithHigh(0x0c, 0x2c), // bg_free_blocks_count_lo, bg_free_blocks_count_hi
  freeInodesCount: u16WithHigh(0x0e, 0x2e), // bg_free_inodes_count_lo, bg_free_inodes_count_hi
  usedDirectoriesCount: u16WithHigh(0x10, 0x30), // bg_used_dirs_count_lo, bg_used_dirs_count_hi
  flags: u16(0x12), // bg_flags
  // bg_exclude_bitmap_lo (0x14) and _hi (0x34) belong to snapshots, which never entered the kernel.
  blockBitmapChecksum: u16WithHigh(0x18, 0x38), // bg_block_bitmap_csum_lo, bg_block_bitmap_csum_hi
  inodeBitmapChecksum: u16WithHigh(0x1a, 0x3a), // bg_inode_bitmap_csum_lo, bg_inode_bitmap_csum_hi
  itableUnusedCount: u16WithHigh(0x1c, 0x32), // bg_itable_unused_lo, bg_itable_unused_hi
};

/**
 * Encodes a descriptor. Without a seed its checksum is 0; with one, bitmap checksums are truncated to the 16 bits that
 * a 32-byte descriptor has for them.
 */
export function encodeGroupDescriptor(
  descriptor: GroupDescriptor,
  options: {
    readonly groupIndex: number;
    readonly sizeBytes: number;
    /** The file system's checksum seed; undefined without METADATA_CSUM. */
    readonly seed: number | undefined;
  },
): Uint8Array<ArrayBuffer> {
  const { groupIndex, sizeBytes, seed } = options;
  const encoded = new Uint8Array(sizeBytes);
  writeDescriptor(descriptor, encoded);
  if (seed !== undefined) {
    const checksum = groupDescriptorChecksum(encoded, { groupIndex, seed });
    viewOf(encoded).setUint16(CHECKSUM_OFFSET, checksum, true);
  }
  return encoded;
}

function writeDescriptor(descriptor: GroupDescriptor, target: Uint8Array): void {
  const mask = target.length >= 64 ? 0xffffffff : 0xffff;
  writeFields(FIELDS, target, {
    ...descriptor,
    blockBitmapChecksum: (descriptor.blockBitmapChecksum & mask) >>> 0,
    inodeBitmapChecksum: (descriptor.inodeBitmapChecksum & mask) >>> 0,
  });
}

/** How the checksum of a changed descriptor is computed. */
export type GroupDescriptorSeal =
  | { readonly kind: "crc32c"; readonly seed: number }
  /** RO_COMPAT.GDT_CSUM. */
  | { readonly kind: "crc16"; readonly uuid: Uint8Array };

/**
 * Returns the descriptor with some fields changed and its checksum recomputed. Bytes that belong to no field are
 * unchanged.
 */
export function editGroupDescriptor(
  encoded: Uint8Array,
  changes: Partial<GroupDescriptor>,
  options: { readonly groupIndex: number; readonly seal: GroupDescriptorSeal },
): Uint8Array<ArrayBuffer> {
  checkSize(encoded);
  const { groupIndex, seal } = options;
  const edited = new Uint8Array(encoded);
  writeDescriptor({ ...readFields(FIELDS, edited), ...changes }, edited);
  const checksum = seal.kind === "crc32c"
    ? groupDescriptorChecksum(edited, { groupIndex, seed: seal.seed })
    : groupDescriptorCrc16(edited, { groupIndex, uuid: seal.uuid });
  viewOf(edited).setUint16(CHECKSUM_OFFSET, checksum, true);
  return edited;
}

/** Reads a descriptor of 32 or 64 bytes. Does not check its checksum: see storedGroupDescriptorChecksum(). */
export function decodeGroupDescriptor(encoded: Uint8Array): GroupDescriptor {
  checkSize(encoded);
  return readFields(FIELDS, encoded);
}

/** The correct bg_checksum: 16 bits over the group number and the descriptor with that field zeroed. */
export function groupDescriptorChecksum(
  encoded: Uint8Array,
  options: { readonly groupIndex: number; readonly seed: number },
): number {
  checkSize(encoded);
  const covered = new Uint8Array(4 + encoded.length);
  viewOf(covered).setUint32(0, options.groupIndex, true);
  covered.set(encoded, 4);
  covered.fill(0, 4 + CHECKSUM_OFFSET, 4 + CHECKSUM_OFFSET + 2);
  return crc32c(options.seed, covered) & 0xffff;
}

/**
 * bg_checksum under RO_COMPAT.GDT_CSUM, which older file systems have instead of METADATA_CSUM: CRC-16 over the UUID,
 * the group number and the descriptor without that field.
 */
export function groupDescriptorCrc16(
  encoded: Uint8Array,
  options: { readonly groupIndex: number; readonly uuid: Uint8Array },
): number {
  checkSize(encoded);
  const group = new Uint8Array(4);
  viewOf(group).setUint32(0, options.groupIndex, true);
  const before = encoded.subarray(0, CHECKSUM_OFFSET);
  const after = encoded.subarray(CHECKSUM_OFFSET + 2);
  return [options.uuid, group, before, after].reduce(crc16, 0xffff);
}

/** CRC-16 with the reflected polynomial 0x8005; bit by bit, since descriptors are short. */
function crc16(start: number, bytes: Uint8Array): number {
  let register = start;
  for (const byte of bytes) {
    register ^= byte;
    for (let bit = 0; bit < 8; bit++) {
      register = (register >> 1) ^ ((register & 1) === 0 ? 0 : CRC16_POLYNOMIAL_REFLECTED);
    }
  }
  return register;
}

export function storedGroupDescriptorChecksum(encoded: Uint8Array): number {
  checkSize(encoded);
  return viewOf(encoded).getUint16(CHECKSUM_OFFSET, true);
}

function checkSize(encoded: Uint8Array): void {
  invariant(
    encoded.length >= 32 && encoded.length <= 1024,
    `a group descriptor of ${encoded.length} bytes`,
  );
}

/**
 * Whether a group begins with a superblock, primary or backup. sparse_super2 lists the groups with a backup,
 * sparse_super follows isSparseBackupGroup(), and without either every group has one.
 */
export function groupHasSuperblock(
  superblock: Pick<Superblock, "featureCompat" | "featureRoCompat" | "backupGroups">,
  groupIndex: number,
): boolean {
  if (groupIndex === 0) return true;
  if ((superblock.featureCompat & COMPAT.SPARSE_SUPER2) !== 0) {
    return superblock.backupGroups.includes(groupIndex);
  }
  if ((superblock.featureRoCompat & RO_COMPAT.SPARSE_SUPER) === 0) return true;
  return isSparseBackupGroup(groupIndex);
}

/** Whether sparse_super keeps a backup in a group: group 1 and powers of 3, 5 and 7. */
export function isSparseBackupGroup(groupIndex: number): boolean {
  return groupIndex === 1 || [3, 5, 7].some((base) => isPowerOf(base, groupIndex));
}

function isPowerOf(base: number, value: number): boolean {
  let power = base;
  while (power < value) power *= base;
  return power === value;
}

/** Sets `count` bits from `firstBit` on, whole bytes at once where possible. */
export function setBits(bitmap: Uint8Array, firstBit: number, count: number): void {
  const end = firstBit + count;
  // Builds the message only if needed: this is called for every file.
  if (firstBit < 0 || count < 0 || end > bitmap.length * 8) {
    invariant(false, `bits ${firstBit} to ${end} of a bitmap of ${bitmap.length} bytes`);
  }
  if (count === 0) return;
  const firstByte = Math.floor(firstBit / 8);
  const lastByte = Math.floor((end - 1) / 8);
  const firstMask = (0xff << (firstBit % 8)) & 0xff;
  const lastMask = 0xff >> (7 - ((end - 1) % 8));
  if (firstByte === lastByte) {
    bitmap[firstByte]! |= firstMask & lastMask;
    return;
  }
  bitmap[firstByte]! |= firstMask;
  bitmap.fill(0xff, firstByte + 1, lastByte);
  bitmap[lastByte]! |= lastMask;
}

export function testBit(bitmap: Uint8Array, bit: number): boolean {
  const byte = bitmap[Math.floor(bit / 8)];
  if (byte === undefined) invariant(false, `bit ${bit} of a bitmap of ${bitmap.length} bytes`);
  return ((byte >> (bit % 8)) & 1) === 1;
}

/** How many of the first `bitCount` bits are set. */
export function countBits(bitmap: Uint8Array, bitCount: number): number {
  invariant(bitCount <= bitmap.length * 8, `${bitCount} bits of ${bitmap.length} bytes`);
  const wholeBytes = Math.floor(bitCount / 8);
  let count = 0;
  for (let i = 0; i < wholeBytes; i++) count += BITS_IN_BYTE[bitmap[i]!]!;
  for (let bit = wholeBytes * 8; bit < bitCount; bit++) if (testBit(bitmap, bit)) count++;
  return count;
}

/**
 * The checksum of a bitmap, stored in the group descriptor. It covers only the group's bits: clusters_per_group / 8
 * bytes of a block bitmap, inodes_per_group / 8 of an inode bitmap.
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
