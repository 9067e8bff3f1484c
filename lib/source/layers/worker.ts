/**
 * The thread that reads layers: both ends of it.
 *
 * @module
 */
import { closeSync } from "node:fs";
import type { MessagePort } from "node:worker_threads";
import { InterruptedError, invariant, IoError } from "../../errors.ts";
import { descriptorReader } from "../../io/random_reader.ts";
import { reopenDescriptor, type SpoolTarget, SpoolWriter } from "../../io/spool.ts";
import {
  type PlainError,
  plainError,
  rebuiltError,
  Thread,
  type ThreadOptions,
} from "../../io/thread.ts";
import { packEntries, unpackEntries } from "../../tar/entry.ts";
import {
  bigPieces,
  filePieces,
  type LayerFacts,
  type LayerJob,
  type LayerListener,
  PIECE_BYTES,
  readLayer,
  type StoredPieces,
} from "./read_layer.ts";

/** The number of pieces of a stream read ahead of the worker. */
const MAX_WAITING_PIECES = 4;
/** How long a worker may take to stop its job before its thread is terminated. */
const GRACE_MILLISECONDS = 5000;

/** A worker's input: a part of a file that this process has open, or a stream posted to it. */
export type WorkerInput =
  | {
    readonly kind: "file";
    readonly descriptor: number;
    readonly offsetBytes: number;
    readonly lengthBytes: number;
  }
  | { readonly kind: "stream"; readonly stream: AsyncIterable<Uint8Array> };

interface LayerSetup {
  /** Nonzero tells the worker to stop. */
  readonly stopFlag: Int32Array;
}

interface JobMessage {
  readonly type: "job";
  readonly job: LayerJob;
  readonly input: Exclude<WorkerInput, { kind: "stream" }> | { readonly kind: "stream" };
  readonly spool: SpoolTarget | undefined;
}

type ToWorker =
  | JobMessage
  // A buffer rather than a view: Deno examines every element of a posted view.
  | { readonly type: "piece"; readonly buffer: ArrayBuffer; readonly lengthBytes: number }
  | { readonly type: "endOfPieces" };

type FromWorker =
  | { readonly type: "entries"; readonly batch: ArrayBuffer }
  | { readonly type: "progress"; readonly storedBytes: number; readonly uncompressedBytes: number }
  | { readonly type: "pieceTaken"; readonly buffer: ArrayBuffer }
  | { readonly type: "done"; readonly facts: LayerFacts }
  | { readonly type: "failed"; readonly error: PlainError };

/** The caller waiting for the current job. */
interface PendingJob {
  readonly listener: LayerListener;
  readonly resolve: (facts: LayerFacts) => void;
  readonly reject: (reason: unknown) => void;
}

/**
 * The calling thread's end: a worker that reads one layer after another. A job ends here only once the worker has finished
 * with it, even on failure: until then the worker may open the descriptors it was given.
 */
export class LayerWorker {
  readonly #thread: Thread<ToWorker, FromWorker>;
  readonly #stopFlag = new Int32Array(new SharedArrayBuffer(4));
  #pending: PendingJob | undefined;
  #waitingPieces = 0;
  /** Returned buffers, to be filled again. */
  readonly #spareBuffers: ArrayBuffer[] = [];
  #pieceTaken: (() => void) | undefined;
  /** Why this worker is no longer usable. */
  #dead: { readonly reason: unknown } | undefined;
  #idle: (() => void) | undefined;
  #stopped: Promise<void> | undefined;

  constructor(options: ThreadOptions = {}) {
    const setup: LayerSetup = { stopFlag: this.#stopFlag };
    this.#thread = new Thread({
      role: "layers",
      setup,
      purpose: "reads layers",
      workerUrl: options.workerUrl,
      receive: (message) => this.#receive(message),
      die: (reason) => this.#die(reason),
    });
  }

  /**
   * Reads a layer as {@link readLayer} does. Only one at a time.
   *
   * @throws the errors of readLayer, and an error if the thread dies
   */
  run(
    job: LayerJob,
    input: WorkerInput,
    spool: SpoolTarget | undefined,
    listener: LayerListener,
  ): Promise<LayerFacts> {
    invariant(!this.#pending, "a worker reads one layer at a time");
    if (this.#dead) return Promise.reject(this.#dead.reason);
    const result = new Promise<LayerFacts>((resolve, reject) => {
      this.#pending = { listener, resolve, reject };
    });
    this.#waitingPieces = 0;
    if (input.kind === "file") this.#post({ type: "job", job, input, spool });
    else {
      this.#post({ type: "job", job, input: { kind: "stream" }, spool });
      this.#feed(input.stream).catch((error) => this.#abandon(error));
    }
    return result;
  }

  /** Stops the thread. The current job fails with `reason`. */
  stop(reason: unknown): Promise<void> {
    this.#stopped ??= this.#end(reason);
    return this.#stopped;
  }

  async #end(reason: unknown): Promise<void> {
    this.#abandon(reason);
    // The worker itself closes its files: not every runtime does so for a terminated thread.
    if (this.#pending) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, GRACE_MILLISECONDS);
        this.#idle = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    await this.#thread.terminate();
    this.#die(reason);
  }

  /** Makes the worker give up its job and accept no other. */
  #abandon(reason: unknown): void {
    this.#dead ??= { reason };
    Atomics.store(this.#stopFlag, 0, 1);
    this.#pieceTaken?.();
    // It may be waiting for a piece, in which case it does not check the flag.
    if (this.#pending) this.#post({ type: "endOfPieces" });
  }

  async #feed(stream: AsyncIterable<Uint8Array>): Promise<void> {
    const job = this.#pending;
    const isOver = () => this.#pending !== job || this.#dead !== undefined;
    const newBuffer = () =>
      new Uint8Array(this.#spareBuffers.pop() ?? new ArrayBuffer(PIECE_BYTES));
    for await (const { buffer, length } of bigPieces(stream, newBuffer)) {
      while (this.#waitingPieces >= MAX_WAITING_PIECES && !isOver()) {
        await new Promise<void>((resolve) => this.#pieceTaken = resolve);
      }
      // The layer may have failed meanwhile: leaving the loop closes the stream.
      if (isOver()) return;
      this.#waitingPieces++;
      const whole = buffer as ArrayBuffer;
      this.#post({ type: "piece", buffer: whole, lengthBytes: length }, [whole]);
    }
    if (!isOver()) this.#post({ type: "endOfPieces" });
  }

  #post(message: ToWorker, transfer: ArrayBuffer[] = []): void {
    this.#thread.post(message, transfer);
  }

  #receive(message: FromWorker): void {
    switch (message.type) {
      case "done":
        return this.#settle((pending) =>
          this.#dead ? pending.reject(this.#dead.reason) : pending.resolve(message.facts)
        );
      case "failed":
        return this.#settle((pending) =>
          pending.reject(this.#dead ? this.#dead.reason : rebuiltError(message.error))
        );
      case "pieceTaken":
        this.#waitingPieces--;
        this.#spareBuffers.push(message.buffer);
        return this.#pieceTaken?.();
      default:
        return this.#report(message);
    }
  }

  #report(message: FromWorker & { readonly type: "entries" | "progress" }): void {
    if (!this.#pending || this.#dead) return;
    const { listener } = this.#pending;
    try {
      if (message.type === "entries") listener.entries(unpackEntries(message.batch));
      else listener.progress(message.storedBytes, message.uncompressedBytes);
    } catch (error) {
      this.#abandon(error);
    }
  }

  #die(reason: unknown): void {
    this.#dead ??= { reason };
    this.#settle((pending) => pending.reject(this.#dead!.reason));
  }

  #settle(how: (pending: PendingJob) => void): void {
    const pending = this.#pending;
    this.#pending = undefined;
    this.#pieceTaken?.();
    if (pending) how(pending);
    this.#idle?.();
  }
}

/** The thread's end: reads the layers it is sent. */
export function serveLayers(port: MessagePort, { stopFlag }: LayerSetup): void {
  const stopped = () => Atomics.load(stopFlag, 0) !== 0;
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
      runJob(message, queue, post, stopped).then(
        (facts) => post({ type: "done", facts }),
        (error) => post({ type: "failed", error: plainError(error) }),
      );
    }
  });
}

async function runJob(
  { job, input, spool }: JobMessage,
  queue: PieceQueue,
  post: (message: FromWorker, transfer?: ArrayBuffer[]) => void,
  stopped: () => boolean,
): Promise<LayerFacts> {
  const opened: number[] = [];
  const open = (descriptor: number, flags: "r" | "r+") => {
    // After a job is given up, its descriptors may belong to other files.
    if (stopped()) throw new InterruptedError("interrupted", "the layer is given up");
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
    const writer = spool && new SpoolWriter({
      ...spool,
      descriptors: spool.descriptors.map((descriptor) => open(descriptor, "r+")),
    });
    return await readLayer(job, pieces, writer, {
      entries: (entries) => {
        const batch = packEntries(entries);
        post({ type: "entries", batch }, [batch]);
      },
      progress: (storedBytes, uncompressedBytes) =>
        post({ type: "progress", storedBytes, uncompressedBytes }),
      stopped,
    });
  } finally {
    for (const descriptor of opened) closeSync(descriptor);
  }
}

/** Pieces received but not yet read, in order. */
export class PieceQueue implements AsyncIterable<Uint8Array> {
  readonly #pieces: Uint8Array[] = [];
  readonly #taken: (piece: Uint8Array) => void;
  #ended = false;
  #wake: (() => void) | undefined;

  /** @param taken called when the reader has finished with a piece */
  constructor(taken: (piece: Uint8Array) => void) {
    this.#taken = taken;
  }

  add(piece: Uint8Array): void {
    this.#pieces.push(piece);
    this.#wake?.();
  }

  /** Signals that no more pieces will come. */
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
