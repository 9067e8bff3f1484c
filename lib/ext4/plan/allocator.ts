/**
 * Hands out blocks in ascending order around reserved ranges.
 *
 * @module
 */
import { alignUp } from "../../bytes/arithmetic.ts";
import type { BlockRange } from "./geometry.ts";

/** An ascending allocator. What lies behind its cursor and was not handed out stays free. */
export class AscendingAllocator {
  readonly #reserved: readonly BlockRange[];
  #nextReserved = 0;
  #cursor: number;

  /** @param reserved ascending and disjoint */
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

  /** Takes up to `blockCount` blocks that lie together. */
  takeUpTo(blockCount: number): BlockRange {
    const range = {
      startBlock: this.#cursor,
      blockCount: Math.min(blockCount, this.contiguousBlocks),
    };
    this.#cursor += range.blockCount;
    this.#skipReserved();
    return range;
  }

  /** Takes `blockCount` blocks in as many pieces as reserved ranges force. */
  take(blockCount: number): BlockRange[] {
    const ranges: BlockRange[] = [];
    for (let left = blockCount; left > 0;) {
      const range = this.takeUpTo(left);
      ranges.push(range);
      left -= range.blockCount;
    }
    return ranges;
  }

  /** Takes `blockCount` blocks in one piece, past reserved ranges that are in the way. Returns the first. */
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
