/**
 * From the bytes of an image to chunks in a store: cut while the image is made, each looked for, and stored where it is
 * missing, several at a time and with bounded memory. At the end there is an index.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { isZero } from "../bytes/arithmetic.ts";
import { InputError, invariant, throwIfAborted } from "../errors.ts";
import type { ImageSink } from "../io/sink.ts";
import {
  checkZstdLevel,
  CHUNK_BYTES_MAX,
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

/** A chunk, or zeros: of chunks of one size any number, else a hole. The bytes are valid during the call. */
export type CutPiece = Uint8Array | { readonly zeroBytes: number };

/** Cuts a file that comes in ascending writes. What is skipped is zeros. */
export interface Cutter {
  write(bytes: Uint8Array, offset: number): void;
  /** Cuts what is left. */
  finish(sizeBytes: number): void;
}

const ZEROS = new Uint8Array(CHUNK_BYTES_MAX);
/** What holes are made of: a block of ext4. */
const HOLE_BLOCK_BYTES = 4096;

/** How a file is cut, and its chunks are named. */
export interface ChunkSinkOptions {
  /** A power of two; of a blessed image, its grid. For FastCDC, the largest chunk. */
  readonly chunkBytes: number;
  /** Cuts by content; default: into chunks of one size. */
  readonly chunker?: ChunkerParameters | undefined;
  /** What chunks are named with. */
  readonly digest: ChunkDigest;
}

/**
 * A cutter for one file.
 *
 * Into chunks of one size: the last one may be short, and comes as bytes also where it is zeros. By content: no chunk reaches
 * over the edge of a hole. A run of blocks of zeros, whether it was skipped or written, ends the chunk before it, and the
 * data behind it begins a new one, so what lies between two holes is cut alike wherever it is.
 *
 * @param receive gets every piece in order
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
    // The end of a file can be less than a block.
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

/** Passes a file on in runs of whole blocks, of data and of zeros; only at the end is there a part of a block, as data. */
class BlockGatherer implements Cutter {
  readonly #blockBytes: number;
  readonly #onData: (bytes: Uint8Array) => void;
  readonly #onZeros: (count: number) => void;
  /** A block that comes in parts. */
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
      this.#fill(ZEROS.subarray(0, count));
      gapBytes -= count;
    }
    const restBytes = gapBytes % this.#blockBytes;
    if (gapBytes > restBytes) this.#onZeros(gapBytes - restBytes);
    this.#fill(ZEROS.subarray(0, restBytes));
  }

  /** @param part no more than the block lacks */
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
/** Four tebibytes at 128 KiB; the index then has 1.3 GiB, and no runtime has much longer buffers. */
const CHUNKS_MAX = 1 << 25;

/**
 * Cuts what it is given into chunks and gives them to an uploader. `finish` ends when all of them are safe in the store, so a
 * sink that makes something visible belongs behind this one.
 */
export class ChunkSink implements ImageSink {
  readonly #uploader: ChunkUploader;
  readonly #options: ChunkSinkOptions;
  readonly #cutter: Cutter;
  /** Of chunks that are cut by content: where each ends. */
  readonly #ends: number[] = [];
  /** What to wait for when the uploader has enough to do. */
  #full: Promise<void> | undefined;
  readonly #counts: ChunkCounts = { ...NO_CHUNKS };
  readonly #seen = new Set<string>();
  #ids = new Uint8Array(FIRST_ROOM_CHUNKS * CHUNK_ID_BYTES);
  /** Of a chunk of zeros. */
  #zeroId: string | undefined;
  #sizeBytes: number | undefined;

  /** Begins at offset 0 of the file. */
  constructor(uploader: ChunkUploader, options: ChunkSinkOptions) {
    this.#uploader = uploader;
    this.#options = options;
    this.#cutter = createCutter(options, (piece) => this.#take(piece));
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
    const { chunkBytes } = this.#options;
    for (let at = 0; at < bytes.length;) {
      // No more than a chunk at a time, so that no more is on its way than the uploader allows.
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

  /** Waits for what is on its way. Chunks that are in the store stay: they are whole, and the next try finds them. */
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
      const zeros = ZEROS.subarray(0, chunkBytes);
      this.#add(this.#zeroId ??= chunkId(zeros, digest), zeros, count);
    }
    const rest = ZEROS.subarray(0, piece.zeroBytes % chunkBytes);
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

/** The keys are the contract of `--json`. Bytes are those of the content unless they say otherwise. */
export interface ChunkCounts {
  /** Of the index. */
  chunks: number;
  /** Of these, the ones of nothing but zeros. A short last one is not among them. */
  zeroChunks: number;
  /** Chunks of the index, each counted once. */
  distinctChunks: number;
  /** Of these, the ones that the store did not have. */
  newChunks: number;
  /** Of the new chunks. */
  newBytes: number;
  /** Of the distinct chunks, the ones that it had. */
  reusedChunks: number;
  /** Of the reused chunks. */
  reusedBytes: number;
  /** Of the new chunks as they are stored. */
  sentBytes: number;
}

/** Nothing at all. */
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
 * The sums of several files. Chunks are distinct within each file, so one that several files have is counted in each.
 */
export function sumOfCounts(all: readonly Readonly<ChunkCounts>[]): ChunkCounts {
  const sum = { ...NO_CHUNKS };
  for (const counts of all) {
    for (const key of Object.keys(sum) as (keyof ChunkCounts)[]) sum[key] += counts[key];
  }
  return sum;
}

/** How chunks are brought to a store. */
export interface ChunkUploaderOptions {
  /** Where chunks go. */
  readonly store: ChunkStore;
  /** How hard they are compressed, 1 to 19. */
  readonly zstdLevel: number;
  /** Store nothing; only count what would be. */
  readonly dryRun?: boolean | undefined;
  /** Read the chunks that are there, and compare their digests. */
  readonly verifyStore?: boolean | undefined;
  /** Ends the work with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Chunks on their way at the same time; default 16. */
  readonly concurrency?: number | undefined;
  /** Different chunks that are brought in one run; default DISTINCT_CHUNKS_MAX. */
  readonly distinctChunksMax?: number | undefined;
  /** Called once when the run waits because the store is being pruned, with the path of that mark. */
  readonly onWait?: ((path: string) => void) | undefined;
}

/** A chunk for the store. */
export interface OfferedChunk {
  /** The digest in hexadecimal, which names it. */
  readonly id: string;
  /** What the id is a digest with. */
  readonly digest: ChunkDigest;
  /** Valid only during the call. */
  readonly bytes: Uint8Array;
  /** Counts it as new or reused, some time before `settle` ends. */
  readonly counts: ChunkCounts;
}

/** Enough to keep a distant store busy, and few enough not to flood it. */
const DEFAULT_CONCURRENCY = 16;
/** The most bytes on their way, unless it is one chunk. */
const UNDERWAY_BYTES_MAX = 64 << 20;
/** No runtime has larger sets: two tebibytes of chunks of 128 KiB, and 64 GiB of chunks of 4 KiB. */
export const DISTINCT_CHUNKS_MAX = 2 ** 24 - 1;

/** Brings chunks of one or several files to a store, each once. */
export class ChunkUploader {
  readonly #options: ChunkUploaderOptions;
  readonly #store: ChunkStore;
  readonly #concurrency: number;
  /** In the store, or on the way there. */
  readonly #known = new Set<string>();
  readonly #underway = new Set<Promise<void>>();
  #underwayBytes = 0;
  #locking: Promise<StoreLock> | undefined;
  #isLocked = false;
  #failure: { readonly error: unknown } | undefined;
  /** Ends what is on its way when one chunk has failed for good. */
  readonly #stop = new AbortController();

  /**
   * Begins with nothing on its way.
   *
   * @throws {UsageError} when chunks cannot be compressed so
   */
  constructor(options: ChunkUploaderOptions) {
    checkZstdLevel(options.zstdLevel);
    this.#options = options;
    this.#store = options.store;
    this.#concurrency = options.concurrency ?? DEFAULT_CONCURRENCY;
  }

  /**
   * Brings a chunk to the store. Faults of the store come out of a later call, of `settle` at the latest.
   *
   * @throws {InputError} when there are too many to remember
   * @returns what to wait for when enough chunks are on their way
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
    // Most chunks of most images are there: nothing waits for those that are.
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

  /** Ends what is on its way, and waits until it has ended. */
  async abort(): Promise<void> {
    this.#fail(new Error("the upload was closed"));
    await Promise.all(this.#underway);
  }

  /**
   * Allows pruning the store again. To be called when the indexes of the uploaded chunks are written, and after failures.
   */
  async close(): Promise<void> {
    const locking = this.#locking;
    this.#locking = undefined;
    this.#isLocked = false;
    const lock = await locking?.catch(() => undefined);
    await lock?.release();
  }

  /** The store is locked with the first chunk, so that a run that fails before leaves nothing in it. */
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
    // One that failed meanwhile has ended the work for all.
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
