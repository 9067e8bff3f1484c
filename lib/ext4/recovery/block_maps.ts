/**
 * Maps of inodes that are changed: as lists of extents, which are written as trees again when all changes are made.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import { inodeSeed } from "../format/checksum.ts";
import { EXTENT_BLOCKS_MAX, INODE_FLAG } from "../format/constants.ts";
import {
  encodeExtentNode,
  EXTENT_ROOT_ENTRIES_MAX,
  extentEntriesMax,
  type ExtentIndex,
  type ExtentLeaf,
  sealExtentBlock,
} from "../format/extent.ts";
import { viewOf } from "../format/fields.ts";
import { INODE_AT, INODE_BLOCK_FIELD_SIZE_BYTES, INODE_FIELDS } from "../format/inode.ts";
import { blockRuns } from "../read/content.ts";
import { uncheckedInode } from "../read/image.ts";
import type { VolumeEditor } from "./volume_editor.ts";

const SECTOR_SIZE_BYTES = 512;
const { offset: BLOCK_FIELD_AT } = INODE_FIELDS.blockField;

/** The maps of inodes that are changed. Their blocks count as free until the end. */
export class BlockMaps {
  readonly #editor: VolumeEditor;
  readonly #maps = new Map<number, ExtentLeaf[]>();

  constructor(editor: VolumeEditor) {
    this.#editor = editor;
  }

  /** The extents of an inode, in order. Throws InputError for one that has no extents, or damaged ones. */
  extents(inode: number): readonly ExtentLeaf[] {
    return this.#load(inode);
  }

  /** Forgets what an inode maps. */
  clear(inode: number): void {
    this.#load(inode);
    this.#maps.set(inode, []);
  }

  /** Puts an extent in place of whatever is mapped there. */
  put(inode: number, extent: ExtentLeaf): void {
    this.remove(inode, extent.logicalBlock, extent.blockCount);
    const extents = this.#load(inode);
    extents.splice(firstEndingAfter(extents, extent.logicalBlock), 0, extent);
  }

  /** Takes away what is mapped there. */
  remove(inode: number, logicalBlock: number, blockCount: number): void {
    const end = logicalBlock + blockCount;
    const extents = this.#load(inode);
    const first = firstEndingAfter(extents, logicalBlock);
    let behind = first;
    while (behind < extents.length && extents[behind]!.logicalBlock < end) behind++;
    if (behind === first) return;
    const [from, to] = [extents[first]!, extents[behind - 1]!];
    const left = [
      part(from, from.logicalBlock, logicalBlock),
      part(to, end, to.logicalBlock + to.blockCount),
    ].filter((piece) => piece.blockCount > 0);
    extents.splice(first, behind - first, ...left);
  }

  /** Writes all trees, and marks their blocks as used. `isKept` says which free blocks are to be left alone. */
  finish(isKept: (block: number) => boolean): void {
    for (const extents of this.#maps.values()) {
      for (const { startBlock, blockCount } of extents) {
        this.#editor.useBlocks(startBlock, blockCount);
      }
    }
    for (const [inode, extents] of this.#maps) this.#write(inode, merged(extents), isKept);
  }

  /** The first look at an inode frees its blocks; those that it keeps are marked again at the end. */
  #load(inode: number): ExtentLeaf[] {
    const known = this.#maps.get(inode);
    if (known !== undefined) return known;
    const slot = this.#editor.inodeSlot(inode);
    const flags = viewOf(slot).getUint32(INODE_FIELDS.flags.offset, true);
    if ((flags & INODE_FLAG.EXTENTS) === 0) {
      throw new InputError(`inode ${inode}`, "a fast commit changes it, but it has no extents");
    }
    const { image } = this.#editor;
    const nodes: number[] = [];
    const runs = blockRuns(image, uncheckedInode(image, inode, slot), {
      onMapBlock: ({ blockNumber }) => nodes.push(blockNumber),
    });
    for (const { startBlock, blockCount } of runs) this.#editor.freeBlocks(startBlock, blockCount);
    for (const block of nodes) this.#editor.freeBlocks(block, 1);
    const extents = [...runs];
    this.#maps.set(inode, extents);
    return extents;
  }

  #write(inode: number, leaves: ExtentLeaf[], isKept: (block: number) => boolean): void {
    const { image } = this.#editor;
    const { blockSizeBytes } = image.geometry;
    const slot = this.#editor.inodeSlot(inode);
    const generation = viewOf(slot).getUint32(INODE_FIELDS.generation.offset, true);
    const seed = image.seed === undefined ? undefined : inodeSeed(image.seed, inode, generation);
    const entriesMax = extentEntriesMax(blockSizeBytes);
    let [depth, nodeCount] = [0, 0];
    let indexes: ExtentIndex[] = [];
    for (let count = leaves.length; count > EXTENT_ROOT_ENTRIES_MAX; count = indexes.length) {
      const below = indexes;
      indexes = [];
      for (let at = 0; at < count; at += entriesMax) {
        const childBlock = this.#editor.allocateBlock(isKept);
        const block = this.#editor.blocks.edit(childBlock);
        const entries = depth === 0
          ? { leaves: leaves.slice(at, at + entriesMax) }
          : { indexes: below.slice(at, at + entriesMax) };
        encodeExtentNode(block, { depth, entriesMax, ...entries });
        if (seed !== undefined) sealExtentBlock(block, seed);
        const { logicalBlock } = (depth === 0 ? leaves : below)[at]!;
        indexes.push({ logicalBlock, childBlock });
        nodeCount++;
      }
      depth++;
    }
    const root = slot.subarray(BLOCK_FIELD_AT, BLOCK_FIELD_AT + INODE_BLOCK_FIELD_SIZE_BYTES);
    const entries = depth === 0 ? { leaves } : { indexes };
    encodeExtentNode(root, { depth, entriesMax: EXTENT_ROOT_ENTRIES_MAX, ...entries });
    const dataBlocks = leaves.reduce((sum, { blockCount }) => sum + blockCount, 0);
    writeBlockCount(slot, dataBlocks + nodeCount, blockSizeBytes);
    this.#editor.sealInode(inode);
  }
}

/** i_blocks, which counts the block of attributes too. */
function writeBlockCount(slot: Uint8Array, blocks: number, blockSizeBytes: number): void {
  const view = viewOf(slot);
  const hasXattrBlock = view.getUint32(INODE_FIELDS.xattrBlock.offset, true) !== 0 ||
    view.getUint16(INODE_AT.xattrBlockHigh, true) !== 0;
  const isHuge = (view.getUint32(INODE_FIELDS.flags.offset, true) & INODE_FLAG.HUGE_FILE) !== 0;
  const all = blocks + (hasXattrBlock ? 1 : 0);
  const count = isHuge ? all : all * (blockSizeBytes / SECTOR_SIZE_BYTES);
  view.setUint32(INODE_FIELDS.sectorCount.offset, count % 2 ** 32, true);
  view.setUint16(INODE_AT.blocksHigh, Math.floor(count / 2 ** 32), true);
}

/** The first extent that reaches beyond a logical block; their number when none does. */
function firstEndingAfter(extents: readonly ExtentLeaf[], logicalBlock: number): number {
  let [low, high] = [0, extents.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const extent = extents[middle]!;
    if (extent.logicalBlock + extent.blockCount <= logicalBlock) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** What of an extent lies between two logical blocks. */
function part(extent: ExtentLeaf, start: number, end: number): ExtentLeaf {
  return {
    ...extent,
    logicalBlock: start,
    blockCount: Math.max(0, end - start),
    startBlock: extent.startBlock + start - extent.logicalBlock,
  };
}

/** The same extents, neighbours as one where an extent can be so long. */
function merged(extents: readonly ExtentLeaf[]): ExtentLeaf[] {
  const result: ExtentLeaf[] = [];
  for (const extent of extents) {
    const last = result.at(-1);
    const follows = last !== undefined &&
      (last.unwritten ?? false) === (extent.unwritten ?? false) &&
      last.logicalBlock + last.blockCount === extent.logicalBlock &&
      last.startBlock + last.blockCount === extent.startBlock &&
      last.blockCount + extent.blockCount < EXTENT_BLOCKS_MAX;
    if (!follows) result.push(extent);
    else result[result.length - 1] = { ...last, blockCount: last.blockCount + extent.blockCount };
  }
  return result;
}
