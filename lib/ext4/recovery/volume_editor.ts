/**
 * Changes which parts of an image are in use: bitmaps, inodes, and the counts and checksums that depend on them. In
 * memory only: the changes overlay the image.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import type { RandomReader } from "../../io/random_reader.ts";
import {
  GROUP_FLAG,
  INCOMPAT,
  INODE_FLAG,
  SUPERBLOCK_OFFSET_BYTES,
  SUPERBLOCK_SIZE_BYTES,
} from "../format/constants.ts";
import { viewOf } from "../format/fields.ts";
import {
  bitmapChecksum,
  editGroupDescriptor,
  type GroupDescriptor,
  setBits,
  storedGroupDescriptorChecksum,
  testBit,
} from "../format/group_descriptor.ts";
import { INODE_FIELDS, type InodeRecord, sealInode } from "../format/inode.ts";
import { editSuperblock, type Superblock } from "../format/superblock.ts";
import { BlockEditor } from "../journal/overlay.ts";
import type { Ext4Image } from "../read/image.ts";
import { InodeView, SECTOR_SIZE_BYTES } from "../volume/inode.ts";

interface GroupChange {
  freeBlocks: number;
  freeInodes: number;
  usedDirectories: number;
  hasBlockBitmap: boolean;
  hasInodeBitmap: boolean;
  /** GROUP_FLAG bits that no longer apply. */
  clearedFlags: number;
  /** Never-used inodes at the end of the table; undefined if that did not change. */
  unusedInodes: number | undefined;
}

type InodeChanges = Partial<
  Pick<InodeRecord, "flags" | "sizeBytes" | "sectorCount" | "linkCount" | "dtime" | "xattrBlock">
>;

const DESCRIPTOR_CHECKSUM_AT = 0x1e;

export class VolumeEditor {
  readonly image: Ext4Image;
  readonly blocks: BlockEditor;
  /** Whether a free block must not be allocated while changes are being made. */
  isKept: (block: number) => boolean = () => false;
  readonly #changes = new Map<number, GroupChange>();
  /** Where to look for a free block: there is none before it. */
  #allocateFrom = 0;

  constructor(image: Ext4Image) {
    this.image = image;
    this.blocks = new BlockEditor(image.reader, image.blockSizeBytes);
  }

  get clusterSizeBytes(): number {
    return this.image.geometry.clusterBlocks * this.image.blockSizeBytes;
  }

  /** The slot of an inode, for changing. Call sealInode() afterwards. */
  inodeSlot(inodeNumber: number): Uint8Array {
    const { blockNumber, offsetBytes } = this.image.locateInode(inodeNumber);
    const block = this.blocks.edit(blockNumber);
    return block.subarray(offsetBytes, offsetBytes + this.image.inodeSizeBytes);
  }

  inode(inodeNumber: number): InodeView {
    return new InodeView(this.inodeSlot(inodeNumber), inodeNumber);
  }

  editInode(inodeNumber: number, changes: InodeChanges): void {
    const slot = this.inodeSlot(inodeNumber);
    const structure = { view: viewOf(slot), at: 0, sizeBytes: slot.length };
    for (const [name, value] of Object.entries(changes)) {
      INODE_FIELDS[name as keyof InodeChanges].write(structure, value, name);
    }
    this.sealInode(inodeNumber);
  }

  sealInode(inodeNumber: number): void {
    const { seed } = this.image;
    if (seed !== undefined) sealInode(this.inodeSlot(inodeNumber), { inodeNumber, seed });
  }

  /** The unit of an inode's i_blocks, in bytes. */
  countUnitBytes(view: InodeView): number {
    return (view.flags & INODE_FLAG.HUGE_FILE) !== 0
      ? this.image.blockSizeBytes
      : SECTOR_SIZE_BYTES;
  }

  isInodeUsed(inodeNumber: number): boolean {
    const { group, index } = this.image.locateInode(inodeNumber);
    const { flags, inodeBitmapBlock } = this.image.groupDescriptor(group);
    const cleared = this.#changes.get(group)?.clearedFlags ?? 0;
    if ((flags & ~cleared & GROUP_FLAG.INODE_UNINIT) !== 0) return false;
    return testBit(this.blocks.read(inodeBitmapBlock), index);
  }

  freeInode(inodeNumber: number, isDirectory: boolean): void {
    const { group, index } = this.image.locateInode(inodeNumber);
    const bitmap = this.blocks.edit(this.image.groupDescriptor(group).inodeBitmapBlock);
    if (!clearBit(bitmap, index)) return;
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
    const { firstDataBlock, clusterBlocks, clustersPerGroup } = this.image.geometry;
    const clusterOf = (block: number) => Math.floor((block - firstDataBlock) / clusterBlocks);
    const kept = keptBlock === undefined ? undefined : clusterOf(keptBlock);
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

  /** Marks an inode as used. A slot that was never used is zeroed. */
  useInode(inodeNumber: number, isDirectory: boolean): void {
    const { group, index } = this.image.locateInode(inodeNumber);
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
    if (this.image.hasGroupChecksums && index >= inodesPerGroup - unused) {
      this.inodeSlot(inodeNumber).fill(0);
      change.unusedInodes = inodesPerGroup - index - 1;
    }
    if (testBit(bitmap, index)) return;
    setBits(bitmap, index, 1);
    change.freeInodes--;
    if (isDirectory) change.usedDirectories++;
  }

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
   * Allocates a block that was free before, is free now and is not kept free. Not for bigalloc.
   *
   * @throws {InputError} if there is none
   */
  allocateBlock(): number {
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
        if (testBit(before, bit) || testBit(now, bit) || this.isKept(block)) continue;
        this.useBlocks(block, 1);
        this.#allocateFrom = group * blocksPerGroup + bit + 1;
        return block;
      }
    }
    throw new InputError(this.image.name, "has no free block for what its fast commits add");
  }

  /** Whether a group's flag still applies. Without group checksums, flags are ignored. */
  #isUninitialised(group: number, change: GroupChange, flag: number): boolean {
    const { flags } = this.image.groupDescriptor(group);
    return this.image.hasGroupChecksums && (flags & ~change.clearedFlags & flag) !== 0;
  }

  /** The block bitmap of a group, for changing. A group that was never used does not have one yet. */
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

  /**
   * Marks the blocks in use in a group without files: superblock, descriptors, and bitmaps and tables of its flex
   * group.
   */
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
    const end = Math.min(first + flexGroups, image.groupCount);
    for (let other = first; other < end; other++) {
      const descriptor = image.groupDescriptor(other);
      mark(descriptor.blockBitmapBlock, 1);
      mark(descriptor.inodeBitmapBlock, 1);
      mark(descriptor.inodeTableBlock, image.inodeTableBlocks);
    }
  }

  /**
   * The changed image. Writes the descriptors and checksums of changed groups, and the superblock with its counts,
   * which the kernel updates only when it unmounts.
   */
  finish(changes: Partial<Superblock>): RandomReader {
    for (const [group, change] of this.#changes) this.#writeDescriptor(group, change);
    let [freeClusters, freeInodesCount] = [0, 0];
    for (let group = 0; group < this.image.groupCount; group++) {
      const descriptor = this.image.groupDescriptor(group);
      const change = this.#changes.get(group);
      freeClusters += descriptor.freeBlocksCount + (change?.freeBlocks ?? 0);
      freeInodesCount += descriptor.freeInodesCount + (change?.freeInodes ?? 0);
    }
    const freeBlocksCount = freeClusters * this.image.geometry.clusterBlocks;
    const encoded = editableSuperblock(this.blocks, this.image.blockSizeBytes);
    encoded.set(editSuperblock(encoded, { ...changes, freeBlocksCount, freeInodesCount }));
    return this.blocks.reader();
  }

  #change(group: number): GroupChange {
    const change = this.#changes.get(group) ?? {
      freeBlocks: 0,
      freeInodes: 0,
      usedDirectories: 0,
      hasBlockBitmap: false,
      hasInodeBitmap: false,
      clearedFlags: 0,
      unusedInodes: undefined,
    };
    this.#changes.set(group, change);
    return change;
  }

  #writeDescriptor(group: number, change: GroupChange): void {
    const { image } = this;
    const { superblock, seed, descriptorsPerBlock } = image;
    const { descriptorSizeBytes, clustersPerGroup, inodesPerGroup } = image.geometry;
    const descriptor = image.groupDescriptor(group);
    const block = this.blocks.edit(image.descriptorBlock(Math.floor(group / descriptorsPerBlock)));
    const at = (group % descriptorsPerBlock) * descriptorSizeBytes;
    const encoded = block.subarray(at, at + descriptorSizeBytes);
    const checksum = (seed: number, bitmapBlock: number, bits: number): number =>
      bitmapChecksum(seed, this.blocks.read(bitmapBlock), bits / 8);
    const changes: Partial<GroupDescriptor> = {
      freeBlocksCount: descriptor.freeBlocksCount + change.freeBlocks,
      freeInodesCount: descriptor.freeInodesCount + change.freeInodes,
      usedDirectoriesCount: Math.max(0, descriptor.usedDirectoriesCount + change.usedDirectories),
      flags: descriptor.flags & ~change.clearedFlags,
      itableUnusedCount: change.unusedInodes ?? descriptor.itableUnusedCount,
      ...seed !== undefined && change.hasBlockBitmap
        ? { blockBitmapChecksum: checksum(seed, descriptor.blockBitmapBlock, clustersPerGroup) }
        : {},
      ...seed !== undefined && change.hasInodeBitmap
        ? { inodeBitmapChecksum: checksum(seed, descriptor.inodeBitmapBlock, inodesPerGroup) }
        : {},
    };
    const stored = storedGroupDescriptorChecksum(encoded);
    encoded.set(editGroupDescriptor(encoded, changes, {
      groupIndex: group,
      seal: seed === undefined
        ? { kind: "crc16", uuid: superblock.uuid }
        : { kind: "crc32c", seed },
    }));
    if (!image.hasGroupChecksums) viewOf(encoded).setUint16(DESCRIPTOR_CHECKSUM_AT, stored, true);
  }
}

export function editableSuperblock(blocks: BlockEditor, blockSizeBytes: number): Uint8Array {
  const block = blocks.edit(Math.floor(SUPERBLOCK_OFFSET_BYTES / blockSizeBytes));
  const at = SUPERBLOCK_OFFSET_BYTES % blockSizeBytes;
  return block.subarray(at, at + SUPERBLOCK_SIZE_BYTES);
}

function clearBit(bitmap: Uint8Array, bit: number): boolean {
  if (!testBit(bitmap, bit)) return false;
  bitmap[bit >>> 3]! &= ~(1 << (bit & 7));
  return true;
}
