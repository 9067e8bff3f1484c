/**
 * Cuts an image into content-defined chunks while it goes by.
 *
 * @module
 */
import type { ImageSink } from "../../lib/io/sink.ts";
import { BLOCK_SIZE_BYTES } from "../../lib/model/payload.ts";
import { Chunker } from "../fast_cdc/chunker.ts";
import type { ChunkerParameters } from "../fast_cdc/parameters.ts";
import { CellCutter } from "./cell_cutter.ts";
import { countNonZeroBytes, isZeroBlock } from "./zero_blocks.ts";

/** Takes a chunk that is not all zeros, with the bytes in it that lie in no zero block of the image, and its offset. */
export type MeasuredChunkReceiver = (chunk: Uint8Array, rawBytes: number, offset: number) => void;

/** The image is handed on in pieces of this size; whole holes between them are not read. */
const PIECE_BYTES = 1024 * 1024;
/** More than the longest chunk and a piece have. */
const REMEMBERED_BLOCKS = 8192;

/** A sink that keeps a chunk or two. */
export class ChunkCutter implements ImageSink {
  readonly #pieces: CellCutter;
  readonly #chunker: Chunker;
  readonly #receive: MeasuredChunkReceiver;
  /** The blocks that are not all zeros, each at its number modulo the length. */
  readonly #nonZeroBlocks = new Float64Array(REMEMBERED_BLOCKS).fill(-1);

  constructor(parameters: ChunkerParameters, receive: MeasuredChunkReceiver) {
    this.#receive = receive;
    this.#chunker = new Chunker(parameters, (chunk, offset) => this.#measure(chunk, offset));
    this.#pieces = new CellCutter(PIECE_BYTES, (piece, index) => this.#push(piece, index));
  }

  write(bytes: Uint8Array, offset: number): void {
    this.#pieces.write(bytes, offset);
  }

  finish(sizeBytes: number): void {
    this.#pieces.finish(sizeBytes);
    this.#chunker.pushZeros(sizeBytes - this.#chunker.offset);
    this.#chunker.finish();
  }

  abort(): void {
    this.#pieces.abort();
  }

  #push(piece: Uint8Array, index: number): void {
    const offset = index * PIECE_BYTES;
    this.#chunker.pushZeros(offset - this.#chunker.offset);
    for (let at = 0; at < piece.length; at += BLOCK_SIZE_BYTES) {
      if (isZeroBlock(piece, at, Math.min(at + BLOCK_SIZE_BYTES, piece.length))) continue;
      const block = (offset + at) / BLOCK_SIZE_BYTES;
      this.#nonZeroBlocks[block % REMEMBERED_BLOCKS] = block;
    }
    this.#chunker.push(piece);
  }

  #measure(chunk: Uint8Array, offset: number): void {
    // The parts of two blocks at its ends may be zeros while the blocks are not.
    if (countNonZeroBytes(chunk) === 0) return;
    const end = offset + chunk.length;
    let rawBytes = 0;
    for (
      let block = Math.floor(offset / BLOCK_SIZE_BYTES);
      block * BLOCK_SIZE_BYTES < end;
      block++
    ) {
      if (this.#nonZeroBlocks[block % REMEMBERED_BLOCKS] !== block) continue;
      const blockStart = block * BLOCK_SIZE_BYTES;
      rawBytes += Math.min(blockStart + BLOCK_SIZE_BYTES, end) - Math.max(blockStart, offset);
    }
    this.#receive(chunk, rawBytes, offset);
  }
}
