/**
 * A sink that cuts an image into chunks while it is made, puts them into a store, and has the index at the end.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { InputError, invariant } from "../errors.ts";
import type { ImageSink } from "../io/sink.ts";
import { CHUNK_BYTES_MAX, CHUNK_ID_BYTES, type ChunkDigest, chunkId } from "./chunk.ts";
import { type ChunkIndex, encodeChunkIndex } from "./chunk_index.ts";
import { type ChunkCounts, type ChunkUploader, NO_CHUNKS } from "./chunk_uploader.ts";

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

/** How a file is cut. */
export interface ChunkSinkOptions {
  /** A power of two; of a blessed image, its grid. */
  readonly chunkBytes: number;
  /** What chunks are named with. */
  readonly digest: ChunkDigest;
}

const FIRST_ROOM_CHUNKS = 1024;
/** Four tebibytes at 128 KiB; the index then has 1.3 GiB, and no runtime has much longer buffers. */
const CHUNKS_MAX = 1 << 25;

/**
 * Cuts what it is given into chunks and gives them to an uploader. `finish` ends when all of them are safe in the store, so a
 * sink that makes something visible belongs behind this one.
 */
export class ChunkSink implements ImageSink {
  readonly #uploader: ChunkUploader;
  readonly #options: ChunkSinkOptions;
  readonly #cutter: ChunkCutter;
  readonly #counts: ChunkCounts = { ...NO_CHUNKS };
  readonly #seen = new Set<string>();
  #ids = new Uint8Array(FIRST_ROOM_CHUNKS * CHUNK_ID_BYTES);
  #zeroId: Uint8Array | undefined;
  #sizeBytes: number | undefined;

  /** Begins at offset 0 of the file. */
  constructor(uploader: ChunkUploader, options: ChunkSinkOptions) {
    this.#uploader = uploader;
    this.#options = options;
    this.#cutter = new ChunkCutter(options.chunkBytes);
  }

  /** What the file is made of, once it is finished. */
  get index(): ChunkIndex {
    invariant(this.#sizeBytes !== undefined, "the index of a file that has not ended");
    const ids = this.#ids.subarray(0, this.#counts.chunks * CHUNK_ID_BYTES);
    return { ...this.#options, sizeBytes: this.#sizeBytes, ids };
  }

  /** Whether there is an index. */
  get isFinished(): boolean {
    return this.#sizeBytes !== undefined;
  }

  /** What was in the store and what is new, once the file is finished. */
  get counts(): Readonly<ChunkCounts> {
    return this.#counts;
  }

  /**
   * Checks a size before anything is read.
   *
   * @throws {InputError} when a file of that size would have too many chunks
   */
  checkSize(sizeBytes: number): void {
    this.#checkCount(Math.ceil(sizeBytes / this.#options.chunkBytes));
  }

  write(bytes: Uint8Array, offset: number): void | Promise<void> {
    return this.#takeAll(this.#cutter.write(bytes, offset));
  }

  async finish(sizeBytes: number): Promise<void> {
    await this.#takeAll(this.#cutter.finish(sizeBytes));
    await this.#uploader.settle();
    this.#sizeBytes = sizeBytes;
  }

  /** Waits for what is on its way. Chunks that are in the store stay: they are whole, and the next try finds them. */
  abort(): Promise<void> {
    return this.#uploader.abort();
  }

  #takeAll(pieces: Generator<CutPiece>): void | Promise<void> {
    for (let next = pieces.next(); !next.done; next = pieces.next()) {
      const full = this.#take(next.value);
      if (full !== undefined) return full.then(() => this.#takeAll(pieces));
    }
  }

  /** @returns what to wait for when the uploader has enough to do */
  #take(piece: CutPiece): Promise<void> | undefined {
    if (!(piece instanceof Uint8Array)) return this.#takeZeros(piece.zeroChunks);
    const id = chunkId(piece, this.#options.digest);
    this.#append(Buffer.from(id, "hex"), 1);
    return this.#offer(id, piece);
  }

  #takeZeros(count: number): Promise<void> | undefined {
    let full: Promise<void> | undefined;
    if (this.#zeroId === undefined) {
      const zeros = new Uint8Array(this.#options.chunkBytes);
      const id = chunkId(zeros, this.#options.digest);
      this.#zeroId = Buffer.from(id, "hex");
      full = this.#offer(id, zeros);
    }
    this.#append(this.#zeroId, count);
    this.#counts.zeroChunks += count;
    return full;
  }

  #offer(id: string, bytes: Uint8Array): Promise<void> | undefined {
    if (this.#seen.has(id)) return undefined;
    this.#seen.add(id);
    this.#counts.distinctChunks++;
    return this.#uploader.offer({ id, digest: this.#options.digest, bytes, counts: this.#counts });
  }

  #checkCount(count: number): void {
    if (count <= CHUNKS_MAX) return;
    const { chunkBytes } = this.#options;
    throw new InputError("index", `more than ${CHUNKS_MAX} chunks of ${chunkBytes} bytes`, {
      hint: "choose larger chunks or a smaller image",
    });
  }

  #append(id: Uint8Array, count: number): void {
    this.#checkCount(this.#counts.chunks + count);
    const start = this.#counts.chunks * CHUNK_ID_BYTES;
    const end = start + count * CHUNK_ID_BYTES;
    if (end > this.#ids.length) {
      const grown = new Uint8Array(Math.max(end, this.#ids.length * 2));
      grown.set(this.#ids.subarray(0, start));
      this.#ids = grown;
    }
    for (let at = start; at < end; at += CHUNK_ID_BYTES) this.#ids.set(id, at);
    this.#counts.chunks += count;
  }
}

/**
 * A sink that takes nothing of the image, and at its end writes what the chunk sink has found out. It belongs behind the
 * chunk sink, so that an index is seen only when all its chunks are in the store.
 *
 * @param target takes the index as a file
 */
export function createIndexSink(chunks: ChunkSink, target: ImageSink): ImageSink {
  return {
    write: () => {},
    async finish() {
      const bytes = encodeChunkIndex(chunks.index);
      await target.write(bytes, 0);
      await target.finish(bytes.length);
    },
    abort: () => target.abort(),
  };
}
