/**
 * Where payload goes: the layout that fixed-grid block stores find equal content in.
 *
 * A file of at least the threshold is grid-congruent: every extent of it has physical block = logical block modulo the
 * grid. Reserved ranges start on group boundaries, which are on every grid, so it is enough that payload resumes on the
 * grid behind each of them. Smaller files are packed; `resync` starts a run on the grid again behind every aligned
 * file, where the content of the small file just placed says so, and where another directory begins. That choice looks
 * at nothing that came before the run, so images with partly different files fall into step again.
 *
 * @module
 */
import { alignUp } from "../../bytes/arithmetic.ts";
import type { BlockRun, PayloadIndex } from "../../model/payload.ts";
import { BLOCK_SIZE_BYTES } from "../../model/payload.ts";
import { EXTENT_BLOCKS_MAX } from "../format/constants.ts";
import type { ExtentLeaf } from "../format/extent.ts";
import { AscendingAllocator } from "./allocator.ts";
import { appendExtents } from "./extent_tree.ts";
import type { BlockRange } from "./geometry.ts";
import type { Packing } from "./settings.ts";

/** The choices that placement depends on. */
export interface PlacementRules {
  readonly gridBlocks: number;
  readonly alignThresholdBytes: number;
  readonly packing: Packing;
}

/** A file that asks for blocks. */
export interface FileToPlace {
  readonly payload: PayloadIndex;
  /** The inode number of its directory; only whether two are equal counts. */
  readonly directory: number;
}

/** What placement made of the payloads. */
export interface Placement {
  /** The extents of each payload, in the order given. */
  readonly extents: readonly (readonly ExtentLeaf[])[];
  /** The first block of the payload area. */
  readonly startBlock: number;
  /** Behind the last block used. */
  readonly endBlock: number;
  /** How many payloads are grid-congruent by rule. */
  readonly alignedCount: number;
}

const NO_LEAVES: readonly ExtentLeaf[] = [];

/** Whether a payload is placed on the grid. */
export function isAligned(payload: PayloadIndex, rules: PlacementRules): boolean {
  return payload.sizeBytes >= rules.alignThresholdBytes;
}

/** Places files in the order given, from the first grid cell at or after `fromBlock`. */
export function placePayloads(
  files: readonly FileToPlace[],
  rules: PlacementRules,
  area: { readonly fromBlock: number; readonly reserved: readonly BlockRange[] },
): Placement {
  const grid = rules.gridBlocks;
  const alignsAtAll = rules.alignThresholdBytes !== Infinity;
  const reserved = alignsAtAll ? roundedToGrid(area.reserved, grid) : area.reserved;
  const allocator = new AscendingAllocator(reserved, area.fromBlock);
  allocator.alignTo(grid);
  const startBlock = allocator.cursor;
  const boundaries = new ResyncBoundaries(alignsAtAll ? rules.packing : { kind: "tight" });
  let endBlock = startBlock;
  let alignedCount = 0;
  const extents = files.map(({ payload, directory }) => {
    const aligned = isAligned(payload, rules);
    if (aligned) alignedCount++;
    if (payload.dataRuns.length === 0) return NO_LEAVES;
    if (boundaries.takesBoundary(directory) || aligned) allocator.alignTo(grid);
    const leaves = takeExtents(payload.dataRuns, allocator, aligned ? grid : 1);
    if (aligned) boundaries.placedAligned();
    else boundaries.placedSmall(payload);
    const last = leaves.at(-1)!;
    endBlock = last.startBlock + last.blockCount;
    return leaves;
  });
  return { extents, startBlock, endBlock, alignedCount };
}

/** Extents for all runs, physical = logical modulo the grid. */
function takeExtents(
  runs: readonly BlockRun[],
  allocator: AscendingAllocator,
  gridBlocks: number,
): ExtentLeaf[] {
  const [first] = runs;
  const isSmall = runs.length === 1 && first !== undefined &&
    first.blockCount <= Math.min(EXTENT_BLOCKS_MAX, allocator.contiguousBlocks);
  if (isSmall && gridBlocks === 1) {
    // Nearly all files of nearly all images: one array with room for one, and nothing besides.
    const { startBlock: logicalBlock, blockCount } = first;
    return [{ logicalBlock, blockCount, startBlock: allocator.takeContiguous(blockCount) }];
  }
  const leaves: ExtentLeaf[] = [];
  for (const { startBlock, blockCount } of runs) {
    allocator.advanceToCongruent(startBlock % gridBlocks, gridBlocks);
    appendExtents(leaves, startBlock, allocator.take(blockCount));
  }
  return leaves;
}

/** Decides where a run of small files ends: one number of state, no look-ahead. */
class ResyncBoundaries {
  readonly #packing: Packing;
  #runBlocks = 0;
  #atBoundary = false;
  #directory = 0;

  constructor(packing: Packing) {
    this.#packing = packing;
  }

  /** Whether the next file starts on the grid if it is small; asking begins the run. */
  takesBoundary(directory: number): boolean {
    const atBoundary = this.#atBoundary || this.#mayEnd() && directory !== this.#directory;
    this.#directory = directory;
    if (atBoundary) this.#runBlocks = 0;
    this.#atBoundary = false;
    return atBoundary;
  }

  placedAligned(): void {
    this.#atBoundary = this.#packing.kind === "resync";
    this.#runBlocks = 0;
  }

  placedSmall(payload: PayloadIndex): void {
    const packing = this.#packing;
    if (packing.kind === "tight") return;
    let blocks = 0;
    for (const { blockCount } of payload.dataRuns) blocks += blockCount;
    this.#runBlocks += blocks;
    if (!this.#mayEnd()) return;
    const perBlock = BLOCK_SIZE_BYTES / (packing.meanBytes - packing.lowBytes);
    const fraction = payload.contentHash / 2 ** 32;
    this.#atBoundary = fraction < 1 - (1 - perBlock) ** blocks;
  }

  #mayEnd(): boolean {
    const packing = this.#packing;
    return packing.kind === "resync" && this.#runBlocks * BLOCK_SIZE_BYTES >= packing.lowBytes;
  }
}

function roundedToGrid(reserved: readonly BlockRange[], gridBlocks: number): BlockRange[] {
  return reserved.map(({ startBlock, blockCount }) => ({
    startBlock,
    blockCount: alignUp(blockCount, gridBlocks),
  }));
}
