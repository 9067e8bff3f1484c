/**
 * The thread that blesses whole images: what both ends say, and the thread's own end.
 *
 * @module
 */
import type { MessagePort } from "node:worker_threads";
import { IoError } from "../errors.ts";
import { type PlainError, plainError, rebuiltError } from "../io/plain_error.ts";
import { type ImageSink, PIECE_BYTES, WriteGatherer } from "../io/sink.ts";
import { NO_PROGRESS, type Progress } from "../progress.ts";
import type { OpenedImage } from "../source/source.ts";
import { Warnings, type WarningSummary } from "../warnings.ts";
import { takeOver } from "./handing_over.ts";
import { blessLayered, type BlessLayeredOptions, type LayeredReport } from "./layered.ts";
import type { Admission } from "./load_tree.ts";
import { blessMerged, type BlessMergedOptions } from "./merged.ts";
import type { BlessReport } from "./report.ts";

/** What is to be done. */
export interface BlessCall {
  readonly type: "call";
  readonly mode: "merged" | "layered";
  /** As {@linkcode handOver} makes them. */
  readonly options: unknown;
  readonly strict: boolean;
  readonly showsProgress: boolean;
  /** How many layers may be read at the same time; 1: in this thread. */
  readonly jobs: number;
}

/** To the thread. */
export type ToBlessThread =
  | BlessCall
  | { readonly type: "abort"; readonly reason: PlainError }
  | { readonly type: "admitted" }
  | {
    readonly type: "answer";
    readonly id: number;
    readonly error: PlainError | undefined;
    readonly buffer: ArrayBuffer | undefined;
  };

/** What a sink is told. */
export type SinkOperation =
  | {
    readonly kind: "write";
    readonly buffer: ArrayBuffer;
    readonly lengthBytes: number;
    readonly offset: number;
  }
  | { readonly kind: "finish"; readonly sizeBytes: number }
  | { readonly kind: "abort" };

/** From the thread. */
export type FromBlessThread =
  | { readonly type: "admission"; readonly bytes: number }
  | {
    readonly type: "sink";
    readonly id: number;
    readonly index: number;
    readonly operation: SinkOperation;
  }
  | { readonly type: "callback"; readonly index: number; readonly args: readonly unknown[] }
  | {
    readonly type: "begin";
    readonly task: number;
    readonly name: string;
    readonly totalBytes: number | undefined;
  }
  | { readonly type: "advance"; readonly task: number; readonly bytes: number }
  | { readonly type: "end"; readonly task: number }
  | {
    readonly type: "done";
    readonly report: BlessReport | LayeredReport;
    readonly warnings: readonly WarningSummary[];
  }
  | {
    readonly type: "failed";
    readonly error: PlainError;
    readonly warnings: readonly WarningSummary[];
  };

/** What a thread takes, with buffers and garbage, before there are many entries: measured, 80 to 100 MiB. */
const THREAD_BYTES = 96 << 20;
/** What trees and plans take for each entry (docs/PERFORMANCE.md). */
const ENTRY_BYTES = 2.7 * 1024;
/** A manifest tells no numbers of entries. Layers of Debian have one for each 9 to 28 KiB that are stored. */
const STORED_BYTES_EACH_ENTRY = 8 * 1024;

/** The memory that an image will take at most, as far as its manifest tells. */
export function estimatedBytes({ layers }: Pick<OpenedImage, "layers">): number {
  const storedBytes = layers.reduce((sum, { sizeBytes = 0 }) => sum + sizeBytes, 0);
  return Math.ceil(THREAD_BYTES + storedBytes / STORED_BYTES_EACH_ENTRY * ENTRY_BYTES);
}

/** The thread's end: blesses what it is sent, one image after the other. */
export function serveBlessing(port: MessagePort): void {
  const post = (message: FromBlessThread, transfer: ArrayBuffer[] = []) =>
    port.postMessage(message, transfer);
  let run: BlessRun | undefined;
  port.on("message", (message: ToBlessThread) => {
    if (message.type === "call") {
      run = new BlessRun(message, post);
      void run.run();
    } else run?.receive(message);
  });
}

type Post = (message: FromBlessThread, transfer?: ArrayBuffer[]) => void;

class BlessRun {
  readonly #call: BlessCall;
  readonly #post: Post;
  readonly #abort = new AbortController();
  readonly #answers = new Map<number, (error: PlainError | undefined) => void>();
  readonly #spareBuffers: ArrayBuffer[] = [];
  #admit: (() => void) | undefined;
  #lastId = 0;

  constructor(call: BlessCall, post: Post) {
    this.#call = call;
    this.#post = post;
  }

  receive(message: Exclude<ToBlessThread, BlessCall>): void {
    if (message.type === "abort") {
      this.#abort.abort(rebuiltError(message.reason));
      this.#admit?.();
    } else if (message.type === "admitted") this.#admit?.();
    else {
      if (message.buffer) this.#spareBuffers.push(message.buffer);
      this.#answers.get(message.id)?.(message.error);
      this.#answers.delete(message.id);
    }
  }

  async run(): Promise<void> {
    const warnings = new Warnings(this.#call.strict);
    try {
      const report = await this.#bless(warnings);
      this.#post({ type: "done", report, warnings: warnings.list() });
    } catch (error) {
      this.#post({ type: "failed", error: plainError(error), warnings: warnings.list() });
    }
  }

  async #bless(warnings: Warnings): Promise<BlessReport | LayeredReport> {
    const { mode, options, jobs, showsProgress } = this.#call;
    const { signal } = this.#abort;
    const given = takeOver(options, {
      sink: (index) => new RemoteSink((operation) => this.#operate(index, operation), this.#buffer),
      callback: (index) => (...args) =>
        this.#post({
          type: "callback",
          index,
          args: args.map((arg) => arg instanceof Error ? plainError(arg) : arg),
        }),
      signal,
    }) as BlessMergedOptions & BlessLayeredOptions;
    const all: typeof given & Admission = {
      ...given,
      // A thread for a layer only where it works beside this one.
      inlineLayerBytes: jobs === 1 ? Infinity : given.inlineLayerBytes,
      jobs,
      signal,
      warnings,
      progress: showsProgress ? remoteProgress(this.#post) : NO_PROGRESS,
      admit: (image) => this.#admitted(image),
    };
    return mode === "merged" ? await blessMerged(all) : await blessLayered(all);
  }

  async #admitted(image: OpenedImage): Promise<void> {
    if (this.#abort.signal.aborted) return;
    const admitted = new Promise<void>((resolve) => this.#admit = resolve);
    this.#post({ type: "admission", bytes: estimatedBytes(image) });
    await admitted;
    this.#admit = undefined;
  }

  readonly #buffer = () => this.#spareBuffers.pop() ?? new ArrayBuffer(PIECE_BYTES);

  #operate(index: number, operation: SinkOperation): Promise<void> {
    const id = ++this.#lastId;
    const done = new Promise<void>((resolve, reject) => {
      this.#answers.set(id, (error) => error ? reject(rebuiltError(error)) : resolve());
    });
    const transfer = operation.kind === "write" ? [operation.buffer] : [];
    this.#post({ type: "sink", id, index, operation }, transfer);
    return done;
  }
}

/** Pieces that were sent and not written yet. */
const UNDERWAY_MAX = 4;

/** A sink whose writes happen in the calling thread, in pieces of 1 MiB. */
export class RemoteSink implements ImageSink {
  readonly #operate: (operation: SinkOperation) => Promise<void>;
  readonly #newBuffer: () => ArrayBuffer;
  readonly #gatherer = new WriteGatherer((bytes, offset) => this.#send(bytes, offset));
  readonly #underway: Promise<void>[] = [];
  #failure: { readonly error: unknown } | undefined;

  /** @param newBuffer gives buffers of PIECE_BYTES, which `operate` may take away */
  constructor(
    operate: (operation: SinkOperation) => Promise<void>,
    newBuffer: () => ArrayBuffer,
  ) {
    this.#operate = operate;
    this.#newBuffer = newBuffer;
  }

  write(bytes: Uint8Array, offset: number): void | Promise<void> {
    if (this.#failure) throw this.#failure.error;
    return this.#gatherer.write(bytes, offset);
  }

  async finish(sizeBytes: number): Promise<void> {
    await this.#gatherer.flush();
    await Promise.all(this.#underway);
    if (this.#failure) throw this.#failure.error;
    await this.#operate({ kind: "finish", sizeBytes });
  }

  async abort(): Promise<void> {
    this.#failure ??= { error: new IoError("the image", "was dropped") };
    await this.#operate({ kind: "abort" });
  }

  #send(bytes: Uint8Array, offset: number): void | Promise<void> {
    const buffer = this.#newBuffer();
    new Uint8Array(buffer).set(bytes);
    const sent = this.#operate({ kind: "write", buffer, lengthBytes: bytes.length, offset });
    this.#underway.push(sent.catch((error) => {
      this.#failure ??= { error };
    }));
    if (this.#underway.length > UNDERWAY_MAX) return this.#underway.shift();
  }
}

/** Bytes are told in steps of so many. */
const STEP_BYTES = 4 << 20;

function remoteProgress(post: Post): Progress {
  let lastTask = 0;
  return {
    begin(name, totalBytes) {
      const task = ++lastTask;
      let untoldBytes = 0;
      const tell = () => {
        if (untoldBytes > 0) post({ type: "advance", task, bytes: untoldBytes });
        untoldBytes = 0;
      };
      post({ type: "begin", task, name, totalBytes });
      return {
        advance(bytes) {
          untoldBytes += bytes;
          if (untoldBytes >= STEP_BYTES) tell();
        },
        end() {
          tell();
          post({ type: "end", task });
        },
      };
    },
  };
}
