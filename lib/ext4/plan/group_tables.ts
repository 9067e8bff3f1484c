/**
 * Block groups: bitmaps, counts and descriptors, worked out from what is in use.
 *
 * Kernel: Documentation/filesystems/ext4, "Block Group Descriptors" and "Block and inode Bitmaps".
 *
 * @module
 */
import { BLOCK_SIZE_BYTES } from "../../model/payload.ts";
import { bitmapChecksum, setBits } from "../format/bitmap.ts";
import { GROUP_FLAG, INODE_NUMBER } from "../format/constants.ts";
import type { GroupDescriptor } from "../format/group_descriptor.ts";
import { encodeGroupDescriptor } from "../format/group_descriptor.ts";
import { BLOCKS_PER_GROUP } from "./geometry.ts";
import type { MetadataWrite } from "./image_plan.ts";
import type { Layout } from "./layout.ts";
import { forEachOverlap } from "./range_list.ts";

/** The groups of an image. */
export interface GroupTables {
  readonly descriptors: readonly GroupDescriptor[];
  readonly freeBlocksCount: number;
  readonly freeInodesCount: number;
  /** The bitmaps that must be written; those of untouched groups are told by their flags. */
  readonly bitmaps: readonly MetadataWrite[];
}

/** What the tables depend on beside the layout. */
export interface GroupTableOptions {
  /** Checksum seed; undefined without metadata checksums, and then no group may be left uninitialised. */
  readonly seed: number | undefined;
  /** Inodes 1 up to this one are in use. */
  readonly lastInodeNumber: number;
  /** Inode numbers of directories. */
  readonly directoryInodes: readonly number[];
}

/** Works out all groups. */
export function buildGroupTables(layout: Layout, options: GroupTableOptions): GroupTables {
  const { geometry } = layout;
  const directories = countByGroup(options.directoryInodes, geometry);
  const descriptors: GroupDescriptor[] = [];
  const bitmaps: MetadataWrite[] = [];
  let freeBlocksCount = 0;
  let freeInodesCount = 0;
  for (let group = 0; group < geometry.groupCount; group++) {
    const usage = groupUsage(layout, options, group);
    freeBlocksCount += usage.freeBlocks;
    freeInodesCount += usage.freeInodes;
    const hasBlockBitmap = (usage.flags & GROUP_FLAG.BLOCK_UNINIT) === 0;
    const hasInodeBitmap = (usage.flags & GROUP_FLAG.INODE_UNINIT) === 0;
    const { seed } = options;
    if (hasBlockBitmap) {
      bitmaps.push(blockWrite(layout.blockBitmapBlocks[group]!, () => blockBitmap(layout, group)));
    }
    if (hasInodeBitmap) {
      const used = usage.usedInodes;
      const number = layout.inodeBitmapBlocks[group]!;
      bitmaps.push(blockWrite(number, () => inodeBitmap(geometry.inodesPerGroup, used)));
    }
    descriptors.push({
      blockBitmapBlock: layout.blockBitmapBlocks[group]!,
      inodeBitmapBlock: layout.inodeBitmapBlocks[group]!,
      inodeTableBlock: layout.inodeTableBlocks[group]!,
      freeBlocksCount: usage.freeBlocks,
      freeInodesCount: usage.freeInodes,
      usedDirectoriesCount: directories[group]!,
      flags: usage.flags,
      blockBitmapChecksum: hasBlockBitmap && seed !== undefined
        ? bitmapChecksum(seed, blockBitmap(layout, group), BLOCKS_PER_GROUP / 8)
        : 0,
      inodeBitmapChecksum: hasInodeBitmap && seed !== undefined
        ? bitmapChecksum(
          seed,
          inodeBitmap(geometry.inodesPerGroup, usage.usedInodes),
          geometry.inodesPerGroup / 8,
        )
        : 0,
      // Without checksums the kernel does not look at this count and e2fsck wants it to be 0.
      itableUnusedCount: seed === undefined ? 0 : usage.freeInodes,
    });
  }
  return { descriptors, freeBlocksCount, freeInodesCount, bitmaps };
}

/** The descriptor table, padded to whole blocks. */
export function encodeDescriptorTable(
  layout: Layout,
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
  readonly usedInodes: number;
  readonly freeInodes: number;
  readonly flags: number;
}

function groupUsage(layout: Layout, options: GroupTableOptions, group: number): GroupUsage {
  const { geometry, totalBlocks } = layout;
  const startBlock = group * BLOCKS_PER_GROUP;
  const endBlock = Math.min(startBlock + BLOCKS_PER_GROUP, totalBlocks);
  let usedBlocks = 0;
  forEachOverlap(layout.usedRanges, { startBlock, endBlock }, (_, blockCount) => {
    usedBlocks += blockCount;
  });
  const { inodesPerGroup } = geometry;
  const before = group * inodesPerGroup;
  const usedInodes = Math.min(Math.max(options.lastInodeNumber - before, 0), inodesPerGroup);
  let flags = 0;
  if (options.seed !== undefined) {
    flags |= GROUP_FLAG.INODE_ZEROED;
    if (usedInodes === 0) flags |= GROUP_FLAG.INODE_UNINIT;
    // The kernel makes up such a bitmap from the backups alone; the last group's also has its end to mark.
    const isLast = group === geometry.groupCount - 1;
    if (!isLast && usedBlocks === backupBlocks(layout, startBlock)) {
      flags |= GROUP_FLAG.BLOCK_UNINIT;
    }
  }
  return {
    freeBlocks: endBlock - startBlock - usedBlocks,
    usedInodes,
    freeInodes: inodesPerGroup - usedInodes,
    flags,
  };
}

function backupBlocks(layout: Layout, startBlock: number): number {
  let blocks = 0;
  const window = { startBlock, endBlock: startBlock + BLOCKS_PER_GROUP };
  forEachOverlap(layout.geometry.reserved, window, (_, blockCount) => {
    blocks += blockCount;
  });
  return blocks;
}

function blockBitmap(layout: Layout, group: number): Uint8Array {
  const bitmap = new Uint8Array(BLOCK_SIZE_BYTES);
  const startBlock = group * BLOCKS_PER_GROUP;
  const endBlock = startBlock + BLOCKS_PER_GROUP;
  forEachOverlap(layout.usedRanges, { startBlock, endBlock }, (from, blockCount) => {
    setBits(bitmap, from - startBlock, blockCount);
  });
  // Bits behind the end of the file system are 1.
  const lastBit = Math.min(endBlock, layout.totalBlocks) - startBlock;
  setBits(bitmap, lastBit, BLOCKS_PER_GROUP - lastBit);
  return bitmap;
}

function inodeBitmap(inodesPerGroup: number, usedInodes: number): Uint8Array {
  const bitmap = new Uint8Array(BLOCK_SIZE_BYTES);
  setBits(bitmap, 0, usedInodes);
  setBits(bitmap, inodesPerGroup, BLOCK_SIZE_BYTES * 8 - inodesPerGroup);
  return bitmap;
}

function blockWrite(block: number, encode: () => Uint8Array): MetadataWrite {
  return { offsetBytes: block * BLOCK_SIZE_BYTES, sizeBytes: BLOCK_SIZE_BYTES, encode };
}

function countByGroup(
  inodeNumbers: readonly number[],
  geometry: Layout["geometry"],
): number[] {
  const counts = new Array<number>(geometry.groupCount).fill(0);
  for (const inodeNumber of inodeNumbers) {
    counts[Math.floor((inodeNumber - INODE_NUMBER.BAD_BLOCKS) / geometry.inodesPerGroup)]!++;
  }
  return counts;
}
