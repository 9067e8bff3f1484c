/**
 * The thread that reads layers. This module is both its ends: it starts itself as the worker, so that nothing has to know
 * its file, also when everything is bundled into one file or compiled into one program. A program that bundles it must
 * not do its own work in a worker: guard it with `isMainThread` of node:worker_threads.
 *
 * @module
 */
import { closeSync } from "node:fs";
import {
  isMainThread,
  type MessagePort,
  parentPort,
  Worker,
  workerData,
} from "node:worker_threads";
import { invariant, IoError } from "../errors.ts";
import { descriptorReader } from "../io/random_reader.ts";
import { reopenDescriptor, SpoolWriter } from "../io/spool.ts";
import type { TarEntry } from "../tar/entry.ts";
import {
  bigPieces,
  filePieces,
  type LayerFacts,
  type LayerJob,
  type LayerListener,
  PIECE_BYTES,
  readLayer,
  type StoredPieces,
} from "./layer_job.ts";
import { type PlainError, plainError, rebuiltError } from "./thread_errors.ts";

const ROLE = "blessfs-layer";
/** A stream is read ahead of the worker by this many pieces. */
const MAX_WAITING_PIECES = 4;

/** The stored bytes as the worker gets at them: a part of a file that this process has open, or a stream sent to it. */
export type WorkerInput =
  | {
    readonly kind: "file";
    readonly descriptor: number;
    readonly offsetBytes: number;
    readonly lengthBytes: number;
  }
  | { readonly kind: "stream"; readonly stream: AsyncIterable<Uint8Array> };

/** An open, unlinked file for the uncompressed tar. */
export interface SpoolTarget {
  readonly descriptor: number;
  /** For errors. */
  readonly directory: string;
}

interface JobMessage {
  readonly type: "job";
  readonly job: LayerJob;
  readonly input: Exclude<WorkerInput, { kind: "stream" }> | { readonly kind: "stream" };
  readonly spool: SpoolTarget | undefined;
}

type ToWorker =
  | JobMessage
  // A buffer and not a view: Deno looks at every element of a view that is posted.
  | { readonly type: "piece"; readonly buffer: ArrayBuffer; readonly lengthBytes: number }
  | { readonly type: "endOfPieces" };

type FromWorker =
  | { readonly type: "entries"; readonly batch: readonly TarEntry[] }
  | { readonly type: "progress"; readonly storedBytes: number; readonly uncompressedBytes: number }
  | { readonly type: "pieceTaken"; readonly buffer: ArrayBuffer }
  | { readonly type: "done"; readonly facts: LayerFacts }
  | { readonly type: "failed"; readonly error: PlainError };

/** Whoever waits for the job that runs. */
interface PendingJob {
  readonly listener: LayerListener;
  readonly resolve: (facts: LayerFacts) => void;
  readonly reject: (reason: unknown) => void;
}

/** The calling thread's end: a worker that reads one layer after another. */
export class LayerWorker {
  readonly #worker: Worker;
  #pending: PendingJob | undefined;
  #waitingPieces = 0;
  /** Buffers that came back, to be filled again. */
  readonly #spareBuffers: ArrayBuffer[] = [];
  #pieceTaken: (() => void) | undefined;
  #dead: Error | undefined;

  constructor() {
    this.#worker = new Worker(new URL(import.meta.url), { workerData: { role: ROLE } });
    this.#worker.on("message", (message: FromWorker) => this.#receive(message));
    this.#worker.on("messageerror", (error: Error) => this.#die(error));
    this.#worker.on("error", (error: Error) => this.#die(error));
    this.#worker.on("exit", (code: number) => {
      this.#die(
        new IoError("layer worker", `the thread ended before its work did (exit code ${code})`),
      );
    });
  }

  /**
   * Reads a layer, as {@link readLayer} does. One at a time.
   *
   * @throws what readLayer throws, and an error when the thread dies
   */
  run(
    job: LayerJob,
    input: WorkerInput,
    spool: SpoolTarget | undefined,
    listener: LayerListener,
  ): Promise<LayerFacts> {
    invariant(!this.#pending, "a worker reads one layer at a time");
    if (this.#dead) return Promise.reject(this.#dead);
    const result = new Promise<LayerFacts>((resolve, reject) => {
      this.#pending = { listener, resolve, reject };
    });
    this.#waitingPieces = 0;
    if (input.kind === "file") this.#post({ type: "job", job, input, spool });
    else {
      this.#post({ type: "job", job, input: { kind: "stream" }, spool });
      this.#feed(input.stream).catch((error) => this.#settle((pending) => pending.reject(error)));
    }
    return result;
  }

  /** Stops the thread wherever it is. What it was reading fails with `reason`. */
  async stop(reason: Error): Promise<void> {
    this.#die(reason);
    await this.#worker.terminate();
  }

  async #feed(stream: AsyncIterable<Uint8Array>): Promise<void> {
    const job = this.#pending;
    const newBuffer = () =>
      new Uint8Array(this.#spareBuffers.pop() ?? new ArrayBuffer(PIECE_BYTES));
    for await (const { buffer, length } of bigPieces(stream, newBuffer)) {
      while (this.#waitingPieces >= MAX_WAITING_PIECES && this.#pending === job) {
        await new Promise<void>((resolve) => this.#pieceTaken = resolve);
      }
      // The layer may have failed meanwhile: leaving the loop lets go of the stream.
      if (this.#pending !== job) return;
      this.#waitingPieces++;
      const whole = buffer as ArrayBuffer;
      this.#post({ type: "piece", buffer: whole, lengthBytes: length }, [whole]);
    }
    if (this.#pending === job) this.#post({ type: "endOfPieces" });
  }

  #post(message: ToWorker, transfer: ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, transfer);
  }

  #receive(message: FromWorker): void {
    try {
      this.#dispatch(message);
    } catch (error) {
      this.#settle((pending) => pending.reject(error));
    }
  }

  #dispatch(message: FromWorker): void {
    const listener = this.#pending?.listener;
    switch (message.type) {
      case "entries":
        return listener?.entries(message.batch);
      case "progress":
        return listener?.progress(message.storedBytes, message.uncompressedBytes);
      case "pieceTaken":
        this.#waitingPieces--;
        this.#spareBuffers.push(message.buffer);
        return this.#pieceTaken?.();
      case "done":
        return this.#settle((pending) => pending.resolve(message.facts));
      case "failed":
        return this.#settle((pending) => pending.reject(rebuiltError(message.error)));
    }
  }

  #die(error: Error): void {
    this.#dead ??= error;
    this.#settle((pending) => pending.reject(this.#dead));
  }

  #settle(how: (pending: PendingJob) => void): void {
    const pending = this.#pending;
    this.#pending = undefined;
    this.#pieceTaken?.();
    if (pending) how(pending);
  }
}

/** The worker's end: pieces that were sent and not read yet. */
class PieceQueue implements AsyncIterable<Uint8Array> {
  readonly #pieces: Uint8Array[] = [];
  readonly #taken: (piece: Uint8Array) => void;
  #ended = false;
  #wake: (() => void) | undefined;

  constructor(taken: (piece: Uint8Array) => void) {
    this.#taken = taken;
  }

  add(piece: Uint8Array): void {
    this.#pieces.push(piece);
    this.#wake?.();
  }

  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      const piece = this.#pieces.shift();
      if (piece) {
        yield piece;
        this.#taken(piece);
      } else if (this.#ended) return;
      else await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }
}

function serve(port: MessagePort): void {
  let queue: PieceQueue | undefined;
  const post = (message: FromWorker, transfer: ArrayBuffer[] = []) =>
    port.postMessage(message, transfer);
  port.on("message", (message: ToWorker) => {
    if (message.type === "piece") {
      queue?.add(new Uint8Array(message.buffer, 0, message.lengthBytes));
    } else if (message.type === "endOfPieces") queue?.end();
    else {
      queue = new PieceQueue(({ buffer }) => {
        const whole = buffer as ArrayBuffer;
        post({ type: "pieceTaken", buffer: whole }, [whole]);
      });
      runJob(message, queue, post).then(
        (facts) => post({ type: "done", facts }),
        (error) => post({ type: "failed", error: plainError(error) }),
      );
    }
  });
}

async function runJob(
  { job, input, spool }: JobMessage,
  queue: PieceQueue,
  post: (message: FromWorker) => void,
): Promise<LayerFacts> {
  const opened: number[] = [];
  const open = (descriptor: number, flags: "r" | "r+") => {
    const own = reopenDescriptor(descriptor, flags);
    if (own === undefined) throw new IoError("layer worker", "cannot open the file it was given");
    opened.push(own);
    return own;
  };
  try {
    let pieces: StoredPieces = queue;
    if (input.kind === "file") {
      const end = input.offsetBytes + input.lengthBytes;
      const reader = descriptorReader(open(input.descriptor, "r"), job.name, end);
      pieces = filePieces(reader.readAt, input.offsetBytes, input.lengthBytes);
    }
    const writer = spool && new SpoolWriter(open(spool.descriptor, "r+"), spool.directory);
    return await readLayer(job, pieces, writer, {
      entries: (batch) => post({ type: "entries", batch: batch.map(withOwnBytes) }),
      progress: (storedBytes, uncompressedBytes) =>
        post({ type: "progress", storedBytes, uncompressedBytes }),
    });
  } finally {
    for (const descriptor of opened) closeSync(descriptor);
  }
}

/** Posting a view copies all of the buffer under it. */
function withOwnBytes(entry: TarEntry): TarEntry {
  if (entry.xattrs.every(({ value }) => value.byteLength === value.buffer.byteLength)) return entry;
  const xattrs = entry.xattrs.map(({ name, value }) => ({ name, value: value.slice() }));
  return { ...entry, xattrs };
}

// `import.meta.main` is true in workers, too, and tells nothing here.
if (!isMainThread && parentPort && workerData?.role === ROLE) serve(parentPort);
