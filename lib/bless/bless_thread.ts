/**
 * The thread that blesses whole images: the messages of both ends, how options are transferred, and the thread's own
 * end.
 *
 * @module
 */
import type { MessagePort } from "node:worker_threads";
import { IoError, optionError } from "../errors.ts";
import { createFileSink, type FileSinkFacts, fileSinkFacts } from "../io/file_sink.ts";
import { type PlainError, plainError, rebuiltError } from "../io/thread.ts";
import { memoryReader, type RandomReader, readExactly } from "../io/random_reader.ts";
import { type ImageSink, PIECE_BYTES, WriteGatherer } from "../io/sink.ts";
import { NO_PROGRESS, type Progress } from "../progress.ts";
import type { OpenedImage } from "../source/source.ts";
import { Warnings, type WarningSummary } from "../warnings.ts";
import { blessLayered, type BlessLayeredOptions, type LayeredReport } from "./layered.ts";
import type { Admission } from "./plan_image.ts";
import { blessMerged, type BlessMergedOptions } from "./merged.ts";
import type { BlessReport } from "./report.ts";

/** A request to bless one image. */
export interface BlessCall {
  readonly type: "call";
  readonly mode: "merged" | "layered";
  /** The plain options from {@linkcode handOver}. */
  readonly options: unknown;
  readonly strict: boolean;
  readonly showsProgress: boolean;
  /** The number of layers to read concurrently; 1 reads them in this thread. */
  readonly jobs: number;
}

/** Messages to the thread. */
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

/** A call to a sink in the calling thread. */
export type SinkOperation =
  | {
    readonly kind: "write";
    readonly buffer: ArrayBuffer;
    readonly lengthBytes: number;
    readonly offset: number;
  }
  | { readonly kind: "finish"; readonly sizeBytes: number }
  | { readonly kind: "abort" };

/** Messages from the thread. */
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
  | EndOfCall;

/** The end of a call, with a report or an error. */
export interface EndOfCall {
  readonly type: "over";
  readonly report: BlessReport | LayeredReport | undefined;
  readonly error: PlainError | undefined;
  readonly warnings: readonly WarningSummary[];
}

/** A placeholder for a value that cannot be copied. */
type StandIn =
  | { readonly standIn: "sink"; readonly index: number }
  | { readonly standIn: "fileSink"; readonly facts: Omit<FileSinkFacts, "signal"> }
  | { readonly standIn: "reader"; readonly name: string; readonly bytes: Uint8Array }
  | { readonly standIn: "callback"; readonly index: number };

/** Options as plain data, and the values that stay in the calling thread. */
export interface HandedOver {
  readonly plain: unknown;
  /** Sinks that the thread calls remotely. */
  readonly sinks: readonly ImageSink[];
  /** The signals of file sinks that the thread recreates. */
  readonly signals: readonly AbortSignal[];
  /** Functions that the thread calls without waiting for a result. */
  readonly callbacks: readonly ((...args: unknown[]) => unknown)[];
  /** The error to fail the call with: an option that cannot be transferred, or a reader that fails. */
  readonly fault: unknown;
}

/** Callbacks whose result is ignored. */
const CALLBACKS: readonly string[] = ["onUnreadable"];

/** Converts options for posting: plain data is copied; sinks, readers and callbacks are replaced with placeholders. */
export function handOver(options: object): HandedOver {
  const sinks: ImageSink[] = [];
  const signals: AbortSignal[] = [];
  const callbacks: ((...args: unknown[]) => unknown)[] = [];
  let fault: unknown;
  const refuse = (option: string) => {
    fault ??= optionError(option, "cannot be handed to a thread of a blesser", {
      hint: "call blessMerged() or blessLayered() itself",
    });
  };
  const convert = (value: unknown, key: string): unknown => {
    if (typeof value === "function") {
      if (!CALLBACKS.includes(key)) return refuse(key);
      return { standIn: "callback", index: callbacks.push(value as () => unknown) - 1 };
    }
    if (value instanceof URL) return value.href;
    if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value;
    if (isSink(value)) {
      const found = fileSinkFacts(value);
      if (found === undefined) return { standIn: "sink", index: sinks.push(value) - 1 };
      const { signal, ...facts } = found;
      if (signal !== undefined) signals.push(signal);
      // The thread creates its own. Aborting this one, which has written nothing, detaches it from its signal.
      void value.abort();
      return { standIn: "fileSink", facts };
    }
    if (isReader(value)) {
      // Readers hold small files, such as an EFI system partition or a signature.
      const bytes = new Uint8Array(value.sizeBytes);
      try {
        readExactly(value, bytes, 0);
      } catch (error) {
        fault ??= error;
      }
      return { standIn: "reader", name: value.name, bytes };
    }
    if (Array.isArray(value)) return value.map((item) => convert(item, key));
    const prototype = Object.getPrototypeOf(value);
    if (prototype !== null && Object.getPrototypeOf(prototype) !== null) return refuse(key);
    return Object.fromEntries(
      Object.entries(value).map(([name, item]) => [name, convert(item, name)]),
    );
  };
  return { plain: convert(options, ""), sinks, signals, callbacks, fault };
}

/** Replacements for the values that stayed in the calling thread. */
interface Surrogates {
  sink(index: number): ImageSink;
  callback(index: number): (...args: unknown[]) => void;
  readonly signal: AbortSignal;
}

/** Rebuilds options from the result of {@linkcode handOver}. */
function takeOver(plain: unknown, surrogates: Surrogates): unknown {
  if (typeof plain !== "object" || plain === null || ArrayBuffer.isView(plain)) return plain;
  if (Array.isArray(plain)) return plain.map((item) => takeOver(item, surrogates));
  if ("standIn" in plain) {
    const found = plain as StandIn;
    switch (found.standIn) {
      case "sink":
        return surrogates.sink(found.index);
      case "fileSink":
        return createFileSink(found.facts.path, { ...found.facts, signal: surrogates.signal });
      case "reader":
        return memoryReader(found.bytes, found.name);
      case "callback":
        return surrogates.callback(found.index);
    }
  }
  return Object.fromEntries(
    Object.entries(plain).map(([name, item]) => [name, takeOver(item, surrogates)]),
  );
}

function isSink(value: object): value is ImageSink {
  const { write, finish, abort } = value as Partial<ImageSink>;
  return [write, finish, abort].every((method) => typeof method === "function");
}

function isReader(value: object): value is RandomReader {
  return typeof (value as Partial<RandomReader>).readAt === "function";
}

/** The memory of a thread with few entries, including buffers and garbage: measured, 80 to 100 MiB. */
const THREAD_BYTES = 96 << 20;
/** The memory of trees and plans per entry (docs/PERFORMANCE.md). */
const ENTRY_BYTES = 2.7 * 1024;
/** A manifest does not state the number of entries. Debian layers have one entry per 9 to 28 KiB stored. */
const STORED_BYTES_EACH_ENTRY = 8 * 1024;

/** An upper estimate of the memory that an image needs, based on its manifest. */
export function estimatedBytes({ layers }: Pick<OpenedImage, "layers">): number {
  const storedBytes = layers.reduce((sum, { sizeBytes = 0 }) => sum + sizeBytes, 0);
  return Math.ceil(THREAD_BYTES + storedBytes / STORED_BYTES_EACH_ENTRY * ENTRY_BYTES);
}

/** The thread's end: blesses the images that it receives, one after the other. */
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
    let report: EndOfCall["report"];
    let error: EndOfCall["error"];
    try {
      report = await this.#bless(warnings);
    } catch (thrown) {
      error = plainError(thrown);
    }
    this.#post({ type: "over", report, error, warnings: warnings.list() });
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
      // Layers get their own threads only if several may run at once.
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

/** Pieces sent but not written yet. */
const UNDERWAY_MAX = 4;

/** A sink that forwards its writes to the calling thread, in pieces of 1 MiB. */
export class RemoteSink implements ImageSink {
  readonly #operate: (operation: SinkOperation) => Promise<void>;
  readonly #newBuffer: () => ArrayBuffer;
  readonly #gatherer = new WriteGatherer((bytes, offset) => this.#send(bytes, offset));
  readonly #underway: Promise<void>[] = [];
  #failure: { readonly error: unknown } | undefined;

  /** @param newBuffer returns buffers of PIECE_BYTES; `operate` may transfer them away */
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

/** The step in which progress is posted. */
const STEP_BYTES = 4 << 20;

function remoteProgress(post: Post): Progress {
  let lastTask = 0;
  return {
    begin(name, totalBytes) {
      const task = ++lastTask;
      let unsentBytes = 0;
      const send = () => {
        if (unsentBytes > 0) post({ type: "advance", task, bytes: unsentBytes });
        unsentBytes = 0;
      };
      post({ type: "begin", task, name, totalBytes });
      return {
        advance(bytes) {
          unsentBytes += bytes;
          if (unsentBytes >= STEP_BYTES) send();
        },
        end() {
          send();
          post({ type: "end", task });
        },
      };
    },
  };
}
