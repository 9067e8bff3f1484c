/**
 * An image as a sparse file. It grows beside its final name and gets that name only when it is whole, so that nobody
 * ever sees half of it; on any failure the part is removed.
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

/** What an output does to the file system. Every call throws the runtime's own error. */
export interface FileOperations {
  /** Creates a file for writing, with mode 666 unless one is given; fails when the name is taken (O_EXCL). */
  openExclusive(path: string, mode?: number): number;
  /** Writes at a position; returns the bytes written, which may be fewer than given. */
  write(descriptor: number, bytes: Uint8Array, position: number): number;
  /** The same without blocking the thread. The bytes stay as they are until it is done. */
  writeBehind(descriptor: number, bytes: Uint8Array, position: number): Promise<number>;
  /** Gives the file the mode and the owner of another one, as far as this process may. */
  takeAttributes(descriptor: number, from: Stats): void;
  /** Gives the file its size; what lies beyond the last write is a hole. */
  truncate(descriptor: number, sizeBytes: number): void;
  /** Does not block the thread, so that signals are served meanwhile. */
  sync(descriptor: number): Promise<void>;
  /** Some file systems tell of failed writes only here. */
  close(descriptor: number): void;
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
  openExclusive: (path, mode) => openSync(path, "wx", mode),
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
  sync: (descriptor) =>
    new Promise((resolve, reject) =>
      fsync(descriptor, (error) => error ? reject(error) : resolve())
    ),
  close: closeSync,
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

/** After so many bytes the sink lets the event loop turn, so that a signal is served while a large image is written. */
const YIELD_BYTES = 8 << 20;
/** Handing a smaller write to another thread takes longer than the write. */
const WRITE_BEHIND_BYTES = 64 << 10;
/** After so many bytes the disk begins its part of the work, so that little is left to wait for in the end. */
const SYNC_BYTES = 64 << 20;
const MAX_NAME_BYTES = 255;
const MAX_NAME_TRIES = 100;

let temporaryCount = 0;

/** How a file is made. */
export interface FileSinkOptions extends OutputOptions {
  /** When it is aborted, the part is removed at once, before anything else runs. */
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
  return new FileSink(path, checkOutput(path, options), options);
}

type State = "unopened" | "open" | "publishing" | "finished" | "dropped";

class FileSink implements ImageSink {
  readonly #path: string;
  readonly #finalPath: string;
  readonly #force: boolean;
  readonly #mode: number | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #files: FileOperations;
  readonly #gatherer = new WriteGatherer((bytes, offset) => this.#writeAll(bytes, offset));
  readonly #onAbort = () => this.abort();
  #state: State = "unopened";
  #descriptor: number | undefined;
  #partPath: string | undefined;
  #sinceYieldBytes = 0;
  #sinceSyncBytes = 0;
  /** Calls that are under way and need the descriptor open. */
  #pendingCalls = 0;
  /** A sync of what was written so far; its failure is reported at the end, because the system reports it only once. */
  #earlySync: Promise<void> | undefined;

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
    const written = this.#guard(undefined, () => {
      this.#openOnce();
      return this.#gatherer.write(bytes, offset);
    });
    if (written !== undefined) return this.#settle(written);
    if (this.#sinceYieldBytes >= YIELD_BYTES) return this.#yield();
  }

  async finish(sizeBytes: number): Promise<void> {
    throwIfAborted(this.#signal);
    const descriptor = this.#guard(undefined, () => this.#openOnce());
    await this.#settle(this.#gatherer.flush());
    invariant(
      sizeBytes >= this.#gatherer.endOffset,
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
    await this.#syncAndClose(descriptor);
    this.#publish();
  }

  abort(): void {
    if (this.#state === "finished" || this.#state === "dropped") return;
    this.#end("dropped");
    if (this.#pendingCalls === 0) this.#closeQuietly();
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
    this.#checkLive();
    if (this.#sinceYieldBytes >= YIELD_BYTES) await this.#yield();
  }

  #yield(): Promise<void> {
    this.#sinceYieldBytes = 0;
    return new Promise((resolve) => setImmediate(resolve));
  }

  #openOnce(): number {
    if (this.#descriptor !== undefined) return this.#descriptor;
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
        this.#partPath = partPath;
        this.#state = "open";
        return this.#descriptor;
      } catch (cause) {
        const taken = systemErrorFacts(cause)?.code === "EEXIST";
        if (!taken || tries === MAX_NAME_TRIES) {
          throw ioErrorFrom(this.#path, "cannot be created", cause);
        }
      }
    }
  }

  #writeAll(bytes: Uint8Array, offset: number): void | Promise<void> {
    this.#checkLive();
    const descriptor = this.#descriptor;
    invariant(descriptor !== undefined, "write to a file that is not open");
    this.#sinceYieldBytes += bytes.length;
    this.#sinceSyncBytes += bytes.length;
    const doneBytes = bytes.length < WRITE_BEHIND_BYTES
      ? this.#writeNow(descriptor, bytes, offset)
      : 0;
    if (doneBytes === bytes.length) return;
    return this.#writeBehind(descriptor, bytes.subarray(doneBytes), offset + doneBytes);
  }

  /** One call, which nearly always writes everything. */
  #writeNow(descriptor: number, bytes: Uint8Array, offset: number): number {
    try {
      return checkProgress(this.#files.write(descriptor, bytes, offset));
    } catch (cause) {
      throw this.#writeError(bytes, offset, cause);
    }
  }

  async #writeBehind(descriptor: number, bytes: Uint8Array, offset: number): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const [rest, at] = [bytes.subarray(done), offset + done];
      try {
        const write = () => this.#files.writeBehind(descriptor, rest, at);
        done += checkProgress(await this.#calling(write));
      } catch (cause) {
        throw this.#writeError(rest, at, cause);
      }
      this.#checkLive();
    }
    if (this.#sinceSyncBytes < SYNC_BYTES || this.#earlySync !== undefined) return;
    this.#sinceSyncBytes = 0;
    this.#syncEarly(descriptor);
  }

  #writeError(bytes: Uint8Array, offset: number, cause: unknown): IoError {
    const doing = `cannot write ${bytes.length} bytes at offset ${offset}`;
    return ioErrorFrom(this.#path, doing, cause);
  }

  #syncEarly(descriptor: number): void {
    const sync = this.#calling(() => this.#files.sync(descriptor));
    this.#earlySync = sync;
    // Kept when it fails.
    sync.then(() => this.#earlySync = undefined, () => {});
  }

  async #syncAndClose(descriptor: number): Promise<void> {
    this.#state = "publishing";
    let failure: unknown;
    try {
      await this.#earlySync;
      this.#checkLive();
      await this.#calling(() => this.#files.sync(descriptor));
    } catch (cause) {
      failure = cause;
    }
    // abort() may have come meanwhile, and the descriptor may be closed.
    this.#checkLive();
    this.#descriptor = undefined;
    try {
      this.#files.close(descriptor);
    } catch (cause) {
      failure ??= cause;
    }
    if (failure !== undefined) {
      this.abort();
      throw ioErrorFrom(this.#path, "cannot be brought to the disk", failure);
    }
  }

  /** Runs a call that needs the descriptor open until it is done. */
  async #calling<T>(call: () => Promise<T>): Promise<T> {
    this.#pendingCalls++;
    try {
      return await call();
    } finally {
      this.#pendingCalls--;
      if (this.#pendingCalls === 0 && this.#wasDropped()) this.#closeQuietly();
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

  #checkLive(): void {
    if (this.#wasDropped()) throw new InterruptedError("interrupted", "the work was told to stop");
  }

  #wasDropped(): boolean {
    return this.#state === "dropped";
  }

  #end(state: State): void {
    this.#state = state;
    this.#signal?.removeEventListener("abort", this.#onAbort);
  }

  #closeQuietly(): void {
    if (this.#descriptor === undefined) return;
    const descriptor = this.#descriptor;
    this.#descriptor = undefined;
    try {
      this.#files.close(descriptor);
    } catch {
      // The part is thrown away: what close has to say about it does not matter.
    }
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

function checkProgress(count: number): number {
  if (count <= 0) throw new Error("nothing was written");
  return count;
}

function partPathOf(finalPath: string): string {
  const name = basename(finalPath);
  const suffix = `.part-${process.pid}-${++temporaryCount}`;
  const fits = Buffer.byteLength(name) + suffix.length <= MAX_NAME_BYTES;
  return join(dirname(finalPath), (fits ? name : "image") + suffix);
}
