/**
 * What a unit takes in a store that compresses each unit by itself.
 *
 * @module
 */
import type { MessagePort } from "node:worker_threads";
import * as zlib from "node:zlib";
import { invariant, optionError } from "../../lib/errors.ts";
import { Thread, type ThreadOptions } from "../../lib/io/thread.ts";

/** How a store compresses. */
export type Compression =
  | { readonly kind: "none" }
  | { readonly kind: "zstd"; readonly level: number };

/** Size of bytes in the store. */
export type StoredSizeOf = (bytes: Uint8Array) => number;

/** Larger units are compressed in pieces of this size, so that memory is bounded. */
const UNIT_PIECE_BYTES = 4 * 1024 * 1024;
const LEVEL_MOST = 19;

/**
 * Makes the measure. Without compression a unit's `stored` is its `raw`, which is told by undefined.
 *
 * @throws UsageError for a level out of range, and where the runtime has no zstd
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
      // zstd chooses smaller tables for a size that it knows, and compresses a little better, as zstd(1) does.
      const options = { params, pledgedSrcSize: piece.length };
      sizeBytes += zlib.zstdCompressSync(piece, options).length;
    }
    return sizeBytes;
  };
}

/** Units are sent in batches of at most so many bytes. */
export const BATCH_BYTES = 4 * 1024 * 1024;

interface CompressionSetup {
  readonly compression: Compression;
}

/** Units one behind the other. */
interface Batch {
  readonly buffer: ArrayBuffer;
  readonly lengths: readonly number[];
}

/** The buffer comes back, to be filled again. */
interface Answer {
  readonly buffer: ArrayBuffer;
  readonly sizes: readonly number[];
}

type Take = (sizeBytes: number) => void;

/** Someone who waits until at most so many batches are not answered. */
interface Waiter {
  readonly batchesMost: number;
  readonly resolve: () => void;
  readonly reject: (why: unknown) => void;
}

/** The calling thread's end. */
export class CompressThread {
  readonly #thread: Thread<Batch, Answer>;
  /** Of the batches sent, the oldest first. */
  readonly #sent: { readonly takes: readonly Take[]; readonly bytes: number }[] = [];
  readonly #spareBuffers: ArrayBuffer[] = [];
  #batch = new Uint8Array(BATCH_BYTES);
  #lengths: number[] = [];
  #takes: Take[] = [];
  #filled = 0;
  #sentBytes = 0;
  #waiters: Waiter[] = [];
  #dead: { readonly why: unknown } | undefined;

  constructor(compression: Compression, options: ThreadOptions = {}) {
    const setup: CompressionSetup = { compression };
    this.#thread = new Thread({
      role: "compression",
      setup,
      purpose: "compresses",
      workerUrl: options.workerUrl,
      receive: (answer) => this.#receive(answer),
      die: (reason) => this.#die(reason),
    });
  }

  /** Bytes that were added and not answered yet. */
  get waitingBytes(): number {
    return this.#sentBytes + this.#filled;
  }

  /** Adds a unit of at most a batch. The bytes are only lent. */
  add(bytes: Uint8Array, take: Take): void {
    invariant(bytes.length <= BATCH_BYTES, "a unit fits into a batch");
    if (this.#filled + bytes.length > BATCH_BYTES) this.#send();
    this.#batch.set(bytes, this.#filled);
    this.#filled += bytes.length;
    this.#lengths.push(bytes.length);
    this.#takes.push(take);
  }

  /** Waits until all units are answered. Throws when the thread died. */
  async settle(): Promise<void> {
    if (this.#takes.length > 0) this.#send();
    await this.untilWaiting(0);
  }

  /** Waits until at most so many batches are sent and not answered. Throws when the thread died. */
  async untilWaiting(batchesMost: number): Promise<void> {
    if (this.#dead) throw this.#dead.why;
    if (this.#sent.length <= batchesMost) return;
    await new Promise<void>((resolve, reject) => {
      this.#waiters.push({ batchesMost, resolve, reject });
    });
  }

  /** Ends the thread; what was not answered never is. */
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
    const isDone = ({ batchesMost }: Waiter) => this.#sent.length <= batchesMost;
    const done = this.#waiters.filter(isDone);
    this.#waiters = this.#waiters.filter((waiter) => !isDone(waiter));
    for (const { resolve } of done) resolve();
  }

  #die(why: unknown): void {
    this.#dead ??= { why };
    for (const { reject } of this.#waiters.splice(0)) reject(this.#dead.why);
  }
}

/** The thread's end: compresses what it is sent. */
export function serveCompression(port: MessagePort, { compression }: CompressionSetup): void {
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
