/**
 * The blocks of one inode: its extent tree or its map of blocks, every pointer in range and claimed once, every block
 * of the tree well-formed and with its checksum.
 *
 * @module
 */
import { inodeSeed } from "../../format/checksum.ts";
import { EXTENT_BLOCKS_MAX } from "../../format/constants.ts";
import type { DecodedExtentNode } from "../../format/extent.ts";
import {
  decodeExtentNode,
  EXTENT_MAGIC,
  EXTENT_ROOT_ENTRIES_MAX,
  extentEntriesMax,
  verifyExtentBlock,
} from "../../format/extent.ts";
import { viewOf } from "../../format/fields.ts";
import type { Context, MappedRun } from "./context.ts";
import type { Structure } from "./findings.ts";
import { HERE } from "./findings.ts";
import type { InodeView } from "./inode_view.ts";

/** What an inode maps. */
export interface BlockMap {
  /** Without those that have blocks of another owner. */
  readonly runs: MappedRun[];
  /** Blocks of data and of the tree together. */
  blockCount: number;
  /** The last logical block that is written; -1 without any. */
  lastWritten: number;
  /** The last logical block that is mapped; -1 without any. */
  last: number;
}

/** Direct pointers in i_block; three words for the trees follow. */
const DIRECT_COUNT = 12;
/** Words of an extent's header, and of each entry. */
const EXTENT_WORDS = 3;
const TWO_32 = 2 ** 32;

interface Walk {
  readonly context: Context;
  readonly inode: number;
  readonly structure: Structure;
  readonly generation: number;
  readonly map: BlockMap;
  /** The lowest logical block that the next extent may begin with. */
  next: number;
}

/** Walks everything that i_block leads to, and claims it. */
export function walkBlocks(context: Context, inode: number, view: InodeView): BlockMap {
  const map: BlockMap = { runs: [], blockCount: 0, lastWritten: -1, last: -1 };
  const { usesExtents, generation } = view;
  const structure = usesExtents ? "extent tree" : "block map";
  const walk: Walk = { context, inode, structure, generation, map, next: 0 };
  if (usesExtents) walkExtents(walk, view);
  else walkPointers(walk, view);
  return map;
}

function walkExtents(walk: Walk, view: InodeView): void {
  if (isPlainRoot(view)) {
    walkPlainRoot(walk, view);
    return;
  }
  const { findings } = walk.context;
  const place = { inode: walk.inode };
  const root = findings.attempt(
    "extent tree",
    place,
    () => decodeExtentNode(view.blockField, HERE),
  );
  if (root === undefined) return;
  findings.expect(
    "extent tree",
    place,
    "eh_max of the root",
    root.entriesMax,
    EXTENT_ROOT_ENTRIES_MAX,
  );
  walkNode(walk, root, Infinity);
}

/**
 * Whether i_block is the root that most files have: up to four extents in order, and nothing that decodeExtentNode()
 * would refuse. It is read word by word, without a record for each part of it.
 */
function isPlainRoot(view: InodeView): boolean {
  const head = view.blockWord(0);
  const count = head >>> 16;
  // eh_depth of 0 over eh_max of 4.
  if ((head & 0xffff) !== EXTENT_MAGIC || view.blockWord(1) !== EXTENT_ROOT_ENTRIES_MAX) {
    return false;
  }
  if (count > EXTENT_ROOT_ENTRIES_MAX) return false;
  let next = 0;
  for (let i = 1; i <= count; i++) {
    const logical = view.blockWord(EXTENT_WORDS * i);
    const length = view.blockWord(EXTENT_WORDS * i + 1) & 0xffff;
    const blockCount = length > EXTENT_BLOCKS_MAX ? length - EXTENT_BLOCKS_MAX : length;
    if (logical < next || blockCount === 0 || logical + blockCount > TWO_32) return false;
    next = logical + blockCount;
  }
  return true;
}

function walkPlainRoot(walk: Walk, view: InodeView): void {
  const count = view.blockWord(0) >>> 16;
  for (let i = 1; i <= count; i++) {
    const lengthAndHigh = view.blockWord(EXTENT_WORDS * i + 1);
    const length = lengthAndHigh & 0xffff;
    const unwritten = length > EXTENT_BLOCKS_MAX;
    takeRun(walk, {
      logical: view.blockWord(EXTENT_WORDS * i),
      start: (lengthAndHigh >>> 16) * TWO_32 + view.blockWord(EXTENT_WORDS * i + 2),
      count: unwritten ? length - EXTENT_BLOCKS_MAX : length,
      unwritten,
    });
  }
}

/** @param end logical block that belongs to the next node */
function walkNode(walk: Walk, node: DecodedExtentNode, end: number): void {
  for (const leaf of node.leaves) {
    if (leaf.logicalBlock < walk.next || leaf.logicalBlock + leaf.blockCount > end) {
      walk.context.findings.add(
        "extent tree",
        { inode: walk.inode },
        "logical block of an extent",
        {
          found: `${leaf.logicalBlock} to ${leaf.logicalBlock + leaf.blockCount - 1}`,
          wanted: end === Infinity ? `from ${walk.next} on` : `within ${walk.next} to ${end - 1}`,
        },
      );
    }
    takeRun(walk, {
      logical: leaf.logicalBlock,
      start: leaf.startBlock,
      count: leaf.blockCount,
      unwritten: leaf.unwritten,
    });
    walk.next = Math.max(walk.next, leaf.logicalBlock + leaf.blockCount);
  }
  for (const [i, { logicalBlock, childBlock }] of node.indexes.entries()) {
    const child = readNode(walk, childBlock, node.depth - 1);
    if (child === undefined) continue;
    const first = child.leaves[0] ?? child.indexes[0];
    if (first !== undefined && first.logicalBlock !== logicalBlock) {
      walk.context.findings.add(
        "extent tree",
        { inode: walk.inode, block: childBlock },
        "first logical block of a node",
        { found: first.logicalBlock, wanted: logicalBlock },
      );
    }
    walkNode(walk, child, Math.min(end, node.indexes[i + 1]?.logicalBlock ?? Infinity));
  }
}

/** Reads a node below the root. One that has another owner already is not followed: it could lead in circles. */
function readNode(walk: Walk, block: number, depth: number): DecodedExtentNode | undefined {
  const { findings, volume } = walk.context;
  const bytes = readTreeBlock(walk, block);
  if (bytes === undefined) return undefined;
  const place = { inode: walk.inode, block };
  if (volume.seed !== undefined) {
    const seed = inodeSeed(volume.seed, walk.inode, walk.generation);
    findings.attempt("extent tree", place, () => verifyExtentBlock(bytes, seed, HERE));
  }
  const node = findings.attempt("extent tree", place, () => decodeExtentNode(bytes, HERE));
  if (node === undefined) return undefined;
  const roomMax = extentEntriesMax(bytes.length);
  findings.expect("extent tree", place, "eh_max", node.entriesMax, roomMax);
  if (!findings.expect("extent tree", place, "eh_depth", node.depth, depth)) return undefined;
  if (node.leaves.length + node.indexes.length === 0) {
    findings.add("extent tree", place, "entries of a node below the root", {
      found: 0,
      wanted: "at least 1",
    });
  }
  return node;
}

function readTreeBlock(walk: Walk, block: number): Uint8Array | undefined {
  const { volume, findings, claims } = walk.context;
  const place = { inode: walk.inode, block };
  if (!volume.contains(block)) {
    findings.add(walk.structure, place, "pointer to a block of the tree", {
      found: block,
      wanted: `a block below ${volume.superblock.blocksCount}`,
    });
    return undefined;
  }
  walk.map.blockCount++;
  if (!claims.claim(block, 1, walk.inode)) return undefined;
  const bytes = volume.read(block);
  if (bytes === undefined) findings.add(walk.structure, place, "block is past the end");
  return bytes;
}

function takeRun(walk: Walk, run: MappedRun): void {
  const { volume, findings, claims } = walk.context;
  const { map, inode } = walk;
  if (!volume.contains(run.start, run.count)) {
    findings.add(walk.structure, { inode, block: run.start }, "blocks of data", {
      found: `${run.start} to ${run.start + run.count - 1}`,
      wanted: `blocks below ${volume.superblock.blocksCount}`,
    });
    return;
  }
  const isOwn = claims.claim(run.start, run.count, inode);
  map.blockCount += run.count;
  const last = run.logical + run.count - 1;
  if (last > map.last) map.last = last;
  if (!run.unwritten && last > map.lastWritten) map.lastWritten = last;
  // What is left of the work on an inode is bounded by the image, because no block is in two runs.
  if (!isOwn) return;
  const before = map.runs[map.runs.length - 1];
  if (
    before !== undefined && before.start + before.count === run.start &&
    before.logical + before.count === run.logical && before.unwritten === run.unwritten
  ) {
    map.runs[map.runs.length - 1] = { ...before, count: before.count + run.count };
  } else map.runs.push(run);
}

/** The map of ext2 and ext3: twelve blocks, then trees of one, two and three levels of pointers. */
function walkPointers(walk: Walk, view: InodeView): void {
  const fanOut = walk.context.volume.blockSizeBytes / 4;
  for (let i = 0; i < DIRECT_COUNT; i++) walkPointer(walk, view.blockWord(i), i, 0);
  let logical = DIRECT_COUNT;
  for (let level = 1; level <= 3; level++) {
    walkPointer(walk, view.blockWord(DIRECT_COUNT + level - 1), logical, level);
    logical += fanOut ** level;
  }
}

function walkPointer(walk: Walk, block: number, logical: number, level: number): void {
  if (block === 0) return;
  if (level === 0) {
    takeRun(walk, { logical, start: block, count: 1, unwritten: false });
    return;
  }
  const bytes = readTreeBlock(walk, block);
  if (bytes === undefined) return;
  const view = viewOf(bytes);
  const fanOut = bytes.length / 4;
  const span = fanOut ** (level - 1);
  for (let i = 0; i < fanOut; i++) {
    walkPointer(walk, view.getUint32(4 * i, true), logical + i * span, level - 1);
  }
}

/** Reads a file's bytes `[0, sizeBytes)`; holes are zeros. Undefined when a block is not there. */
export function readRuns(
  context: Context,
  runs: readonly MappedRun[],
  sizeBytes: number,
): Uint8Array | undefined {
  const { volume } = context;
  const bytes = new Uint8Array(sizeBytes);
  for (const { logical, start, count, unwritten } of runs) {
    const at = logical * volume.blockSizeBytes;
    if (at >= sizeBytes) break;
    if (unwritten) continue;
    const needed = Math.min(count, Math.ceil((sizeBytes - at) / volume.blockSizeBytes));
    const part = volume.read(start, needed);
    if (part === undefined) return undefined;
    bytes.set(part.subarray(0, Math.min(part.length, sizeBytes - at)), at);
  }
  return bytes;
}
