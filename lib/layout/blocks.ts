/**
 * Block ranges, and the allocator that hands out blocks in ascending order.
 *
 * @module
 */
import { alignUp, firstIndex } from "../bytes/arithmetic.ts";
import { invariant } from "../errors.ts";

/** A run of blocks of the image. */
export interface BlockRange {
  /** The first block. */
  readonly startBlock: number;
  /** The number of blocks. */
  readonly blockCount: number;
}

/** Hands out blocks in ascending order around reserved ranges. Skipped blocks stay free. */
export class AscendingAllocator {
  readonly #reserved: readonly BlockRange[];
  #nextReserved = 0;
  #cursor: number;

  /** @param reserved ranges in ascending order of their first blocks; they may overlap */
  constructor(reserved: readonly BlockRange[], startBlock = 0) {
    this.#reserved = reserved;
    this.#cursor = startBlock;
    this.#skipReserved();
  }

  /** The next block that can be handed out. */
  get cursor(): number {
    return this.#cursor;
  }

  /** Blocks from the cursor to the next reserved range. */
  get contiguousBlocks(): number {
    const next = this.#reserved[this.#nextReserved];
    return next === undefined ? Infinity : next.startBlock - this.#cursor;
  }

  /** Moves the cursor up to a multiple of `alignmentBlocks` that is not reserved. */
  alignTo(alignmentBlocks: number): void {
    this.advanceToCongruent(0, alignmentBlocks);
  }

  /** Moves the cursor to the first free block that is congruent to `residue` modulo `gridBlocks`. */
  advanceToCongruent(residue: number, gridBlocks: number): void {
    for (;;) {
      const wanted = alignUp(this.#cursor - residue, gridBlocks) + residue;
      this.#cursor = wanted;
      this.#skipReserved();
      if (this.#cursor === wanted) return;
    }
  }

  /** Takes up to `blockCount` contiguous blocks. */
  takeUpTo(blockCount: number): BlockRange {
    const range = {
      startBlock: this.#cursor,
      blockCount: Math.min(blockCount, this.contiguousBlocks),
    };
    this.#cursor += range.blockCount;
    this.#skipReserved();
    return range;
  }

  /** Takes `blockCount` blocks, in several pieces if reserved ranges are in the way. */
  take(blockCount: number): BlockRange[] {
    const ranges: BlockRange[] = [];
    for (let left = blockCount; left > 0;) {
      const range = this.takeUpTo(left);
      ranges.push(range);
      left -= range.blockCount;
    }
    return ranges;
  }

  /** Takes `blockCount` contiguous blocks and returns the first; skips gaps that are too small. */
  takeContiguous(blockCount: number): number {
    while (this.contiguousBlocks < blockCount) {
      this.#cursor += this.contiguousBlocks;
      this.#skipReserved();
    }
    return this.takeUpTo(blockCount).startBlock;
  }

  #skipReserved(): void {
    for (;;) {
      const next = this.#reserved[this.#nextReserved];
      if (next === undefined || this.#cursor < next.startBlock) return;
      this.#cursor = Math.max(this.#cursor, next.startBlock + next.blockCount);
      this.#nextReserved++;
    }
  }
}

/** Merges ranges, given in any order; they must not overlap. */
export function mergeRanges(ranges: readonly BlockRange[]): BlockRange[] {
  const sorted = [...ranges].sort((a, b) => a.startBlock - b.startBlock);
  const merged: { startBlock: number; blockCount: number }[] = [];
  for (const { startBlock, blockCount } of sorted) {
    const last = merged.at(-1);
    const lastEnd = last === undefined ? 0 : last.startBlock + last.blockCount;
    invariant(
      startBlock >= lastEnd,
      `blocks from ${startBlock} handed out twice, up to ${lastEnd}`,
    );
    if (last !== undefined && startBlock === lastEnd) last.blockCount += blockCount;
    else merged.push({ startBlock, blockCount });
  }
  return merged;
}

/** Concatenates lists of ranges, joining each range to the previous one if they touch. */
export function joinedInOrder(lists: readonly (readonly BlockRange[])[]): BlockRange[] {
  const joined: { startBlock: number; blockCount: number }[] = [];
  let last: { startBlock: number; blockCount: number } | undefined;
  for (const ranges of lists) {
    for (const { startBlock, blockCount } of ranges) {
      if (last !== undefined && startBlock === last.startBlock + last.blockCount) {
        last.blockCount += blockCount;
      } else {
        joined.push(last = { startBlock, blockCount });
      }
    }
  }
  return joined;
}

/** The total number of blocks in ranges. */
export function countBlocks(ranges: readonly BlockRange[]): number {
  return ranges.reduce((sum, range) => sum + range.blockCount, 0);
}

/** Calls `visit` with each part of the ranges that lies in `[startBlock, endBlock)`. */
export function forEachOverlap(
  ranges: readonly BlockRange[],
  window: { readonly startBlock: number; readonly endBlock: number },
  visit: (startBlock: number, blockCount: number) => void,
): void {
  const first = firstIndex(ranges.length, (i) => {
    const { startBlock, blockCount } = ranges[i]!;
    return startBlock + blockCount > window.startBlock;
  });
  for (let i = first; i < ranges.length; i++) {
    const range = ranges[i]!;
    if (range.startBlock >= window.endBlock) return;
    const from = Math.max(range.startBlock, window.startBlock);
    visit(from, Math.min(range.startBlock + range.blockCount, window.endBlock) - from);
  }
}

/** The union of ranges, which may overlap and come in any order; the result is ascending and merged. */
export function uniteRanges(ranges: Iterable<BlockRange>): BlockRange[] {
  const sorted = [...ranges].sort((a, b) => a.startBlock - b.startBlock);
  const united: { startBlock: number; blockCount: number }[] = [];
  for (const { startBlock, blockCount } of sorted) {
    if (blockCount === 0) continue;
    const last = united.at(-1);
    if (last !== undefined && startBlock <= last.startBlock + last.blockCount) {
      const end = Math.max(last.startBlock + last.blockCount, startBlock + blockCount);
      last.blockCount = end - last.startBlock;
    } else {
      united.push({ startBlock, blockCount });
    }
  }
  return united;
}

/** The blocks of `ranges` that are not in `taken`; both must be ascending and merged. */
export function subtractRanges(
  ranges: readonly BlockRange[],
  taken: readonly BlockRange[],
): BlockRange[] {
  const left: BlockRange[] = [];
  let next = 0;
  for (const { startBlock, blockCount } of ranges) {
    const end = startBlock + blockCount;
    let at = startBlock;
    while (next < taken.length && endOf(taken[next]!) <= at) next++;
    for (let i = next; i < taken.length && taken[i]!.startBlock < end; i++) {
      const range = taken[i]!;
      if (range.startBlock > at) left.push({ startBlock: at, blockCount: range.startBlock - at });
      at = Math.max(at, endOf(range));
    }
    if (at < end) left.push({ startBlock: at, blockCount: end - at });
  }
  return left;
}

/** The block after a range. */
export function endOf({ startBlock, blockCount }: BlockRange): number {
  return startBlock + blockCount;
}

/** Whether a range overlaps any of the others, which are ascending and merged. */
export function overlapsAny(range: BlockRange, others: readonly BlockRange[]): boolean {
  const first = firstIndex(others.length, (i) => endOf(others[i]!) > range.startBlock);
  return first < others.length && others[first]!.startBlock < endOf(range);
}

/** The number of blocks of ascending, merged ranges that lie in `[startBlock, endBlock)`. */
export function blocksWithin(
  ranges: readonly BlockRange[],
  window: { readonly startBlock: number; readonly endBlock: number },
): number {
  let blocks = 0;
  forEachOverlap(ranges, window, (_, blockCount) => {
    blocks += blockCount;
  });
  return blocks;
}
