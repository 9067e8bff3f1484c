/**
 * Writes an image as a sparse file. It is written under a temporary name in the same directory and renamed when complete,
 * so that a partial image is never visible under the final name; on any failure the partial file is removed.
 *
 * Files and block devices share the writer of ascending bytes to a descriptor: it gathers large pieces, writes them while
 * the next ones are produced, and syncs as it goes.
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

/** The calls a writer makes on its descriptor. Each throws the runtime's own error. */
export interface WriterOperations {
  /** Writes at a position; returns the number of bytes written, which may be fewer than given. */
  write(descriptor: number, bytes: Uint8Array, position: number): number;
  /** The same without blocking the thread. The bytes must not change until it is done. */
  writeBehind(descriptor: number, bytes: Uint8Array, position: number): Promise<number>;
  /** Does not block the thread, so that signals can be handled meanwhile. */
  sync(descriptor: number): Promise<void>;
  /** Some file systems report failed writes only here. */
  close(descriptor: number): void;
}

/** The real system calls. */
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

/** After this many bytes the sink yields to the event loop, so that signals are handled while a large image is written. */
const YIELD_BYTES = 8 << 20;
/** Passing a smaller write to another thread takes longer than the write. */
const WRITE_BEHIND_BYTES = 512 << 10;
/** After this many bytes a sync is started, so that little is left to wait for at the end. */
const SYNC_BYTES = 64 << 20;

/** Writes to a descriptor that it owns. A failed call throws an IoError with path and offset. */
export class DescriptorWriter {
  readonly #path: string;
  readonly #descriptor: number;
  readonly #files: WriterOperations;
  readonly #gatherer = new WriteGatherer((bytes, offset) => this.#writeAll(bytes, offset));
  #isDropped = false;
  #isClosed = false;
  #resolveClosed = () => {};
  readonly #closed = new Promise<void>((resolve) => this.#resolveClosed = resolve);
  #sinceYieldBytes = 0;
  #sinceSyncBytes = 0;
  /** Calls in progress that need the descriptor open. */
  #pendingCalls = 0;
  /** A sync of everything written so far; its failure is reported at the end, because the system reports it only once. */
  #earlySync: Promise<void> | undefined;

  /** @param path for errors */
  constructor(path: string, descriptor: number, files: WriterOperations) {
    this.#path = path;
    this.#descriptor = descriptor;
    this.#files = files;
  }

  /** The offset after the last byte written. */
  get endOffset(): number {
    return this.#gatherer.endOffset;
  }

  /** Writes bytes, which may be reused once it is done. */
  write(bytes: Uint8Array, offset: number): void | Promise<void> {
    const written = this.#gatherer.write(bytes, offset);
    if (written !== undefined) return this.#settle(written);
    if (this.#sinceYieldBytes >= YIELD_BYTES) return this.#yield();
  }

  /** Writes everything buffered. */
  async flush(): Promise<void> {
    await this.#gatherer.flush();
    this.checkLive();
  }

  /** Syncs everything flushed to the disk. Throws the operating system's errors. */
  async sync(): Promise<void> {
    await this.#earlySync;
    this.checkLive();
    await this.#calling(() => this.#files.sync(this.#descriptor));
    // drop() may have been called meanwhile, and the descriptor may be closed.
    this.checkLive();
  }

  /** Writes out of order, before or after everything else. */
  async writeApart(bytes: Uint8Array, offset: number): Promise<void> {
    await this.#writeBehind(bytes, offset);
  }

  /** Throws the operating system's error. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      this.#files.close(this.#descriptor);
    } finally {
      this.#resolveClosed();
    }
  }

  /** Abandons the output. When it resolves, no call needs the descriptor and it is closed. */
  drop(): Promise<void> {
    this.#isDropped = true;
    if (this.#pendingCalls === 0) this.#closeQuietly();
    return this.#isClosed ? Promise.resolve() : this.#closed;
  }

  /** @throws {InterruptedError} once it has been dropped */
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
    if (doneBytes === bytes.length) return this.#syncIfDue();
    return this.#writeBehind(bytes.subarray(doneBytes), offset + doneBytes);
  }

  /** A single call, which nearly always writes everything. */
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
    this.#syncIfDue();
  }

  #writeError(bytes: Uint8Array, offset: number, cause: unknown): IoError {
    const doing = `cannot write ${bytes.length} bytes at offset ${offset}`;
    return ioErrorFrom(this.#path, doing, cause);
  }

  #syncIfDue(): void {
    if (this.#sinceSyncBytes < SYNC_BYTES || this.#earlySync !== undefined) return;
    this.#sinceSyncBytes = 0;
    const sync = this.#calling(() => this.#files.sync(this.#descriptor));
    this.#earlySync = sync;
    // Kept if it fails.
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
      // The data is discarded, so errors from close do not matter.
    }
  }
}

/** A write that accepts no bytes would be retried forever. */
export function checkProgress(count: number): number {
  if (count <= 0) throw new Error("nothing was written");
  return count;
}

/** The calls an output makes on the file system. Each throws the runtime's own error. */
export interface FileOperations extends WriterOperations {
  /** Creates a file for writing, with mode 666 unless given; fails if the name exists (O_EXCL). */
  openExclusive(path: string, mode?: number): number;
  /** Copies mode and owner from another file, as far as this process is allowed to. */
  takeAttributes(descriptor: number, from: Stats): void;
  /** Sets the file's size; anything beyond the last write is a hole. */
  truncate(descriptor: number, sizeBytes: number): void;
  /** Fails if `to` exists, unlike `rename`. */
  link(from: string, to: string): void;
  /** Replaces `to` if it exists. */
  rename(from: string, to: string): void;
  /** Removes a name. */
  unlink(path: string): void;
  /** Syncs a directory's entries to the disk. */
  syncDirectory(path: string): void;
}

/** The real file system. */
export const NODE_FILE_OPERATIONS: FileOperations = {
  ...NODE_WRITER_OPERATIONS,
  openExclusive: (path, mode) => openSync(path, "wx", mode),
  takeAttributes(descriptor, { mode, uid, gid }) {
    let isOwned = true;
    try {
      fchownSync(descriptor, uid, gid);
    } catch (error) {
      // Only root can give files away. Otherwise the new file stays this user's, without setuid or setgid.
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

/** Options for creating a file. */
export interface FileSinkOptions extends OutputOptions {
  /**
   * When it is aborted, the partial file is removed at once, before anything else runs; if a blesser's thread writes it,
   * before the call fails.
   */
  readonly signal?: AbortSignal | undefined;
  /** The new file's mode, less the umask; default 666. A replaced file's mode is kept instead. */
  readonly mode?: number | undefined;
  /** A different file system, for tests. */
  readonly files?: FileOperations | undefined;
}

/**
 * A sink that creates the regular file `path`. The name is checked now; nothing is created before the first write. The
 * partial file is called `<path>.part-<pid>-<n>`. Without `force` the final name is created with link(2), which never
 * replaces a file that appeared meanwhile; on file systems without links, the name is checked again and the file renamed.
 * With `force`, the new file gets the mode and owner of the one it replaces.
 *
 * @throws UsageError, IoError as {@linkcode checkOutput}; later, IoError with the path and offset of the failure
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

/** Sinks that another thread could create instead, as long as nothing has been written. */
const plainFileSinks = new WeakMap<ImageSink, FileSinkFacts>();

/** The parameters of a file sink. */
export interface FileSinkFacts extends Pick<FileSinkOptions, "force" | "mode" | "signal"> {
  /** The file. */
  readonly path: string;
}

/** A sink's parameters, if it is a file sink. */
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

  /** The file to be replaced, if it exists. */
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
        // From the start, nobody can read it who could not read the file it replaces.
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
    // abort() may have been called meanwhile.
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
      // Some file systems cannot sync a directory; the file itself is synced and has its name.
    }
  }

  /** Creates the final name without replacing anything; false if rename has to do it. */
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

  /** Runs one step; if it fails, the partial file is removed before the error is thrown. */
  #guard<T>(doing: string | undefined, step: () => T): T {
    try {
      return step();
    } catch (cause) {
      throw this.#failed(doing, cause);
    }
  }

  /** Removes the partial file; returns the error to throw. */
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
      // It is already gone, or the directory has become read-only: report the first error.
    }
  }
}

function partPathOf(finalPath: string): string {
  const name = basename(finalPath);
  const suffix = `.part-${process.pid}-${++temporaryCount}`;
  const fits = Buffer.byteLength(name) + suffix.length <= MAX_NAME_BYTES;
  return join(dirname(finalPath), (fits ? name : "image") + suffix);
}
