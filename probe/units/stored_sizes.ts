/**
 * Finding out what units take in the store, on this thread and others.
 *
 * @module
 */
import { availableParallelism } from "node:os";
import { BATCH_BYTES, CompressThread } from "./compress_thread.ts";
import type { Compression, StoredSizeOf } from "./compressor.ts";
import { storedSizeMeasure } from "./compressor.ts";

/** Measures units; answers may come later. */
export interface StoredSizes {
  /**
   * @param bytes only lent
   * @param take called once, at the latest before `settle` is done
   */
  measure(bytes: Uint8Array, take: (sizeBytes: number) => void): void;
  /** Waits for all answers. Throws when a thread died. */
  settle(): Promise<void>;
  /** Ends the threads. */
  close(): Promise<void>;
}

const THREADS_MOST = 3;
/** So much waits for threads at most; what comes on top is compressed at once. */
const WAITING_BYTES_MOST = 8 * BATCH_BYTES;
/** Threads are started for more than so much. */
const ALONE_BYTES = 4 * BATCH_BYTES;

/**
 * Measures as a store compresses; undefined when it does not.
 *
 * @param jobs how many threads may work, the calling one among them; undefined: as many as the machine has
 * @throws UsageError for a level out of range, and where the runtime has no zstd
 */
export function storedSizes(
  compression: Compression,
  jobs: number = availableParallelism(),
): StoredSizes | undefined {
  const here = storedSizeMeasure(compression);
  if (here === undefined || compression.kind === "none") return undefined;
  const threadCount = Math.min(THREADS_MOST, jobs - 1);
  if (threadCount < 1) return sizesHere(here);
  const start = () => Array.from({ length: threadCount }, () => new CompressThread(compression));
  return new ThreadedSizes(here, start);
}

/** Measures on the calling thread. */
export function sizesHere(storedSizeOf: StoredSizeOf): StoredSizes {
  return {
    measure: (bytes, take) => take(storedSizeOf(bytes)),
    settle: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
}

class ThreadedSizes implements StoredSizes {
  readonly #here: StoredSizeOf;
  readonly #start: () => readonly CompressThread[];
  #threads: readonly CompressThread[] = [];
  #aloneBytes = 0;

  constructor(here: StoredSizeOf, start: () => readonly CompressThread[]) {
    this.#here = here;
    this.#start = start;
  }

  measure(bytes: Uint8Array, take: (sizeBytes: number) => void): void {
    const thread = this.#idlest();
    const isBusy = thread === undefined || bytes.length > BATCH_BYTES ||
      thread.waitingBytes + bytes.length > WAITING_BYTES_MOST;
    if (!isBusy) return thread.add(bytes, take);
    take(this.#here(bytes));
    if (this.#threads.length > 0) return;
    this.#aloneBytes += bytes.length;
    if (this.#aloneBytes > ALONE_BYTES) this.#threads = this.#start();
  }

  #idlest(): CompressThread | undefined {
    let idlest = this.#threads[0];
    for (const thread of this.#threads) {
      if (thread.waitingBytes < idlest!.waitingBytes) idlest = thread;
    }
    return idlest;
  }

  async settle(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.settle()));
  }

  async close(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.close()));
  }
}
