/**
 * Bytes without end that look random, are the same on every machine, and cost little to make: for files that are too
 * big to be kept in memory, and for decisions of generated tests.
 *
 * @module
 */
import type { RandomReader } from "../../lib/io/random_reader.ts";

const TILE_BYTES = 4096;

/** The generator sfc32 (Chris Doty-Humphrey's Small Fast Counter): 128 bits of state, one seed. */
export class Random {
  readonly #state = new Uint32Array(4);

  constructor(seed: number) {
    this.#state.set([0x9e3779b9, Math.floor(seed / 2 ** 32), seed >>> 0, 1]);
    for (let i = 0; i < 12; i++) this.next();
  }

  /** 32 random bits. */
  next(): number {
    const [a, b, c, counter] = this.#state as unknown as [number, number, number, number];
    const sum = (a + b + counter) >>> 0;
    this.#state[3] = counter + 1;
    this.#state[0] = b ^ (b >>> 9);
    this.#state[1] = c + (c << 3);
    this.#state[2] = ((c << 21) | (c >>> 11)) + sum;
    return sum;
  }

  /** A whole number from 0 up to but not including `limit` (at most 2^53). */
  below(limit: number): number {
    return Math.floor(((this.next() * 2 ** 21 + (this.next() >>> 11)) / 2 ** 53) * limit);
  }

  /** A whole number from `low` to `high`, both possible. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.next() < probability * 2 ** 32;
  }

  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw new Error("nothing to pick from");
    return items[this.below(items.length)]!;
  }

  bytes(length: number): Uint8Array<ArrayBuffer> {
    const words = new Uint32Array(Math.ceil(length / 4));
    for (let i = 0; i < words.length; i++) words[i] = this.next();
    return new Uint8Array(words.buffer, 0, length);
  }
}

/** A reader over noise: no two blocks of 4 KiB are equal, for their numbers are in them, and no byte is zero. */
export function noiseReader(sizeBytes: number, seed: number): RandomReader {
  const tile = new Random(seed).bytes(TILE_BYTES).map((byte) => byte | 1);
  return {
    sizeBytes,
    name: `noise ${seed}`,
    readAt(target, position) {
      const length = Math.max(0, Math.min(target.length, sizeBytes - position));
      for (let done = 0; done < length;) {
        const tileIndex = Math.floor((position + done) / TILE_BYTES);
        const from = position + done - tileIndex * TILE_BYTES;
        const count = Math.min(TILE_BYTES - from, length - done);
        stamp(tile, tileIndex);
        target.set(tile.subarray(from, from + count), done);
        done += count;
      }
      return length;
    },
    close() {},
  };
}

/** Writes the number of a tile into its first eight bytes, seven bits in each; the eighth keeps it from being zero. */
function stamp(tile: Uint8Array<ArrayBuffer>, tileIndex: number): void {
  let rest = tileIndex;
  for (let i = 0; i < 8; i++) {
    tile[i] = 0x80 | (rest % 128);
    rest = Math.floor(rest / 128);
  }
}
