/**
 * A shared pool of threads and a shared memory budget for many calls, for programs that stay responsive meanwhile:
 * reading, planning and writing all happen in the threads.
 *
 * @module
 */
import { availableParallelism, totalmem } from "node:os";
import { setImmediate } from "node:timers";
import { abortError, invariant, optionError, throwIfAborted } from "../errors.ts";
import type { ImageSink } from "../io/sink.ts";
import { plainError, rebuiltError, Thread, type ThreadOptions } from "../io/thread.ts";
import type { ProgressTask } from "../progress.ts";
import type { SourceOptions } from "../source/source.ts";
import {
  type BlessCall,
  type EndOfCall,
  type FromBlessThread,
  type HandedOver,
  handOver,
  type SinkOperation,
  type ToBlessThread,
} from "./bless_thread.ts";
import type { BlessLayeredOptions, LayeredReport } from "./layered.ts";
import type { BlessMergedOptions } from "./merged.ts";
import type { BlessReport } from "./report.ts";

/** Options shared by all calls of a blesser. */
export interface BlesserOptions extends ThreadOptions {
  /** The number of threads that work concurrently; default: the number of processors. */
  readonly jobs?: number | undefined;
  /**
   * The memory that all images may take together, as estimated from their manifests. An image that does not fit waits
   * before its layers are read; one that could never fit is blessed alone. Default: half of the machine's memory.
   */
  readonly memoryBytes?: number | undefined;
  /** The directory for inflated layers; default: the system's directory for temporary files. */
  readonly temporaryDirectory?: string | undefined;
}

/** Blesses images in threads, several at a time. */
export interface Blesser extends AsyncDisposable {
  /**
   * Like {@linkcode blessMerged}. A sink from `createFileSink` writes in the thread; any other sink is called in the
   * calling thread, with pieces of 1 MiB. Standard input, chunk stores for layers and test clocks cannot be
   * transferred.
   */
  blessMerged(options: BlessMergedOptions): Promise<BlessReport>;
  /** Like {@linkcode blessLayered}, with the same restrictions. */
  blessLayered(options: BlessLayeredOptions): Promise<LayeredReport>;
  /** Aborts all running and waiting calls and ends the threads. */
  close(): Promise<void>;
}

/**
 * Creates a blesser. Threads start when they are first needed; idle threads do not keep the process alive.
 *
 * @throws {UsageError} for an option out of range
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createBlesser, createFileSink } from "@blessfs/blessfs";
 * import { mkdtempSync, rmSync } from "node:fs";
 * import { tmpdir } from "node:os";
 * import { join } from "node:path";
 *
 * const directory = mkdtempSync(join(tmpdir(), "blessfs-"));
 * await using blesser = createBlesser({ jobs: 2 });
 * const reports = await Promise.all(["a", "b", "c"].map((name) =>
 *   blesser.blessMerged({
 *     source: "oci:fixtures/oci-tiny",
 *     sink: createFileSink(join(directory, `${name}.ext4`)),
 *   })
 * ));
 * assertEquals(new Set(reports.map(({ uuid }) => uuid)).size, 1);
 * rmSync(directory, { recursive: true });
 * ```
 */
export function createBlesser(options: BlesserOptions = {}): Blesser {
  const { jobs = availableParallelism(), memoryBytes = Math.floor(totalmem() / 2) } = options;
  if (!Number.isInteger(jobs) || jobs < 1) {
    throw optionError("jobs", `wanted a number of threads, found ${jobs}`);
  }
  if (!(memoryBytes > 0)) {
    throw optionError("memoryBytes", `wanted a number of bytes, found ${memoryBytes}`);
  }
  return new ThreadedBlesser({ ...options, jobs, memoryBytes });
}

/** A call that is waiting for a thread or running in one. */
interface Job {
  readonly mode: BlessCall["mode"];
  readonly options: SourceOptions;
  readonly handed: HandedOver;
  readonly resolve: (report: BlessReport | LayeredReport) => void;
  readonly reject: (reason: unknown) => void;
}

class ThreadedBlesser implements Blesser {
  readonly #options: BlesserOptions & { readonly jobs: number };
  readonly #budget: MemoryBudget;
  readonly #idle: BlessThread[] = [];
  readonly #busy = new Set<BlessThread>();
  readonly #waiting: Job[] = [];
  /** Threads in use, including those that read layers for a call. */
  #usedJobs = 0;
  #isClosed = false;

  constructor(options: BlesserOptions & { readonly jobs: number; readonly memoryBytes: number }) {
    this.#options = options;
    this.#budget = new MemoryBudget(options.memoryBytes);
  }

  async blessMerged(options: BlessMergedOptions): Promise<BlessReport> {
    return await this.#run("merged", options) as BlessReport;
  }

  async blessLayered(options: BlessLayeredOptions): Promise<LayeredReport> {
    return await this.#run("layered", options) as LayeredReport;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const reason = new Error("the blesser was closed");
    await Promise.all(this.#waiting.splice(0).map((job) => giveUp(job, closedError(reason))));
    await Promise.all([...this.#busy].map((thread) => thread.stop(reason)));
    await Promise.all(this.#idle.splice(0).map((thread) => thread.terminate()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #run(mode: BlessCall["mode"], given: SourceOptions) {
    // These are not transferred; the thread has its own.
    const { warnings: _warnings, progress: _progress, signal: own, workerUrl: _url, ...rest } =
      given;
    const tmpdir = given.tmpdir ?? this.#options.temporaryDirectory;
    const handed = handOver({ ...rest, tmpdir });
    const signals = [...new Set([...own === undefined ? [] : [own], ...handed.signals])];
    const signal = signals.length > 1 ? AbortSignal.any(signals) : signals[0];
    const { promise, resolve, reject } = Promise.withResolvers<BlessReport | LayeredReport>();
    const job: Job = { mode, options: { ...given, signal }, handed, resolve, reject };
    const onAbort = () => {
      const at = this.#waiting.indexOf(job);
      if (at < 0) return;
      this.#waiting.splice(at, 1);
      void giveUp(job, abortError(signal!));
    };
    if (this.#isClosed) void giveUp(job, closedError(undefined));
    else if (handed.fault !== undefined) void giveUp(job, handed.fault);
    else if (signal?.aborted) void giveUp(job, abortError(signal));
    else {
      this.#waiting.push(job);
      signal?.addEventListener("abort", onAbort, { once: true });
      // Deferred, so that calls made together share the threads from the start.
      setImmediate(() => this.#startWaiting());
    }
    try {
      return await promise;
    } finally {
      // A signal can outlive many calls and would keep their options in memory.
      signal?.removeEventListener("abort", onAbort);
    }
  }

  #startWaiting(): void {
    const free = this.#options.jobs - this.#usedJobs;
    if (this.#waiting.length === 0 || free === 0 || this.#isClosed) return;
    const share = Math.max(1, Math.floor(free / this.#waiting.length));
    const job = this.#waiting.shift()!;
    this.#usedJobs += share;
    void this.#start(job, Math.min(share, job.options.jobs ?? share), share);
    // Starting a thread blocks this one, under Deno in particular, so other work may run in between.
    if (this.#waiting.length > 0) setImmediate(() => this.#startWaiting());
  }

  /** An idle thread; dead ones are dropped, since they would fail the call with another call's error. */
  #livingIdle(): BlessThread | undefined {
    let thread: BlessThread | undefined;
    do thread = this.#idle.pop(); while (thread?.isDead);
    return thread;
  }

  async #start(job: Job, jobs: number, share: number): Promise<void> {
    let thread: BlessThread | undefined;
    try {
      thread = this.#livingIdle() ?? new BlessThread(this.#options, this.#budget);
      this.#busy.add(thread);
      job.resolve(await thread.run(job, jobs));
    } catch (error) {
      await giveUp(job, error);
    } finally {
      this.#usedJobs -= share;
      if (thread) {
        this.#busy.delete(thread);
        if (this.#isClosed || thread.isDead) await thread.terminate();
        else this.#idle.push(thread);
      }
      this.#startWaiting();
    }
  }
}

function closedError(cause: unknown): Error {
  return abortError(AbortSignal.abort(cause ?? new Error("the blesser was closed")));
}

/** Fails a call. Aborting a sink twice is harmless. */
async function giveUp({ handed, reject }: Job, reason: unknown): Promise<void> {
  await Promise.allSettled(handed.sinks.map(async (sink) => await sink.abort()));
  reject(reason);
}

/** A memory budget that admits calls in the order in which they ask. */
export class MemoryBudget {
  readonly #totalBytes: number;
  readonly #waiting: { readonly bytes: number; readonly admit: () => void }[] = [];
  #usedBytes = 0;

  constructor(totalBytes: number) {
    this.#totalBytes = totalBytes;
  }

  /** Calls `admit` once there is room. @returns a function that releases the bytes, or leaves the queue */
  take(bytes: number, admit: () => void): () => void {
    // A call that could never fit runs alone.
    const entry = { bytes: Math.min(bytes, this.#totalBytes), admit };
    this.#waiting.push(entry);
    this.#admitWaiting();
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      const at = this.#waiting.indexOf(entry);
      if (at < 0) this.#usedBytes -= entry.bytes;
      else this.#waiting.splice(at, 1);
      this.#admitWaiting();
    };
  }

  #admitWaiting(): void {
    for (let next = this.#waiting[0]; next; next = this.#waiting[0]) {
      if (this.#usedBytes + next.bytes > this.#totalBytes) return;
      this.#waiting.shift();
      this.#usedBytes += next.bytes;
      next.admit();
    }
  }
}

/** How long a thread may take to end its call before it is terminated. */
const GRACE_MILLISECONDS = 5000;

/** The calling thread's end of a blessing thread. */
class BlessThread {
  readonly #thread: Thread<ToBlessThread, FromBlessThread>;
  readonly #budget: MemoryBudget;
  readonly #tasks = new Map<number, ProgressTask>();
  #job: Job | undefined;
  #ended: PromiseWithResolvers<EndOfCall> | undefined;
  #release: (() => void) | undefined;
  /** Serialises the calls to sinks. */
  #sinkWork: Promise<void> = Promise.resolve();
  /** Why this thread can no longer bless. */
  #deathReason: Error | undefined;
  #stopReason: Error | undefined;

  constructor({ workerUrl }: ThreadOptions, budget: MemoryBudget) {
    this.#budget = budget;
    this.#thread = new Thread({
      role: "blessing",
      setup: undefined,
      purpose: "blesses images",
      workerUrl,
      receive: (message) => this.#receive(message),
      die: (reason) => {
        this.#deathReason ??= reason instanceof Error ? reason : new Error(String(reason));
        this.#ended?.reject(reason);
      },
    });
  }

  get isDead(): boolean {
    return this.#deathReason !== undefined;
  }

  async run(job: Job, jobs: number): Promise<BlessReport | LayeredReport> {
    invariant(this.#job === undefined, "a thread blesses one image at a time");
    if (this.#deathReason) throw this.#deathReason;
    const { signal, warnings, progress } = job.options;
    this.#job = job;
    this.#ended = Promise.withResolvers();
    this.#thread.ref();
    const onAbort = () => this.#abort(signal!.reason);
    try {
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#thread.post({
        type: "call",
        mode: job.mode,
        options: job.handed.plain,
        strict: warnings?.strict ?? false,
        showsProgress: progress !== undefined,
        jobs,
      });
      const { report, error, warnings: found } = await this.#ended.promise;
      warnings?.include(found);
      if (report !== undefined) return report;
      throw signal?.aborted ? abortError(signal) : rebuiltError(error!);
    } finally {
      signal?.removeEventListener("abort", onAbort);
      this.#end();
    }
  }

  /** Aborts the running call, waits for it to end, and ends the thread. */
  async stop(reason: Error): Promise<void> {
    this.#stopReason = closedError(reason);
    this.#abort(reason);
    const ended = this.#ended;
    const timer = setTimeout(() => ended?.reject(this.#stopReason), GRACE_MILLISECONDS);
    await ended?.promise.catch(() => {});
    clearTimeout(timer);
    await this.terminate();
  }

  async terminate(): Promise<void> {
    this.#deathReason ??= new Error("the blesser was closed");
    await this.#thread.terminate();
  }

  #abort(reason: unknown): void {
    this.#thread.post({ type: "abort", reason: plainError(closedError(reason)) });
  }

  #end(): void {
    for (const task of this.#tasks.values()) task.end();
    this.#tasks.clear();
    this.#release?.();
    this.#release = this.#ended = this.#job = undefined;
    this.#thread.unref();
  }

  #receive(message: FromBlessThread): void {
    switch (message.type) {
      case "over":
        return this.#ended?.resolve(message);
      case "admission":
        this.#release = this.#budget.take(message.bytes, () => {
          this.#thread.post({ type: "admitted" });
        });
        return;
      case "sink":
        this.#sinkWork = this.#sinkWork.then(this.#operate.bind(this, this.#job, message));
        return;
      case "callback":
        this.#job?.handed.callbacks[message.index]?.(...message.args);
        return;
      case "begin": {
        const task = this.#job?.options.progress?.begin(message.name, message.totalBytes);
        if (task) this.#tasks.set(message.task, task);
        return;
      }
      case "advance":
        return this.#tasks.get(message.task)?.advance(message.bytes);
      case "end":
        this.#tasks.get(message.task)?.end();
        this.#tasks.delete(message.task);
    }
  }

  async #operate(
    job: Job | undefined,
    { id, index, operation }: FromBlessThread & { readonly type: "sink" },
  ): Promise<void> {
    const sink = job?.handed.sinks[index];
    let error: unknown;
    try {
      if (operation.kind !== "abort") {
        // The thread sent this before it learned of the abort.
        throwIfAborted(job?.options.signal);
        if (this.#stopReason) throw this.#stopReason;
      }
      if (sink !== undefined) await applyTo(sink, operation);
    } catch (thrown) {
      error = thrown;
    }
    if (this.isDead) return;
    const buffer = operation.kind === "write" ? operation.buffer : undefined;
    this.#thread.post(
      { type: "answer", id, error: error === undefined ? undefined : plainError(error), buffer },
      buffer === undefined ? [] : [buffer],
    );
  }
}

async function applyTo(sink: ImageSink, operation: SinkOperation): Promise<void> {
  switch (operation.kind) {
    case "write":
      await sink.write(
        new Uint8Array(operation.buffer, 0, operation.lengthBytes),
        operation.offset,
      );
      return;
    case "finish":
      return await sink.finish(operation.sizeBytes);
    case "abort":
      return await sink.abort();
  }
}
