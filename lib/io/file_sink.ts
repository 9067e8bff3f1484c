/**
 * An image as a sparse file. It grows beside its final name and gets that name only when it is whole, so that nobody
 * ever sees half of it; on any failure the part is removed.
 *
 * Files and block devices share the writer of ascending bytes to a descriptor: gathered to large pieces, side by side with
 * what makes the next ones, and brought to the disk as it goes.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import {
  closeSync,
  fchmodSync,
  fchownSync,
  fsync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  openSync,
  renameSync,
  type Stats,
  unlinkSync,
  write,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { setImmediate } from "node:timers";
import { InterruptedError, invariant, type IoError, throwIfAborted } from "../errors.ts";
import { checkOutput, outputExistsError, type OutputOptions, statIfThere } from "./paths.ts";
import { type ImageSink, WriteGatherer } from "./sink.ts";
import { displayPath, ioErrorFrom, systemErrorFacts } from "./system_error.ts";

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

/** A write that takes nothing would be tried for ever. */
export function checkProgress(count: number): number {
  if (count <= 0) throw new Error("nothing was written");
  return count;
}

/** What an output does to the file system. Every call throws the runtime's own error. */
export interface FileOperations extends WriterOperations {
  /** Creates a file for writing, with mode 666 unless one is given; fails when the name is taken (O_EXCL). */
  openExclusive(path: string, mode?: number): number;
  /** Gives the file the mode and the owner of another one, as far as this process may. */
  takeAttributes(descriptor: number, from: Stats): void;
  /** Gives the file its size; what lies beyond the last write is a hole. */
  truncate(descriptor: number, sizeBytes: number): void;
  /** Fails when `to` exists, which `rename` does not. */
  link(from: string, to: string): void;
  /** Replaces `to` when it exists. */
  rename(from: string, to: string): void;
  /** Removes a name. */
  unlink(path: string): void;
  /** Brings the names in a directory to the disk. */
  syncDirectory(path: string): void;
}

/** The file system of this machine. */
export const NODE_FILE_OPERATIONS: FileOperations = {
  ...NODE_WRITER_OPERATIONS,
  openExclusive: (path, mode) => openSync(path, "wx", mode),
  takeAttributes(descriptor, { mode, uid, gid }) {
    let isOwned = true;
    try {
      fchownSync(descriptor, uid, gid);
    } catch (error) {
      // Only root gives files away. What others put there stays theirs, and runs with nobody else's rights.
      if (systemErrorFacts(error)?.code !== "EPERM") throw error;
      isOwned = false;
    }
    fchmodSync(descriptor, mode & (isOwned ? 0o7777 : 0o777));
  },
  truncate: ftruncateSync,
  link: linkSync,
  rename: renameSync,
  unlink: unlinkSync,
  syncDirectory(path) {
    const descriptor = openSync(path, "r");
    try {
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
  },
};

const MAX_NAME_BYTES = 255;
const MAX_NAME_TRIES = 100;

let temporaryCount = 0;

/** How a file is made. */
export interface FileSinkOptions extends OutputOptions {
  /**
   * When it is aborted, the part is removed at once, before anything else runs; by a thread of a blesser, before the call
   * fails.
   */
  readonly signal?: AbortSignal | undefined;
  /** Of the new file, less what the umask takes away; 666 when left out. One that is replaced gives its own. */
  readonly mode?: number | undefined;
  /** Another file system, for tests. */
  readonly files?: FileOperations | undefined;
}

/**
 * A sink that makes the regular file `path`. The name is checked now, nothing is created before the first write.
 * The part is called `<path>.part-<pid>-<n>`. Without `force` the name is taken with link(2), which never replaces a
 * file that came in between; where the file system has no links, it is looked at once more and then renamed. With
 * `force`, the new file has the mode and the owner of the one that it replaces.
 *
 * @throws UsageError, IoError as {@linkcode checkOutput}; later, IoError with the path and offset of what failed
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { mkdtempSync, readFileSync, rmSync } from "node:fs";
 * import { tmpdir } from "node:os";
 * import { join } from "node:path";
 * import { createFileSink } from "./file_sink.ts";
 *
 * const directory = mkdtempSync(join(tmpdir(), "sink-"));
 * const sink = createFileSink(join(directory, "image"));
 * await sink.write(Uint8Array.of(1, 2), 0);
 * await sink.write(Uint8Array.of(3), 4);
 * await sink.finish(6);
 * assertEquals([...readFileSync(join(directory, "image"))], [1, 2, 0, 0, 3, 0]);
 * rmSync(directory, { recursive: true });
 * ```
 */
export function createFileSink(path: string, options: FileSinkOptions = {}): ImageSink {
  const sink = new FileSink(path, checkOutput(path, options), options);
  if (options.files === undefined) {
    const { force, mode, signal } = options;
    plainFileSinks.set(sink, { path, force, mode, signal });
  }
  return sink;
}

/** Sinks that another thread can make as well, while nothing was written. */
const plainFileSinks = new WeakMap<ImageSink, FileSinkFacts>();

/** What a sink of a file is made from. */
export interface FileSinkFacts extends Pick<FileSinkOptions, "force" | "mode" | "signal"> {
  /** The file. */
  readonly path: string;
}

/** What a sink was made from, if it is that of a file. */
export function fileSinkFacts(sink: ImageSink): FileSinkFacts | undefined {
  return plainFileSinks.get(sink);
}

type State = "unopened" | "open" | "publishing" | "finished" | "dropped";

class FileSink implements ImageSink {
  readonly #path: string;
  readonly #finalPath: string;
  readonly #force: boolean;
  readonly #mode: number | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #files: FileOperations;
  readonly #onAbort = () => this.abort();
  #state: State = "unopened";
  #writer: DescriptorWriter | undefined;
  #descriptor: number | undefined;
  #partPath: string | undefined;

  constructor(path: string, finalPath: string, options: FileSinkOptions) {
    this.#path = path;
    this.#finalPath = finalPath;
    this.#force = options.force ?? false;
    this.#mode = options.mode;
    this.#signal = options.signal;
    this.#files = options.files ?? NODE_FILE_OPERATIONS;
    this.#signal?.addEventListener("abort", this.#onAbort);
  }

  write(bytes: Uint8Array, offset: number): void | Promise<void> {
    throwIfAborted(this.#signal);
    const written = this.#guard(undefined, () => this.#openOnce().write(bytes, offset));
    if (written !== undefined) return this.#settle(written);
  }

  async writeAgain(bytes: Uint8Array, offset: number): Promise<void> {
    throwIfAborted(this.#signal);
    const writer = this.#guard(undefined, () => this.#openOnce());
    await this.#settle(writer.flush());
    invariant(offset + bytes.length <= writer.endOffset, "only what was written is replaced");
    await this.#settle(writer.writeApart(bytes, offset));
  }

  async finish(sizeBytes: number): Promise<void> {
    throwIfAborted(this.#signal);
    const writer = this.#guard(undefined, () => this.#openOnce());
    const descriptor = this.#descriptor!;
    await this.#settle(writer.flush());
    invariant(
      sizeBytes >= writer.endOffset,
      `image ends at ${sizeBytes}, before what was written`,
    );
    this.#guard(
      `cannot be made ${sizeBytes} bytes long`,
      () => this.#files.truncate(descriptor, sizeBytes),
    );
    const replaced = this.#replaced();
    if (replaced !== undefined) {
      this.#guard(
        "cannot be given the mode and the owner of the file that it replaces",
        () => this.#files.takeAttributes(descriptor, replaced),
      );
    }
    await this.#syncAndClose(writer);
    this.#publish();
  }

  abort(): void {
    if (this.#state === "finished" || this.#state === "dropped") return;
    this.#end("dropped");
    void this.#writer?.drop();
    this.#removePart();
  }

  /** The file that is there now. */
  #replaced(): Stats | undefined {
    return this.#force ? statIfThere(this.#finalPath) : undefined;
  }

  async #settle(written: Promise<void>): Promise<void> {
    try {
      await written;
    } catch (cause) {
      throw this.#failed(undefined, cause);
    }
  }

  #openOnce(): DescriptorWriter {
    if (this.#writer !== undefined) {
      this.#writer.checkLive();
      return this.#writer;
    }
    invariant(this.#state === "unopened", `write to a file that is ${this.#state}`);
    for (let tries = 1;; tries++) {
      const partPath = partPathOf(this.#finalPath);
      try {
        // From the beginning, nobody can read it who could not read the file that it replaces.
        const mode = this.#replaced()?.mode ?? this.#mode;
        this.#descriptor = this.#files.openExclusive(
          partPath,
          mode === undefined ? mode : mode & 0o777,
        );
        this.#writer = new DescriptorWriter(this.#path, this.#descriptor, this.#files);
        this.#partPath = partPath;
        this.#state = "open";
        return this.#writer;
      } catch (cause) {
        const taken = systemErrorFacts(cause)?.code === "EEXIST";
        if (!taken || tries === MAX_NAME_TRIES) {
          throw ioErrorFrom(this.#path, "cannot be created", cause);
        }
      }
    }
  }

  async #syncAndClose(writer: DescriptorWriter): Promise<void> {
    this.#state = "publishing";
    let failure: unknown;
    try {
      await writer.sync();
    } catch (cause) {
      failure = cause;
    }
    // abort() may have come meanwhile.
    writer.checkLive();
    try {
      writer.close();
    } catch (cause) {
      failure ??= cause;
    }
    if (failure !== undefined) {
      this.abort();
      throw ioErrorFrom(this.#path, "cannot be flushed to the disk", failure);
    }
  }

  #publish(): void {
    const partPath = this.#partPath;
    invariant(partPath !== undefined, "nothing to publish");
    this.#guard("cannot be given its name", () => {
      if (this.#force || !this.#publishByLink(partPath)) {
        this.#files.rename(partPath, this.#finalPath);
      }
    });
    this.#end("finished");
    try {
      this.#files.syncDirectory(dirname(this.#finalPath));
    } catch {
      // Some file systems cannot sync a directory; the file itself is safe and has its name.
    }
  }

  /** Takes the final name without replacing anything; false where rename has to do it. */
  #publishByLink(partPath: string): boolean {
    try {
      this.#files.link(partPath, this.#finalPath);
    } catch (cause) {
      if (systemErrorFacts(cause)?.code === "EEXIST") {
        throw outputExistsError(displayPath(this.#path));
      }
      checkOutput(this.#finalPath);
      return false;
    }
    this.#files.unlink(partPath);
    return true;
  }

  /** Runs one step; when it fails, the part is removed before the error goes on. */
  #guard<T>(doing: string | undefined, step: () => T): T {
    try {
      return step();
    } catch (cause) {
      throw this.#failed(doing, cause);
    }
  }

  /** Removes the part; returns the error to throw. */
  #failed(doing: string | undefined, cause: unknown): unknown {
    this.abort();
    return systemErrorFacts(cause) === undefined ? cause : ioErrorFrom(this.#path, doing, cause);
  }

  #end(state: State): void {
    this.#state = state;
    this.#signal?.removeEventListener("abort", this.#onAbort);
  }

  #removePart(): void {
    if (this.#partPath === undefined) return;
    try {
      this.#files.unlink(this.#partPath);
    } catch {
      // Somebody else removed it, or the directory has become read-only: the first error is the one to tell.
    }
  }
}

function partPathOf(finalPath: string): string {
  const name = basename(finalPath);
  const suffix = `.part-${process.pid}-${++temporaryCount}`;
  const fits = Buffer.byteLength(name) + suffix.length <= MAX_NAME_BYTES;
  return join(dirname(finalPath), (fits ? name : "image") + suffix);
}
