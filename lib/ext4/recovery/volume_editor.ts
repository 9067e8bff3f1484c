/**
 * Changing what an image says is in use: bitmaps, inodes, and all counts and checksums that go with them. In memory
 * only: the changes are an overlay over the image.
 *
 * @module
 */
import { divCeil } from "../../bytes/arithmetic.ts";
import { InputError } from "../../errors.ts";
import {
  GROUP_FLAG,
  INCOMPAT,
  INODE_FLAG,
  RO_COMPAT,
  SUPERBLOCK_OFFSET_BYTES,
  SUPERBLOCK_SIZE_BYTES,
} from "../format/constants.ts";
import {
  bitmapChecksum,
  editGroupDescriptor,
  type GroupDescriptor,
  type GroupDescriptorSeal,
  setBits,
  storedGroupDescriptorChecksum,
  testBit,
} from "../format/group_descriptor.ts";
import { viewOf } from "../format/fields.ts";
import { INODE_AT, INODE_FIELDS, sealInode } from "../format/inode.ts";
import { editSuperblock, type Superblock } from "../format/superblock.ts";
import { BlockEditor } from "../journal/overlay.ts";
import type { RandomReader } from "../../io/random_reader.ts";
import type { Ext4Image } from "../read/image.ts";

/** What changed in a group. */
interface GroupChange {
  freeBlocks: number;
  freeInodes: number;
  usedDirectories: number;
  hasBlockBitmap: boolean;
  hasInodeBitmap: boolean;
  /** GROUP_FLAG bits that no longer hold. */
  clearedFlags: number;
  /** Inodes at the end of the table that were never used; undefined when that did not change. */
  unusedInodes: number | undefined;
}

const SECTOR_SIZE_BYTES = 512;
const DESCRIPTOR_CHECKSUM_AT = 0x1e;

/** An image that is changed in memory. */
export class VolumeEditor {
  /** The image as it was before the changes. */
  readonly image: Ext4Image;
  /** Its blocks as they are now. */
  readonly blocks: BlockEditor;
  /** Blocks that are allocated together: 1 without bigalloc. */
  readonly clusterBlocks: number;
  readonly #changes = new Map<number, GroupChange>();
  /** Where to look for a free block: none before it is one. */
  #allocateFrom = 0;

  constructor(image: Ext4Image) {
    this.image = image;
    const { logClusterSize, logBlockSize } = image.superblock;
    this.blocks = new BlockEditor(image.reader, image.geometry.blockSizeBytes);
    this.clusterBlocks = image.hasRoCompat(RO_COMPAT.BIGALLOC)
      ? 2 ** (logClusterSize - logBlockSize)
      : 1;
  }

  /** The slot of an inode, to change. It needs sealInode() then. */
  inodeSlot(inodeNumber: number): Uint8Array {
    const { blockNumber, offsetBytes } = this.image.locateInode(inodeNumber);
    const block = this.blocks.edit(blockNumber);
    return block.subarray(offsetBytes, offsetBytes + this.image.geometry.inodeSizeBytes);
  }

  /** Writes the checksum of a changed inode. */
  sealInode(inodeNumber: number): void {
    const { seed } = this.image;
    if (seed !== undefined) sealInode(this.inodeSlot(inodeNumber), { inodeNumber, seed });
  }

  /** Whether an inode is marked as used. */
  isInodeUsed(inodeNumber: number): boolean {
    const { group, bit } = this.#inodePlace(inodeNumber);
    const { flags, inodeBitmapBlock } = this.image.groupDescriptor(group);
    const cleared = this.#changes.get(group)?.clearedFlags ?? 0;
    if ((flags & ~cleared & GROUP_FLAG.INODE_UNINIT) !== 0) return false;
    return testBit(this.blocks.read(inodeBitmapBlock), bit);
  }

  /** Marks an inode as free. */
  freeInode(inodeNumber: number, isDirectory: boolean): void {
    const { group, bit } = this.#inodePlace(inodeNumber);
    const bitmap = this.blocks.edit(this.image.groupDescriptor(group).inodeBitmapBlock);
    if (!clearBit(bitmap, bit)) return;
    const change = this.#change(group);
    change.hasInodeBitmap = true;
    change.freeInodes++;
    if (isDirectory) change.usedDirectories--;
  }

  /**
   * Marks the clusters of a run of blocks as free.
   *
   * @param keptBlock a block whose cluster stays in use
   * @returns how many clusters became free
   */
  freeBlocks(startBlock: number, blockCount: number, keptBlock?: number): number {
    this.image.checkRange(startBlock, blockCount, "blocks to free");
    const { firstDataBlock, blocksPerGroup } = this.image.geometry;
    const clusterOf = (block: number) => Math.floor((block - firstDataBlock) / this.clusterBlocks);
    const kept = keptBlock === undefined ? undefined : clusterOf(keptBlock);
    const clustersPerGroup = blocksPerGroup / this.clusterBlocks;
    const last = clusterOf(startBlock + blockCount - 1);
    let freed = 0;
    for (let cluster = clusterOf(startBlock); cluster <= last;) {
      const group = Math.floor(cluster / clustersPerGroup);
      const bitmap = this.blocks.edit(this.image.groupDescriptor(group).blockBitmapBlock);
      const change = this.#change(group);
      change.hasBlockBitmap = true;
      const end = Math.min(last + 1, (group + 1) * clustersPerGroup);
      for (; cluster < end; cluster++) {
        if (cluster === kept || !clearBit(bitmap, cluster % clustersPerGroup)) continue;
        change.freeBlocks++;
        freed++;
      }
    }
    return freed;
  }

  /** Marks an inode as used. What is in its slot, if it never was, becomes zeros. */
  useInode(inodeNumber: number, isDirectory: boolean): void {
    const { group, bit } = this.#inodePlace(inodeNumber);
    const { inodesPerGroup } = this.image.geometry;
    const descriptor = this.image.groupDescriptor(group);
    const change = this.#change(group);
    const bitmap = this.blocks.edit(descriptor.inodeBitmapBlock);
    if (this.#isUninitialised(group, change, GROUP_FLAG.INODE_UNINIT)) {
      bitmap.fill(0);
      setBits(bitmap, inodesPerGroup, 8 * bitmap.length - inodesPerGroup);
      change.clearedFlags |= GROUP_FLAG.INODE_UNINIT;
      change.unusedInodes = inodesPerGroup;
    }
    change.hasInodeBitmap = true;
    const unused = change.unusedInodes ?? descriptor.itableUnusedCount;
    if (this.#hasGroupFlags && bit >= inodesPerGroup - unused) {
      this.inodeSlot(inodeNumber).fill(0);
      change.unusedInodes = inodesPerGroup - bit - 1;
    }
    if (testBit(bitmap, bit)) return;
    setBits(bitmap, bit, 1);
    change.freeInodes--;
    if (isDirectory) change.usedDirectories++;
  }

  /** Marks a run of blocks as used. Not for bigalloc. */
  useBlocks(startBlock: number, blockCount: number): void {
    this.image.checkRange(startBlock, blockCount, "blocks in use");
    const { firstDataBlock, blocksPerGroup } = this.image.geometry;
    for (let block = startBlock; block < startBlock + blockCount; block++) {
      const group = Math.floor((block - firstDataBlock) / blocksPerGroup);
      const bitmap = this.#blockBitmap(group);
      const bit = (block - firstDataBlock) % blocksPerGroup;
      if (testBit(bitmap, bit)) continue;
      setBits(bitmap, bit, 1);
      this.#change(group).freeBlocks--;
    }
  }

  /**
   * Marks a block as used that was free before and is free now. Not for bigalloc.
   *
   * @param isKept whether a free block is to be left alone, for as long as there are changes
   * @throws {InputError} when there is none
   */
  allocateBlock(isKept: (block: number) => boolean): number {
    const { firstDataBlock, blocksPerGroup, groupCount } = this.image.geometry;
    const from = this.#allocateFrom;
    for (let group = Math.floor(from / blocksPerGroup); group < groupCount; group++) {
      const { flags, freeBlocksCount, blockBitmapBlock } = this.image.groupDescriptor(group);
      if (freeBlocksCount === 0 || (flags & GROUP_FLAG.BLOCK_UNINIT) !== 0) continue;
      const before = this.image.block(blockBitmapBlock);
      if (before === undefined) continue;
      const now = this.blocks.read(blockBitmapBlock);
      const end = this.image.groupBlocks(group);
      for (let bit = Math.max(0, from - group * blocksPerGroup); bit < end; bit++) {
        const block = firstDataBlock + group * blocksPerGroup + bit;
        if (testBit(before, bit) || testBit(now, bit) || isKept(block)) continue;
        this.useBlocks(block, 1);
        this.#allocateFrom = group * blocksPerGroup + bit + 1;
        return block;
      }
    }
    throw new InputError(this.image.name, "has no free block for what its fast commits add");
  }

  /** Whether bg_flags count. */
  get #hasGroupFlags(): boolean {
    return this.image.hasRoCompat(RO_COMPAT.METADATA_CSUM) ||
      this.image.hasRoCompat(RO_COMPAT.GDT_CSUM);
  }

  #isUninitialised(group: number, change: GroupChange, flag: number): boolean {
    const { flags } = this.image.groupDescriptor(group);
    return this.#hasGroupFlags && (flags & ~change.clearedFlags & flag) !== 0;
  }

  /** The bitmap of a group, to change. A group that was never used has none yet. */
  #blockBitmap(group: number): Uint8Array {
    const change = this.#change(group);
    const bitmap = this.blocks.edit(this.image.groupDescriptor(group).blockBitmapBlock);
    change.hasBlockBitmap = true;
    if (this.#isUninitialised(group, change, GROUP_FLAG.BLOCK_UNINIT)) {
      change.clearedFlags |= GROUP_FLAG.BLOCK_UNINIT;
      this.#fillBlockBitmap(group, bitmap);
    }
    return bitmap;
  }

  /** What is in use in a group without files: superblock, descriptors, and bitmaps and tables of its flex group. */
  #fillBlockBitmap(group: number, bitmap: Uint8Array): void {
    const { image } = this;
    const start = image.groupStart(group);
    const length = image.groupBlocks(group);
    const mark = (block: number, count: number) => {
      const from = Math.max(block, start);
      const to = Math.min(block + count, start + length);
      if (from < to) setBits(bitmap, from - start, to - from);
    };
    bitmap.fill(0);
    setBits(bitmap, length, 8 * bitmap.length - length);
    const { used, reserved } = image.descriptorRoom(group);
    mark(start, (image.hasSuperblock(group) ? 1 : 0) + used + reserved);
    const flexGroups = image.hasIncompat(INCOMPAT.FLEX_BG)
      ? 2 ** image.superblock.logGroupsPerFlex
      : 1;
    const first = Math.floor(group / flexGroups) * flexGroups;
    const end = Math.min(first + flexGroups, image.geometry.groupCount);
    const { inodesPerGroup, inodeSizeBytes, blockSizeBytes } = image.geometry;
    const tableBlocks = divCeil(inodesPerGroup * inodeSizeBytes, blockSizeBytes);
    for (let other = first; other < end; other++) {
      const descriptor = image.groupDescriptor(other);
      mark(descriptor.blockBitmapBlock, 1);
      mark(descriptor.inodeBitmapBlock, 1);
      mark(descriptor.inodeTableBlock, tableBlocks);
    }
  }

  /** Bytes of a cluster. */
  get clusterSizeBytes(): number {
    return this.clusterBlocks * this.image.geometry.blockSizeBytes;
  }

  /** Takes clusters out of an inode's i_blocks. */
  subtractClusters(slot: Uint8Array, clusters: number): void {
    const view = viewOf(slot);
    const isHuge = (view.getUint32(INODE_FIELDS.flags.offset, true) & INODE_FLAG.HUGE_FILE) !== 0;
    const { blockSizeBytes } = this.image.geometry;
    const unit = isHuge ? blockSizeBytes : SECTOR_SIZE_BYTES;
    const count = view.getUint16(INODE_AT.blocksHigh, true) * 2 ** 32 +
      view.getUint32(INODE_FIELDS.sectorCount.offset, true);
    const left = Math.max(0, count - clusters * (this.clusterSizeBytes / unit));
    view.setUint32(INODE_FIELDS.sectorCount.offset, left % 2 ** 32, true);
    view.setUint16(INODE_AT.blocksHigh, Math.floor(left / 2 ** 32), true);
  }

  /**
   * The changed image: descriptors and checksums of changed groups are written, and the superblock with its counts, which
   * the kernel keeps up to date only when it unmounts.
   */
  finish(changes: Partial<Superblock>): RandomReader {
    for (const [group, change] of this.#changes) this.#writeDescriptor(group, change);
    let [freeClusters, freeInodesCount] = [0, 0];
    for (let group = 0; group < this.image.geometry.groupCount; group++) {
      const descriptor = this.image.groupDescriptor(group);
      const change = this.#changes.get(group);
      freeClusters += descriptor.freeBlocksCount + (change?.freeBlocks ?? 0);
      freeInodesCount += descriptor.freeInodesCount + (change?.freeInodes ?? 0);
    }
    const { blockSizeBytes } = this.image.geometry;
    const block = this.blocks.edit(Math.floor(SUPERBLOCK_OFFSET_BYTES / blockSizeBytes));
    const at = SUPERBLOCK_OFFSET_BYTES % blockSizeBytes;
    const encoded = block.subarray(at, at + SUPERBLOCK_SIZE_BYTES);
    const freeBlocksCount = freeClusters * this.clusterBlocks;
    encoded.set(editSuperblock(encoded, { ...changes, freeBlocksCount, freeInodesCount }));
    return this.blocks.reader();
  }

  #inodePlace(inodeNumber: number): { readonly group: number; readonly bit: number } {
    const { inodesPerGroup } = this.image.geometry;
    return {
      group: Math.floor((inodeNumber - 1) / inodesPerGroup),
      bit: (inodeNumber - 1) % inodesPerGroup,
    };
  }

  #change(group: number): GroupChange {
    let change = this.#changes.get(group);
    if (change === undefined) {
      change = {
        freeBlocks: 0,
        freeInodes: 0,
        usedDirectories: 0,
        hasBlockBitmap: false,
        hasInodeBitmap: false,
        clearedFlags: 0,
        unusedInodes: undefined,
      };
      this.#changes.set(group, change);
    }
    return change;
  }

  #writeDescriptor(group: number, change: GroupChange): void {
    const { image } = this;
    const { superblock, geometry, seed } = image;
    const descriptor = image.groupDescriptor(group);
    const { descriptorsPerBlock } = image;
    const blockNumber = image.descriptorBlock(Math.floor(group / descriptorsPerBlock));
    const offsetBytes = (group % descriptorsPerBlock) * geometry.descriptorSizeBytes;
    const { descriptorSizeBytes, blocksPerGroup, inodesPerGroup } = geometry;
    const encoded = this.blocks.edit(blockNumber)
      .subarray(offsetBytes, offsetBytes + descriptorSizeBytes);
    const changes: { -readonly [K in keyof GroupDescriptor]?: GroupDescriptor[K] } = {
      freeBlocksCount: descriptor.freeBlocksCount + change.freeBlocks,
      freeInodesCount: descriptor.freeInodesCount + change.freeInodes,
      usedDirectoriesCount: Math.max(0, descriptor.usedDirectoriesCount + change.usedDirectories),
    };
    if (change.clearedFlags !== 0) changes.flags = descriptor.flags & ~change.clearedFlags;
    if (change.unusedInodes !== undefined) changes.itableUnusedCount = change.unusedInodes;
    if (seed !== undefined && change.hasBlockBitmap) {
      const bitmap = this.blocks.read(descriptor.blockBitmapBlock);
      const usedBytes = blocksPerGroup / this.clusterBlocks / 8;
      changes.blockBitmapChecksum = bitmapChecksum(seed, bitmap, usedBytes);
    }
    if (seed !== undefined && change.hasInodeBitmap) {
      const bitmap = this.blocks.read(descriptor.inodeBitmapBlock);
      changes.inodeBitmapChecksum = bitmapChecksum(seed, bitmap, inodesPerGroup / 8);
    }
    const stored = storedGroupDescriptorChecksum(encoded);
    const seal: GroupDescriptorSeal = seed === undefined
      ? { kind: "crc16", uuid: superblock.uuid }
      : { kind: "crc32c", seed };
    encoded.set(editGroupDescriptor(encoded, changes, { groupIndex: group, seal }));
    const isChecksummed = seed !== undefined || image.hasRoCompat(RO_COMPAT.GDT_CSUM);
    if (!isChecksummed) viewOf(encoded).setUint16(DESCRIPTOR_CHECKSUM_AT, stored, true);
  }
}

/** Clears a bit; false when it was clear. */
function clearBit(bitmap: Uint8Array, bit: number): boolean {
  if (!testBit(bitmap, bit)) return false;
  bitmap[bit >>> 3]! &= ~(1 << (bit & 7));
  return true;
}
