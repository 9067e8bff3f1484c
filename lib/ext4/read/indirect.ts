/**
 * The block maps of ext2 and ext3 (kernel documentation, "Direct/Indirect Block Addressing"): twelve block numbers in
 * i_block, then one of a block of numbers, one of a block of those, and one more level.
 *
 * @module
 */
import { viewOf } from "../format/fields.ts";
import type { BlockMapOptions, Ext4Image, ImageInode, MappedRun } from "./types.ts";

const DIRECT_COUNT = 12;
const LEVELS = 3;
const POINTER_SIZE_BYTES = 4;

/** Consecutive blocks that are not handed out yet. */
interface OpenRun {
  logicalBlock: number;
  blockCount: number;
  startBlock: number;
}

/** The blocks of an inode in order, neighbours as one run; a pointer of 0 is a hole. */
export function* indirectRuns(
  image: Ext4Image,
  inode: ImageInode,
  options: BlockMapOptions,
): Generator<MappedRun> {
  const open: OpenRun = { logicalBlock: 0, blockCount: 0, startBlock: 0 };
  for (const { logicalBlock, blockNumber } of mappedBlocks(image, inode, options)) {
    const follows = open.blockCount > 0 &&
      open.logicalBlock + open.blockCount === logicalBlock &&
      open.startBlock + open.blockCount === blockNumber;
    if (follows) {
      open.blockCount++;
      continue;
    }
    if (open.blockCount > 0) yield { ...open, unwritten: false };
    open.logicalBlock = logicalBlock;
    open.startBlock = blockNumber;
    open.blockCount = 1;
  }
  if (open.blockCount > 0) yield { ...open, unwritten: false };
}

interface MappedBlock {
  readonly logicalBlock: number;
  readonly blockNumber: number;
}

function* mappedBlocks(
  image: Ext4Image,
  inode: ImageInode,
  options: BlockMapOptions,
): Generator<MappedBlock> {
  const view = viewOf(inode.record.blockField);
  const pointersPerBlock = image.geometry.blockSizeBytes / POINTER_SIZE_BYTES;
  let logicalBlock = 0;
  for (; logicalBlock < DIRECT_COUNT; logicalBlock++) {
    const blockNumber = view.getUint32(logicalBlock * POINTER_SIZE_BYTES, true);
    if (blockNumber === 0) continue;
    image.checkRange(blockNumber, 1, inode.what);
    yield { logicalBlock, blockNumber };
  }
  for (let level = 1; level <= LEVELS; level++) {
    const blockNumber = view.getUint32((DIRECT_COUNT + level - 1) * POINTER_SIZE_BYTES, true);
    if (blockNumber !== 0) {
      const pointer = { blockNumber, depth: level - 1, logicalBlock };
      yield* pointedBlocks(image, inode, options, pointer);
    }
    logicalBlock += pointersPerBlock ** level;
  }
}

function* pointedBlocks(
  image: Ext4Image,
  inode: ImageInode,
  options: BlockMapOptions,
  pointers: {
    readonly blockNumber: number;
    readonly depth: number;
    readonly logicalBlock: number;
  },
): Generator<MappedBlock> {
  const { blockNumber, depth } = pointers;
  const what = `block of pointers ${blockNumber} of ${inode.what}`;
  const view = viewOf(image.readBlock(blockNumber, what));
  options.onMapBlock?.(pointers);
  const pointersPerBlock = image.geometry.blockSizeBytes / POINTER_SIZE_BYTES;
  const blocksPerPointer = pointersPerBlock ** depth;
  let { logicalBlock } = pointers;
  for (let i = 0; i < pointersPerBlock; i++, logicalBlock += blocksPerPointer) {
    const pointed = view.getUint32(i * POINTER_SIZE_BYTES, true);
    if (pointed === 0) continue;
    if (depth > 0) {
      const below = { blockNumber: pointed, depth: depth - 1, logicalBlock };
      yield* pointedBlocks(image, inode, options, below);
    } else {
      image.checkRange(pointed, 1, what);
      yield { logicalBlock, blockNumber: pointed };
    }
  }
}
