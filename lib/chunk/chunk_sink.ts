/**
 * A sink that puts an image into a chunk store while it is made, and has its index at the end.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { InputError, invariant } from "../errors.ts";
import type { ImageSink } from "../io/sink.ts";
import type { ChunkDepot } from "./chunk_depot.ts";
import { type ChunkCounts, NO_CHUNKS } from "./chunk_counts.ts";
import { ChunkCutter, type CutPiece } from "./chunk_cutter.ts";
import { CHUNK_ID_BYTES, type ChunkDigest, chunkId } from "./chunk_id.ts";
import type { ChunkIndex } from "./chunk_index.ts";

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
 * Cuts what it is given into chunks and gives them to a depot. `finish` ends when all of them are safe in the store, so a
 * sink that makes something visible belongs behind this one.
 */
export class ChunkSink implements ImageSink {
  readonly #depot: ChunkDepot;
  readonly #options: ChunkSinkOptions;
  readonly #cutter: ChunkCutter;
  readonly #counts: ChunkCounts = { ...NO_CHUNKS };
  readonly #seen = new Set<string>();
  #ids = new Uint8Array(FIRST_ROOM_CHUNKS * CHUNK_ID_BYTES);
  #zeroId: Uint8Array | undefined;
  #sizeBytes: number | undefined;

  /** Begins at offset 0 of the file. */
  constructor(depot: ChunkDepot, options: ChunkSinkOptions) {
    this.#depot = depot;
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

  write(bytes: Uint8Array, offset: number): void | Promise<void> {
    return this.#takeAll(this.#cutter.write(bytes, offset));
  }

  async finish(sizeBytes: number): Promise<void> {
    await this.#takeAll(this.#cutter.finish(sizeBytes));
    await this.#depot.settle();
    this.#sizeBytes = sizeBytes;
  }

  /** Waits for what is on its way. Chunks that are in the store stay: they are whole, and the next try finds them. */
  abort(): Promise<void> {
    return this.#depot.abort();
  }

  #takeAll(pieces: Generator<CutPiece>): void | Promise<void> {
    for (let next = pieces.next(); !next.done; next = pieces.next()) {
      const full = this.#take(next.value);
      if (full !== undefined) return full.then(() => this.#takeAll(pieces));
    }
  }

  /** @returns what to wait for when the depot has enough to do */
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
    return this.#depot.offer({ id, digest: this.#options.digest, bytes, counts: this.#counts });
  }

  #append(id: Uint8Array, count: number): void {
    if (this.#counts.chunks + count > CHUNKS_MAX) {
      const { chunkBytes } = this.#options;
      throw new InputError("index", `more than ${CHUNKS_MAX} chunks of ${chunkBytes} bytes`, {
        hint: "choose larger chunks or a smaller image",
      });
    }
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
