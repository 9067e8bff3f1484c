/**
 * Block groups: their geometry, which of them have backups, and the superblock, bitmaps, counts and descriptors that
 * follow from what is in use.
 *
 * Kernel: Documentation/filesystems/ext4, "Layout", "Super Block", "Block Group Descriptors" and "Block and inode
 * Bitmaps"; ext4_bg_has_super() decides which groups have backups.
 *
 * @module
 */
import { divCeil, exactSize, firstIndex, littleEndianWords } from "../../bytes/arithmetic.ts";
import { InputError, optionError } from "../../errors.ts";
import { type BlockRange, blocksWithin, countBlocks, forEachOverlap } from "../../layout/blocks.ts";
import { BLOCK_SIZE_BYTES } from "../../model/node.ts";
import {
  bitmapChecksum,
  encodeGroupDescriptor,
  type GroupDescriptor,
  isSparseBackupGroup,
  setBits,
} from "../format/group_descriptor.ts";
import {
  COMPAT,
  GROUP_FLAG,
  HASH_VERSION,
  INCOMPAT,
  INODE_NUMBER,
  RO_COMPAT,
  SUPERBLOCK_FLAG,
} from "../format/constants.ts";
import { INODE_EXTRA_SIZE_BYTES } from "../format/inode.ts";
import { defaultSuperblock, type Superblock } from "../format/superblock.ts";
import { HASH_SEED } from "../format/htree.ts";
import type { Settings } from "./settings.ts";

/** The number of bits in a bitmap block. */
export const BLOCKS_PER_GROUP = BLOCK_SIZE_BYTES * 8;
/** The number of bits in an inode bitmap block. */
export const INODES_PER_GROUP_MAX = BLOCK_SIZE_BYTES * 8;
/** The size of an inode in its table. */
export const INODE_SIZE_BYTES = 256;
/** Inodes in one block of an inode table. */
export const INODES_PER_BLOCK = BLOCK_SIZE_BYTES / INODE_SIZE_BYTES;

/** Numbers that follow from the number of groups and inodes. */
export interface Geometry {
  /** Block groups. */
  readonly groupCount: number;
  /** Size of one group descriptor. */
  readonly descriptorSizeBytes: 32 | 64;
  /** Blocks in one copy of the descriptor table. */
  readonly descriptorBlocks: number;
  /** Inodes in each group. */
  readonly inodesPerGroup: number;
  /** Blocks of each group's inode table. */
  readonly inodeTableBlocks: number;
  /** Superblock and descriptors of group 0 and of every backup, ascending. Nothing else may use them. */
  readonly reserved: readonly BlockRange[];
}

/** s_inodes_count is 32-bit. */
const INODES_MAX = 2 ** 32 - 1;

/** Computes the geometry of `groupCount` groups with room for `inodesWanted` inodes in each. */
export function makeGeometry(
  { wide, backups }: Pick<Settings, "wide" | "backups">,
  groupCount: number,
  inodesWanted: number,
): Geometry {
  const descriptorSizeBytes = wide ? 64 : 32;
  const descriptorBlocks = divCeil(groupCount * descriptorSizeBytes, BLOCK_SIZE_BYTES);
  const inodeTableBlocks = divCeil(inodesWanted, INODES_PER_BLOCK);
  const inodesPerGroup = inodeTableBlocks * INODES_PER_BLOCK;
  if (groupCount * inodesPerGroup > INODES_MAX) {
    throw new InputError(
      "the image",
      `needs ${groupCount * inodesPerGroup} inodes in ${groupCount} groups: ext4 counts at most ` +
        `${INODES_MAX}`,
      { code: "doesNotFit" },
    );
  }
  const reserved: BlockRange[] = [];
  for (let group = 0; group < groupCount; group++) {
    if (!groupHasSuperblock(group, backups)) continue;
    reserved.push({ startBlock: group * BLOCKS_PER_GROUP, blockCount: 1 + descriptorBlocks });
  }
  return {
    groupCount,
    descriptorSizeBytes,
    descriptorBlocks,
    inodesPerGroup,
    inodeTableBlocks,
    reserved,
  };
}

/** Whether a group starts with a superblock and descriptors. */
export function groupHasSuperblock(group: number, backups: Settings["backups"]): boolean {
  return group === 0 || (backups === "sparse" && isSparseBackupGroup(group));
}

/** The largest size, up to `totalBlocks`, whose last group has room for its own superblock and descriptors. */
export function withoutStubGroup(totalBlocks: number): number {
  const descriptorBlocks = divCeil(divCeil(totalBlocks, BLOCKS_PER_GROUP) * 64, BLOCK_SIZE_BYTES);
  const inLastGroup = totalBlocks % BLOCKS_PER_GROUP;
  return inLastGroup < 1 + descriptorBlocks ? totalBlocks - inLastGroup : totalBlocks;
}

/** s_checksum_seed of every image, so that metadata does not depend on the UUID. These are the digits of e. */
export const CHECKSUM_SEED = 0x2b7e1516;

const STATE_CLEAN = 1;
const ERRORS_CONTINUE = 1;
const CHECKSUM_CRC32C = 1;
const JOURNAL_BACKUP_BLOCKS = 1;
/** EXT4_DEFM_XATTR_USER and EXT4_DEFM_ACL, as mke2fs sets them. */
const DEFAULT_MOUNT_OPTIONS = 0xc;
/** 16 groups, as in mke2fs; it influences where a mounted file system allocates. */
const LOG_GROUPS_PER_FLEX = 4;
const LOG_BLOCK_SIZE = Math.log2(BLOCK_SIZE_BYTES) - 10;

type UsedFeatures = { readonly valueInodes: boolean };

/** Where the metadata of groups is, and which blocks are in use. */
export interface GroupLayout {
  readonly geometry: Geometry;
  readonly totalBlocks: number;
  /** By group, like the next two. */
  readonly blockBitmapBlocks: readonly number[];
  readonly inodeBitmapBlocks: readonly number[];
  readonly inodeTableBlocks: readonly number[];
  /** Every block in use, including reserved ranges; ascending and merged. */
  readonly usedRanges: readonly BlockRange[];
}

/** The superblock of group 0; backups differ only in blockGroupNumber. */
export function primarySuperblock(
  layout: GroupLayout,
  tables: GroupTables,
  options: {
    readonly settings: Settings;
    readonly used: UsedFeatures;
    /** i_block of the journal inode. */
    readonly journalMap: Uint8Array | undefined;
  },
): Superblock {
  const { settings } = options;
  const { geometry, totalBlocks } = layout;
  return {
    ...defaultSuperblock(),
    ...featureWords(settings, options.used),
    inodesCount: geometry.inodesPerGroup * geometry.groupCount,
    blocksCount: totalBlocks,
    reservedBlocksCount: reservedBlocks(settings, totalBlocks),
    freeBlocksCount: tables.freeBlocksCount,
    freeInodesCount: tables.freeInodesCount,
    firstDataBlock: 0,
    logBlockSize: LOG_BLOCK_SIZE,
    logClusterSize: LOG_BLOCK_SIZE,
    blocksPerGroup: BLOCKS_PER_GROUP,
    clustersPerGroup: BLOCKS_PER_GROUP,
    inodesPerGroup: geometry.inodesPerGroup,
    writeTime: settings.timestamp,
    maxMountCount: -1,
    state: STATE_CLEAN,
    errorsBehaviour: ERRORS_CONTINUE,
    lastCheckTime: settings.timestamp,
    revision: 1,
    firstInode: INODE_NUMBER.FIRST_USABLE,
    inodeSizeBytes: INODE_SIZE_BYTES,
    uuid: settings.uuid,
    volumeName: settings.label,
    hashSeed: HASH_SEED,
    defaultHashVersion: HASH_VERSION.HALF_MD4,
    descriptorSizeBytes: settings.wide ? 64 : 0,
    defaultMountOptions: DEFAULT_MOUNT_OPTIONS,
    mkfsTime: settings.timestamp,
    minExtraInodeSize: INODE_EXTRA_SIZE_BYTES,
    wantExtraInodeSize: INODE_EXTRA_SIZE_BYTES,
    flags: SUPERBLOCK_FLAG.UNSIGNED_HASH,
    logGroupsPerFlex: LOG_GROUPS_PER_FLEX,
    checksumType: settings.metadataChecksums ? CHECKSUM_CRC32C : 0,
    checksumSeed: settings.constantSeed ? CHECKSUM_SEED : 0,
    overheadBlocks: overheadBlocks(layout, settings),
    ...journalFields(settings, options.journalMap),
  };
}

/**
 * Blocks that statfs(2) does not count as space: must equal ext4_calculate_overhead(), or a mount rewrites the field.
 */
function overheadBlocks(layout: GroupLayout, settings: Settings): number {
  const { groupCount, inodeTableBlocks, reserved } = layout.geometry;
  return countBlocks(reserved) + groupCount * (2 + inodeTableBlocks) + settings.journalBlocks;
}

function reservedBlocks(settings: Settings, totalBlocks: number): number {
  const { reservedBlocks: reserved } = settings;
  const wanted = reserved.kind === "bytes"
    ? Math.floor(reserved.bytes / BLOCK_SIZE_BYTES)
    : Math.floor((totalBlocks * reserved.percent) / 100);
  const most = Math.floor(totalBlocks / 2);
  if (wanted > most) {
    throw optionError(
      "reservedBlocks",
      `${exactSize(wanted * BLOCK_SIZE_BYTES)} are more than half of the image, ` +
        `${exactSize(most * BLOCK_SIZE_BYTES)}, which e2fsck does not accept`,
    );
  }
  return wanted;
}

function journalFields(
  settings: Settings,
  journalMap: Uint8Array | undefined,
): Partial<Superblock> {
  if (journalMap === undefined) return {};
  const words = Array.from(littleEndianWords(journalMap), (word) => word >>> 0);
  const sizeBytes = settings.journalBlocks * BLOCK_SIZE_BYTES;
  return {
    journalInode: INODE_NUMBER.JOURNAL,
    journalBackupType: JOURNAL_BACKUP_BLOCKS,
    journalBlocks: [...words, Math.floor(sizeBytes / 2 ** 32), sizeBytes % 2 ** 32],
  };
}

export function featureWords(
  settings: Settings,
  used: UsedFeatures,
): Pick<Superblock, "featureCompat" | "featureIncompat" | "featureRoCompat"> {
  let featureCompat: number = COMPAT.EXT_ATTR | COMPAT.DIR_INDEX;
  if (settings.journalBlocks > 0) featureCompat |= COMPAT.HAS_JOURNAL;
  let featureIncompat: number = INCOMPAT.FILETYPE | INCOMPAT.EXTENTS | INCOMPAT.FLEX_BG;
  if (settings.wide) featureIncompat |= INCOMPAT.BIT64;
  if (settings.constantSeed) featureIncompat |= INCOMPAT.CSUM_SEED;
  if (settings.inlineData) featureIncompat |= INCOMPAT.INLINE_DATA;
  if (used.valueInodes) featureIncompat |= INCOMPAT.EA_INODE;
  let featureRoCompat: number = RO_COMPAT.LARGE_FILE | RO_COMPAT.HUGE_FILE |
    RO_COMPAT.DIR_NLINK | RO_COMPAT.EXTRA_ISIZE;
  if (settings.metadataChecksums) featureRoCompat |= RO_COMPAT.METADATA_CSUM;
  if (settings.backups === "sparse") featureRoCompat |= RO_COMPAT.SPARSE_SUPER;
  else featureCompat |= COMPAT.SPARSE_SUPER2;
  return { featureCompat, featureIncompat, featureRoCompat };
}

export interface GroupTables {
  readonly descriptors: readonly GroupDescriptor[];
  readonly freeBlocksCount: number;
  readonly freeInodesCount: number;
  /** The bitmaps to write; the flags of unused groups imply theirs. */
  readonly bitmaps: readonly { readonly block: number; readonly encode: () => Uint8Array }[];
}

export interface GroupTableOptions {
  /** Checksum seed; undefined without metadata checksums, in which case all groups must be initialised. */
  readonly seed: number | undefined;
  readonly lastInodeNumber: number;
  /** Unused lower numbers, ascending. */
  readonly freeInodeNumbers?: readonly number[] | undefined;
  readonly directoryInodes: readonly number[];
}

export function buildGroupTables(layout: GroupLayout, options: GroupTableOptions): GroupTables {
  const { geometry: { groupCount, inodesPerGroup } } = layout;
  const { seed } = options;
  const directories = new Array<number>(groupCount).fill(0);
  for (const inodeNumber of options.directoryInodes) {
    directories[Math.floor((inodeNumber - 1) / inodesPerGroup)]!++;
  }
  const descriptors: GroupDescriptor[] = [];
  const bitmaps: { block: number; encode: () => Uint8Array }[] = [];
  let freeBlocksCount = 0;
  let freeInodesCount = 0;
  for (let group = 0; group < groupCount; group++) {
    const usage = groupUsage(layout, options, group);
    freeBlocksCount += usage.freeBlocks;
    freeInodesCount += usage.freeInodes;
    const hasBlockBitmap = (usage.flags & GROUP_FLAG.BLOCK_UNINIT) === 0;
    const hasInodeBitmap = (usage.flags & GROUP_FLAG.INODE_UNINIT) === 0;
    const blockBitmapBlock = layout.blockBitmapBlocks[group]!;
    const inodeBitmapBlock = layout.inodeBitmapBlocks[group]!;
    if (hasBlockBitmap) {
      bitmaps.push({ block: blockBitmapBlock, encode: () => blockBitmap(layout, group) });
    }
    if (hasInodeBitmap) {
      bitmaps.push({ block: inodeBitmapBlock, encode: () => inodeBitmap(inodesPerGroup, usage) });
    }
    descriptors.push({
      blockBitmapBlock,
      inodeBitmapBlock,
      inodeTableBlock: layout.inodeTableBlocks[group]!,
      freeBlocksCount: usage.freeBlocks,
      freeInodesCount: usage.freeInodes,
      usedDirectoriesCount: directories[group]!,
      flags: usage.flags,
      blockBitmapChecksum: hasBlockBitmap && seed !== undefined
        ? bitmapChecksum(seed, blockBitmap(layout, group), BLOCKS_PER_GROUP / 8)
        : 0,
      inodeBitmapChecksum: hasInodeBitmap && seed !== undefined
        ? bitmapChecksum(seed, inodeBitmap(inodesPerGroup, usage), inodesPerGroup / 8)
        : 0,
      // Without checksums, the kernel ignores this count and e2fsck requires 0.
      itableUnusedCount: seed === undefined ? 0 : inodesPerGroup - usage.usedSlots,
    });
  }
  return { descriptors, freeBlocksCount, freeInodesCount, bitmaps };
}

/** Encodes the descriptor table, padded to whole blocks. */
export function encodeDescriptorTable(
  layout: GroupLayout,
  tables: GroupTables,
  seed: number | undefined,
): Uint8Array {
  const { descriptorBlocks, descriptorSizeBytes } = layout.geometry;
  const table = new Uint8Array(descriptorBlocks * BLOCK_SIZE_BYTES);
  tables.descriptors.forEach((descriptor, groupIndex) => {
    const options = { groupIndex, sizeBytes: descriptorSizeBytes, seed };
    table.set(encodeGroupDescriptor(descriptor, options), groupIndex * descriptorSizeBytes);
  });
  return table;
}

interface GroupUsage {
  readonly freeBlocks: number;
  /** Slots of the inode table up to the last used one. */
  readonly usedSlots: number;
  /** Unused slots before that one. */
  readonly freeSlots: readonly number[];
  readonly freeInodes: number;
  readonly flags: number;
}

function groupUsage(layout: GroupLayout, options: GroupTableOptions, group: number): GroupUsage {
  const { geometry, totalBlocks } = layout;
  const startBlock = group * BLOCKS_PER_GROUP;
  const endBlock = Math.min(startBlock + BLOCKS_PER_GROUP, totalBlocks);
  const blocks = { startBlock, endBlock };
  const usedBlocks = blocksWithin(layout.usedRanges, blocks);
  const { inodesPerGroup } = geometry;
  const before = group * inodesPerGroup;
  const freeSlots = freeSlotsOf(options.freeInodeNumbers ?? [], before, inodesPerGroup);
  let usedSlots = Math.min(Math.max(options.lastInodeNumber - before, 0), inodesPerGroup);
  while (freeSlots.at(-1) === usedSlots - 1) {
    freeSlots.pop();
    usedSlots--;
  }
  let flags = 0;
  if (options.seed !== undefined) {
    flags |= GROUP_FLAG.INODE_ZEROED;
    if (usedSlots === 0) flags |= GROUP_FLAG.INODE_UNINIT;
    // The kernel derives such a bitmap from the backups alone; the last group's also has its end marked.
    const isLast = group === geometry.groupCount - 1;
    if (!isLast && usedBlocks === blocksWithin(geometry.reserved, blocks)) {
      flags |= GROUP_FLAG.BLOCK_UNINIT;
    }
  }
  return {
    freeBlocks: endBlock - startBlock - usedBlocks,
    usedSlots,
    freeSlots,
    freeInodes: inodesPerGroup - usedSlots + freeSlots.length,
    flags,
  };
}

/** The slots of a group's table whose numbers are listed as free. */
function freeSlotsOf(free: readonly number[], before: number, inodesPerGroup: number): number[] {
  const slots: number[] = [];
  const first = firstIndex(free.length, (i) => free[i]! > before);
  for (let i = first; i < free.length && free[i]! <= before + inodesPerGroup; i++) {
    slots.push(free[i]! - before - 1);
  }
  return slots;
}

function blockBitmap(layout: GroupLayout, group: number): Uint8Array {
  const bitmap = new Uint8Array(BLOCK_SIZE_BYTES);
  const startBlock = group * BLOCKS_PER_GROUP;
  const endBlock = startBlock + BLOCKS_PER_GROUP;
  forEachOverlap(layout.usedRanges, { startBlock, endBlock }, (from, blockCount) => {
    setBits(bitmap, from - startBlock, blockCount);
  });
  // Bits beyond the end of the file system are set.
  const lastBit = Math.min(endBlock, layout.totalBlocks) - startBlock;
  setBits(bitmap, lastBit, BLOCKS_PER_GROUP - lastBit);
  return bitmap;
}

function inodeBitmap(
  inodesPerGroup: number,
  { usedSlots, freeSlots }: Pick<GroupUsage, "usedSlots" | "freeSlots">,
): Uint8Array {
  const bitmap = new Uint8Array(BLOCK_SIZE_BYTES);
  setBits(bitmap, 0, usedSlots);
  for (const slot of freeSlots) bitmap[slot >> 3]! &= ~(1 << (slot & 7));
  setBits(bitmap, inodesPerGroup, BLOCK_SIZE_BYTES * 8 - inodesPerGroup);
  return bitmap;
}
