/**
 * The measures of a file system that was found, checked so far that everything computed from them is a sane number, and
 * the places that follow from them.
 *
 * @module
 */
import { divCeil, isPowerOfTwo } from "../../bytes/arithmetic.ts";
import { InputError } from "../../errors.ts";
import { groupHasSuperblock } from "../format/backup_groups.ts";
import { INCOMPAT, INODE_NUMBER, RO_COMPAT } from "../format/constants.ts";
import { INODE_BASE_SIZE_BYTES } from "../format/inode.ts";
import type { Superblock } from "../format/superblock.ts";

/** What follows from a superblock. */
export interface ImageGeometry {
  /** 1024 to 65536, a power of two. */
  readonly blockSizeBytes: number;
  /** All blocks of the file system. */
  readonly blocksCount: number;
  /** The first block of group 0: 1 with 1 KiB blocks, else 0. */
  readonly firstDataBlock: number;
  /** Blocks of a group; the last one may have fewer. */
  readonly blocksPerGroup: number;
  /** Block groups. */
  readonly groupCount: number;
  /** All inodes of the file system. */
  readonly inodesCount: number;
  /** Inodes of each group. */
  readonly inodesPerGroup: number;
  /** Length of an inode's slot: 128 bytes to a block. */
  readonly inodeSizeBytes: number;
  /** The first inode that can have a name; the root is below it. */
  readonly firstInode: number;
  /** Length of a group descriptor. */
  readonly descriptorSizeBytes: 32 | 64;
  /** How many of them fit a block. */
  readonly descriptorsPerBlock: number;
}

/** A place in the image. */
export interface BlockPlace {
  /** The block. */
  readonly blockNumber: number;
  /** From the start of the block. */
  readonly offsetBytes: number;
}

const LOG_BLOCK_SIZE_MAX = 6; // 64 KiB
const TWO_32 = 2 ** 32;
const BLOCKS_COUNT_MAX = 2 ** 48;
const REVISION_DYNAMIC = 1;
/** s_creator_os of GNU/Hurd. */
export const CREATOR_HURD = 1;
const CHECKSUM_TYPE_CRC32C = 1;

/**
 * The measures of a file system. Throws InputError, naming the field, for numbers that no file system has.
 *
 * @example
 * ```ts
 * import { assertThrows } from "@std/assert";
 * import { InputError } from "../../errors.ts";
 * import { defaultSuperblock } from "../format/superblock.ts";
 * import { imageGeometry } from "./geometry.ts";
 * const superblock = { ...defaultSuperblock(), logBlockSize: 7 };
 * assertThrows(() => imageGeometry(superblock), InputError, "s_log_block_size is 7, not 0 to 6");
 * ```
 */
export function imageGeometry(superblock: Superblock): ImageGeometry {
  checkRevision(superblock);
  const { logBlockSize, blocksCount, blocksPerGroup, inodesPerGroup } = superblock;
  wantRange("s_log_block_size", logBlockSize, 0, LOG_BLOCK_SIZE_MAX);
  wantEqual("s_log_cluster_size", superblock.logClusterSize, logBlockSize);
  const blockSizeBytes = 2 ** (10 + logBlockSize);
  const firstDataBlock = logBlockSize === 0 ? 1 : 0;
  wantEqual("s_first_data_block", superblock.firstDataBlock, firstDataBlock);
  const has64Bit = (superblock.featureIncompat & INCOMPAT.BIT64) !== 0;
  const blocksMax = has64Bit ? BLOCKS_COUNT_MAX : TWO_32;
  wantRange("s_blocks_count", blocksCount, firstDataBlock + 1, blocksMax - 1);
  wantRange("s_blocks_per_group", blocksPerGroup, 8, 8 * blockSizeBytes);
  wantMultipleOf8("s_blocks_per_group", blocksPerGroup);
  wantEqual("s_clusters_per_group", superblock.clustersPerGroup, blocksPerGroup);
  const inodeSizeBytes = checkedInodeSize(superblock, blockSizeBytes);
  const inodesPerBlock = blockSizeBytes / inodeSizeBytes;
  wantRange("s_inodes_per_group", inodesPerGroup, inodesPerBlock, 8 * blockSizeBytes);
  wantMultipleOf8("s_inodes_per_group", inodesPerGroup);
  const groupCount = divCeil(blocksCount - firstDataBlock, blocksPerGroup);
  wantEqual("s_inodes_count", superblock.inodesCount, groupCount * inodesPerGroup);
  const descriptorSizeBytes = checkedDescriptorSize(superblock, has64Bit);
  return {
    blockSizeBytes,
    blocksCount,
    firstDataBlock,
    blocksPerGroup,
    groupCount,
    inodesCount: superblock.inodesCount,
    inodesPerGroup,
    inodeSizeBytes,
    firstInode: checkedFirstInode(superblock),
    descriptorSizeBytes,
    descriptorsPerBlock: blockSizeBytes / descriptorSizeBytes,
  };
}

/** The blocks of a group; the last group may be short. */
export function groupBlocks(
  geometry: ImageGeometry,
  groupIndex: number,
): { readonly startBlock: number; readonly blockCount: number } {
  const { firstDataBlock, blocksPerGroup, blocksCount } = geometry;
  const startBlock = firstDataBlock + groupIndex * blocksPerGroup;
  return { startBlock, blockCount: Math.min(blocksPerGroup, blocksCount - startBlock) };
}

/**
 * Where the descriptor of a group is. Descriptors follow the superblock, or, from s_first_meta_bg on under META_BG, lie
 * at the start of the groups that they describe, a block of them at a time.
 */
export function descriptorPlace(
  superblock: Superblock,
  geometry: ImageGeometry,
  groupIndex: number,
): BlockPlace {
  const { descriptorsPerBlock, descriptorSizeBytes, firstDataBlock } = geometry;
  const tableBlock = Math.floor(groupIndex / descriptorsPerBlock);
  const offsetBytes = (groupIndex % descriptorsPerBlock) * descriptorSizeBytes;
  const hasMetaGroups = (superblock.featureIncompat & INCOMPAT.META_BG) !== 0;
  if (!hasMetaGroups || tableBlock < superblock.firstMetaBlockGroup) {
    return { blockNumber: firstDataBlock + 1 + tableBlock, offsetBytes };
  }
  const firstGroup = tableBlock * descriptorsPerBlock;
  const behindSuperblock = groupHasSuperblock(superblock, firstGroup) ? 1 : 0;
  const { startBlock } = groupBlocks(geometry, firstGroup);
  return { blockNumber: startBlock + behindSuperblock, offsetBytes };
}

/** The first revision has no features and fixed inodes. */
function checkRevision(superblock: Superblock): void {
  const { revision, creatorOs, featureCompat, featureIncompat, featureRoCompat } = superblock;
  wantRange("s_rev_level", revision, 0, REVISION_DYNAMIC);
  if (revision === 0 && (featureCompat | featureIncompat | featureRoCompat) !== 0) {
    throw new InputError("superblock", "s_rev_level is 0, but it has features");
  }
  if (creatorOs === CREATOR_HURD) {
    throw new InputError("superblock", "s_creator_os is 1, the Hurd, whose inodes are different");
  }
  if ((featureRoCompat & RO_COMPAT.METADATA_CSUM) !== 0) {
    wantEqual("s_checksum_type", superblock.checksumType, CHECKSUM_TYPE_CRC32C);
  }
}

function checkedInodeSize(superblock: Superblock, blockSizeBytes: number): number {
  if (superblock.revision === 0) return INODE_BASE_SIZE_BYTES;
  const size = superblock.inodeSizeBytes;
  wantRange("s_inode_size", size, INODE_BASE_SIZE_BYTES, blockSizeBytes);
  if (!isPowerOfTwo(size)) {
    throw new InputError("superblock", `s_inode_size is ${size}, not a power of two`);
  }
  return size;
}

function checkedFirstInode(superblock: Superblock): number {
  if (superblock.revision === 0) return INODE_NUMBER.FIRST_USABLE;
  const { firstInode, inodesCount } = superblock;
  wantRange("s_first_ino", firstInode, INODE_NUMBER.FIRST_USABLE, inodesCount);
  return firstInode;
}

/** Without 64BIT the field is not looked at, by the kernel as by e2fsck. */
function checkedDescriptorSize(superblock: Superblock, has64Bit: boolean): 32 | 64 {
  if (!has64Bit) return 32;
  wantEqual("s_desc_size", superblock.descriptorSizeBytes, 64);
  return 64;
}

function wantRange(field: string, found: number, least: number, most: number): void {
  if (found >= least && found <= most) return;
  throw new InputError("superblock", `${field} is ${found}, not ${least} to ${most}`, {
    data: { field, actual: found },
  });
}

function wantEqual(field: string, found: number, wanted: number): void {
  if (found === wanted) return;
  throw new InputError("superblock", `${field} is ${found}, not ${wanted}`, {
    data: { field, actual: found, expected: wanted },
  });
}

function wantMultipleOf8(field: string, found: number): void {
  if (found % 8 === 0) return;
  throw new InputError("superblock", `${field} is ${found}, not a multiple of 8`, {
    data: { field, actual: found },
  });
}
