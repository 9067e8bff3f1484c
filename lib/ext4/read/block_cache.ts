/**
 * Blocks of an image that were read lately.
 *
 * @module
 */
import { type RandomReader, readExactly } from "../../io/random_reader.ts";

/** Reads blocks and keeps the last ones, up to a number of bytes; what is used least lately goes first. */
export class BlockCache {
  readonly #reader: RandomReader;
  readonly #blockSizeBytes: number;
  readonly #capacityBlocks: number;
  readonly #blocks = new Map<number, Uint8Array>();

  constructor(reader: RandomReader, blockSizeBytes: number, capacityBytes: number) {
    this.#reader = reader;
    this.#blockSizeBytes = blockSizeBytes;
    this.#capacityBlocks = Math.max(1, Math.floor(capacityBytes / blockSizeBytes));
  }

  /**
   * One block. It is shared: the caller must not change it.
   *
   * @throws {InputError} when the image ends before it
   */
  read(blockNumber: number): Uint8Array {
    const known = this.#blocks.get(blockNumber);
    if (known !== undefined) {
      // The order of a Map is that of insertion: the last one used goes to the end.
      this.#blocks.delete(blockNumber);
      this.#blocks.set(blockNumber, known);
      return known;
    }
    const block = this.#takeBuffer();
    readExactly(this.#reader, block, blockNumber * this.#blockSizeBytes);
    this.#blocks.set(blockNumber, block);
    return block;
  }

  /** A new buffer, since the one that goes may still be in a caller's hands. */
  #takeBuffer(): Uint8Array {
    if (this.#blocks.size >= this.#capacityBlocks) {
      for (const oldest of this.#blocks.keys()) {
        this.#blocks.delete(oldest);
        break;
      }
    }
    return new Uint8Array(this.#blockSizeBytes);
  }
}
