/**
 * Extent tree nodes (kernel documentation, "Extent Tree"; fs/ext4/ext4_extents.h): a header and 12-byte entries, in the
 * inode's i_block or in a block of their own that ends with a checksum.
 *
 * @module
 */
import { divCeil, littleEndianWords } from "../../bytes/arithmetic.ts";
import { crc32c } from "../../bytes/crc32c.ts";
import { InputError, invariant } from "../../errors.ts";
import { BLOCK_SIZE_BYTES } from "../../model/node.ts";
import { checkChecksum } from "./checksum.ts";
import { EXTENT_BLOCKS_MAX } from "./constants.ts";
import { viewOf } from "./fields.ts";

/** Consecutive logical blocks in consecutive physical blocks. */
export interface ExtentLeaf {
  readonly logicalBlock: number;
  readonly blockCount: number;
  readonly startBlock: number;
  /** Allocated, but reads as zeros. */
  readonly unwritten?: boolean | undefined;
}

/** A pointer to the node that maps the blocks from a logical block on. */
export interface ExtentIndex {
  readonly logicalBlock: number;
  readonly childBlock: number;
}

/** One node: leaves at depth 0, indexes above. */
interface ExtentNode {
  readonly depth: number;
  readonly entriesMax: number;
  readonly leaves?: readonly ExtentLeaf[] | undefined;
  readonly indexes?: readonly ExtentIndex[] | undefined;
}

/** How many entries fit in i_block. */
export const EXTENT_ROOT_ENTRIES_MAX = 4;
const EXTENT_ROOT_SIZE_BYTES = 60;
/** The deepest tree the kernel follows (EXT4_MAX_EXTENT_DEPTH). */
const EXTENT_DEPTH_MAX = 5;
export const EXTENT_MAGIC = 0xf30a;
/** Bytes of the header and of each entry. */
export const EXTENT_ENTRY_SIZE_BYTES = 12;

/** Offsets in struct ext4_extent_header. */
const HEADER_AT = {
  magic: 0, // eh_magic
  entryCount: 2, // eh_entries
  entriesMax: 4, // eh_max
  depth: 6, // eh_depth
} as const;

/** Offsets in struct ext4_extent. */
const LEAF_AT = {
  logicalBlock: 0, // ee_block
  length: 4, // ee_len
  startHigh: 6, // ee_start_hi
  startLow: 8, // ee_start_lo
} as const;

/** Offsets in struct ext4_extent_idx. */
const INDEX_AT = {
  logicalBlock: 0, // ei_block
  childLow: 4, // ei_leaf_lo
  childHigh: 8, // ei_leaf_hi
} as const;

const TWO_32 = 2 ** 32;

/** How many entries fit in a block: 340 at 4 KiB. The 4-byte tail fits in the remainder. */
export function extentEntriesMax(blockSizeBytes: number): number {
  return Math.floor((blockSizeBytes - EXTENT_ENTRY_SIZE_BYTES - 4) / EXTENT_ENTRY_SIZE_BYTES);
}

/**
 * Writes a node's header and entries and zeros the rest of `target` (i_block or a whole block). A block still needs
 * sealExtentBlock() if the file system has metadata checksums.
 */
export function encodeExtentNode(target: Uint8Array, node: ExtentNode): void {
  const { depth, entriesMax, leaves = NO_ENTRIES, indexes = NO_ENTRIES } = node;
  const entryCount = depth === 0 ? leaves.length : indexes.length;
  const fits = (depth === 0 ? indexes.length : leaves.length) === 0 && depth >= 0 &&
    depth <= EXTENT_DEPTH_MAX && entryCount <= entriesMax &&
    EXTENT_ENTRY_SIZE_BYTES * (1 + entriesMax) <= target.length;
  // Build messages only when needed: every file has a node.
  if (!fits) {
    const found = `an extent node of depth ${depth} with ${entryCount} of ${entriesMax} entries`;
    invariant(false, `${found} in ${target.length} bytes`);
  }
  target.fill(0);
  putUint16(target, HEADER_AT.magic, EXTENT_MAGIC);
  putUint16(target, HEADER_AT.entryCount, entryCount);
  putUint16(target, HEADER_AT.entriesMax, entriesMax);
  putUint16(target, HEADER_AT.depth, depth);
  let at = EXTENT_ENTRY_SIZE_BYTES;
  for (const leaf of leaves) {
    writeLeaf(target, at, leaf);
    at += EXTENT_ENTRY_SIZE_BYTES;
  }
  for (const index of indexes) {
    writeIndex(target, at, index);
    at += EXTENT_ENTRY_SIZE_BYTES;
  }
}

const NO_ENTRIES: readonly never[] = [];

function writeLeaf(target: Uint8Array, at: number, leaf: ExtentLeaf): void {
  const { logicalBlock, blockCount, startBlock } = leaf;
  const isUnwritten = leaf.unwritten === true;
  const fits = blockCount >= 1 && blockCount <= EXTENT_BLOCKS_MAX - (isUnwritten ? 1 : 0) &&
    logicalBlock >= 0 && logicalBlock + blockCount <= TWO_32 &&
    startBlock >= 0 && startBlock < 2 ** 48;
  if (!fits) {
    const what = `an extent of ${blockCount} blocks from logical ${logicalBlock} at ${startBlock}`;
    invariant(false, what);
  }
  putUint32(target, at + LEAF_AT.logicalBlock, logicalBlock);
  // Lengths above 32768 mark an unwritten extent; 32768 itself is a written one.
  const length = isUnwritten ? blockCount + EXTENT_BLOCKS_MAX : blockCount;
  putUint16(target, at + LEAF_AT.length, length);
  putUint16(target, at + LEAF_AT.startHigh, Math.floor(startBlock / TWO_32));
  putUint32(target, at + LEAF_AT.startLow, startBlock);
}

function writeIndex(target: Uint8Array, at: number, index: ExtentIndex): void {
  const { logicalBlock, childBlock } = index;
  invariant(
    logicalBlock >= 0 && logicalBlock < TWO_32 && childBlock > 0 && childBlock < 2 ** 48,
    `an extent index from logical ${logicalBlock} to block ${childBlock}`,
  );
  putUint32(target, at + INDEX_AT.logicalBlock, logicalBlock);
  putUint32(target, at + INDEX_AT.childLow, childBlock);
  putUint16(target, at + INDEX_AT.childHigh, Math.floor(childBlock / TWO_32));
}

/** Byte by byte: creating a view of i_block takes longer than writing all its words. */
function putUint16(target: Uint8Array, at: number, value: number): void {
  target[at] = value;
  target[at + 1] = value >>> 8;
}

function putUint32(target: Uint8Array, at: number, value: number): void {
  const low = value | 0;
  target[at] = low;
  target[at + 1] = low >>> 8;
  target[at + 2] = low >>> 16;
  target[at + 3] = low >>> 24;
}

/** Writes the checksum (et_checksum) after the room for entries. `inodeSeed` is the owning inode's. */
export function sealExtentBlock(block: Uint8Array, inodeSeed: number): void {
  const tail = extentTailOffset(block, "extent block");
  viewOf(block).setUint32(tail, crc32c(inodeSeed, block.subarray(0, tail)), true);
}

/** Throws InputError, with `what` in it, if an extent block's checksum is wrong. */
export function verifyExtentBlock(block: Uint8Array, inodeSeed: number, what: string): void {
  const tail = extentTailOffset(block, what);
  const stored = viewOf(block).getUint32(tail, true);
  checkChecksum(what, stored, crc32c(inodeSeed, block.subarray(0, tail)));
}

/** The checksum's offset, which follows from eh_max. */
function extentTailOffset(block: Uint8Array, what: string): number {
  const entriesMax = viewOf(block).getUint16(HEADER_AT.entriesMax, true);
  const tail = EXTENT_ENTRY_SIZE_BYTES * (1 + entriesMax);
  if (tail + 4 <= block.length) return tail;
  throw new InputError(what, `room for ${entriesMax} entries leaves none for its checksum`);
}

const NODE_ENTRIES_MAX = extentEntriesMax(BLOCK_SIZE_BYTES);
const NO_BYTES = new Uint8Array(0);

/** How many blocks the tree over `leafCount` extents needs besides its root. */
export function extentTreeBlockCount(leafCount: number): number {
  let blockCount = 0;
  for (let entries = leafCount; entries > EXTENT_ROOT_ENTRIES_MAX;) {
    entries = divCeil(entries, NODE_ENTRIES_MAX);
    blockCount += entries;
  }
  return blockCount;
}

/**
 * Encodes the tree over `leaves`: its root (i_block), and the blocks below it in the order of `treeBlocks`, lowest
 * level first.
 *
 * @param inodeSeed checksum seed of the inode; undefined without checksums
 * @param root receives i_block
 */
export function encodeExtentTree(
  leaves: readonly ExtentLeaf[],
  treeBlocks: readonly number[],
  inodeSeed: number | undefined,
  root: Uint8Array = new Uint8Array(EXTENT_ROOT_SIZE_BYTES),
): { readonly root: Uint8Array; readonly blocks: Uint8Array } {
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

const EXTENT_ENTRY_WORDS = EXTENT_ENTRY_SIZE_BYTES / 4;

/** Fields of a node in words (littleEndianWords()) from `at` on. Every file has a node, so nothing is allocated. */
export const EXTENT_WORDS = {
  entryCount: (words: Int32Array, at: number): number => words[at]! >>> 16,
  entriesMax: (words: Int32Array, at: number): number => words[at + 1]! & 0xffff,
  depth: (words: Int32Array, at: number): number => words[at + 1]! >>> 16,
  entryAt: (at: number, index: number): number => at + EXTENT_ENTRY_WORDS * (1 + index),
  logicalBlock: (words: Int32Array, entry: number): number => words[entry]! >>> 0,
  /** ee_len as stored: above 32768 the extent is unwritten. */
  length: (words: Int32Array, entry: number): number => words[entry + 1]! & 0xffff,
  startBlock: (words: Int32Array, entry: number): number =>
    (words[entry + 1]! >>> 16) * TWO_32 + (words[entry + 2]! >>> 0),
  childBlock: (words: Int32Array, entry: number): number =>
    (words[entry + 2]! & 0xffff) * TWO_32 + (words[entry + 1]! >>> 0),
} as const;

/** The number of blocks that an extent's stored length stands for. */
export function extentBlockCount(length: number): number {
  return length > EXTENT_BLOCKS_MAX ? length - EXTENT_BLOCKS_MAX : length;
}

/**
 * Returns what is wrong with a node on its own, or undefined. Entries must be in order without overlap, and counts
 * within their limits. The caller checks that the node fits its parent, and its checksum.
 *
 * @param words contain the node from `at` on
 * @param sizeBytes size of i_block (60 bytes) or of a whole block
 */
export function extentNodeFault(
  words: Int32Array,
  at: number,
  sizeBytes: number,
): string | undefined {
  const magic = words[at]! & 0xffff;
  if (magic !== EXTENT_MAGIC) return `its magic number is 0x${magic.toString(16)}, not 0xf30a`;
  const entryCount = EXTENT_WORDS.entryCount(words, at);
  const entriesMax = EXTENT_WORDS.entriesMax(words, at);
  const depth = EXTENT_WORDS.depth(words, at);
  const room = Math.floor(sizeBytes / EXTENT_ENTRY_SIZE_BYTES) - 1;
  if (depth > EXTENT_DEPTH_MAX) return `its depth is ${depth}, over ${EXTENT_DEPTH_MAX}`;
  if (entriesMax === 0 || entriesMax > room) {
    return `it says it has room for ${entriesMax} entries, not 1 to ${room}`;
  }
  if (entryCount > entriesMax || (entryCount === 0 && depth > 0)) {
    return `it has ${entryCount} entries at depth ${depth}, of ${entriesMax}`;
  }
  let next = 0;
  for (let i = 0; i < entryCount; i++) {
    const entry = EXTENT_WORDS.entryAt(at, i);
    const logicalBlock = EXTENT_WORDS.logicalBlock(words, entry);
    if (logicalBlock < next) {
      return `entry ${i} begins at logical block ${logicalBlock}, before ${next}`;
    }
    if (depth > 0) {
      if (EXTENT_WORDS.childBlock(words, entry) === 0) return "it points to block 0";
      next = logicalBlock + 1;
      continue;
    }
    const blockCount = extentBlockCount(EXTENT_WORDS.length(words, entry));
    next = logicalBlock + blockCount;
    if (blockCount === 0 || next > TWO_32) {
      return `it maps ${blockCount} blocks from logical block ${logicalBlock}`;
    }
  }
  return undefined;
}

/** Reads a node as an object. Throws InputError, with `what` in it, if extentNodeFault() finds a fault. */
export function decodeExtentNode(node: Uint8Array, what: string): {
  readonly depth: number;
  readonly entriesMax: number;
  /** Empty above depth 0. */
  readonly leaves: readonly Required<ExtentLeaf>[];
  /** Empty at depth 0. */
  readonly indexes: readonly ExtentIndex[];
} {
  const words = littleEndianWords(node);
  const fault = extentNodeFault(words, 0, node.length);
  if (fault !== undefined) throw new InputError(what, fault);
  const depth = EXTENT_WORDS.depth(words, 0);
  const entries = Array.from(
    { length: EXTENT_WORDS.entryCount(words, 0) },
    (_, i) => EXTENT_WORDS.entryAt(0, i),
  );
  return {
    depth,
    entriesMax: EXTENT_WORDS.entriesMax(words, 0),
    leaves: depth > 0 ? [] : entries.map((entry) => {
      const length = EXTENT_WORDS.length(words, entry);
      return {
        logicalBlock: EXTENT_WORDS.logicalBlock(words, entry),
        blockCount: extentBlockCount(length),
        startBlock: EXTENT_WORDS.startBlock(words, entry),
        unwritten: length > EXTENT_BLOCKS_MAX,
      };
    }),
    indexes: depth === 0 ? [] : entries.map((entry) => ({
      logicalBlock: EXTENT_WORDS.logicalBlock(words, entry),
      childBlock: EXTENT_WORDS.childBlock(words, entry),
    })),
  };
}
