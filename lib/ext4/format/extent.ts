/**
 * Extent tree nodes (kernel documentation, "Extent Tree"; fs/ext4/ext4_extents.h): a header and 12-byte entries, in the
 * inode's i_block or in a block of their own, which then ends with a checksum.
 *
 * @module
 */
import { crc32c } from "../../bytes/crc32c.ts";
import { invariant } from "../../errors.ts";
import { EXTENT_BLOCKS_MAX } from "./constants.ts";
import { viewOf } from "./fields.ts";

/** A run of logical blocks that lies in one run of physical blocks. */
export interface ExtentLeaf {
  readonly logicalBlock: number;
  readonly blockCount: number;
  readonly startBlock: number;
  /** Allocated but reads as zeros. */
  readonly unwritten?: boolean;
}

/** A pointer to the node that maps everything from a logical block on. */
export interface ExtentIndex {
  readonly logicalBlock: number;
  readonly childBlock: number;
}

/** One node: leaves at depth 0, indexes above. */
export interface ExtentNode {
  readonly depth: number;
  readonly entriesMax: number;
  readonly leaves?: readonly ExtentLeaf[];
  readonly indexes?: readonly ExtentIndex[];
}

/** Entries that fit i_block. */
export const EXTENT_ROOT_ENTRIES_MAX = 4;
/** The deepest tree the kernel follows (EXT4_MAX_EXTENT_DEPTH). */
export const EXTENT_DEPTH_MAX = 5;
/** eh_magic. */
export const EXTENT_MAGIC = 0xf30a;
/** Bytes of the header and of each entry. */
export const EXTENT_ENTRY_SIZE_BYTES = 12;

/** Offsets in struct ext4_extent_header. */
export const HEADER_AT = {
  magic: 0, // eh_magic
  entryCount: 2, // eh_entries
  entriesMax: 4, // eh_max
  depth: 6, // eh_depth
  generation: 8, // eh_generation
} as const;

/** Offsets in struct ext4_extent. */
export const LEAF_AT = {
  logicalBlock: 0, // ee_block
  length: 4, // ee_len
  startHigh: 6, // ee_start_hi
  startLow: 8, // ee_start_lo
} as const;

/** Offsets in struct ext4_extent_idx. */
export const INDEX_AT = {
  logicalBlock: 0, // ei_block
  childLow: 4, // ei_leaf_lo
  childHigh: 8, // ei_leaf_hi
} as const;

const TWO_32 = 2 ** 32;

/** How many entries fit a block of their own: 340 at 4 KiB. The 4-byte tail fits in what is left over. */
export function extentEntriesMax(blockSizeBytes: number): number {
  return Math.floor((blockSizeBytes - EXTENT_ENTRY_SIZE_BYTES - 4) / EXTENT_ENTRY_SIZE_BYTES);
}

/**
 * Writes a node's header and entries; the rest of `target` (i_block, or a whole block) becomes zero. A block still
 * needs sealExtentBlock() when the file system has metadata checksums.
 */
export function encodeExtentNode(target: Uint8Array, node: ExtentNode): void {
  const leaves = node.leaves ?? [];
  const indexes = node.indexes ?? [];
  const entryCount = node.depth === 0 ? leaves.length : indexes.length;
  invariant(
    (node.depth === 0 ? indexes.length : leaves.length) === 0 && node.depth >= 0 &&
      node.depth <= EXTENT_DEPTH_MAX && entryCount <= node.entriesMax &&
      EXTENT_ENTRY_SIZE_BYTES * (1 + node.entriesMax) <= target.length,
    `an extent node of depth ${node.depth} with ${entryCount} of ${node.entriesMax} entries ` +
      `in ${target.length} bytes`,
  );
  target.fill(0);
  const view = viewOf(target);
  view.setUint16(HEADER_AT.magic, EXTENT_MAGIC, true);
  view.setUint16(HEADER_AT.entryCount, entryCount, true);
  view.setUint16(HEADER_AT.entriesMax, node.entriesMax, true);
  view.setUint16(HEADER_AT.depth, node.depth, true);
  let at = EXTENT_ENTRY_SIZE_BYTES;
  for (const leaf of leaves) {
    writeLeaf(view, at, leaf);
    at += EXTENT_ENTRY_SIZE_BYTES;
  }
  for (const index of indexes) {
    writeIndex(view, at, index);
    at += EXTENT_ENTRY_SIZE_BYTES;
  }
}

function writeLeaf(view: DataView<ArrayBufferLike>, at: number, leaf: ExtentLeaf): void {
  const { logicalBlock, blockCount, startBlock } = leaf;
  const isUnwritten = leaf.unwritten === true;
  invariant(
    blockCount >= 1 && blockCount <= EXTENT_BLOCKS_MAX - (isUnwritten ? 1 : 0) &&
      logicalBlock >= 0 && logicalBlock + blockCount <= TWO_32 &&
      startBlock >= 0 && startBlock < 2 ** 48,
    `an extent of ${blockCount} blocks from logical ${logicalBlock} at ${startBlock}`,
  );
  view.setUint32(at + LEAF_AT.logicalBlock, logicalBlock, true);
  // Lengths above 32768 mark an unwritten extent; 32768 itself is a written one.
  const length = isUnwritten ? blockCount + EXTENT_BLOCKS_MAX : blockCount;
  view.setUint16(at + LEAF_AT.length, length, true);
  view.setUint16(at + LEAF_AT.startHigh, Math.floor(startBlock / TWO_32), true);
  view.setUint32(at + LEAF_AT.startLow, startBlock % TWO_32, true);
}

function writeIndex(view: DataView<ArrayBufferLike>, at: number, index: ExtentIndex): void {
  const { logicalBlock, childBlock } = index;
  invariant(
    logicalBlock >= 0 && logicalBlock < TWO_32 && childBlock > 0 && childBlock < 2 ** 48,
    `an extent index from logical ${logicalBlock} to block ${childBlock}`,
  );
  view.setUint32(at + INDEX_AT.logicalBlock, logicalBlock, true);
  view.setUint32(at + INDEX_AT.childLow, childBlock % TWO_32, true);
  view.setUint16(at + INDEX_AT.childHigh, Math.floor(childBlock / TWO_32), true);
}

/** Writes the checksum (et_checksum) behind the room for entries. `inodeSeed` is that of the inode that owns it. */
export function sealExtentBlock(block: Uint8Array, inodeSeed: number): void {
  const tail = extentTailOffset(block);
  viewOf(block).setUint32(tail, crc32c(inodeSeed, block.subarray(0, tail)), true);
}

/** Where a block's checksum is: eh_max says how much room the entries have. */
export function extentTailOffset(block: Uint8Array): number {
  const entriesMax = viewOf(block).getUint16(HEADER_AT.entriesMax, true);
  const tail = EXTENT_ENTRY_SIZE_BYTES * (1 + entriesMax);
  invariant(tail + 4 <= block.length, `an extent block with eh_max ${entriesMax}`);
  return tail;
}
