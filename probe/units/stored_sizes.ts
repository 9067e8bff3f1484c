/**
 * The sizes of units in a store that compresses each one separately, measured on this thread and others.
 *
 * @module
 */
import { availableParallelism } from "node:os";
import { setImmediate } from "node:timers/promises";
import type { MessagePort } from "node:worker_threads";
import * as zlib from "node:zlib";
import { abortError, invariant, optionError, throwIfAborted } from "../../lib/errors.ts";
import { Thread, type ThreadOptions } from "../../lib/io/thread.ts";

/** How a store compresses. */
export type Compression =
  | { readonly kind: "none" }
  | { readonly kind: "zstd"; readonly level: number };

export type StoredSizeOf = (bytes: Uint8Array) => number;

/** Larger units are compressed in pieces of this size to bound memory. */
const UNIT_PIECE_BYTES = 4 * 1024 * 1024;
const LEVEL_MOST = 19;

/**
 * Creates the measuring function. Undefined without compression, when `stored` equals `raw`.
 *
 * @throws UsageError for a level out of range, and if the runtime has no zstd
 */
export function storedSizeMeasure(compression: Compression): StoredSizeOf | undefined {
  if (compression.kind === "none") return undefined;
  const { level } = compression;
  if (!Number.isInteger(level) || level < 1 || level > LEVEL_MOST) {
    throw optionError("compression", `wanted zstd:1 to zstd:${LEVEL_MOST}, found zstd:${level}`);
  }
  if (typeof zlib.zstdCompressSync !== "function") {
    throw optionError("compression", "this runtime cannot compress with zstd", {
      hint: "use Deno, Bun or Node 22",
      remedies: [{ option: "compression", change: "set", value: "none" }],
    });
  }
  const params = { [zlib.constants.ZSTD_c_compressionLevel]: level };
  return (bytes) => {
    let sizeBytes = 0;
    for (let at = 0; at < bytes.length; at += UNIT_PIECE_BYTES) {
      const piece = bytes.subarray(at, at + UNIT_PIECE_BYTES);
      // zstd chooses smaller tables when it knows the size, and compresses slightly better, as zstd(1) does.
      const options = { params, pledgedSrcSize: piece.length };
      sizeBytes += zlib.zstdCompressSync(piece, options).length;
    }
    return sizeBytes;
  };
}

/** The maximum size of a batch of units. */
const BATCH_BYTES = 4 * 1024 * 1024;

/** The units of a batch, one after another. */
interface Batch {
  readonly buffer: ArrayBuffer;
  readonly lengths: readonly number[];
}

/** The buffer is sent back to be filled again. */
interface Answer {
  readonly buffer: ArrayBuffer;
  readonly sizes: readonly number[];
}

type Take = (sizeBytes: number) => void;

/** The calling thread's side. */
export class CompressThread {
  readonly #thread: Thread<Batch, Answer>;
  /** The callbacks and size of each batch sent, oldest first. */
  readonly #sent: { readonly takes: readonly Take[]; readonly bytes: number }[] = [];
  readonly #spareBuffers: ArrayBuffer[] = [];
  #batch = new Uint8Array(BATCH_BYTES);
  #lengths: number[] = [];
  #takes: Take[] = [];
  #filled = 0;
  #sentBytes = 0;
  /** Resolved with each answer, and when the thread dies. */
  #answered = Promise.withResolvers<void>();
  #dead: { readonly why: unknown } | undefined;

  constructor(compression: Compression, options: ThreadOptions = {}) {
    this.#thread = new Thread({
      role: "compression",
      setup: { compression },
      purpose: "compresses",
      workerUrl: options.workerUrl,
      receive: (answer) => this.#receive(answer),
      die: (reason) => this.#die(reason),
    });
  }

  /** Bytes added but not answered yet. */
  get waitingBytes(): number {
    return this.#sentBytes + this.#filled;
  }

  /** Adds a unit no larger than a batch. The bytes are only valid during the call. */
  add(bytes: Uint8Array, take: Take): void {
    invariant(bytes.length <= BATCH_BYTES, "a unit fits into a batch");
    if (this.#filled + bytes.length > BATCH_BYTES) this.#send();
    this.#batch.set(bytes, this.#filled);
    this.#filled += bytes.length;
    this.#lengths.push(bytes.length);
    this.#takes.push(take);
  }

  /** Waits until all units are answered. Throws if the thread has died. */
  async settle(): Promise<void> {
    if (this.#takes.length > 0) this.#send();
    await this.untilWaiting(0);
  }

  /** Waits until at most `batchesMost` batches are unanswered. Throws if the thread has died. */
  async untilWaiting(batchesMost: number): Promise<void> {
    for (;;) {
      if (this.#dead) throw this.#dead.why;
      if (this.#sent.length <= batchesMost) return;
      await this.#answered.promise;
    }
  }

  /** Ends the thread; pending units are never answered. */
  async close(): Promise<void> {
    this.#dead ??= { why: new Error("The thread that compresses was closed") };
    await this.#thread.terminate();
  }

  #send(): void {
    const buffer = this.#batch.buffer;
    const batch: Batch = { buffer, lengths: this.#lengths };
    this.#sent.push({ takes: this.#takes, bytes: this.#filled });
    this.#sentBytes += this.#filled;
    this.#thread.post(batch, [batch.buffer]);
    this.#batch = new Uint8Array(this.#spareBuffers.pop() ?? new ArrayBuffer(BATCH_BYTES));
    this.#lengths = [];
    this.#takes = [];
    this.#filled = 0;
  }

  #receive({ buffer, sizes }: Answer): void {
    const { takes, bytes } = this.#sent.shift()!;
    this.#sentBytes -= bytes;
    this.#spareBuffers.push(buffer);
    takes.forEach((take, i) => take(sizes[i]!));
    this.#wake();
  }

  #die(why: unknown): void {
    this.#dead ??= { why };
    this.#wake();
  }

  #wake(): void {
    const { resolve } = this.#answered;
    this.#answered = Promise.withResolvers();
    resolve();
  }
}

/** The compressing thread's side. */
export function serveCompression(
  port: MessagePort,
  { compression }: { readonly compression: Compression },
): void {
  const storedSizeOf = storedSizeMeasure(compression);
  invariant(storedSizeOf !== undefined, "only a store that compresses has threads for it");
  port.on("message", ({ buffer, lengths }: Batch) => {
    let at = 0;
    const sizes = lengths.map((length) => {
      const unit = new Uint8Array(buffer, at, length);
      at += length;
      return storedSizeOf(unit);
    });
    const answer: Answer = { buffer, sizes };
    port.postMessage(answer, [buffer]);
  });
}

export interface StoredSizes {
  /**
   * @param bytes only valid during the call
   * @param take never called after `settle` resolves; the unit's size is the sum of all calls
   */
  measure(bytes: Uint8Array, take: (sizeBytes: number) => void): void;
  /**
   * Waits while too many bytes are queued for threads. Throws if a thread has died, or an InterruptedError if the
   * signal is aborted.
   */
  room(signal: AbortSignal | undefined): Promise<void>;
  /** Waits for all answers; throws like `room`. */
  settle(signal?: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

const THREADS_MOST = 3;
/**
 * Higher levels are so slow that the calling thread compresses nothing, because it must respond to signals. Up to this
 * level, 16 MiB take a fraction of a second.
 */
const QUICK_LEVEL_MOST = 3;
const WAITING_BATCHES_MOST = 8;
/** The maximum queued for a thread; at quick levels, the calling thread compresses anything beyond it. */
const WAITING_BYTES_MOST = WAITING_BATCHES_MOST * BATCH_BYTES;
/** Threads are started once more than this has been compressed. */
const ALONE_BYTES = 4 * BATCH_BYTES;

/**
 * Measures sizes as the store compresses; undefined without compression.
 *
 * @param jobs how many threads may work, including the calling one (a slow level uses one more if this is 1);
 * undefined: one per processor
 * @throws UsageError for a level out of range, and if the runtime has no zstd
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
  const start = () =>
    Array.from({ length: threadCount }, () => new CompressThread(compression, threadOptions));
  return new ThreadedSizes(isSlow ? undefined : here, start);
}

/** Yields to the event loop, so that signals are handled and threads progress. Throws if the signal is aborted. */
export async function pause(
  sizes: StoredSizes | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  await setImmediate();
  throwIfAborted(signal);
  await sizes?.room(signal);
}

class ThreadedSizes implements StoredSizes {
  /** Undefined if the calling thread compresses nothing. */
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

  /** Splits units like {@link storedSizeMeasure} does, so that the sums are the same. */
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
    await this.#each((thread) => thread.untilWaiting(WAITING_BATCHES_MOST), signal);
  }

  async settle(signal?: AbortSignal): Promise<void> {
    await this.#each((thread) => thread.settle(), signal);
  }

  async #each(
    wait: (thread: CompressThread) => Promise<void>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (this.#threads.length === 0) return;
    await unlessAborted(Promise.all(this.#threads.map(wait)), signal);
  }

  async close(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.close()));
  }
}

/** Waits for work, or until the signal is aborted. */
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
