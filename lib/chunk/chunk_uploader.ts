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
  readonly isDryRun?: boolean;
  /** Read the chunks that are there, and compare their digests. */
  readonly verifiesStore?: boolean;
  /** Ends the work with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Chunks on their way at the same time; default 16. */
  readonly concurrency?: number;
  /** Different chunks that are brought in one run; default DISTINCT_CHUNKS_MAX. */
  readonly distinctChunksMax?: number;
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
  #failure: { readonly error: unknown } | undefined;

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
   * Takes a chunk. Faults of the store come out of a later call, of `settle` at the latest.
   *
   * @throws {InputError} when there are too many to remember
   * @returns what to wait for when enough chunks are on their way
   */
  offer(chunk: OfferedChunk): Promise<void> | undefined {
    this.#throwIfFailed();
    const { id, bytes, counts } = chunk;
    if (this.#known.has(id)) {
      countReused(counts, bytes);
      return undefined;
    }
    this.#remember(id);
    const isThere = this.#store.has(id);
    if (isThere === true && !this.#options.verifiesStore) {
      countReused(counts, bytes);
      return undefined;
    }
    this.#start(this.#bring({ ...chunk, bytes: bytes.slice() }, isThere));
    return this.#underway.size < this.#concurrency ? undefined : this.#waitForOne();
  }

  /** Waits until all chunks are safe in the store. */
  async settle(): Promise<void> {
    while (this.#underway.size > 0) await this.#waitForOne();
    this.#throwIfFailed();
    if (!this.#options.isDryRun) await this.#store.settle();
  }

  /** Waits for what is on its way; how that ends does not matter any more. */
  async abort(): Promise<void> {
    this.#failure ??= { error: new Error("the uploader was closed") };
    await Promise.all(this.#underway);
  }

  #remember(id: string): void {
    const { distinctChunksMax = DISTINCT_CHUNKS_MAX } = this.#options;
    if (this.#known.size >= distinctChunksMax) {
      throw new InputError(this.#store.name, `more than ${distinctChunksMax} different chunks`, {
        hint: "choose larger chunks or a smaller image",
      });
    }
    this.#known.add(id);
  }

  #throwIfFailed(): void {
    throwIfAborted(this.#options.signal);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async #waitForOne(): Promise<void> {
    await Promise.race(this.#underway);
    this.#throwIfFailed();
  }

  #start(work: Promise<void>): void {
    const watched: Promise<void> = work.catch((error) => {
      this.#failure ??= { error };
    }).finally(() => this.#underway.delete(watched));
    this.#underway.add(watched);
  }

  async #bring(chunk: OfferedChunk, isThere: boolean | Promise<boolean>): Promise<void> {
    const { store, isDryRun = false, verifiesStore = false, zstdLevel } = this.#options;
    const { id, bytes, counts } = chunk;
    if (await isThere) {
      if (verifiesStore) await this.#verify(chunk);
      return countReused(counts, bytes);
    }
    // One that failed meanwhile has ended the work for all.
    if (this.#failure !== undefined) return;
    const stored = compressChunk(bytes, zstdLevel);
    const outcome = isDryRun ? "added" : await store.put(id, stored);
    if (outcome === "present") return countReused(counts, bytes);
    counts.newChunks++;
    counts.newBytes += bytes.length;
    counts.sentBytes += stored.length;
  }

  async #verify({ id, digest, bytes }: OfferedChunk): Promise<void> {
    const stored = await this.#store.get(id);
    const content = decompressChunk(stored, bytes.length);
    if (content !== undefined && chunkId(content, digest) === id) return;
    const what = `${this.#store.name}: chunk ${chunkPath(id)}`;
    const found = content === undefined
      ? `its ${stored.length} bytes are no zstd frame of ${bytes.length} bytes`
      : `its content has the digest ${chunkId(content, digest)}`;
    throw new InputError(what, `is damaged: ${found}`, {
      hint: "remove it from the store, and it will be stored again",
      data: { path: chunkPath(id) },
    });
  }
}

function countReused(counts: ChunkCounts, bytes: Uint8Array): void {
  counts.reusedChunks++;
  counts.reusedBytes += bytes.length;
}
