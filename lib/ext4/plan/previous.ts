/**
 * What a plan takes over from a previous image: which inode and which blocks a node of the tree had there.
 *
 * The bytes of files always come from the new source. A match only decides where they lie, so a wrong guess costs a
 * cell but never makes a wrong image. This module also decides which of the old bytes stay in blocks that are now free,
 * and how far such an image may drift from a fresh layout.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { ByteString } from "../../bytes/byte_string.ts";
import { exactSize } from "../../bytes/arithmetic.ts";
import {
  type BlockRange,
  endOf,
  overlapsAny,
  subtractRanges,
  uniteRanges,
} from "../../layout/blocks.ts";
import { type Extent, roundedToGrid } from "../../layout/placement.ts";
import {
  BLOCK_SIZE_BYTES,
  type FileNode,
  type FileTree,
  type PayloadIndex,
  sortedChildren,
  type TreeNode,
} from "../../model/node.ts";
import { INODE_NUMBER } from "../format/constants.ts";
import type { Superblock } from "../format/superblock.ts";
import type { DirectoryIndex } from "./directories.ts";
import type { ImagePlan, MetadataWrite } from "./image_plan.ts";
import type { InodeNumbers } from "./inode_drafts.ts";

/** An inode of a previous image. */
export interface PreviousNode {
  /** From 1. */
  readonly inodeNumber: number;
  /** The kind given by its mode. */
  readonly kind: TreeNode["kind"];
  /** Its blocks, as a plan would map them; empty if it has none or maps them differently. */
  readonly extents: readonly Extent[];
  /** The extent tree's blocks, lowest level first. */
  readonly treeBlocks: readonly number[];
  /** The block of its attributes; 0 for none. */
  readonly xattrBlock: number;
  /** Children of a directory. */
  readonly children?: ReadonlyMap<ByteString, PreviousNode> | undefined;
  /** Index of a hashed directory. */
  readonly index?: DirectoryIndex | undefined;
  /** Content of a file. */
  readonly payload?: Pick<PayloadIndex, "sizeBytes" | "dataRuns" | "contentHash"> | undefined;
}

/** Where the metadata of a group is. */
export interface PreviousGroup {
  /** The block of its block bitmap. */
  readonly blockBitmapBlock: number;
  /** The block of its inode bitmap. */
  readonly inodeBitmapBlock: number;
  /** The first block of its inode table. */
  readonly inodeTableBlock: number;
}

/** The parts of a previous image that a plan needs. */
export interface PreviousImage {
  /** Its name in messages. */
  readonly name: string;
  /** Its primary superblock. */
  readonly superblock: Superblock;
  /** Groups by number. */
  readonly groups: readonly PreviousGroup[];
  /** Undefined without a journal. */
  readonly journal: Pick<PreviousNode, "extents" | "treeBlocks"> | undefined;
  /** Its root directory. */
  readonly root: PreviousNode;
  /** Every block that is not all zeros, in use or not; ascending and merged. */
  readonly dataRanges: readonly BlockRange[];
  /** Reads its blocks. */
  readonly read: (startBlock: number, blockCount: number) => Uint8Array;
}

/** Which inode of a previous image each tree node continues. */
export class PreviousMatches {
  /** The inode that a node continues. */
  readonly inodes = new Map<TreeNode, PreviousNode>();
  /** The inode that has a file's content. */
  readonly contents = new Map<FileNode, PreviousNode>();

  /**
   * A node continues the inode at its path, whatever has become of it. A file at another path continues an inode that
   * has its content and that no other node continues.
   */
  constructor(tree: FileTree, previous: PreviousImage) {
    const claimed = new Set<PreviousNode>();
    const newFiles = this.#matchPaths(tree, previous, claimed);
    const byContent = new Map<string, PreviousNode[]>();
    for (const node of filesOf(previous.root)) {
      const key = contentKey(node.payload!);
      const known = byContent.get(key);
      if (known) known.push(node);
      else byContent.set(key, [node]);
    }
    const usedContents = new Set(this.contents.values());
    for (const node of newFiles) {
      const candidates = byContent.get(contentKey(node.payload)) ?? [];
      while (candidates.length > 0 && usedContents.has(candidates[0]!)) candidates.shift();
      const found = candidates[0];
      if (found === undefined || !hasSameContent(node, found)) continue;
      usedContents.add(found);
      this.contents.set(node, found);
      if (this.inodes.has(node) || claimed.has(found)) continue;
      claimed.add(found);
      this.inodes.set(node, found);
    }
  }

  /** Kept numbers, and the lowest free ones for all other nodes. */
  numbers(): InodeNumbers {
    const taken = new Set<number>();
    for (const { inodeNumber } of this.inodes.values()) taken.add(inodeNumber);
    let last: number = INODE_NUMBER.FIRST_USABLE - 1;
    const next = () => {
      do last++; while (taken.has(last));
      return last;
    };
    return { ofNode: (node) => this.inodes.get(node)?.inodeNumber ?? next(), next };
  }

  /** Returns the files with data whose content is not where it was. */
  #matchPaths(tree: FileTree, previous: PreviousImage, claimed: Set<PreviousNode>): FileNode[] {
    const changed = new Set<FileNode>();
    const pending: [TreeNode, PreviousNode | undefined][] = [[tree.root, previous.root]];
    for (let item = pending.pop(); item; item = pending.pop()) {
      const [node, found] = item;
      if (found !== undefined && !this.inodes.has(node) && !claimed.has(found)) {
        claimed.add(found);
        this.inodes.set(node, found);
      }
      if (node.kind === "file") {
        if (node.payload.dataRuns.length === 0) continue;
        const isKept = this.inodes.get(node) === found && found !== undefined &&
          hasSameContent(node, found);
        if (isKept) this.contents.set(node, found);
        if (!this.contents.has(node)) changed.add(node);
        else changed.delete(node);
      }
      if (node.kind !== "directory") continue;
      const children = sortedChildren(node);
      for (let i = children.length - 1; i >= 0; i--) {
        const [name, child] = children[i]!;
        pending.push([child, found?.children?.get(name)]);
      }
    }
    return [...changed];
  }
}

/** Yields every file with data, in path order, each once. */
function* filesOf(root: PreviousNode): Generator<PreviousNode> {
  const seen = new Set<PreviousNode>();
  const pending = [root];
  for (let node = pending.pop(); node; node = pending.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    if (node.payload !== undefined && node.payload.dataRuns.length > 0) yield node;
    if (node.children === undefined) continue;
    const names = [...node.children.keys()].sort().reverse();
    for (const name of names) pending.push(node.children.get(name)!);
  }
}

function contentKey({ sizeBytes, contentHash }: Pick<PayloadIndex, "sizeBytes" | "contentHash">) {
  return `${sizeBytes}:${contentHash}`;
}

function hasSameContent({ payload }: FileNode, { payload: found }: PreviousNode): boolean {
  if (found === undefined || contentKey(payload) !== contentKey(found)) return false;
  return payload.dataRuns.length === found.dataRuns.length &&
    payload.dataRuns.every(({ startBlock, blockCount }, i) =>
      startBlock === found.dataRuns[i]!.startBlock && blockCount === found.dataRuns[i]!.blockCount
    );
}

/** If stale bytes exceed this share of the bytes in use, all are cleared. */
const STALE_SHARE_MAX = 1 / 20;
/** An image that exceeds a fresh one by this share, and by some cells, is laid out afresh. */
const SIZE_SHARE_MAX = 1 / 4;
const SIZE_CELLS_MIN = 64;
const PIECE_BLOCKS = 256;

/**
 * Free blocks that keep their bytes of the previous image: those in cells where nothing else changes. In any other
 * cell, and in one that holds nothing any more, they would cost more than they save.
 */
export function staleRanges(
  plan: ImagePlan,
  isKept: Uint8Array,
  previous: PreviousImage,
): BlockRange[] {
  const { gridBlocks, usedRanges, totalBlocks } = plan;
  const inImage = [{ startBlock: 0, blockCount: totalBlocks }];
  const beyond = subtractRanges(previous.dataRanges, inImage);
  const free = subtractRanges(subtractRanges(previous.dataRanges, beyond), usedRanges);
  const usedCells = uniteRanges(roundedToGrid(usedRanges, gridBlocks));
  const freeCells = uniteRanges(roundedToGrid(free, gridBlocks));
  const changed: BlockRange[] = subtractRanges(freeCells, usedCells);
  plan.files.forEach(({ extents }, i) => {
    if (isKept[i] === 0) changed.push(...extents);
  });
  for (const write of plan.metadata) {
    const range = blocksOf(write);
    if (!overlapsAny(range, freeCells)) continue;
    const bytes = write.encode();
    const before = previous.read(range.startBlock, range.blockCount);
    const inset = write.offsetBytes - range.startBlock * BLOCK_SIZE_BYTES;
    for (let block = 0; block < range.blockCount; block++) {
      const at = Math.max(0, block * BLOCK_SIZE_BYTES - inset);
      const end = Math.min(bytes.length, (block + 1) * BLOCK_SIZE_BYTES - inset);
      const old = before.subarray(inset + at, inset + end);
      if (Buffer.compare(bytes.subarray(at, end), old) === 0) continue;
      changed.push({ startBlock: range.startBlock + block, blockCount: 1 });
    }
  }
  const changedCells = uniteRanges(roundedToGrid(uniteRanges(changed), gridBlocks));
  return subtractRanges(free, changedCells);
}

/** Writes that restore the previous image's bytes in free blocks. */
export function staleWrites(range: BlockRange, previous: PreviousImage): MetadataWrite[] {
  const writes: MetadataWrite[] = [];
  for (let at = range.startBlock; at < endOf(range); at += PIECE_BLOCKS) {
    const blockCount = Math.min(PIECE_BLOCKS, endOf(range) - at);
    writes.push({
      offsetBytes: at * BLOCK_SIZE_BYTES,
      sizeBytes: blockCount * BLOCK_SIZE_BYTES,
      encode: () => previous.read(at, blockCount),
    });
  }
  return writes;
}

/** Why there are too many stale bytes to keep; undefined if there are not. */
export function staleExcess(staleBytes: number, fresh: ImagePlan): string | undefined {
  const staleMax = Math.floor(fresh.summary.usedBytes * STALE_SHARE_MAX);
  if (staleBytes <= staleMax) return undefined;
  return `it would have ${exactSize(staleBytes)} of stale bytes, over ${exactSize(staleMax)}`;
}

/** Why an image is too far from a fresh layout to be continued; undefined if it is not. */
export function driftOf(plan: ImagePlan, fresh: ImagePlan): string | undefined {
  const excess = plan.totalBlocks - fresh.totalBlocks;
  const isLarge = excess > fresh.totalBlocks * SIZE_SHARE_MAX &&
    excess > SIZE_CELLS_MIN * plan.gridBlocks;
  if (!isLarge) return undefined;
  return `it would have ${exactSize(plan.summary.sizeBytes)}, a fresh layout has ` +
    exactSize(fresh.summary.sizeBytes);
}

function blocksOf({ offsetBytes, sizeBytes }: MetadataWrite): BlockRange {
  const startBlock = Math.floor(offsetBytes / BLOCK_SIZE_BYTES);
  const endBlock = Math.ceil((offsetBytes + sizeBytes) / BLOCK_SIZE_BYTES);
  return { startBlock, blockCount: endBlock - startBlock };
}
