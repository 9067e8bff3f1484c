/**
 * Writes ascending bytes to an open descriptor: gathered to large pieces, side by side with what makes the next ones, and
 * brought to the disk as it goes. Under the sinks of files and of block devices.
 *
 * @module
 */
import { closeSync, fsync, write, writeSync } from "node:fs";
import { setImmediate } from "node:timers";
import { InterruptedError, type IoError } from "../errors.ts";
import { WriteGatherer } from "./sink.ts";
import { ioErrorFrom } from "./system_error.ts";

/** What a writer does with its descriptor. Every call throws the runtime's own error. */
export interface WriterOperations {
  /** Writes at a position; returns the bytes written, which may be fewer than given. */
  write(descriptor: number, bytes: Uint8Array, position: number): number;
  /** The same without blocking the thread. The bytes stay as they are until it is done. */
  writeBehind(descriptor: number, bytes: Uint8Array, position: number): Promise<number>;
  /** Does not block the thread, so that signals are served meanwhile. */
  sync(descriptor: number): Promise<void>;
  /** Some file systems tell of failed writes only here. */
  close(descriptor: number): void;
}

/** Those of this machine. */
export const NODE_WRITER_OPERATIONS: WriterOperations = {
  write: (descriptor, bytes, position) => writeSync(descriptor, bytes, 0, bytes.length, position),
  writeBehind: (descriptor, bytes, position) =>
    new Promise((resolve, reject) =>
      write(
        descriptor,
        bytes,
        0,
        bytes.length,
        position,
        (error, count) => error ? reject(error) : resolve(count),
      )
    ),
  sync: (descriptor) =>
    new Promise((resolve, reject) =>
      fsync(descriptor, (error) => error ? reject(error) : resolve())
    ),
  close: closeSync,
};

/** After so many bytes the sink lets the event loop turn, so that a signal is served while a large image is written. */
const YIELD_BYTES = 8 << 20;
/** Handing a smaller write to another thread takes longer than the write. */
const WRITE_BEHIND_BYTES = 512 << 10;
/** After so many bytes the disk begins its part of the work, so that little is left to wait for in the end. */
const SYNC_BYTES = 64 << 20;

/** Writes to one descriptor, which it owns. A call that fails throws an IoError with path and offset. */
export class DescriptorWriter {
  readonly #path: string;
  readonly #descriptor: number;
  readonly #files: WriterOperations;
  readonly #gatherer = new WriteGatherer((bytes, offset) => this.#writeAll(bytes, offset));
  #isDropped = false;
  #isClosed = false;
  #tellClosed = () => {};
  readonly #closed = new Promise<void>((resolve) => this.#tellClosed = resolve);
  #sinceYieldBytes = 0;
  #sinceSyncBytes = 0;
  /** Calls that are under way and need the descriptor open. */
  #pendingCalls = 0;
  /** A sync of what was written so far; its failure is reported at the end, because the system reports it only once. */
  #earlySync: Promise<void> | undefined;

  /** @param path for errors */
  constructor(path: string, descriptor: number, files: WriterOperations) {
    this.#path = path;
    this.#descriptor = descriptor;
    this.#files = files;
  }

  /** The offset after the last byte that was written. */
  get endOffset(): number {
    return this.#gatherer.endOffset;
  }

  /** Writes bytes, which may be used again once it is done. */
  write(bytes: Uint8Array, offset: number): void | Promise<void> {
    const written = this.#gatherer.write(bytes, offset);
    if (written !== undefined) return this.#settle(written);
    if (this.#sinceYieldBytes >= YIELD_BYTES) return this.#yield();
  }

  /** Writes what is held back. */
  async flush(): Promise<void> {
    await this.#gatherer.flush();
    this.checkLive();
  }

  /** Brings all that was flushed to the disk. Failures are those of the operating system. */
  async sync(): Promise<void> {
    await this.#earlySync;
    this.checkLive();
    await this.#calling(() => this.#files.sync(this.#descriptor));
    // drop() may have come meanwhile, and the descriptor may be closed.
    this.checkLive();
  }

  /** Writes out of order, what lies before or behind everything else. */
  async writeApart(bytes: Uint8Array, offset: number): Promise<void> {
    await this.#writeBehind(bytes, offset);
  }

  /** Throws what the system says. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      this.#files.close(this.#descriptor);
    } finally {
      this.#tellClosed();
    }
  }

  /** Gives up; when it resolves, no call needs the descriptor any more and it is closed. */
  drop(): Promise<void> {
    this.#isDropped = true;
    if (this.#pendingCalls === 0) this.#closeQuietly();
    return this.#isClosed ? Promise.resolve() : this.#closed;
  }

  /** @throws {InterruptedError} once it was dropped */
  checkLive(): void {
    if (this.#isDropped) throw new InterruptedError("interrupted", "the work was stopped");
  }

  async #settle(written: Promise<void>): Promise<void> {
    await written;
    this.checkLive();
    if (this.#sinceYieldBytes >= YIELD_BYTES) await this.#yield();
  }

  #yield(): Promise<void> {
    this.#sinceYieldBytes = 0;
    return new Promise((resolve) => setImmediate(resolve));
  }

  #writeAll(bytes: Uint8Array, offset: number): void | Promise<void> {
    this.checkLive();
    this.#sinceYieldBytes += bytes.length;
    this.#sinceSyncBytes += bytes.length;
    const doneBytes = bytes.length < WRITE_BEHIND_BYTES ? this.#writeNow(bytes, offset) : 0;
    if (doneBytes === bytes.length) return;
    return this.#writeBehind(bytes.subarray(doneBytes), offset + doneBytes);
  }

  /** One call, which nearly always writes everything. */
  #writeNow(bytes: Uint8Array, offset: number): number {
    try {
      return checkProgress(this.#files.write(this.#descriptor, bytes, offset));
    } catch (cause) {
      throw this.#writeError(bytes, offset, cause);
    }
  }

  async #writeBehind(bytes: Uint8Array, offset: number): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const [rest, at] = [bytes.subarray(done), offset + done];
      try {
        const write = () => this.#files.writeBehind(this.#descriptor, rest, at);
        done += checkProgress(await this.#calling(write));
      } catch (cause) {
        throw this.#writeError(rest, at, cause);
      }
      this.checkLive();
    }
    if (this.#sinceSyncBytes < SYNC_BYTES || this.#earlySync !== undefined) return;
    this.#sinceSyncBytes = 0;
    this.#syncEarly();
  }

  #writeError(bytes: Uint8Array, offset: number, cause: unknown): IoError {
    const doing = `cannot write ${bytes.length} bytes at offset ${offset}`;
    return ioErrorFrom(this.#path, doing, cause);
  }

  #syncEarly(): void {
    const sync = this.#calling(() => this.#files.sync(this.#descriptor));
    this.#earlySync = sync;
    // Kept when it fails.
    sync.then(() => this.#earlySync = undefined, () => {});
  }

  /** Runs a call that needs the descriptor open until it is done. */
  async #calling<T>(call: () => Promise<T>): Promise<T> {
    this.#pendingCalls++;
    try {
      return await call();
    } finally {
      this.#pendingCalls--;
      if (this.#pendingCalls === 0 && this.#isDropped) this.#closeQuietly();
    }
  }

  #closeQuietly(): void {
    try {
      this.close();
    } catch {
      // What was written is thrown away: what close has to say about it does not matter.
    }
  }
}

function checkProgress(count: number): number {
  if (count <= 0) throw new Error("nothing was written");
  return count;
}
