/**
 * A sink that cuts an image into chunks while it is made, puts them into a store, and has the index at the end.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { InputError, invariant } from "../errors.ts";
import type { ImageSink } from "../io/sink.ts";
import { CHUNK_BYTES_MAX, CHUNK_ID_BYTES, type ChunkDigest, chunkId } from "./chunk.ts";
import { Chunker, type ChunkerParameters } from "./fastcdc.ts";
import { type ChunkIndex, encodeChunkIndex } from "./chunk_index.ts";
import { type ChunkCounts, type ChunkUploader, NO_CHUNKS } from "./chunk_uploader.ts";

/** A chunk, or a number of whole chunks of zeros. The bytes of a chunk are valid until the next one is asked for. */
export type CutPiece = Uint8Array | { readonly zeroChunks: number };

/** A chunk of zeros of any size, or a number of whole ones. */
export type ContentPiece = Uint8Array | { readonly zeroBytes: number };

const ZEROS = new Uint8Array(CHUNK_BYTES_MAX);
/** What holes are made of: a block of ext4. */
const HOLE_BLOCK_BYTES = 4096;

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

/**
 * Cuts a file that comes in ascending writes where its content says, by FastCDC. No chunk reaches over the edge of a hole: a
 * run of blocks of zeros, whether it was skipped or written, ends the chunk before it, and the data behind it begins a new
 * one. So what lies between two holes is cut alike wherever it is.
 */
export class ContentCutter {
  readonly #chunker: Chunker;
  readonly #receive: (piece: ContentPiece) => void;
  readonly #block = new Uint8Array(HOLE_BLOCK_BYTES);
  #filledBytes = 0;
  #zeroBytes = 0;
  #endOffset = 0;

  /** @param receive is given every piece in order; the bytes are valid during the call */
  constructor(parameters: ChunkerParameters, receive: (piece: ContentPiece) => void) {
    this.#receive = receive;
    this.#chunker = new Chunker(parameters, (chunk) => receive(chunk));
  }

  write(bytes: Uint8Array, offset: number): void {
    invariant(offset >= this.#endOffset, `write at ${offset} after the end ${this.#endOffset}`);
    this.#skipTo(offset);
    this.#endOffset += bytes.length;
    let at = 0;
    if (this.#filledBytes > 0) {
      at = Math.min(bytes.length, HOLE_BLOCK_BYTES - this.#filledBytes);
      this.#fill(bytes.subarray(0, at));
    }
    const blocksEnd = bytes.length - (bytes.length - at) % HOLE_BLOCK_BYTES;
    // Whole blocks go on in runs of data and of zeros, without a copy.
    let dataStart = at;
    for (; at < blocksEnd; at += HOLE_BLOCK_BYTES) {
      if (!isZeros(bytes.subarray(at, at + HOLE_BLOCK_BYTES))) continue;
      this.#data(bytes.subarray(dataStart, at));
      this.#zeros(HOLE_BLOCK_BYTES);
      dataStart = at + HOLE_BLOCK_BYTES;
    }
    this.#data(bytes.subarray(Math.min(dataStart, blocksEnd), blocksEnd));
    if (blocksEnd < bytes.length) this.#fill(bytes.subarray(blocksEnd));
  }

  finish(sizeBytes: number): void {
    invariant(sizeBytes >= this.#endOffset, `the end ${sizeBytes} before ${this.#endOffset}`);
    this.#skipTo(sizeBytes);
    const rest = this.#block.subarray(0, this.#filledBytes);
    if (rest.length > 0) isZeros(rest) ? this.#zeros(rest.length) : this.#data(rest);
    this.#filledBytes = 0;
    this.#endHole();
    this.#chunker.finish();
  }

  #skipTo(offset: number): void {
    let gapBytes = offset - this.#endOffset;
    this.#endOffset = offset;
    if (this.#filledBytes > 0 && gapBytes > 0) {
      const count = Math.min(gapBytes, HOLE_BLOCK_BYTES - this.#filledBytes);
      this.#fill(ZEROS.subarray(0, count));
      gapBytes -= count;
    }
    const wholeBytes = gapBytes - gapBytes % HOLE_BLOCK_BYTES;
    if (wholeBytes > 0) this.#zeros(wholeBytes);
    if (gapBytes > wholeBytes) this.#fill(ZEROS.subarray(0, gapBytes - wholeBytes));
  }

  /** Adds to the block that is being put together. */
  #fill(part: Uint8Array): void {
    this.#block.set(part, this.#filledBytes);
    this.#filledBytes += part.length;
    if (this.#filledBytes < HOLE_BLOCK_BYTES) return;
    this.#filledBytes = 0;
    if (isZeros(this.#block)) this.#zeros(HOLE_BLOCK_BYTES);
    else this.#data(this.#block);
  }

  #zeros(count: number): void {
    if (this.#zeroBytes === 0) this.#chunker.finish();
    this.#zeroBytes += count;
  }

  #data(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#endHole();
    this.#chunker.push(bytes);
  }

  #endHole(): void {
    if (this.#zeroBytes > 0) this.#receive({ zeroBytes: this.#zeroBytes });
    this.#zeroBytes = 0;
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
  /** A power of two; of a blessed image, its grid. For FastCDC, the largest chunk. */
  readonly chunkBytes: number;
  /** Cuts by content; default: into chunks of one size. */
  readonly chunker?: ChunkerParameters | undefined;
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
  readonly #cutter: ChunkCutter | ContentCutter;
  /** Of chunks that are cut by content: where each ends. */
  #ends: number[] = [];
  /** What to wait for when the uploader has enough to do. */
  #full: Promise<void> | undefined;
  readonly #counts: ChunkCounts = { ...NO_CHUNKS };
  readonly #seen = new Set<string>();
  #ids = new Uint8Array(FIRST_ROOM_CHUNKS * CHUNK_ID_BYTES);
  #zeroId: Uint8Array | undefined;
  #sizeBytes: number | undefined;

  /** Begins at offset 0 of the file. */
  constructor(uploader: ChunkUploader, options: ChunkSinkOptions) {
    this.#uploader = uploader;
    this.#options = options;
    this.#cutter = options.chunker === undefined
      ? new ChunkCutter(options.chunkBytes)
      : new ContentCutter(options.chunker, (piece) => this.#takeContent(piece));
  }

  /** What the file is made of, once it is finished. */
  get index(): ChunkIndex {
    invariant(this.#sizeBytes !== undefined, "the index of a file that has not ended");
    const ids = this.#ids.subarray(0, this.#counts.chunks * CHUNK_ID_BYTES);
    const { digest, chunkBytes, chunker } = this.#options;
    const index = { digest, chunkBytes, sizeBytes: this.#sizeBytes, ids };
    if (chunker === undefined) return index;
    const averageBytes = chunker.kind === "fastcdc" ? chunker.averageBytes : chunkBytes;
    return { ...index, cut: { minBytes: chunker.minBytes, averageBytes, ends: this.#ends } };
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
    const cutter = this.#cutter;
    if (cutter instanceof ChunkCutter) return this.#takeAll(cutter.write(bytes, offset));
    cutter.write(bytes, offset);
    return this.#waitForRoom();
  }

  async finish(sizeBytes: number): Promise<void> {
    const cutter = this.#cutter;
    if (cutter instanceof ChunkCutter) await this.#takeAll(cutter.finish(sizeBytes));
    else {
      cutter.finish(sizeBytes);
      await this.#waitForRoom();
    }
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

  /** Chunks that are cut by content come while a write goes on, so that it waits behind them. */
  #waitForRoom(): Promise<void> | undefined {
    const full = this.#full;
    this.#full = undefined;
    return full;
  }

  #takeContent(piece: ContentPiece): void {
    const end = this.#ends.at(-1) ?? 0;
    if (piece instanceof Uint8Array) {
      this.#full = this.#take(piece) ?? this.#full;
      this.#ends.push(end + piece.length);
      return;
    }
    const { chunkBytes } = this.#options;
    const wholeCount = Math.floor(piece.zeroBytes / chunkBytes);
    if (wholeCount > 0) this.#full = this.#takeZeros(wholeCount) ?? this.#full;
    for (let i = 1; i <= wholeCount; i++) this.#ends.push(end + i * chunkBytes);
    const rest = piece.zeroBytes - wholeCount * chunkBytes;
    if (rest === 0) return;
    this.#full = this.#take(ZEROS.subarray(0, rest)) ?? this.#full;
    this.#counts.zeroChunks++;
    this.#ends.push(end + piece.zeroBytes);
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
      code: "limitExceeded",
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
