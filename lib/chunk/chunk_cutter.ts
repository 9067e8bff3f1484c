/**
 * Cuts a file that comes in ascending writes into chunks of one size. Holes and blocks of zeros are told apart from the
 * rest, so that they cost nothing.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { invariant } from "../errors.ts";
import { CHUNK_BYTES_MAX } from "./chunk_id.ts";

/** A chunk, or a number of whole chunks of zeros. The bytes of a chunk are valid until the next one is asked for. */
export type CutPiece = Uint8Array | { readonly zeroChunks: number };

const ZEROS = new Uint8Array(CHUNK_BYTES_MAX);

/** The state of one file. */
export class ChunkCutter {
  readonly #chunkBytes: number;
  readonly #chunk: Uint8Array;
  /** Bytes of the chunk that is being filled. */
  #filledBytes = 0;
  #endOffset = 0;

  constructor(chunkBytes: number) {
    this.#chunkBytes = chunkBytes;
    this.#chunk = new Uint8Array(chunkBytes);
  }

  /** The chunks that a write completes. All of them must be taken before the next call. */
  *write(bytes: Uint8Array, offset: number): Generator<CutPiece> {
    invariant(offset >= this.#endOffset, `write at ${offset} after the end ${this.#endOffset}`);
    yield* this.#skipTo(offset);
    this.#endOffset += bytes.length;
    let rest = bytes;
    while (rest.length > 0) {
      const part = rest.subarray(0, this.#chunkBytes - this.#filledBytes);
      rest = rest.subarray(part.length);
      if (part.length === this.#chunkBytes) {
        yield pieceOf(part);
        continue;
      }
      this.#chunk.set(part, this.#filledBytes);
      this.#filledBytes += part.length;
      if (this.#filledBytes === this.#chunkBytes) yield this.#completed();
    }
  }

  /** The chunks up to the end; the last one may be short, and comes as bytes also where it is zeros. */
  *finish(sizeBytes: number): Generator<CutPiece> {
    invariant(sizeBytes >= this.#endOffset, `the end ${sizeBytes} before ${this.#endOffset}`);
    yield* this.#skipTo(sizeBytes);
    if (this.#filledBytes > 0) yield this.#chunk.subarray(0, this.#filledBytes);
    this.#filledBytes = 0;
  }

  *#skipTo(offset: number): Generator<CutPiece> {
    let gapBytes = offset - this.#endOffset;
    this.#endOffset = offset;
    if (gapBytes === 0) return;
    if (this.#filledBytes > 0) {
      const count = Math.min(gapBytes, this.#chunkBytes - this.#filledBytes);
      this.#fillZeros(count);
      gapBytes -= count;
      if (this.#filledBytes === this.#chunkBytes) yield this.#completed();
    }
    const zeroChunks = Math.floor(gapBytes / this.#chunkBytes);
    if (zeroChunks > 0) yield { zeroChunks };
    this.#fillZeros(gapBytes - zeroChunks * this.#chunkBytes);
  }

  #fillZeros(count: number): void {
    this.#chunk.fill(0, this.#filledBytes, this.#filledBytes + count);
    this.#filledBytes += count;
  }

  #completed(): CutPiece {
    this.#filledBytes = 0;
    return pieceOf(this.#chunk);
  }
}

function pieceOf(chunk: Uint8Array): CutPiece {
  return isZeros(chunk) ? { zeroChunks: 1 } : chunk;
}

function isZeros(bytes: Uint8Array): boolean {
  if (bytes[0] !== 0 || bytes[bytes.length - 1] !== 0) return false;
  return Buffer.compare(bytes, ZEROS.subarray(0, bytes.length)) === 0;
}
