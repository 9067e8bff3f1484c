/**
 * Turns the bytes of an image into chunks in a store. The image is cut while it is made; chunks that the store lacks
 * are uploaded, several at a time and with bounded memory. The result is an index.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { isZero, zeroBytes } from "../bytes/arithmetic.ts";
import { InputError, invariant, throwIfAborted } from "../errors.ts";
import type { ImageSink } from "../io/sink.ts";
import {
  checkZstdLevel,
  CHUNK_ID_BYTES,
  type ChunkDigest,
  chunkId,
  type ChunkStore,
  compressChunk,
  fetchChunk,
} from "./chunk.ts";
import { type ChunkIndex, encodeChunkIndex } from "./chunk_index.ts";
import { Chunker, type ChunkerParameters } from "./fastcdc.ts";
import { GRACE_MS_DEFAULT, lockStore, type StoreLock } from "./store_lock.ts";

/** A chunk, or a run of zeros: any number of fixed-size chunks, or a hole. The bytes are valid only during the call. */
export type CutPiece = Uint8Array | { readonly zeroBytes: number };

/** Cuts a file that is written in ascending order. Skipped ranges are zeros. */
export interface Cutter {
  write(bytes: Uint8Array, offset: number): void;
  /** Cuts the remaining data. */
  finish(sizeBytes: number): void;
}

/** The granularity of holes: an ext4 block. */
const HOLE_BLOCK_BYTES = 4096;

/** How a file is cut and how its chunks are named. */
export interface ChunkSinkOptions {
  /**
   * The chunk size, a power of two; for a blessed image, its grid. With a content-defined chunker, the largest chunk.
   */
  readonly chunkBytes: number;
  /** A content-defined chunker; by default, all chunks have the same size. */
  readonly chunker?: ChunkerParameters | undefined;
  /** The digest that chunk ids are. */
  readonly digest: ChunkDigest;
}

/**
 * Creates a cutter for one file.
 *
 * Fixed-size chunks: the last one may be short, and is passed as bytes even if it is all zeros. Content-defined chunks:
 * no chunk extends across the edge of a hole. A run of zero blocks, whether skipped or written, ends the chunk before
 * it, and the data after it starts a new one, so data between two holes is always cut in the same way.
 *
 * @param receive called with every piece in order
 */
export function createCutter(
  { chunkBytes, chunker }: Omit<ChunkSinkOptions, "digest">,
  receive: (piece: CutPiece) => void,
): Cutter {
  if (chunker === undefined) {
    const onData = (bytes: Uint8Array) => {
      for (let at = 0; at < bytes.length; at += chunkBytes) {
        receive(bytes.subarray(at, at + chunkBytes));
      }
    };
    return new BlockGatherer(chunkBytes, onData, (zeroBytes) => receive({ zeroBytes }));
  }
  const byContent = new Chunker(chunker, receive);
  let holeBytes = 0;
  const endHole = () => {
    if (holeBytes > 0) receive({ zeroBytes: holeBytes });
    holeBytes = 0;
  };
  const onZeros = (zeroBytes: number) => {
    if (holeBytes === 0) byContent.finish();
    holeBytes += zeroBytes;
  };
  const blocks = new BlockGatherer(HOLE_BLOCK_BYTES, (bytes) => {
    // The end of a file can be a partial block.
    if (bytes.length < HOLE_BLOCK_BYTES && isZero(bytes)) return onZeros(bytes.length);
    endHole();
    byContent.push(bytes);
  }, onZeros);
  return {
    write: (bytes, offset) => blocks.write(bytes, offset),
    finish(sizeBytes) {
      blocks.finish(sizeBytes);
      endHole();
      byContent.finish();
    },
  };
}

/** Passes a file on in runs of whole blocks, either data or zeros; a partial block at the end counts as data. */
class BlockGatherer implements Cutter {
  readonly #blockBytes: number;
  readonly #onData: (bytes: Uint8Array) => void;
  readonly #onZeros: (count: number) => void;
  /** A block that arrives in parts. */
  readonly #block: Uint8Array;
  #filledBytes = 0;
  #endOffset = 0;

  constructor(
    blockBytes: number,
    onData: (bytes: Uint8Array) => void,
    onZeros: (count: number) => void,
  ) {
    this.#blockBytes = blockBytes;
    this.#onData = onData;
    this.#onZeros = onZeros;
    this.#block = new Uint8Array(blockBytes);
  }

  write(bytes: Uint8Array, offset: number): void {
    invariant(offset >= this.#endOffset, `write at ${offset} after the end ${this.#endOffset}`);
    this.#skipTo(offset);
    this.#endOffset += bytes.length;
    const { length } = bytes;
    const blockBytes = this.#blockBytes;
    let at = this.#filledBytes === 0 ? 0 : Math.min(length, blockBytes - this.#filledBytes);
    this.#fill(bytes.subarray(0, at));
    const end = length - (length - at) % blockBytes;
    // Whole blocks are not copied.
    let dataStart = at;
    for (; at < end; at += blockBytes) {
      if (!isZero(bytes.subarray(at, at + blockBytes))) continue;
      if (dataStart < at) this.#onData(bytes.subarray(dataStart, at));
      this.#onZeros(blockBytes);
      dataStart = at + blockBytes;
    }
    if (dataStart < end) this.#onData(bytes.subarray(dataStart, end));
    this.#fill(bytes.subarray(end));
  }

  finish(sizeBytes: number): void {
    invariant(sizeBytes >= this.#endOffset, `the end ${sizeBytes} before ${this.#endOffset}`);
    this.#skipTo(sizeBytes);
    if (this.#filledBytes > 0) this.#onData(this.#block.subarray(0, this.#filledBytes));
    this.#filledBytes = 0;
  }

  #skipTo(offset: number): void {
    let gapBytes = offset - this.#endOffset;
    this.#endOffset = offset;
    if (this.#filledBytes > 0) {
      const count = Math.min(gapBytes, this.#blockBytes - this.#filledBytes);
      this.#fill(zeroBytes(count));
      gapBytes -= count;
    }
    const restBytes = gapBytes % this.#blockBytes;
    if (gapBytes > restBytes) this.#onZeros(gapBytes - restBytes);
    this.#fill(zeroBytes(restBytes));
  }

  /** @param part at most the rest of the block */
  #fill(part: Uint8Array): void {
    this.#block.set(part, this.#filledBytes);
    this.#filledBytes += part.length;
    if (this.#filledBytes < this.#blockBytes) return;
    this.#filledBytes = 0;
    if (isZero(this.#block)) this.#onZeros(this.#blockBytes);
    else this.#onData(this.#block);
  }
}

const FIRST_ROOM_CHUNKS = 1024;
/** 4 TiB at 128 KiB; the index then takes 1.3 GiB, and no runtime has much longer buffers. */
const CHUNKS_MAX = 1 << 25;

/**
 * Cuts a file into chunks and passes them to an uploader. `finish` returns when all chunks are safe in the store, so a
 * sink that makes something visible belongs after this one.
 */
export class ChunkSink implements ImageSink {
  readonly #uploader: ChunkUploader;
  readonly #options: ChunkSinkOptions;
  readonly #cutter: Cutter;
  /** The ends of content-defined chunks. */
  readonly #ends: number[] = [];
  /** Set while the uploader has no room. */
  #full: Promise<void> | undefined;
  readonly #counts: ChunkCounts = { ...NO_CHUNKS };
  readonly #seen = new Set<string>();
  #ids = new Uint8Array(FIRST_ROOM_CHUNKS * CHUNK_ID_BYTES);
  /** The id of an all-zero chunk. */
  #zeroId: string | undefined;
  #sizeBytes: number | undefined;

  /** The file starts at offset 0. */
  constructor(uploader: ChunkUploader, options: ChunkSinkOptions) {
    this.#uploader = uploader;
    this.#options = options;
    this.#cutter = createCutter(options, (piece) => this.#take(piece));
  }

  /** The index, available once the file is finished. */
  get index(): ChunkIndex {
    invariant(this.#sizeBytes !== undefined, "the index of a file that has not ended");
    const ids = this.#ids.subarray(0, this.#counts.chunks * CHUNK_ID_BYTES);
    const { digest, chunkBytes, chunker } = this.#options;
    const index = { digest, chunkBytes, sizeBytes: this.#sizeBytes, ids };
    if (chunker === undefined) return index;
    const averageBytes = chunker.kind === "fastcdc" ? chunker.averageBytes : chunkBytes;
    return { ...index, cut: { minBytes: chunker.minBytes, averageBytes, ends: this.#ends } };
  }

  /** Whether the index is available. */
  get isFinished(): boolean {
    return this.#sizeBytes !== undefined;
  }

  /** The numbers of new and reused chunks, complete once the file is finished. */
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
    const { chunkBytes } = this.#options;
    for (let at = 0; at < bytes.length;) {
      // At most one chunk at a time, so that the uploader's limit is respected.
      const end = at + chunkBytes - (offset + at) % chunkBytes;
      this.#cutter.write(bytes.subarray(at, end), offset + at);
      at = end;
      const full = this.#waitForRoom();
      if (full !== undefined) return full.then(() => this.write(bytes.subarray(end), offset + end));
    }
  }

  async finish(sizeBytes: number): Promise<void> {
    this.#cutter.finish(sizeBytes);
    await this.#waitForRoom();
    await this.#uploader.settle();
    this.#sizeBytes = sizeBytes;
  }

  /**
   * Ends pending uploads and waits for them. Chunks already in the store stay: they are complete, and the next attempt
   * reuses them.
   */
  abort(): Promise<void> {
    return this.#uploader.abort();
  }

  #waitForRoom(): Promise<void> | undefined {
    const full = this.#full;
    this.#full = undefined;
    return full;
  }

  #take(piece: CutPiece): void {
    const { chunkBytes, digest } = this.#options;
    if (piece instanceof Uint8Array) return this.#add(chunkId(piece, digest), piece, 1);
    const count = Math.floor(piece.zeroBytes / chunkBytes);
    if (count > 0) {
      const zeros = zeroBytes(chunkBytes);
      this.#add(this.#zeroId ??= chunkId(zeros, digest), zeros, count);
    }
    const rest = zeroBytes(piece.zeroBytes % chunkBytes);
    if (rest.length > 0) this.#add(chunkId(rest, digest), rest, 1);
    this.#counts.zeroChunks += Math.ceil(piece.zeroBytes / chunkBytes);
  }

  /** Adds a chunk to the index `count` times, and offers it to the uploader once. */
  #add(id: string, bytes: Uint8Array, count: number): void {
    const { chunker, digest } = this.#options;
    this.#checkCount(this.#counts.chunks + count);
    const start = this.#counts.chunks * CHUNK_ID_BYTES;
    const end = start + count * CHUNK_ID_BYTES;
    if (end > this.#ids.length) {
      const grown = new Uint8Array(Math.max(end, this.#ids.length * 2));
      grown.set(this.#ids.subarray(0, start));
      this.#ids = grown;
    }
    const encodedId = Buffer.from(id, "hex");
    for (let at = start; at < end; at += CHUNK_ID_BYTES) this.#ids.set(encodedId, at);
    this.#counts.chunks += count;
    for (let i = 0; chunker !== undefined && i < count; i++) {
      this.#ends.push((this.#ends.at(-1) ?? 0) + bytes.length);
    }
    if (this.#seen.has(id)) return;
    this.#seen.add(id);
    this.#counts.distinctChunks++;
    this.#full = this.#uploader.offer({ id, digest, bytes, counts: this.#counts }) ?? this.#full;
  }

  #checkCount(count: number): void {
    if (count <= CHUNKS_MAX) return;
    const { chunkBytes } = this.#options;
    throw new InputError("index", `more than ${CHUNKS_MAX} chunks of ${chunkBytes} bytes`, {
      code: "limitExceeded",
      hint: "choose larger chunks or a smaller image",
    });
  }
}

/**
 * A sink that ignores the image, and at the end writes the index of the chunk sink. It belongs after the chunk sink, so
 * that an index becomes visible only when all its chunks are in the store.
 *
 * @param target receives the index file
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

/** Counts of chunks. The keys are part of the JSON contract. Byte counts refer to content unless stated otherwise. */
export interface ChunkCounts {
  /** Chunks in the index. */
  chunks: number;
  /** Of these, all-zero chunks. For fixed-size chunks, a short last one is not counted. */
  zeroChunks: number;
  /** Distinct chunks in the index. */
  distinctChunks: number;
  /** Of these, chunks that the store did not have. */
  newChunks: number;
  /** Bytes of the new chunks. */
  newBytes: number;
  /** Of the distinct chunks, those that the store already had. */
  reusedChunks: number;
  /** Bytes of the reused chunks. */
  reusedBytes: number;
  /** Stored (compressed) bytes of the new chunks. */
  sentBytes: number;
}

/** Counts of zero. */
export const NO_CHUNKS: Readonly<ChunkCounts> = {
  chunks: 0,
  zeroChunks: 0,
  distinctChunks: 0,
  newChunks: 0,
  newBytes: 0,
  reusedChunks: 0,
  reusedBytes: 0,
  sentBytes: 0,
};

/**
 * Adds up the counts of several files. Chunks are distinct only within each file, so a chunk in several files is
 * counted in each.
 */
export function sumOfCounts(all: readonly Readonly<ChunkCounts>[]): ChunkCounts {
  const sum = { ...NO_CHUNKS };
  for (const counts of all) {
    for (const key of Object.keys(sum) as (keyof ChunkCounts)[]) sum[key] += counts[key];
  }
  return sum;
}

/** How chunks are uploaded. */
export interface ChunkUploaderOptions {
  /** The store to upload to. */
  readonly store: ChunkStore;
  /** The compression level, 1 to 19. */
  readonly zstdLevel: number;
  /** Store nothing; only count what would be stored. */
  readonly dryRun?: boolean | undefined;
  /** Read chunks that exist already, and compare their digests. */
  readonly verifyStore?: boolean | undefined;
  /** Stops the work when aborted. */
  readonly signal?: AbortSignal | undefined;
  /** The most chunks in flight at once; default 16. */
  readonly concurrency?: number | undefined;
  /** The most distinct chunks in one run; default DISTINCT_CHUNKS_MAX. */
  readonly distinctChunksMax?: number | undefined;
  /** Called once when the run waits for a prune to end, with the path of the prune's mark. */
  readonly onWait?: ((path: string) => void) | undefined;
}

/** A chunk to upload. */
export interface OfferedChunk {
  /** The digest in hexadecimal, which is the chunk's id. */
  readonly id: string;
  /** The digest that the id is. */
  readonly digest: ChunkDigest;
  /** Valid only during the call. */
  readonly bytes: Uint8Array;
  /** Receives the chunk as new or reused, at the latest when `settle` returns. */
  readonly counts: ChunkCounts;
}

/** Enough to keep a distant store busy without flooding it. */
const DEFAULT_CONCURRENCY = 16;
/** The most bytes in flight, unless a single chunk is larger. */
const UNDERWAY_BYTES_MAX = 64 << 20;
/** The largest size of a set in any runtime: 2 TiB of chunks of 128 KiB, or 64 GiB of chunks of 4 KiB. */
export const DISTINCT_CHUNKS_MAX = 2 ** 24 - 1;

/** Uploads the chunks of one or several files to a store, each once. */
export class ChunkUploader {
  readonly #options: ChunkUploaderOptions;
  readonly #store: ChunkStore;
  readonly #concurrency: number;
  /** Chunks in the store or being uploaded. */
  readonly #known = new Set<string>();
  readonly #underway = new Set<Promise<void>>();
  #underwayBytes = 0;
  #locking: Promise<StoreLock> | undefined;
  #isLocked = false;
  #failure: { readonly error: unknown } | undefined;
  /** Stops all uploads when one chunk has failed for good. */
  readonly #stop = new AbortController();

  /**
   * Creates an idle uploader.
   *
   * @throws {UsageError} when chunks cannot be compressed at this level
   */
  constructor(options: ChunkUploaderOptions) {
    checkZstdLevel(options.zstdLevel);
    this.#options = options;
    this.#store = options.store;
    this.#concurrency = options.concurrency ?? DEFAULT_CONCURRENCY;
  }

  /**
   * Uploads a chunk. A later call, `settle` at the latest, throws the errors of the store.
   *
   * @throws {InputError} when there are too many distinct chunks
   * @returns a promise to await when enough chunks are in flight
   */
  offer(chunk: OfferedChunk): Promise<void> | undefined {
    this.#throwIfFailed();
    const { id, bytes, counts } = chunk;
    if (this.#known.has(id)) {
      countReused(counts, bytes.length);
      return undefined;
    }
    this.#remember(id);
    const { verifyStore = false } = this.#options;
    const isThere = this.#isLocked
      ? this.#store.has(id, bytes.length, this.#stop.signal)
      : this.#lockAndLook(id, bytes.length);
    // Most chunks of most images exist already; these need no waiting.
    if (isThere === true && !verifyStore) {
      countReused(counts, bytes.length);
      return undefined;
    }
    this.#start(this.#bring({ ...chunk, bytes: bytes.slice() }, isThere), bytes.length);
    const isFull = this.#underway.size >= this.#concurrency ||
      this.#underwayBytes >= UNDERWAY_BYTES_MAX;
    if (!isFull) return undefined;
    const room = this.#waitForOne();
    // A caller that does not wait gets the failure from a later call.
    room.catch(() => {});
    return room;
  }

  /** Waits until all chunks are safe in the store. */
  async settle(): Promise<void> {
    while (this.#underway.size > 0) await this.#waitForOne();
    this.#throwIfFailed();
    if (!this.#options.dryRun) await this.#store.settle();
  }

  /** Cancels pending uploads and waits for them to end. */
  async abort(): Promise<void> {
    this.#fail(new Error("the upload was closed"));
    await Promise.all(this.#underway);
  }

  /**
   * Releases the lock, so that the store can be pruned again. Call this when the indexes of the uploaded chunks are
   * written, and after failures.
   */
  async close(): Promise<void> {
    const locking = this.#locking;
    this.#locking = undefined;
    this.#isLocked = false;
    const lock = await locking?.catch(() => undefined);
    await lock?.release();
  }

  /** Locks the store with the first chunk, so that a run that fails earlier leaves nothing behind. */
  async #lockAndLook(id: string, contentBytes: number): Promise<boolean> {
    const { signal } = this.#stop;
    if (!this.#options.dryRun) {
      const { onWait } = this.#options;
      const options = { graceMs: GRACE_MS_DEFAULT, signal, onWait };
      this.#locking ??= lockStore(this.#store, "write", options);
      await this.#locking;
    }
    this.#isLocked = true;
    return await this.#store.has(id, contentBytes, signal);
  }

  #remember(id: string): void {
    const { distinctChunksMax = DISTINCT_CHUNKS_MAX } = this.#options;
    if (this.#known.size >= distinctChunksMax) {
      throw new InputError(this.#store.name, `more than ${distinctChunksMax} different chunks`, {
        code: "limitExceeded",
        hint: "choose larger chunks or a smaller image",
      });
    }
    this.#known.add(id);
  }

  #throwIfFailed(): void {
    throwIfAborted(this.#options.signal);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#stop.abort();
  }

  async #waitForOne(): Promise<void> {
    await Promise.race(this.#underway);
    this.#throwIfFailed();
  }

  #start(work: Promise<void>, sizeBytes: number): void {
    this.#underwayBytes += sizeBytes;
    const watched: Promise<void> = work.catch((error) => this.#fail(error)).finally(() => {
      this.#underwayBytes -= sizeBytes;
      this.#underway.delete(watched);
    });
    this.#underway.add(watched);
  }

  async #bring(chunk: OfferedChunk, isThere: boolean | Promise<boolean>): Promise<void> {
    const { store, dryRun = false, zstdLevel } = this.#options;
    const { id, bytes, counts } = chunk;
    const { signal } = this.#stop;
    if (await isThere) return await this.#reuse(chunk);
    // Another chunk may have failed meanwhile, which ends all work.
    if (this.#failure !== undefined) return;
    const stored = compressChunk(bytes, zstdLevel);
    const outcome = dryRun ? "added" : await store.put(id, stored, signal);
    if (outcome === "present") return await this.#reuse(chunk);
    counts.newChunks++;
    counts.newBytes += bytes.length;
    counts.sentBytes += stored.length;
  }

  async #reuse(chunk: OfferedChunk): Promise<void> {
    const { id, digest, counts, bytes: { length: contentBytes } } = chunk;
    if (this.#options.verifyStore === true) {
      await fetchChunk(this.#store, { id, digest, contentBytes }, this.#stop.signal);
    }
    countReused(counts, contentBytes);
  }
}

function countReused(counts: ChunkCounts, sizeBytes: number): void {
  counts.reusedChunks++;
  counts.reusedBytes += sizeBytes;
}
