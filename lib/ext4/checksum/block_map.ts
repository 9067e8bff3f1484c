/**
 * Which blocks an inode maps: extent trees, and the indirect blocks of old directories.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import type { ExtentLeaf } from "../format/extent.ts";
import { decodeExtentNode } from "../format/extent.ts";
import { viewOf } from "../format/fields.ts";
import type { Volume } from "./volume.ts";

const DIRECT_COUNT = 12;

/** Is told of every block of an extent tree. */
export type VisitExtentBlock = (block: number, bytes: Uint8Array<ArrayBuffer>) => void;

/**
 * All leaves of an extent tree in the order of the file.
 *
 * @param visit gets every block of the tree before its entries are read; it may change the bytes
 * @throws InputError when depths do not go down by one, or a node begins before its parent says
 */
export function readExtents(
  volume: Volume,
  root: Uint8Array,
  what: string,
  visit: VisitExtentBlock,
): Required<ExtentLeaf>[] {
  const leaves: Required<ExtentLeaf>[] = [];
  const top = decodeExtentNode(root, `${what}, extent root`);
  const pending = [{ node: top, what: `${what}, extent root` }];
  for (let item = pending.pop(); item; item = pending.pop()) {
    for (const leaf of item.node.leaves) leaves.push(leaf);
    const children = item.node.indexes.map(({ childBlock, logicalBlock }) => {
      const name = `${what}, extent block ${childBlock}`;
      const bytes = volume.readBlock(childBlock, `${what}, extent tree`);
      const node = decodeExtentNode(bytes, name);
      const first = node.leaves[0] ?? node.indexes[0];
      if (node.depth !== item.node.depth - 1) {
        throw new InputError(name, `its depth is ${node.depth}, below one of ${item.node.depth}`);
      }
      if (first !== undefined && first.logicalBlock < logicalBlock) {
        throw new InputError(name, `it begins at ${first.logicalBlock}, before ${logicalBlock}`);
      }
      visit(childBlock, bytes);
      return { node, what: name };
    });
    for (const child of children.reverse()) pending.push(child);
  }
  return leaves;
}

/** The physical blocks of a directory that has extents. */
export function blocksOfExtents(
  leaves: readonly Required<ExtentLeaf>[],
  blockCount: number,
  what: string,
): number[] {
  const blocks: number[] = [];
  for (const leaf of leaves) {
    if (leaf.logicalBlock >= blockCount) break;
    if (leaf.logicalBlock !== blocks.length || leaf.unwritten) throw hole(what, blocks.length);
    for (let i = 0; i < leaf.blockCount && blocks.length < blockCount; i++) {
      blocks.push(leaf.startBlock + i);
    }
  }
  if (blocks.length < blockCount) throw hole(what, blocks.length);
  return blocks;
}

/** The physical blocks of a directory that has a block map: i_block with 12 blocks, and three kinds of indirect ones. */
export function blocksOfMap(
  volume: Volume,
  blockField: Uint8Array,
  blockCount: number,
  what: string,
): number[] {
  const blocks: number[] = [];
  const take = (block: number) => {
    if (block === 0) throw hole(what, blocks.length);
    blocks.push(block);
  };
  const descend = (block: number, depth: number) => {
    if (block === 0) throw hole(what, blocks.length);
    const view = viewOf(volume.readBlock(block, `${what}, indirect block`));
    for (let at = 0; at < view.byteLength && blocks.length < blockCount; at += 4) {
      const child = view.getUint32(at, true);
      if (depth === 1) take(child);
      else descend(child, depth - 1);
    }
  };
  const root = viewOf(blockField);
  for (let i = 0; i < DIRECT_COUNT && blocks.length < blockCount; i++) {
    take(root.getUint32(4 * i, true));
  }
  for (let depth = 1; depth <= 3 && blocks.length < blockCount; depth++) {
    descend(root.getUint32(4 * (DIRECT_COUNT - 1 + depth), true), depth);
  }
  return blocks;
}

function hole(what: string, logicalBlock: number): InputError {
  return new InputError(what, `it has no block ${logicalBlock}, and a directory has no holes`);
}
