/**
 * Extent trees: from the runs of a file to the root in its inode and the blocks below.
 *
 * Kernel: Documentation/filesystems/ext4, "Extent Tree".
 *
 * @module
 */
import { divCeil } from "../../bytes/arithmetic.ts";
import { BLOCK_SIZE_BYTES } from "../../model/payload.ts";
import type { ExtentIndex, ExtentLeaf } from "../format/extent.ts";
import {
  encodeExtentNode,
  EXTENT_ROOT_ENTRIES_MAX,
  extentEntriesMax,
  sealExtentBlock,
} from "../format/extent.ts";
import { INODE_BLOCK_FIELD_SIZE_BYTES } from "../format/inode.ts";

const NODE_ENTRIES_MAX = extentEntriesMax(BLOCK_SIZE_BYTES);

const NO_BYTES = new Uint8Array(0);

/** Blocks that the tree over `leafCount` extents needs besides its root. */
export function extentTreeBlockCount(leafCount: number): number {
  let blockCount = 0;
  for (let entries = leafCount; entries > EXTENT_ROOT_ENTRIES_MAX;) {
    entries = divCeil(entries, NODE_ENTRIES_MAX);
    blockCount += entries;
  }
  return blockCount;
}

/** A whole tree, encoded. */
export interface EncodedExtentTree {
  /** i_block. */
  readonly root: Uint8Array;
  /** The blocks below, in the order of the block numbers given. */
  readonly blocks: Uint8Array;
}

/**
 * Encodes the tree over `leaves`. Its lowest level comes first in `treeBlocks`.
 *
 * @param inodeSeed checksum seed of the inode; undefined without checksums
 */
export function encodeExtentTree(
  leaves: readonly ExtentLeaf[],
  treeBlocks: readonly number[],
  inodeSeed: number | undefined,
): EncodedExtentTree {
  const root = new Uint8Array(INODE_BLOCK_FIELD_SIZE_BYTES);
  const blocks = treeBlocks.length === 0
    ? NO_BYTES
    : new Uint8Array(treeBlocks.length * BLOCK_SIZE_BYTES);
  if (leaves.length <= EXTENT_ROOT_ENTRIES_MAX) {
    encodeExtentNode(root, { depth: 0, entriesMax: EXTENT_ROOT_ENTRIES_MAX, leaves });
    return { root, blocks };
  }
  let nextBlock = 0;
  let depth = 0;
  let children: readonly ExtentIndex[] = [];
  let entryCount = leaves.length;
  while (entryCount > EXTENT_ROOT_ENTRIES_MAX) {
    const parents: ExtentIndex[] = [];
    for (let from = 0; from < entryCount; from += NODE_ENTRIES_MAX) {
      const at = nextBlock * BLOCK_SIZE_BYTES;
      const block = blocks.subarray(at, at + BLOCK_SIZE_BYTES);
      const part = depth === 0
        ? { leaves: leaves.slice(from, from + NODE_ENTRIES_MAX) }
        : { indexes: children.slice(from, from + NODE_ENTRIES_MAX) };
      encodeExtentNode(block, { depth, entriesMax: NODE_ENTRIES_MAX, ...part });
      if (inodeSeed !== undefined) sealExtentBlock(block, inodeSeed);
      const first = depth === 0 ? leaves[from]! : children[from]!;
      parents.push({ logicalBlock: first.logicalBlock, childBlock: treeBlocks[nextBlock]! });
      nextBlock++;
    }
    children = parents;
    entryCount = parents.length;
    depth++;
  }
  encodeExtentNode(root, { depth, entriesMax: EXTENT_ROOT_ENTRIES_MAX, indexes: children });
  return { root, blocks };
}
