/**
 * Extent trees of an image.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import { type DecodedExtentNode, decodeExtentNode, verifyExtentBlock } from "../format/extent.ts";
import type { BlockMapOptions, Ext4Image, ImageInode, MappedRun } from "./types.ts";

/** Where a node stands in its tree: what its parent says of it. */
interface NodePlace {
  readonly what: string;
  /** The logical blocks that it may map. */
  readonly startLogical: number;
  readonly endLogical: number;
}

const LOGICAL_END = 2 ** 32;

/**
 * The extents of an inode in order. Each step down goes exactly one level deeper, and each node begins where its parent
 * says and ends before the next one, so no tree is endless.
 */
export function* extentRuns(
  image: Ext4Image,
  inode: ImageInode,
  options: BlockMapOptions,
): Generator<MappedRun> {
  const what = `extent root of ${inode.what}`;
  const root = decodeExtentNode(inode.record.blockField, what);
  const place = { what, startLogical: 0, endLogical: LOGICAL_END };
  yield* nodeRuns({ image, inode, options }, root, place);
}

interface Walk {
  readonly image: Ext4Image;
  readonly inode: ImageInode;
  readonly options: BlockMapOptions;
}

function* nodeRuns(walk: Walk, node: DecodedExtentNode, place: NodePlace): Generator<MappedRun> {
  const { image } = walk;
  for (const { logicalBlock, blockCount, startBlock, unwritten } of node.leaves) {
    checkWithin(logicalBlock, logicalBlock + blockCount, place);
    // Block 0 holds the superblock, or nothing.
    if (startBlock === 0) throw new InputError(place.what, "it points to block 0");
    image.checkRange(startBlock, blockCount, place.what);
    yield { logicalBlock, blockCount, startBlock, unwritten };
  }
  for (const [i, { logicalBlock, childBlock }] of node.indexes.entries()) {
    const endLogical = node.indexes[i + 1]?.logicalBlock ?? place.endLogical;
    checkWithin(logicalBlock, logicalBlock + 1, place);
    const child = {
      what: `extent block ${childBlock} of ${walk.inode.what}`,
      startLogical: logicalBlock,
      endLogical,
    };
    yield* nodeRuns(walk, readNode(walk, childBlock, node.depth - 1, child), child);
  }
}

function readNode(
  walk: Walk,
  blockNumber: number,
  depth: number,
  place: NodePlace,
): DecodedExtentNode {
  const { image, inode, options } = walk;
  const block = image.readBlock(blockNumber, place.what);
  const node = decodeExtentNode(block, place.what);
  if (inode.seed !== undefined) verifyExtentBlock(block, inode.seed, place.what);
  if (node.depth !== depth) {
    throw new InputError(place.what, `its depth is ${node.depth}, not ${depth}`);
  }
  const first = node.leaves[0]?.logicalBlock ?? node.indexes[0]?.logicalBlock;
  if (first !== undefined && first !== place.startLogical) {
    throw new InputError(
      place.what,
      `it begins at logical block ${first}, but its index says ${place.startLogical}`,
    );
  }
  options.onMapBlock?.({ blockNumber, depth, logicalBlock: place.startLogical });
  return node;
}

function checkWithin(start: number, end: number, place: NodePlace): void {
  if (start >= place.startLogical && end <= place.endLogical) return;
  throw new InputError(
    place.what,
    `it maps logical blocks ${start} to ${end - 1}, ` +
      `not within ${place.startLogical} to ${place.endLogical - 1}`,
  );
}
