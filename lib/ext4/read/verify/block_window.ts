/**
 * Blocks that are read ahead: small directories lie side by side, and a read for each would cost more than the look.
 *
 * @module
 */
import { littleEndianWords } from "../../../bytes/words.ts";
import type { KeptInode } from "./context.ts";
import type { Volume } from "./volume.ts";

/** Blocks that are read at once. */
export const WINDOW_BLOCKS = 32;

/** The blocks that were read last. */
export class BlockWindow {
  readonly #volume: Volume;
  readonly #buffer: Uint8Array;
  #words: Int32Array;
  #start = 0;
  #count = 0;

  constructor(volume: Volume) {
    this.#volume = volume;
    this.#buffer = new Uint8Array(WINDOW_BLOCKS * volume.blockSizeBytes);
    this.#words = littleEndianWords(this.#buffer);
  }

  /** All that was read, as words. */
  get words(): Int32Array {
    return this.#words;
  }

  /**
   * Up to WINDOW_BLOCKS blocks, until the next call; undefined when the image ends before.
   *
   * @param behind how many blocks behind them will be asked for next
   */
  read(start: number, count: number, behind: number): Uint8Array | undefined {
    const { blockSizeBytes } = this.#volume;
    if (start < this.#start || start + count > this.#start + this.#count) {
      this.#start = start;
      this.#count = this.#fill(start, Math.min(WINDOW_BLOCKS, count + behind)) ||
        this.#fill(start, count);
      if (this.#count === 0) return undefined;
      // On a machine that keeps the high byte of a word first, they are a copy.
      this.#words = littleEndianWords(this.#buffer);
    }
    const at = (start - this.#start) * blockSizeBytes;
    return this.#buffer.subarray(at, at + count * blockSizeBytes);
  }

  /** Where a block that was read begins in the words. */
  firstWord(block: number): number {
    return (block - this.#start) * (this.#volume.blockSizeBytes >>> 2);
  }

  #fill(start: number, count: number): number {
    return this.#volume.read(start, count, this.#buffer) === undefined ? 0 : count;
  }
}

/** For each directory, how many blocks behind its own belong to those that come next. */
export function blocksBehind(directories: readonly KeptInode[]): Uint8Array {
  const behind = new Uint8Array(directories.length);
  for (let i = directories.length - 2; i >= 0; i--) {
    const { runs } = directories[i]!;
    const run = runs[0];
    const next = directories[i + 1]!.runs[0];
    if (run === undefined || next === undefined || runs.length > 1) continue;
    if (next.start !== run.start + run.count) continue;
    behind[i] = Math.min(WINDOW_BLOCKS, next.count + behind[i + 1]!);
  }
  return behind;
}
