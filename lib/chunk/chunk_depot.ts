/**
 * What stands between files that are cut and the store that their chunks go to: each chunk is looked for and, where it
 * is missing, compressed and stored, several at a time, with bounded memory.
 *
 * @module
 */
import { InputError, throwIfAborted } from "../errors.ts";
import { checkZstdLevel, compressChunk, decompressChunk } from "./chunk_codec.ts";
import type { ChunkCounts } from "./chunk_counts.ts";
import { type ChunkDigest, chunkId, chunkPath } from "./chunk_id.ts";
import type { ChunkStore } from "./chunk_store.ts";

/** How chunks are brought to a store. */
export interface ChunkDepotOptions {
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
export class ChunkDepot {
  readonly #options: ChunkDepotOptions;
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
  constructor(options: ChunkDepotOptions) {
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
    this.#failure ??= { error: new Error("the depot was closed") };
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
