/**
 * A thread that compresses units and says how small they got. This module is both its ends: it starts itself as the
 * worker, so that nothing has to know its file, also when everything is bundled into one file.
 *
 * @module
 */
import {
  isMainThread,
  type MessagePort,
  parentPort,
  Worker,
  workerData,
} from "node:worker_threads";
import { invariant } from "../../lib/errors.ts";
import { type Compression, storedSizeMeasure } from "./compressor.ts";

const ROLE = "blessfs-compress";
/** Units are sent in batches of at most so many bytes. */
export const BATCH_BYTES = 4 * 1024 * 1024;

interface ThreadData {
  readonly role: typeof ROLE;
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
  readonly #worker: Worker;
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

  constructor(compression: Compression) {
    const data: ThreadData = { role: ROLE, compression };
    this.#worker = new Worker(new URL(import.meta.url), { workerData: data });
    this.#worker.on("message", (answer: Answer) => this.#receive(answer));
    this.#worker.on("messageerror", (error: Error) => this.#die(error));
    this.#worker.on("error", (error: Error) => this.#die(error));
    this.#worker.on("exit", (code: number) => {
      this.#die(new Error(`The thread that compresses ended early, with exit code ${code}`));
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
    await this.#worker.terminate();
  }

  #send(): void {
    const buffer = this.#batch.buffer;
    const batch: Batch = { buffer, lengths: this.#lengths };
    this.#sent.push({ takes: this.#takes, bytes: this.#filled });
    this.#sentBytes += this.#filled;
    this.#worker.postMessage(batch, [buffer]);
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

function serve(port: MessagePort, { compression }: ThreadData): void {
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

// `import.meta.main` is true in workers, too, and tells nothing here.
if (!isMainThread && parentPort && workerData?.role === ROLE) {
  serve(parentPort, workerData as ThreadData);
}
