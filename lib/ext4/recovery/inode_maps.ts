/**
 * Changes the maps of inodes: truncates them in place, as the kernel's ext4_truncate() does (fs/ext4/extents.c,
 * fs/ext4/indirect.c), or keeps them as lists of extents, which are written as trees after all changes.
 *
 * @module
 */
import { firstIndex } from "../../bytes/arithmetic.ts";
import { InputError } from "../../errors.ts";
import { EXTENT_BLOCKS_MAX, INODE_FLAG } from "../format/constants.ts";
import {
  decodeExtentNode,
  encodeExtentNode,
  EXTENT_ENTRY_SIZE_BYTES,
  EXTENT_ROOT_ENTRIES_MAX,
  extentEntriesMax,
  type ExtentIndex,
  type ExtentLeaf,
  sealExtentBlock,
} from "../format/extent.ts";
import { viewOf } from "../format/fields.ts";
import { decodeInode } from "../format/inode.ts";
import { readBlockMap } from "../volume/block_map.ts";
import { seedOf } from "../volume/inode.ts";
import type { VolumeEditor } from "./volume_editor.ts";

/** The maps of changed inodes. Their blocks count as free until the end. */
export class InodeMaps {
  readonly #editor: VolumeEditor;
  readonly #maps = new Map<number, ExtentLeaf[]>();

  constructor(editor: VolumeEditor) {
    this.#editor = editor;
  }

  /**
   * The extents of an inode, in order. The first access frees its blocks; those that it keeps are marked again at the
   * end.
   *
   * @throws {InputError} for an inode with no extents, or damaged ones
   */
  extents(number: number): ExtentLeaf[] {
    const known = this.#maps.get(number);
    if (known !== undefined) return known;
    const view = this.#editor.inode(number);
    const what = `inode ${number}`;
    if (!view.usesExtents) {
      throw new InputError(what, "a fast commit changes it, but it has no extents");
    }
    decodeInode(view.slot, what);
    const nodes: number[] = [];
    const { runs } = view.hasInlineData ? { runs: [] } : readBlockMap(this.#editor.image, view, {
      onMapBlock: ({ blockNumber }) => nodes.push(blockNumber),
    });
    for (const { startBlock, blockCount } of runs) this.#editor.freeBlocks(startBlock, blockCount);
    for (const block of nodes) this.#editor.freeBlocks(block, 1);
    const extents = [...runs];
    this.#maps.set(number, extents);
    return extents;
  }

  clear(inode: number): void {
    this.extents(inode);
    this.#maps.set(inode, []);
  }

  put(inode: number, extent: ExtentLeaf): void {
    this.remove(inode, extent.logicalBlock, extent.blockCount);
    const extents = this.extents(inode);
    extents.splice(firstEndingAfter(extents, extent.logicalBlock), 0, extent);
  }

  remove(inode: number, logicalBlock: number, blockCount: number): void {
    const end = logicalBlock + blockCount;
    const extents = this.extents(inode);
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

  /** Writes all trees and marks their blocks as used. */
  finish(): void {
    for (const extents of this.#maps.values()) {
      for (const { startBlock, blockCount } of extents) {
        this.#editor.useBlocks(startBlock, blockCount);
      }
    }
    for (const [inode, extents] of this.#maps) this.#write(inode, merged(extents));
  }

  #write(number: number, leaves: ExtentLeaf[]): void {
    const { image } = this.#editor;
    const view = this.#editor.inode(number);
    const seed = seedOf(image, view);
    const entriesMax = extentEntriesMax(image.blockSizeBytes);
    let [depth, nodeCount] = [0, 0];
    let indexes: ExtentIndex[] = [];
    for (let count = leaves.length; count > EXTENT_ROOT_ENTRIES_MAX; count = indexes.length) {
      const below = indexes;
      indexes = [];
      for (let at = 0; at < count; at += entriesMax) {
        const childBlock = this.#editor.allocateBlock();
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
    const entries = depth === 0 ? { leaves } : { indexes };
    encodeExtentNode(view.blockField, { depth, entriesMax: EXTENT_ROOT_ENTRIES_MAX, ...entries });
    // i_blocks includes the attribute block.
    const blocks = leaves.reduce((sum, { blockCount }) => sum + blockCount, nodeCount) +
      (view.xattrBlock !== 0 ? 1 : 0);
    const sectorCount = blocks * (image.blockSizeBytes / this.#editor.countUnitBytes(view));
    this.#editor.editInode(number, { sectorCount });
  }
}

/** Index of the first extent that reaches beyond a logical block; their number if none does. */
function firstEndingAfter(extents: readonly ExtentLeaf[], logicalBlock: number): number {
  return firstIndex(extents.length, (i) => {
    const extent = extents[i]!;
    return extent.logicalBlock + extent.blockCount > logicalBlock;
  });
}

function part(extent: ExtentLeaf, start: number, end: number): ExtentLeaf {
  return {
    ...extent,
    logicalBlock: start,
    blockCount: Math.max(0, end - start),
    startBlock: extent.startBlock + start - extent.logicalBlock,
  };
}

/** The same extents with neighbours merged, up to the maximum length. */
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

interface Cut {
  readonly editor: VolumeEditor;
  readonly what: string;
  /** The first logical block to remove. */
  readonly endBlock: number;
  readonly seed: number | undefined;
  /** The last physical block that stays. Its whole cluster stays. */
  keptBlock: number | undefined;
  freedClusters: number;
}

const HEADER_AT = { entryCount: 2, entriesMax: 4, depth: 6 } as const;
const LEAF_LENGTH_AT = 4;
const UNWRITTEN = 0x8000;
const DIRECT_COUNT = 12;
const LEVELS = 3;

/**
 * Removes all blocks that an inode maps from a logical block on. The caller updates the inode's checksum.
 *
 * @returns how many clusters became free
 * @throws {InputError} for a damaged map
 */
export function truncateMap(editor: VolumeEditor, number: number, endBlock: number): number {
  const view = editor.inode(number);
  if (view.hasInlineData) return 0;
  const cut: Cut = {
    editor,
    what: `inode ${number}`,
    endBlock,
    seed: seedOf(editor.image, view),
    keptBlock: undefined,
    freedClusters: 0,
  };
  if ((view.flags & INODE_FLAG.EXTENTS) !== 0) cutExtentRoot(cut, view.blockField);
  else cutPointers(cut, view.blockField);
  return cut.freedClusters;
}

function free(cut: Cut, startBlock: number, blockCount: number): void {
  cut.freedClusters += cut.editor.freeBlocks(startBlock, blockCount, cut.keptBlock);
}

function cutExtentRoot(cut: Cut, root: Uint8Array): void {
  const { depth } = decodeExtentNode(root, cut.what);
  if (!cutExtentNode(cut, root, depth)) return;
  const view = viewOf(root);
  view.setUint16(HEADER_AT.depth, 0, true);
  view.setUint16(HEADER_AT.entriesMax, EXTENT_ROOT_ENTRIES_MAX, true);
}

/** Returns whether the node is now empty. */
function cutExtentNode(cut: Cut, node: Uint8Array, depth: number): boolean {
  const decoded = decodeExtentNode(node, cut.what);
  if (decoded.depth !== depth) throw new InputError(cut.what, "its extent tree is damaged");
  const view = viewOf(node);
  let left = 0;
  for (const [i, { logicalBlock, blockCount, startBlock, unwritten }] of decoded.leaves.entries()) {
    const kept = Math.min(blockCount, Math.max(0, cut.endBlock - logicalBlock));
    if (kept > 0) {
      left = i + 1;
      cut.keptBlock = startBlock + kept - 1;
    }
    if (kept === blockCount) continue;
    free(cut, startBlock + kept, blockCount - kept);
    if (kept === 0) continue;
    const at = EXTENT_ENTRY_SIZE_BYTES * (1 + i) + LEAF_LENGTH_AT;
    view.setUint16(at, unwritten ? kept + UNWRITTEN : kept, true);
  }
  for (const [i, { childBlock }] of decoded.indexes.entries()) {
    const next = decoded.indexes[i + 1]?.logicalBlock;
    const isWhole = next !== undefined && next <= cut.endBlock;
    if (isWhole || !cutExtentChild(cut, childBlock, depth - 1)) left = i + 1;
    else free(cut, childBlock, 1);
  }
  view.setUint16(HEADER_AT.entryCount, left, true);
  return left === 0;
}

function cutExtentChild(cut: Cut, blockNumber: number, depth: number): boolean {
  cut.editor.image.checkRange(blockNumber, 1, cut.what);
  const block = cut.editor.blocks.edit(blockNumber);
  const isEmpty = cutExtentNode(cut, block, depth);
  if (cut.seed !== undefined) sealExtentBlock(block, cut.seed);
  return isEmpty;
}

function cutPointers(cut: Cut, root: Uint8Array): void {
  const pointersPerBlock = cut.editor.image.blockSizeBytes / 4;
  const view = viewOf(root);
  let logicalBlock = 0;
  for (let i = 0; i < DIRECT_COUNT + LEVELS; i++) {
    const level = Math.max(0, i - DIRECT_COUNT + 1);
    const span = pointersPerBlock ** level;
    if (logicalBlock + span > cut.endBlock) cutPointer(cut, view, 4 * i, { level, logicalBlock });
    logicalBlock += span;
  }
}

function cutPointer(
  cut: Cut,
  view: DataView<ArrayBufferLike>,
  at: number,
  { level, logicalBlock }: { readonly level: number; readonly logicalBlock: number },
): void {
  const blockNumber = view.getUint32(at, true);
  if (blockNumber === 0) return;
  cut.editor.image.checkRange(blockNumber, 1, cut.what);
  if (level > 0) {
    const pointersPerBlock = cut.editor.image.blockSizeBytes / 4;
    const span = pointersPerBlock ** (level - 1);
    const bytes = cut.editor.blocks.edit(blockNumber);
    const block = viewOf(bytes);
    for (let i = 0; i < pointersPerBlock; i++) {
      const start = logicalBlock + i * span;
      if (start + span <= cut.endBlock) continue;
      cutPointer(cut, block, 4 * i, { level: level - 1, logicalBlock: start });
    }
    if (bytes.some((byte) => byte !== 0)) return;
  } else if (logicalBlock < cut.endBlock) return;
  free(cut, blockNumber, 1);
  view.setUint32(at, 0, true);
}
