/**
 * Places files among those that keep the blocks of a previous layout.
 *
 * The cost of a change to a store is the number of cells that it touches. Unchanged files therefore stay, and new files
 * go, in this order, into the place of the file that they replace, into free space in cells that change anyway, into
 * entirely free cells, and after everything else. Free space in a cell that would otherwise stay unchanged is not used.
 *
 * @module
 */
import { alignUp, divCeil, firstIndex } from "../bytes/arithmetic.ts";
import {
  AscendingAllocator,
  type BlockRange,
  countBlocks,
  endOf,
  overlapsAny,
  subtractRanges,
  uniteRanges,
} from "./blocks.ts";
import {
  type Demand,
  type Extent,
  isAligned,
  type LayoutRules,
  type Placement,
  roundedToGrid,
  runStarts,
  takeExtents,
} from "./placement.ts";

/** A file and the blocks that it, or the file that it replaces, had in the previous layout. */
export interface KeptDemand extends Demand {
  /** The blocks that hold its content; undefined for new content. */
  readonly sameContent: readonly Extent[] | undefined;
  /** The blocks of the file that it replaces. */
  readonly replaced: readonly Extent[] | undefined;
}

/** The blocks around the payload. */
export interface KeptSurroundings {
  /** Blocks in use; ascending, merged. */
  readonly taken: readonly BlockRange[];
  /** Reserved ranges, including those after all other blocks; ascending. */
  readonly reserved: readonly BlockRange[];
  /** Blocks whose data is discarded, given the kept ones: their cells change anyway. Empty if such data stays. */
  readonly cleared: (kept: readonly BlockRange[]) => readonly BlockRange[];
}

/** A placement among kept files. */
export interface KeptPlacement extends Placement {
  /** For each file, 1 if it keeps its blocks. */
  readonly isKept: Uint8Array;
}

/** The number of partly filled cells to search for space. */
const OPEN_CELLS_MAX = 8;

/** For each file, 1 if it can keep its blocks under these rules. */
export function keepable(
  demands: readonly KeptDemand[],
  rules: LayoutRules,
  taken: readonly BlockRange[],
): Uint8Array {
  const { gridBlocks, packing } = rules;
  const isKept = new Uint8Array(demands.length);
  const alignedCells: BlockRange[] = [];
  demands.forEach(({ payload, sameContent }, i) => {
    if (sameContent === undefined || sameContent.length === 0) return;
    if (!mapsExactly(sameContent, payload.dataRuns) || !ascends(sameContent)) return;
    if (sameContent.some((extent) => overlapsAny(extent, taken))) return;
    if (isAligned(payload, rules)) {
      if (sameContent.some((extent) => !isCongruent(extent, gridBlocks))) return;
      alignedCells.push(spanOf(sameContent));
    }
    isKept[i] = 1;
  });
  const sharesTails = packing.kind === "tight" || rules.alignThresholdBytes === Infinity;
  const cells = sharesTails ? [] : uniteRanges(roundedToGrid(alignedCells, gridBlocks));
  const order = demands.map((_, i) => i).filter((i) => isKept[i] === 1)
    .sort((a, b) => startOf(demands[a]!) - startOf(demands[b]!));
  let end = 0;
  for (const i of order) {
    const { payload, sameContent } = demands[i]!;
    const span = spanOf(sameContent!);
    // Files must not interleave, and the last cell of an aligned file is not shared.
    const isSmall = !isAligned(payload, rules);
    if (span.startBlock < end || (isSmall && overlapsAny(span, cells))) isKept[i] = 0;
    else end = endOf(span);
  }
  return isKept;
}

/** Whether an extent has physical = logical block modulo the grid. */
export function isCongruent({ startBlock, logicalBlock }: Extent, gridBlocks: number): boolean {
  return startBlock % gridBlocks === logicalBlock % gridBlocks;
}

/** Places files; those that can keep their blocks do. */
export function placeAmongKept(
  demands: readonly KeptDemand[],
  rules: LayoutRules,
  surroundings: KeptSurroundings,
): KeptPlacement {
  const { taken, reserved } = surroundings;
  const isKept = keepable(demands, rules, uniteRanges([...taken, ...reserved]));
  const extents: (readonly Extent[])[] = demands.map(({ sameContent }, i) =>
    isKept[i] === 1 ? sameContent! : []
  );
  const room = new FreeRoom(demands, isKept, rules, surroundings);
  const waiting: number[] = [];
  for (let i = 0; i < demands.length; i++) {
    const { payload, replaced } = demands[i]!;
    if (isKept[i] === 1 || payload.dataRuns.length === 0) continue;
    const own = isAligned(payload, rules) ? undefined : room.takeReplaced(demands[i]!, replaced);
    if (own === undefined) waiting.push(i);
    else extents[i] = own;
  }
  const behind: number[] = [];
  for (const i of waiting) {
    const own = isAligned(demands[i]!.payload, rules) ? undefined : room.takeShared(demands[i]!);
    if (own === undefined) behind.push(i);
    else extents[i] = own;
  }
  for (const unit of unitsOf(behind, demands, rules)) room.placeUnit(unit, demands, extents);
  return { extents, isKept, ...summaryOf(demands, extents, rules) };
}

function summaryOf(
  demands: readonly KeptDemand[],
  extents: readonly (readonly Extent[])[],
  rules: LayoutRules,
): Pick<Placement, "startBlock" | "endBlock" | "alignedCount"> {
  let [startBlock, endBlock, alignedCount] = [Infinity, 0, 0];
  demands.forEach(({ payload }, i) => {
    if (isAligned(payload, rules)) alignedCount++;
    for (const extent of extents[i]!) {
      startBlock = Math.min(startBlock, extent.startBlock);
      endBlock = Math.max(endBlock, endOf(extent));
    }
  });
  return { startBlock: Math.min(startBlock, endBlock), endBlock, alignedCount };
}

/** Groups files that are placed together: an aligned file, or a run of small ones that starts on the grid. */
function unitsOf(
  indexes: readonly number[],
  demands: readonly KeptDemand[],
  rules: LayoutRules,
): number[][] {
  const starts = runStarts(indexes.map((i) => demands[i]!), rules);
  const units: number[][] = [];
  let isOpen = false;
  indexes.forEach((i, at) => {
    const aligned = isAligned(demands[i]!.payload, rules);
    if (aligned || starts[at] === 1 || !isOpen) units.push([i]);
    else units.at(-1)!.push(i);
    isOpen = !aligned;
  });
  return units;
}

/** The free space between kept files. */
class FreeRoom {
  readonly #rules: LayoutRules;
  /** Free pieces of cells that change anyway, none larger than a cell. */
  readonly #shared: { startBlock: number; blockCount: number }[];
  /** Runs of entirely free cells. */
  readonly #whole: { startBlock: number; blockCount: number }[];
  /** Cells started by units, with space left at their ends. */
  readonly #open: { startBlock: number; blockCount: number }[] = [];
  readonly #behind: AscendingAllocator;

  constructor(
    demands: readonly KeptDemand[],
    isKept: Uint8Array,
    rules: LayoutRules,
    { taken, reserved, cleared }: KeptSurroundings,
  ) {
    const { gridBlocks, packing } = rules;
    this.#rules = rules;
    const isLoose = rules.alignThresholdBytes === Infinity;
    const sharesTails = packing.kind === "tight" || isLoose;
    const spans: BlockRange[] = [];
    const closed: BlockRange[] = [];
    const kept: BlockRange[] = [];
    demands.forEach(({ payload, sameContent }, i) => {
      if (isKept[i] === 0) return;
      for (const extent of sameContent!) kept.push(extent);
      (isAligned(payload, rules) && !sharesTails ? closed : spans).push(spanOf(sameContent!));
    });
    const rounded = (ranges: readonly BlockRange[]) =>
      isLoose ? ranges : roundedToGrid(ranges, gridBlocks);
    const inUse = uniteRanges([...spans, ...rounded(taken), ...roundedToGrid(closed, gridBlocks)]);
    const end = alignUp(inUse.length === 0 ? 0 : endOf(inUse.at(-1)!), gridBlocks);
    const occupied = uniteRanges([...inUse, ...rounded(reserved)]);
    const occupiedCells = uniteRanges(roundedToGrid(occupied, gridBlocks));
    const all = [{ startBlock: 0, blockCount: end }];
    this.#whole = subtractRanges(all, occupiedCells) as BlockRange[];
    const dirty = uniteRanges(roundedToGrid(cleared(uniteRanges(kept)), gridBlocks));
    const partial = subtractRanges(subtractRanges(all, occupied), this.#whole);
    this.#shared = cutAtCells(partial, gridBlocks).filter((piece) => overlapsAny(piece, dirty));
    this.#behind = new AscendingAllocator(rounded(reserved), end);
  }

  /** Puts a file at the start of the file that it replaces, if there is room. */
  takeReplaced(demand: Demand, replaced: readonly Extent[] | undefined): Extent[] | undefined {
    const first = replaced?.[0];
    if (first === undefined) return undefined;
    const at = firstIndex(this.#shared.length, (i) => endOf(this.#shared[i]!) > first.startBlock);
    const piece = this.#shared[at];
    if (piece === undefined || piece.startBlock > first.startBlock) return undefined;
    const count = blocksOf(demand);
    if (first.startBlock + count > endOf(piece)) return undefined;
    const before = {
      startBlock: piece.startBlock,
      blockCount: first.startBlock - piece.startBlock,
    };
    const behind = { startBlock: first.startBlock + count, blockCount: 0 };
    behind.blockCount = endOf(piece) - behind.startBlock;
    this.#shared.splice(at, 1, ...[before, behind].filter(({ blockCount }) => blockCount > 0));
    return this.#extents(demand, first.startBlock);
  }

  /** Puts a small file into the smallest piece that fits, in a cell that changes anyway. */
  takeShared(demand: Demand): Extent[] | undefined {
    const count = blocksOf(demand);
    let best: { startBlock: number; blockCount: number } | undefined;
    for (const piece of this.#shared) {
      if (piece.blockCount < count) continue;
      if (best === undefined || piece.blockCount < best.blockCount) best = piece;
      if (best.blockCount === count) break;
    }
    return best && this.#takeFront(best, demand, count);
  }

  /** Puts a unit into an open cell, into entirely free cells, or after everything else. */
  placeUnit(
    unit: readonly number[],
    demands: readonly KeptDemand[],
    extents: (readonly Extent[])[],
  ): void {
    const { gridBlocks } = this.#rules;
    const aligned = isAligned(demands[unit[0]!]!.payload, this.#rules);
    const isDense = unit.every((i) => demands[i]!.payload.dataRuns.length === 1) &&
      (!aligned || demands[unit[0]!]!.payload.dataRuns[0]!.startBlock === 0);
    const count = unit.reduce((sum, i) => sum + blocksOf(demands[i]!), 0);
    const place = aligned
      ? isDense ? this.#takeWhole(divCeil(count, gridBlocks) * gridBlocks) : undefined
      : this.#takeOpen(count);
    if (place !== undefined) {
      for (const i of unit) {
        extents[i] = this.#extents(demands[i]!, place.startBlock);
        place.startBlock += blocksOf(demands[i]!);
        place.blockCount -= blocksOf(demands[i]!);
      }
      return;
    }
    this.#behind.alignTo(gridBlocks);
    for (const i of unit) {
      const { dataRuns } = demands[i]!.payload;
      extents[i] = takeExtents(dataRuns, this.#behind, aligned ? gridBlocks : 1, this.#rules);
    }
    // The last cell of an aligned file is not shared.
    this.#behind.alignTo(gridBlocks);
  }

  /** A place for a unit that is not aligned; undefined if the unit has to be split. */
  #takeOpen(count: number): { startBlock: number; blockCount: number } | undefined {
    const { gridBlocks } = this.#rules;
    const open = this.#open.find(({ blockCount }) => blockCount >= count);
    if (open !== undefined) return open;
    const neededBlocks = divCeil(count, gridBlocks) * gridBlocks;
    const place = this.#takeWhole(neededBlocks) ?? this.#takeBehind(neededBlocks);
    if (place !== undefined && count <= gridBlocks) {
      this.#open.unshift(place);
      if (this.#open.length > OPEN_CELLS_MAX) this.#open.pop();
    }
    return place;
  }

  #takeWhole(blockCount: number): { startBlock: number; blockCount: number } | undefined {
    const run = this.#whole.find((each) => each.blockCount >= blockCount);
    if (run === undefined) return undefined;
    const { startBlock } = run;
    run.startBlock += blockCount;
    run.blockCount -= blockCount;
    if (run.blockCount === 0) this.#whole.splice(this.#whole.indexOf(run), 1);
    return { startBlock, blockCount };
  }

  #takeBehind(blockCount: number): { startBlock: number; blockCount: number } | undefined {
    this.#behind.alignTo(this.#rules.gridBlocks);
    if (this.#behind.contiguousBlocks < blockCount) return undefined;
    return { ...this.#behind.takeUpTo(blockCount) };
  }

  #takeFront(
    piece: { startBlock: number; blockCount: number },
    demand: Demand,
    count: number,
  ): Extent[] {
    const { startBlock } = piece;
    piece.startBlock += count;
    piece.blockCount -= count;
    if (piece.blockCount === 0) this.#shared.splice(this.#shared.indexOf(piece), 1);
    return this.#extents(demand, startBlock);
  }

  #extents({ payload }: Demand, startBlock: number): Extent[] {
    const allocator = new AscendingAllocator([], startBlock);
    return takeExtents(payload.dataRuns, allocator, 1, this.#rules);
  }
}

function cutAtCells(
  ranges: readonly BlockRange[],
  gridBlocks: number,
): { startBlock: number; blockCount: number }[] {
  const pieces: { startBlock: number; blockCount: number }[] = [];
  for (const range of ranges) {
    for (let at = range.startBlock; at < endOf(range);) {
      const end = Math.min(endOf(range), alignUp(at + 1, gridBlocks));
      pieces.push({ startBlock: at, blockCount: end - at });
      at = end;
    }
  }
  return pieces;
}

function blocksOf({ payload }: Demand): number {
  return countBlocks(payload.dataRuns);
}

function startOf({ sameContent }: KeptDemand): number {
  return sameContent![0]!.startBlock;
}

/** The range from a file's first block to its last. */
function spanOf(extents: readonly Extent[]): BlockRange {
  const { startBlock } = extents[0]!;
  return { startBlock, blockCount: endOf(extents.at(-1)!) - startBlock };
}

function ascends(extents: readonly Extent[]): boolean {
  return extents.every((extent, i) => i === 0 || extent.startBlock >= endOf(extents[i - 1]!));
}

/** Whether extents map exactly these blocks of a file. */
function mapsExactly(extents: readonly Extent[], runs: readonly BlockRange[]): boolean {
  let next = 0;
  for (const { startBlock, blockCount } of runs) {
    for (let at = startBlock; at < startBlock + blockCount; next++) {
      const extent = extents[next];
      if (extent === undefined || extent.logicalBlock !== at) return false;
      at += extent.blockCount;
      if (at > startBlock + blockCount) return false;
    }
  }
  return next === extents.length;
}
