/**
 * Cutting what an inode maps, as the kernel's ext4_truncate() does (fs/ext4/extents.c, fs/ext4/indirect.c).
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import { INODE_FLAG } from "../format/constants.ts";
import {
  decodeExtentNode,
  EXTENT_ENTRY_SIZE_BYTES,
  EXTENT_ROOT_ENTRIES_MAX,
  sealExtentBlock,
} from "../format/extent.ts";
import { viewOf } from "../format/fields.ts";
import { INODE_BLOCK_FIELD_SIZE_BYTES, INODE_FIELDS } from "../format/inode.ts";
import type { VolumeEditor } from "./volume_editor.ts";

/** One cut. */
interface Cut {
  readonly editor: VolumeEditor;
  readonly what: string;
  /** The first logical block that goes. */
  readonly endBlock: number;
  /** The seed of extent blocks; undefined without checksums. */
  readonly seed: number | undefined;
  /** The last physical block that stays. Its cluster stays whole. */
  keptBlock: number | undefined;
  freedClusters: number;
}

const HEADER_AT = { entryCount: 2, entriesMax: 4, depth: 6 } as const;
const LEAF_LENGTH_AT = 4;
const UNWRITTEN = 0x8000;
const DIRECT_COUNT = 12;
const LEVELS = 3;

/**
 * Takes away all blocks from a logical one on. The inode's checksum is left to the caller.
 *
 * @param slot of the inode, to change
 * @param endBlock the first logical block that goes
 * @param seed of the inode
 * @returns how many clusters became free
 * @throws {InputError} for a map that is damaged
 */
export function truncateMap(
  editor: VolumeEditor,
  inodeNumber: number,
  slot: Uint8Array,
  endBlock: number,
  seed: number | undefined,
): number {
  const flags = viewOf(slot).getUint32(INODE_FIELDS.flags.offset, true);
  if ((flags & INODE_FLAG.INLINE_DATA) !== 0) return 0;
  const what = `inode ${inodeNumber}`;
  const cut: Cut = { editor, what, endBlock, seed, keptBlock: undefined, freedClusters: 0 };
  const blockField = INODE_FIELDS.blockField.offset;
  const root = slot.subarray(blockField, blockField + INODE_BLOCK_FIELD_SIZE_BYTES);
  if ((flags & INODE_FLAG.EXTENTS) !== 0) cutExtentRoot(cut, root);
  else cutPointers(cut, root);
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

/** Whether nothing is left in the node. */
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

/** Whether nothing is left in the block. */
function cutExtentChild(cut: Cut, blockNumber: number, depth: number): boolean {
  cut.editor.image.checkRange(blockNumber, 1, cut.what);
  const block = cut.editor.blocks.edit(blockNumber);
  const isEmpty = cutExtentNode(cut, block, depth);
  if (cut.seed !== undefined) sealExtentBlock(block, cut.seed);
  return isEmpty;
}

function cutPointers(cut: Cut, root: Uint8Array): void {
  const pointersPerBlock = cut.editor.image.geometry.blockSizeBytes / 4;
  const view = viewOf(root);
  let logicalBlock = 0;
  for (let i = 0; i < DIRECT_COUNT + LEVELS; i++) {
    const level = Math.max(0, i - DIRECT_COUNT + 1);
    const span = pointersPerBlock ** level;
    if (logicalBlock + span > cut.endBlock) cutPointer(cut, view, 4 * i, { level, logicalBlock });
    logicalBlock += span;
  }
}

/** A block number and what is below it. */
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
    const pointersPerBlock = cut.editor.image.geometry.blockSizeBytes / 4;
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
