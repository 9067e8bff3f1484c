/**
 * The block map of an inode: its logical blocks as runs of physical ones, from an extent tree or from the block
 * pointers of ext2 and ext3 (kernel documentation, "Extent Tree" and "Direct/Indirect Block Addressing").
 *
 * One walker serves everyone: it checks every node and pointer on the way and passes its findings to a visitor, which
 * decides whether to follow a block of the map. Each step goes exactly one level down, so every walk ends.
 *
 * @module
 */
import { firstIndex, littleEndianWords } from "../../bytes/arithmetic.ts";
import { EXTENT_BLOCKS_MAX } from "../format/constants.ts";
import {
  EXTENT_ROOT_ENTRIES_MAX,
  EXTENT_WORDS,
  extentBlockCount,
  extentEntriesMax,
  extentNodeFault,
  verifyExtentBlock,
} from "../format/extent.ts";
import { INODE_BLOCK_FIELD_SIZE_BYTES } from "../format/inode.ts";
import { type InodeView, reportInode, seedOf } from "./inode.ts";
import { HERE } from "./judge.ts";
import type { Volume } from "./volume.ts";

/** Consecutive logical blocks of an inode in consecutive physical blocks. */
export interface MappedRun {
  /** Its first block, counted from the start of the inode's content. */
  readonly logicalBlock: number;
  /** Number of blocks. */
  readonly blockCount: number;
  /** Its first block in the image. */
  readonly startBlock: number;
  /** Allocated, but reads as zeros whatever is stored there. */
  readonly unwritten: boolean;
}

/** A block of the map itself: a node of an extent tree, or a block of pointers. */
export interface MapBlock {
  /** Where it is in the image. */
  readonly blockNumber: number;
  /** Levels below it. */
  readonly depth: number;
  /** The first logical block that it maps. */
  readonly logicalBlock: number;
}

export interface BlockMapVisitor {
  /** Whether nothing from a logical block on is needed: map blocks that begin there are skipped. */
  endsBefore?(logicalBlock: number): boolean;
  /** Called for a block of the map before it is read; return false to skip it. */
  mapBlock(blockNumber: number, depth: number, logicalBlock: number): boolean;
  /** Called for each run of blocks, in map order. */
  run(logicalBlock: number, startBlock: number, blockCount: number, unwritten: boolean): void;
}

/** Direct pointers in i_block, followed by three words for the trees. */
const DIRECT_COUNT = 12;
const LEVELS = 3;

interface Walk {
  readonly volume: Volume;
  readonly view: InodeView;
  readonly visitor: BlockMapVisitor;
  /** The lowest logical block at which the next extent may begin. */
  next: number;
}

/** Walks everything that i_block points to. The inode must be one that maps blocks. */
export function walkBlockMap(volume: Volume, view: InodeView, visitor: BlockMapVisitor): void {
  if (view.usesExtents) walkExtents({ volume, view, visitor, next: 0 });
  else new PointerWalk(volume, view, visitor).walk();
}

function walkExtents(walk: Walk): void {
  const { volume, view } = walk;
  const { words, number: inode } = view;
  const at = view.blockFieldWord;
  const fault = extentNodeFault(words, at, INODE_BLOCK_FIELD_SIZE_BYTES);
  if (fault !== undefined) return volume.judge.report("extent tree", { inode }, fault);
  const entriesMax = EXTENT_WORDS.entriesMax(words, at);
  if (entriesMax !== EXTENT_ROOT_ENTRIES_MAX) {
    volume.judge.report("extent tree", { inode }, "eh_max of the root", {
      found: entriesMax,
      wanted: EXTENT_ROOT_ENTRIES_MAX,
      isReadable: true,
    });
  }
  if (EXTENT_WORDS.depth(words, at) === 0) walkLeaves(walk, words, at, Infinity);
  else walkIndexes(walk, words, at, Infinity);
}

/** @param end the logical block at which the next node begins */
function walkLeaves(walk: Walk, words: Int32Array, at: number, end: number): void {
  const { volume, view: { number: inode }, visitor } = walk;
  const count = EXTENT_WORDS.entryCount(words, at);
  for (let i = 0; i < count; i++) {
    const entry = EXTENT_WORDS.entryAt(at, i);
    const logicalBlock = EXTENT_WORDS.logicalBlock(words, entry);
    const length = EXTENT_WORDS.length(words, entry);
    const blockCount = extentBlockCount(length);
    const startBlock = EXTENT_WORDS.startBlock(words, entry);
    const next = logicalBlock + blockCount;
    if (logicalBlock < walk.next || next > end) {
      volume.judge.report("extent tree", { inode }, "logical block of an extent", {
        found: `${logicalBlock} to ${next - 1}`,
        wanted: end === Infinity ? `from ${walk.next} on` : `within ${walk.next} to ${end - 1}`,
      });
    }
    if (next > walk.next) walk.next = next;
    if (!volume.mayOwn(inode, startBlock, blockCount)) {
      reportRun(volume, "extent tree", inode, startBlock, blockCount);
      continue;
    }
    visitor.run(logicalBlock, startBlock, blockCount, length > EXTENT_BLOCKS_MAX);
  }
}

function walkIndexes(walk: Walk, words: Int32Array, at: number, end: number): void {
  const count = EXTENT_WORDS.entryCount(words, at);
  const depth = EXTENT_WORDS.depth(words, at) - 1;
  for (let i = 0; i < count; i++) {
    const entry = EXTENT_WORDS.entryAt(at, i);
    const logicalBlock = EXTENT_WORDS.logicalBlock(words, entry);
    const following = i + 1 < count
      ? EXTENT_WORDS.logicalBlock(words, EXTENT_WORDS.entryAt(at, i + 1))
      : Infinity;
    const block = EXTENT_WORDS.childBlock(words, entry);
    const child = readNode(walk, block, depth, logicalBlock);
    if (child === undefined) continue;
    const childEnd = Math.min(end, following);
    if (depth === 0) walkLeaves(walk, child, 0, childEnd);
    else walkIndexes(walk, child, 0, childEnd);
  }
}

/** The checked words of a node below the root; undefined if it should not be followed. */
function readNode(
  walk: Walk,
  block: number,
  depth: number,
  logicalBlock: number,
): Int32Array | undefined {
  const { volume, view } = walk;
  const { judge } = volume;
  const bytes = readMapBlock(walk, "extent tree", { blockNumber: block, depth, logicalBlock });
  if (bytes === undefined) return undefined;
  const location = { inode: view.number, block };
  const seed = seedOf(volume, view);
  if (seed !== undefined) {
    judge.attempt("extent tree", location, () => verifyExtentBlock(bytes, seed, HERE));
  }
  const words = littleEndianWords(bytes);
  const fault = extentNodeFault(words, 0, bytes.length);
  if (fault !== undefined) {
    judge.report("extent tree", location, fault);
    return undefined;
  }
  const entriesMax = EXTENT_WORDS.entriesMax(words, 0);
  const room = extentEntriesMax(bytes.length);
  judge.expect("extent tree", location, "eh_max", entriesMax, room, { isReadable: true });
  const found = EXTENT_WORDS.depth(words, 0);
  if (!judge.expect("extent tree", location, "eh_depth", found, depth)) return undefined;
  if (EXTENT_WORDS.entryCount(words, 0) === 0) {
    const details = { found: 0, wanted: "at least 1", isReadable: true };
    judge.report("extent tree", location, "entries of a node below the root", details);
    return words;
  }
  const first = EXTENT_WORDS.logicalBlock(words, EXTENT_WORDS.entryAt(0, 0));
  judge.expect("extent tree", location, "first logical block of a node", first, logicalBlock);
  return words;
}

/** Reads a map block, if it is in the file system and the visitor wants it followed. */
function readMapBlock(
  { volume, view: { number: inode }, visitor }: Pick<Walk, "volume" | "view" | "visitor">,
  structure: "extent tree" | "block map",
  { blockNumber, depth, logicalBlock }: MapBlock,
): Uint8Array | undefined {
  const { judge } = volume;
  const location = { inode, block: blockNumber };
  if (visitor.endsBefore?.(logicalBlock)) return undefined;
  if (!volume.mayOwn(inode, blockNumber)) {
    judge.report(structure, location, "pointer to a block of the tree", {
      found: blockNumber,
      wanted: volume.contains(blockNumber)
        ? "none of the file system's own"
        : `a block below ${volume.geometry.blocksCount}`,
    });
    return undefined;
  }
  if (!visitor.mapBlock(blockNumber, depth, logicalBlock)) return undefined;
  const bytes = volume.block(blockNumber);
  if (bytes === undefined) judge.report(structure, location, "block is past the end");
  return bytes;
}

function reportRun(
  volume: Volume,
  structure: "extent tree" | "block map",
  inode: number,
  startBlock: number,
  blockCount: number,
): void {
  const isOfVolume = volume.contains(startBlock, blockCount);
  volume.judge.report(structure, { inode, block: startBlock }, "blocks of data", {
    found: `${startBlock} to ${startBlock + blockCount - 1}`,
    wanted: isOfVolume
      ? "none of the file system's own"
      : `blocks below ${volume.geometry.blocksCount}`,
  });
}

/** The map of ext2 and ext3: twelve blocks, then trees of one, two and three levels of pointers; 0 is a hole. */
class PointerWalk {
  readonly volume: Volume;
  readonly view: InodeView;
  readonly visitor: BlockMapVisitor;
  readonly #fanOut: number;
  /** Consecutive blocks not yet passed to the visitor. */
  #logicalBlock = 0;
  #startBlock = 0;
  #blockCount = 0;

  constructor(volume: Volume, view: InodeView, visitor: BlockMapVisitor) {
    this.volume = volume;
    this.view = view;
    this.visitor = visitor;
    this.#fanOut = volume.blockSizeBytes / 4;
  }

  walk(): void {
    const { view } = this;
    for (let i = 0; i < DIRECT_COUNT; i++) this.#data(view.blockWord(i), i);
    let logicalBlock = DIRECT_COUNT;
    for (let level = 1; level <= LEVELS; level++) {
      this.#pointers(view.blockWord(DIRECT_COUNT + level - 1), level - 1, logicalBlock);
      logicalBlock += this.#fanOut ** level;
    }
    this.#flush();
  }

  #pointers(blockNumber: number, depth: number, firstLogical: number): void {
    if (blockNumber === 0) return;
    this.#flush();
    const mapBlock = { blockNumber, depth, logicalBlock: firstLogical };
    const bytes = readMapBlock(this, "block map", mapBlock);
    if (bytes === undefined) return;
    const words = littleEndianWords(bytes);
    const span = this.#fanOut ** depth;
    for (let i = 0; i < words.length; i++) {
      const pointer = words[i]! >>> 0;
      if (pointer === 0) continue;
      if (depth === 0) this.#data(pointer, firstLogical + i);
      else this.#pointers(pointer, depth - 1, firstLogical + i * span);
    }
  }

  #data(block: number, logicalBlock: number): void {
    if (block === 0) return;
    const inode = this.view.number;
    if (!this.volume.mayOwn(inode, block)) {
      return reportRun(this.volume, "block map", inode, block, 1);
    }
    const follows = this.#blockCount > 0 && this.#startBlock + this.#blockCount === block &&
      this.#logicalBlock + this.#blockCount === logicalBlock;
    if (!follows) {
      this.#flush();
      this.#logicalBlock = logicalBlock;
      this.#startBlock = block;
    }
    this.#blockCount++;
  }

  #flush(): void {
    if (this.#blockCount === 0) return;
    this.visitor.run(this.#logicalBlock, this.#startBlock, this.#blockCount, false);
    this.#blockCount = 0;
  }
}

export class BlockMap implements BlockMapVisitor {
  readonly runs: MappedRun[] = [];
  /** Blocks of data and of the map together. */
  blockCount = 0;
  last = -1;
  lastWritten = -1;
  readonly #volume: Volume;
  readonly #view: InodeView;
  readonly #onMapBlock: ((block: MapBlock) => void) | undefined;
  readonly #endBlock: number;

  constructor(volume: Volume, view: InodeView, options: ReadBlockMapOptions) {
    this.#volume = volume;
    this.#view = view;
    this.#onMapBlock = options.onMapBlock;
    this.#endBlock = options.endBlock ?? Infinity;
  }

  endsBefore(logicalBlock: number): boolean {
    if (logicalBlock < this.#endBlock) return false;
    this.last = Math.max(this.last, logicalBlock);
    this.lastWritten = Math.max(this.lastWritten, logicalBlock);
    return true;
  }

  mapBlock(blockNumber: number, depth: number, logicalBlock: number): boolean {
    if (!this.#count(1)) return false;
    this.#onMapBlock?.({ blockNumber, depth, logicalBlock });
    return true;
  }

  run(logicalBlock: number, startBlock: number, blockCount: number, unwritten: boolean): void {
    if (!this.#count(blockCount)) return;
    const last = logicalBlock + blockCount - 1;
    if (last > this.last) this.last = last;
    if (!unwritten && last > this.lastWritten) this.lastWritten = last;
    this.runs.push({ logicalBlock, blockCount, startBlock, unwritten });
  }

  /** No inode has more blocks than the file system. One that seems to maps some of them twice, perhaps without end. */
  #count(more: number): boolean {
    const { blocksCount } = this.#volume.geometry;
    this.blockCount += more;
    if (this.blockCount <= blocksCount) return true;
    if (this.blockCount - more <= blocksCount) {
      reportInode(this.#volume, this.#view, "blocks that it maps", {
        found: this.blockCount,
        wanted: `at most the ${blocksCount} of the file system`,
      });
    }
    return false;
  }
}

export interface ReadBlockMapOptions {
  /** Called for each block of the map, before the blocks that it maps. */
  readonly onMapBlock?: ((block: MapBlock) => void) | undefined;
  /** Map blocks that point to nothing before this logical block are skipped: the kernel never reads them. */
  readonly endBlock?: number;
}

/** The whole map of an inode that maps blocks. */
export function readBlockMap(
  volume: Volume,
  view: InodeView,
  options: ReadBlockMapOptions = {},
): BlockMap {
  const map = new BlockMap(volume, view, options);
  walkBlockMap(volume, view, map);
  return map;
}

/** The physical block of a logical one; undefined in a hole. */
export function physicalBlock(
  runs: readonly MappedRun[],
  logicalBlock: number,
): number | undefined {
  const run = runs[
    firstIndex(runs.length, (i) => {
      const { logicalBlock: start, blockCount } = runs[i]!;
      return start + blockCount > logicalBlock;
    })
  ];
  if (run === undefined || run.logicalBlock > logicalBlock) return undefined;
  return run.startBlock + (logicalBlock - run.logicalBlock);
}

/** Reads a file's bytes `[0, sizeBytes)` from its runs, zeros for holes. Undefined if a block is past the end. */
export function readRuns(
  volume: Volume,
  runs: readonly MappedRun[],
  sizeBytes: number,
): Uint8Array<ArrayBuffer> | undefined {
  const bytes = new Uint8Array(sizeBytes);
  for (const { logicalBlock, startBlock, blockCount, unwritten } of runs) {
    const at = logicalBlock * volume.blockSizeBytes;
    if (at >= sizeBytes || unwritten) continue;
    const needed = Math.min(blockCount, Math.ceil((sizeBytes - at) / volume.blockSizeBytes));
    const part = volume.read(startBlock, needed);
    if (part === undefined) return undefined;
    bytes.set(part.subarray(0, Math.min(part.length, sizeBytes - at)), at);
  }
  return bytes;
}
