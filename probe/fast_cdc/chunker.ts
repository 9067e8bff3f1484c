/**
 * Cuts a stream of bytes into content-defined chunks, with memory for a few chunks only.
 *
 * @module
 */
import { alignUp } from "../../lib/bytes/arithmetic.ts";
import { fastCdcGearTable, splitMixGearTable } from "./gear_table.ts";
import type { ChunkKernel, Cut } from "./kernel.ts";
import { createKernel, DATA_OFFSET } from "./kernel.ts";
import { normalizedMasks } from "./masks.ts";
import type { ChunkerParameters } from "./parameters.ts";

/** Takes a chunk. The bytes are only lent. */
export type ChunkReceiver = (chunk: Uint8Array, offset: number, hash: bigint) => void;

/** Room beyond one chunk, so that what is left over is seldom moved. */
const WINDOW_SPARE_BYTES = 2 * 1024 * 1024;

/**
 * A chunker that is fed bytes in any pieces.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { Chunker } from "./chunker.ts";
 * import { fastCdcParameters } from "./parameters.ts";
 *
 * const lengths: number[] = [];
 * const chunker = new Chunker(
 *   fastCdcParameters(256, 64, 1024),
 *   (chunk) => lengths.push(chunk.length),
 * );
 * chunker.push(new Uint8Array(2500));
 * chunker.finish();
 * assertEquals(lengths, [1024, 1024, 452]);
 * ```
 */
export class Chunker {
  readonly #kernel: ChunkKernel;
  readonly #cut: (offset: number, length: number) => Cut;
  readonly #maxBytes: number;
  readonly #receive: ChunkReceiver;
  readonly #windowEnd: number;
  /** What is not cut yet lies between the two, in the kernel's memory. */
  #start = DATA_OFFSET;
  #end = DATA_OFFSET;
  #offset = 0;
  #zeroChunkBytes = 0;

  /**
   * Begins at offset 0.
   *
   * @param receive gets each chunk, which is only valid during the call, with its offset and its hash
   */
  constructor(parameters: ChunkerParameters, receive: ChunkReceiver) {
    const windowBytes = alignUp(parameters.maxBytes + WINDOW_SPARE_BYTES, 65536);
    const table = parameters.kind === "gear"
      ? splitMixGearTable()
      : fastCdcGearTable(parameters.seed);
    this.#kernel = createKernel(table, windowBytes);
    this.#cut = cutter(this.#kernel, parameters);
    this.#maxBytes = parameters.maxBytes;
    this.#receive = receive;
    this.#windowEnd = DATA_OFFSET + windowBytes;
    this.#zeroChunkBytes = this.#cut(DATA_OFFSET, this.#maxBytes)[0];
  }

  /** The offset behind everything that was fed. */
  get offset(): number {
    return this.#offset + this.#end - this.#start;
  }

  /** Feeds bytes. */
  push(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length;) {
      const part = bytes.subarray(done, done + this.#room());
      this.#kernel.bytes.set(part, this.#end);
      done += part.length;
      this.#end += part.length;
      this.#cutWhole();
    }
  }

  /** Feeds zeros. Chunks that would be all zeros are passed over in one step and not given to the receiver. */
  pushZeros(sizeBytes: number): void {
    let left = sizeBytes;
    while (left > 0) {
      if (this.#start === this.#end && left >= this.#maxBytes) {
        const passed = Math.floor(left / this.#maxBytes) * this.#zeroChunkBytes;
        this.#offset += passed;
        left -= passed;
        continue;
      }
      // Up to where the chunk that is under way must end, so that the next one may begin among the zeros.
      const count = Math.min(left, this.#room(), this.#maxBytes - (this.#end - this.#start));
      this.#kernel.bytes.fill(0, this.#end, this.#end + count);
      this.#end += count;
      left -= count;
      this.#cutWhole();
    }
  }

  /** Cuts what is left. */
  finish(): void {
    while (this.#end > this.#start) this.#cutOne();
  }

  #room(): number {
    if (this.#end === this.#windowEnd) {
      this.#kernel.bytes.copyWithin(DATA_OFFSET, this.#start, this.#end);
      this.#end -= this.#start - DATA_OFFSET;
      this.#start = DATA_OFFSET;
    }
    return this.#windowEnd - this.#end;
  }

  #cutWhole(): void {
    while (this.#end - this.#start >= this.#maxBytes) this.#cutOne();
  }

  #cutOne(): void {
    const [length, hash] = this.#cut(this.#start, this.#end - this.#start);
    const chunk = this.#kernel.bytes.subarray(this.#start, this.#start + length);
    this.#receive(chunk, this.#offset, BigInt.asUintN(64, hash));
    this.#start += length;
    this.#offset += length;
    if (this.#start === this.#end) this.#start = this.#end = DATA_OFFSET;
  }
}

function cutter(
  kernel: ChunkKernel,
  parameters: ChunkerParameters,
): (offset: number, length: number) => Cut {
  const { minBytes, maxBytes } = parameters;
  if (parameters.kind === "gear") {
    const mask = 2n ** BigInt(parameters.maskBits) - 1n;
    return (offset, length) => kernel.gear(offset, length, minBytes, maxBytes, mask);
  }
  const { averageBytes } = parameters;
  const { maskSmall, maskLarge } = normalizedMasks(averageBytes, parameters.normalization);
  return (offset, length) =>
    kernel.fastCdc(offset, length, minBytes, averageBytes, maxBytes, maskSmall, maskLarge);
}
