/**
 * An image as a sparse file. It grows beside its final name and gets that name only when it is whole, so that nobody
 * ever sees half of it; whatever goes wrong, the part is removed.
 *
 * @module
 */
import { basename, dirname, join } from "node:path";
import { Buffer } from "node:buffer";
import process from "node:process";
import { setImmediate } from "node:timers";
import { InterruptedError, invariant, throwIfAborted } from "../errors.ts";
import type { FileOperations } from "./file_operations.ts";
import { NODE_FILE_OPERATIONS } from "./file_operations.ts";
import type { OutputOptions } from "./output_path.ts";
import { checkOutput, outputExistsError } from "./output_path.ts";
import type { ImageSink } from "./sink.ts";
import { displayPath, ioErrorFrom, systemErrorFacts } from "./system_error.ts";
import { WriteGatherer } from "./write_gatherer.ts";

/** After so many bytes the sink lets the event loop turn, so that a signal is served while a large image is written. */
const YIELD_BYTES = 8 << 20;
const MAX_NAME_BYTES = 255;
const MAX_NAME_TRIES = 100;

let temporaryCount = 0;

/** How a file is made. */
export interface FileSinkOptions extends OutputOptions {
  /** When it is aborted, the part is removed at once, before anything else runs. */
  readonly signal?: AbortSignal;
  /** Another file system, for tests. */
  readonly files?: FileOperations;
}

/**
 * A sink that makes the regular file `path`. The name is checked now, nothing is created before the first write.
 * The part is called `<path>.part-<pid>-<n>`. Without `force` the name is taken with link(2), which never replaces a
 * file that came in between; where the file system has no links, it is looked at once more and then renamed.
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
  readonly #signal: AbortSignal | undefined;
  readonly #files: FileOperations;
  readonly #gatherer = new WriteGatherer((bytes, offset) => this.#writeAll(bytes, offset));
  readonly #onAbort = () => this.abort();
  #state: State = "unopened";
  #descriptor: number | undefined;
  #partPath: string | undefined;
  #sinceYieldBytes = 0;

  constructor(path: string, finalPath: string, options: FileSinkOptions) {
    this.#path = path;
    this.#finalPath = finalPath;
    this.#force = options.force ?? false;
    this.#signal = options.signal;
    this.#files = options.files ?? NODE_FILE_OPERATIONS;
    this.#signal?.addEventListener("abort", this.#onAbort);
  }

  write(bytes: Uint8Array, offset: number): void | Promise<void> {
    throwIfAborted(this.#signal);
    this.#guard(undefined, () => {
      this.#openOnce();
      this.#gatherer.write(bytes, offset);
    });
    if (this.#sinceYieldBytes < YIELD_BYTES) return;
    this.#sinceYieldBytes = 0;
    return new Promise((resolve) => setImmediate(resolve));
  }

  async finish(sizeBytes: number): Promise<void> {
    throwIfAborted(this.#signal);
    const descriptor = this.#guard(undefined, () => {
      const opened = this.#openOnce();
      this.#gatherer.flush();
      return opened;
    });
    invariant(
      sizeBytes >= this.#gatherer.endOffset,
      `image ends at ${sizeBytes}, before what was written`,
    );
    this.#guard(
      `cannot be made ${sizeBytes} bytes long`,
      () => this.#files.truncate(descriptor, sizeBytes),
    );
    await this.#syncAndClose(descriptor);
    this.#publish();
  }

  abort(): void {
    if (this.#state === "finished" || this.#state === "dropped") return;
    // While an fsync is under way its descriptor must stay open; #syncAndClose closes it then.
    if (this.#state === "open") this.#closeQuietly();
    this.#end("dropped");
    this.#removePart();
  }

  #openOnce(): number {
    if (this.#descriptor !== undefined) return this.#descriptor;
    invariant(this.#state === "unopened", `write to a file that is ${this.#state}`);
    for (let tries = 1;; tries++) {
      const partPath = partPathOf(this.#finalPath);
      try {
        this.#descriptor = this.#files.openExclusive(partPath);
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

  #writeAll(bytes: Uint8Array, offset: number): void {
    const descriptor = this.#descriptor;
    invariant(descriptor !== undefined, "write to a file that is not open");
    let done = 0;
    while (done < bytes.length) {
      const at = offset + done;
      let count: number;
      try {
        count = this.#files.write(descriptor, bytes.subarray(done), at);
        if (count <= 0) throw new Error("nothing was written");
      } catch (cause) {
        throw ioErrorFrom(
          this.#path,
          `cannot write ${bytes.length - done} bytes at offset ${at}`,
          cause,
        );
      }
      done += count;
    }
    this.#sinceYieldBytes += done;
  }

  async #syncAndClose(descriptor: number): Promise<void> {
    this.#state = "publishing";
    let failure: unknown;
    try {
      await this.#files.sync(descriptor);
    } catch (cause) {
      failure = cause;
    }
    this.#descriptor = undefined;
    try {
      this.#files.close(descriptor);
    } catch (cause) {
      failure ??= cause;
    }
    // abort() may have come while fsync ran.
    if (this.#wasDropped()) throw new InterruptedError("interrupted", "the work was told to stop");
    if (failure !== undefined) {
      this.abort();
      throw ioErrorFrom(this.#path, "cannot be brought to the disk", failure);
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
      this.abort();
      throw systemErrorFacts(cause) === undefined ? cause : ioErrorFrom(this.#path, doing, cause);
    }
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

function partPathOf(finalPath: string): string {
  const name = basename(finalPath);
  const suffix = `.part-${process.pid}-${++temporaryCount}`;
  const fits = Buffer.byteLength(name) + suffix.length <= MAX_NAME_BYTES;
  return join(dirname(finalPath), (fits ? name : "image") + suffix);
}
