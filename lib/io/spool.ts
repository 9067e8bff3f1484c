/**
 * Temporary files for inflated layers. A spool loses its name the moment it is made, so that no failure and no signal
 * can leave it behind; it lives as long as a descriptor of it is open. Other threads open it through `/dev/fd`.
 *
 * @module
 */
import { closeSync, openSync, unlinkSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pid } from "node:process";
import { IoError } from "../errors.ts";
import { partAt } from "./random_reader.ts";

const BUFFER_BYTES = 1 << 20;
const MAX_NAME_TRIES = 10_000;
let nameCounter = 0;

/**
 * Creates an empty file in `directory` with mode 0600, removes its name and returns its descriptor, open for reading
 * and writing.
 *
 * @throws {IoError} when the directory is missing, full or not writable
 */
export function createUnlinkedFile(directory: string = tmpdir()): number {
  for (let tries = 0; tries < MAX_NAME_TRIES; tries++) {
    const path = join(directory, `blessfs-${pid}-${nameCounter++}.spool`);
    let descriptor: number;
    try {
      // O_CREAT | O_EXCL never follows a link and never opens what somebody else put there.
      descriptor = openSync(path, "wx+", 0o600);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === "EEXIST") continue;
      throw spoolError(directory, "a temporary file cannot be made", cause);
    }
    try {
      unlinkSync(path);
    } catch (cause) {
      closeSync(descriptor);
      throw spoolError(directory, "a temporary file cannot be unlinked", cause);
    }
    return descriptor;
  }
  throw new IoError(directory, `no free name for a temporary file after ${MAX_NAME_TRIES} tries`);
}

/**
 * Opens a descriptor of this process once more, so that a thread has its own.
 * Deno keeps descriptors by thread, and everywhere a thread that is stopped may lose those that it opened.
 *
 * @returns undefined where the system has no `/dev/fd` or does not allow it
 */
export function reopenDescriptor(descriptor: number, flags: "r" | "r+"): number | undefined {
  try {
    return openSync(`/dev/fd/${descriptor}`, flags);
  } catch {
    return undefined;
  }
}

/** Where a spool is written to: plain data, which another thread can be sent. */
export interface SpoolTarget {
  /** Of its parts in order, open for writing. */
  readonly descriptors: readonly number[];
  /** How long each part is but the last, which takes all the rest. */
  readonly partBytes: number;
  /** Where the parts lie, for errors. */
  readonly directory: string;
}

/** The target that is one file. */
export function singleFile(descriptor: number, directory: string): SpoolTarget {
  return { descriptors: [descriptor], partBytes: Number.MAX_SAFE_INTEGER, directory };
}

/**
 * Appends to a spool in writes of about 1 MiB. It does not own the descriptors.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { closeSync, fstatSync } from "node:fs";
 * import { createUnlinkedFile, singleFile, SpoolWriter } from "./spool.ts";
 * const descriptor = createUnlinkedFile();
 * const writer = new SpoolWriter(singleFile(descriptor, "/tmp"));
 * writer.append(new Uint8Array([1, 2, 3]));
 * writer.flush();
 * assertEquals(fstatSync(descriptor).size, 3);
 * closeSync(descriptor);
 * ```
 */
export class SpoolWriter {
  readonly #target: SpoolTarget;
  #buffer: Uint8Array | undefined;
  #buffered = 0;
  #position = 0;

  constructor(target: SpoolTarget) {
    this.#target = target;
  }

  /** Bytes appended so far. */
  get sizeBytes(): number {
    return this.#position + this.#buffered;
  }

  /** @throws {IoError} when the disk is full or broken */
  append(bytes: Uint8Array): void {
    // Big pieces go out as they come: copying them first would only cost time.
    if (this.#buffered === 0 && bytes.length >= BUFFER_BYTES / 2) return this.#writeOut(bytes);
    this.#buffer ??= new Uint8Array(BUFFER_BYTES);
    for (let at = 0; at < bytes.length;) {
      const count = Math.min(bytes.length - at, BUFFER_BYTES - this.#buffered);
      this.#buffer.set(bytes.subarray(at, at + count), this.#buffered);
      this.#buffered += count;
      at += count;
      if (this.#buffered === BUFFER_BYTES) this.flush();
    }
  }

  /** Writes out what is still buffered. */
  flush(): void {
    if (this.#buffer === undefined || this.#buffered === 0) return;
    const pending = this.#buffer.subarray(0, this.#buffered);
    this.#buffered = 0;
    this.#writeOut(pending);
  }

  #writeOut(bytes: Uint8Array): void {
    const { descriptors, partBytes, directory } = this.#target;
    for (let done = 0; done < bytes.length;) {
      const part = partAt({ count: descriptors.length, partBytes }, this.#position);
      const inPart = this.#position - part * partBytes;
      const room = part === descriptors.length - 1 ? Infinity : partBytes - inPart;
      const length = Math.min(bytes.length - done, room);
      try {
        const count = writeSync(descriptors[part]!, bytes, done, length, inPart);
        done += count;
        this.#position += count;
      } catch (cause) {
        throw spoolError(directory, "inflated data cannot be written", cause);
      }
    }
  }
}

function spoolError(directory: string, why: string, cause: unknown): IoError {
  const code = (cause as NodeJS.ErrnoException).code;
  const full = code === "ENOSPC" || code === "EDQUOT" || code === "EFBIG";
  const reason = full ? `no space is left (${code})` : (cause as Error).message;
  return new IoError(directory, `${why}: ${reason}`, {
    ...code === "EMFILE" ? { hint: "raise the limit on open files (`ulimit -n`)" } : {
      hint: "free some space there",
      remedies: [{ option: "tmpdir", change: "set", to: "keep it elsewhere" }],
    },
    data: { path: directory, ...(code === undefined ? {} : { code }) },
    cause,
  });
}
