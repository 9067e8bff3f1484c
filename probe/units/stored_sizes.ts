/**
 * Finding out what units take in the store, on this thread and others.
 *
 * @module
 */
import { availableParallelism } from "node:os";
import { setImmediate } from "node:timers/promises";
import { abortError, throwIfAborted } from "../../lib/errors.ts";
import type { ThreadOptions } from "../../lib/io/thread.ts";
import {
  BATCH_BYTES,
  type Compression,
  CompressThread,
  storedSizeMeasure,
  type StoredSizeOf,
} from "./compress_thread.ts";

/** Measures units; answers may come later. */
export interface StoredSizes {
  /**
   * @param bytes only lent
   * @param take the size is all that it is given, added up, at the latest before `settle` is done
   */
  measure(bytes: Uint8Array, take: (sizeBytes: number) => void): void;
  /** Waits while too much waits for threads. Throws when one died, and an InterruptedError when the signal fires. */
  room(signal: AbortSignal | undefined): Promise<void>;
  /** Waits for all answers, and throws as `room` does. */
  settle(signal?: AbortSignal): Promise<void>;
  /** Ends the threads. */
  close(): Promise<void>;
}

const THREADS_MOST = 3;
/**
 * Higher levels take so long that the calling thread leaves all units to others: it has signals to see. Up to this
 * one, 16 MiB take a fraction of a second.
 */
const QUICK_LEVEL_MOST = 3;
const WAITING_BATCHES_MOST = 8;
/** So much waits for a thread at most; at quick levels what comes on top is compressed at once. */
const WAITING_BYTES_MOST = WAITING_BATCHES_MOST * BATCH_BYTES;
/** Threads are started for more than so much. */
const ALONE_BYTES = 4 * BATCH_BYTES;

/**
 * Measures as a store compresses; undefined when it does not.
 *
 * @param jobs how many threads may work, the calling one among them (a slow level takes one more than 1); undefined: as
 * many as the machine has
 * @throws UsageError for a level out of range, and where the runtime has no zstd
 */
export function storedSizes(
  compression: Compression,
  jobs: number = availableParallelism(),
  threadOptions: ThreadOptions = {},
): StoredSizes | undefined {
  const here = storedSizeMeasure(compression);
  if (here === undefined || compression.kind === "none") return undefined;
  const isSlow = compression.level > QUICK_LEVEL_MOST;
  const threadCount = Math.min(THREADS_MOST, Math.max(jobs - 1, isSlow ? 1 : 0));
  if (threadCount < 1) return sizesHere(here);
  const start = () =>
    Array.from({ length: threadCount }, () => new CompressThread(compression, threadOptions));
  return new ThreadedSizes(isSlow ? undefined : here, start);
}

/** Lets the event loop turn, so that signals are seen, and threads get on. Throws when the signal fired. */
export async function pause(
  sizes: StoredSizes | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  await setImmediate();
  throwIfAborted(signal);
  await sizes?.room(signal);
}

/** Measures on the calling thread. */
function sizesHere(storedSizeOf: StoredSizeOf): StoredSizes {
  return {
    measure: (bytes, take) => take(storedSizeOf(bytes)),
    room: () => Promise.resolve(),
    settle: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
}

class ThreadedSizes implements StoredSizes {
  /** Undefined when the calling thread compresses nothing. */
  readonly #here: StoredSizeOf | undefined;
  readonly #start: () => readonly CompressThread[];
  #threads: readonly CompressThread[] = [];
  #aloneBytes = 0;

  constructor(here: StoredSizeOf | undefined, start: () => readonly CompressThread[]) {
    this.#here = here;
    this.#start = start;
  }

  measure(bytes: Uint8Array, take: (sizeBytes: number) => void): void {
    if (this.#here === undefined) return this.#measureElsewhere(bytes, take);
    const thread = this.#idlest();
    const isBusy = thread === undefined || bytes.length > BATCH_BYTES ||
      thread.waitingBytes + bytes.length > WAITING_BYTES_MOST;
    if (!isBusy) return thread.add(bytes, take);
    take(this.#here(bytes));
    if (this.#threads.length > 0) return;
    this.#aloneBytes += bytes.length;
    if (this.#aloneBytes > ALONE_BYTES) this.#threads = this.#start();
  }

  /** In pieces as {@link storedSizeMeasure} makes them, so that the sums are the same. */
  #measureElsewhere(bytes: Uint8Array, take: (sizeBytes: number) => void): void {
    if (this.#threads.length === 0) this.#threads = this.#start();
    for (let at = 0; at < bytes.length; at += BATCH_BYTES) {
      this.#idlest()!.add(bytes.subarray(at, at + BATCH_BYTES), take);
    }
  }

  #idlest(): CompressThread | undefined {
    let idlest = this.#threads[0];
    for (const thread of this.#threads) {
      if (thread.waitingBytes < idlest!.waitingBytes) idlest = thread;
    }
    return idlest;
  }

  async room(signal: AbortSignal | undefined): Promise<void> {
    const waits = this.#threads.map((thread) => thread.untilWaiting(WAITING_BATCHES_MOST));
    await unlessAborted(Promise.all(waits), signal);
  }

  async settle(signal?: AbortSignal): Promise<void> {
    await unlessAborted(Promise.all(this.#threads.map((thread) => thread.settle())), signal);
  }

  async close(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.close()));
  }
}

/** Waits for work, but no longer than until the signal fires. */
async function unlessAborted(
  work: Promise<unknown>,
  signal: AbortSignal | undefined,
): Promise<void> {
  let stop = () => {};
  const aborted = new Promise<never>((_resolve, reject) => {
    stop = () => reject(abortError(signal!));
  });
  if (signal?.aborted) stop();
  signal?.addEventListener("abort", stop);
  try {
    await Promise.race([work, aborted]);
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}
