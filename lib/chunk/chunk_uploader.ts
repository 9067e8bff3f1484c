/**
 * Brings chunks to a store: each is looked for and, where it is missing, compressed and stored, several at a time, with
 * bounded memory.
 *
 * @module
 */
import { InputError, throwIfAborted } from "../errors.ts";
import {
  checkZstdLevel,
  type ChunkDigest,
  chunkId,
  chunkPath,
  compressChunk,
  decompressChunk,
} from "./chunk.ts";
import type { ChunkStore } from "./chunk_store.ts";
import { GRACE_MS_DEFAULT, lockStore, type StoreLock } from "./store_lock.ts";

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
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { NO_CHUNKS, sumOfCounts } from "./chunk_uploader.ts";
 * const one = { ...NO_CHUNKS, chunks: 3, newChunks: 1 };
 * assertEquals(sumOfCounts([one, one]).chunks, 6);
 * ```
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
  /** Told once that the store is being pruned and the run waits, and for whose mark. */
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

/** Enough that a store far away is kept busy, and few enough that one is not flooded. */
const DEFAULT_CONCURRENCY = 16;
/** So many bytes are on their way at most, or one chunk. */
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
    return isFull ? this.#waitForOne() : undefined;
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
   * Lets others prune the store again. To be called when the indexes are written that speak of what was brought, and after
   * failures.
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
    if (this.#options.verifyStore === true) {
      await verifyChunk(this.#store, chunk, this.#stop.signal);
    }
    countReused(chunk.counts, chunk.bytes.length);
  }
}

/**
 * Reads a chunk from a store and checks it.
 *
 * @returns its content
 * @throws {InputError} when it is missing or damaged
 */
export async function fetchChunk(
  store: ChunkStore,
  chunk: Pick<OfferedChunk, "id" | "digest"> & { readonly contentBytes: number },
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const { id, digest, contentBytes } = chunk;
  const stored = await store.get(id, signal);
  const content = decompressChunk(stored, contentBytes);
  if (content?.length === contentBytes && chunkId(content, digest) === id) return content;
  const found = content === undefined
    ? `its ${stored.length} bytes are not a zstd frame of ${contentBytes} bytes`
    : `its content has ${content.length} bytes and the digest ${chunkId(content, digest)}`;
  throw new InputError(`${store.name}: chunk ${chunkPath(id)}`, `is damaged: ${found}`, {
    hint: "remove it from the store, and it will be stored again",
    data: { path: chunkPath(id) },
  });
}

function verifyChunk(
  store: ChunkStore,
  { id, digest, bytes }: OfferedChunk,
  signal: AbortSignal,
): Promise<Uint8Array> {
  return fetchChunk(store, { id, digest, contentBytes: bytes.length }, signal);
}

function countReused(counts: ChunkCounts, sizeBytes: number): void {
  counts.reusedChunks++;
  counts.reusedBytes += sizeBytes;
}
