/**
 * The geometry of a file system: block groups, backups of the superblock and descriptors, inode table sizes.
 *
 * Kernel: Documentation/filesystems/ext4, "Layout" and "Block and Inode Allocation Policy"; which groups have backups
 * is ext4_bg_has_super().
 *
 * @module
 */
import { isSparseBackupGroup } from "../format/group_descriptor.ts";
import { divCeil } from "../../bytes/arithmetic.ts";
import type { BlockRange } from "../../layout/blocks.ts";
import { BLOCK_SIZE_BYTES } from "../../model/payload.ts";

/** The number of bits in a bitmap block. */
export const BLOCKS_PER_GROUP = BLOCK_SIZE_BYTES * 8;
/** The number of bits in an inode bitmap block. */
export const INODES_PER_GROUP_MAX = BLOCK_SIZE_BYTES * 8;
/** The size of an inode in its table. */
export const INODE_SIZE_BYTES = 256;
/** Inodes in one block of an inode table. */
export const INODES_PER_BLOCK = BLOCK_SIZE_BYTES / INODE_SIZE_BYTES;

/** The numbers that follow from how many groups and inodes there are. */
export interface Geometry {
  /** Block groups. */
  readonly groupCount: number;
  /** Of one group descriptor. */
  readonly descriptorSizeBytes: 32 | 64;
  /** Blocks of one copy of the descriptor table. */
  readonly descriptorBlocks: number;
  /** The same for every group. */
  readonly inodesPerGroup: number;
  /** Blocks of one group's inode table. */
  readonly inodeTableBlocks: number;
  /** Superblock and descriptors of group 0 and of every backup, ascending. Nothing else may lie in them. */
  readonly reserved: readonly BlockRange[];
}

/** Works out the geometry of `groupCount` groups with room for at least `inodeCount` inodes. */
export function makeGeometry(
  options: {
    readonly groupCount: number;
    readonly inodeCount: number;
    readonly wide: boolean;
    readonly backups: "sparse" | "none";
    /** As many as this, whatever the count of inodes. */
    readonly inodesPerGroup?: number | undefined;
  },
): Geometry {
  const { groupCount, inodeCount } = options;
  const descriptorSizeBytes = options.wide ? 64 : 32;
  const descriptorBlocks = divCeil(groupCount * descriptorSizeBytes, BLOCK_SIZE_BYTES);
  const { inodesPerGroup = divCeil(inodeCount, groupCount) } = options;
  const inodeTableBlocks = divCeil(inodesPerGroup, INODES_PER_BLOCK);
  const reserved: BlockRange[] = [];
  for (let group = 0; group < groupCount; group++) {
    if (!groupHasSuperblock(group, options.backups)) continue;
    reserved.push({ startBlock: group * BLOCKS_PER_GROUP, blockCount: 1 + descriptorBlocks });
  }
  return {
    groupCount,
    descriptorSizeBytes,
    descriptorBlocks,
    inodesPerGroup: inodeTableBlocks * INODES_PER_BLOCK,
    inodeTableBlocks,
    reserved,
  };
}

/** Whether a group starts with a superblock and descriptors. */
export function groupHasSuperblock(group: number, backups: "sparse" | "none"): boolean {
  return group === 0 || (backups === "sparse" && isSparseBackupGroup(group));
}

/** The most blocks, up to `totalBlocks`, with which the last group has room for a superblock and descriptors of its own. */
export function withoutStubGroup(totalBlocks: number): number {
  const descriptorBlocks = divCeil(divCeil(totalBlocks, BLOCKS_PER_GROUP) * 64, BLOCK_SIZE_BYTES);
  const inLastGroup = totalBlocks % BLOCKS_PER_GROUP;
  return inLastGroup < 1 + descriptorBlocks ? totalBlocks - inLastGroup : totalBlocks;
}
