/**
 * Temporary files for inflated layers. A spool's name is removed as soon as it is created, so that no failure or signal can
 * leave it behind; it exists as long as a descriptor is open. Other threads open it through `/dev/fd`.
 *
 * @module
 */
import { closeSync, openSync, unlinkSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pid } from "node:process";
import { invariant, IoError } from "../errors.ts";
import { partAt, type RandomReader, type ReaderParts, SharedDescriptor } from "./random_reader.ts";

const BUFFER_BYTES = 1 << 20;
const SPOOL_NAME_TRIES = 10_000;
let nameCounter = 0;

/**
 * Creates an empty file in `directory` with mode 0600, removes its name and returns its descriptor, open for reading and
 * writing.
 *
 * @throws {IoError} if the directory is missing, full or not writable
 */
export function createUnlinkedFile(directory: string = tmpdir()): number {
  for (let tries = 0; tries < SPOOL_NAME_TRIES; tries++) {
    const path = join(directory, `blessfs-${pid}-${nameCounter++}.spool`);
    let descriptor: number;
    try {
      // O_CREAT | O_EXCL never follows a link and never opens an existing file.
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
  throw new IoError(directory, `no free name for a temporary file after ${SPOOL_NAME_TRIES} tries`);
}

/**
 * Reopens a descriptor of this process, so that a thread has its own. Deno keeps descriptors per thread, and in every
 * runtime a stopped thread may lose the ones it opened.
 *
 * @returns undefined if the system has no `/dev/fd` or does not allow it
 */
export function reopenDescriptor(descriptor: number, flags: "r" | "r+"): number | undefined {
  try {
    return openSync(`/dev/fd/${descriptor}`, flags);
  } catch {
    return undefined;
  }
}

/** Where to write a spool: plain data that can be posted to another thread. */
export interface SpoolTarget {
  /** One for each part in order, open for writing. */
  readonly descriptors: readonly number[];
  /** The length of each part except the last, which takes the rest. */
  readonly partBytes: number;
  /** The directory of the parts, for errors. */
  readonly directory: string;
}

/** The target for a single file. */
export function singleFile(descriptor: number, directory: string): SpoolTarget {
  return { descriptors: [descriptor], partBytes: Number.MAX_SAFE_INTEGER, directory };
}

/** Appends to a spool in writes of about 1 MiB. It does not own the descriptors. */
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

  /** @throws {IoError} if the disk is full or fails */
  append(bytes: Uint8Array): void {
    // Large pieces are written directly: copying them first would only cost time.
    if (bytes.length >= BUFFER_BYTES / 4) {
      this.flush();
      return this.#writeOut(bytes);
    }
    this.#buffer ??= new Uint8Array(BUFFER_BYTES);
    for (let at = 0; at < bytes.length;) {
      const count = Math.min(bytes.length - at, BUFFER_BYTES - this.#buffered);
      this.#buffer.set(bytes.subarray(at, at + count), this.#buffered);
      this.#buffered += count;
      at += count;
      if (this.#buffered === BUFFER_BYTES) this.flush();
    }
  }

  /** Writes out everything buffered. */
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

/** How a spool is divided. */
export interface SpoolParts {
  readonly partCount: number;
  /** The length of each part except the last, which takes the rest. */
  readonly partBytes: number;
}

/** A reference-counted spool. The creator holds the first reference. */
export class PartedSpool {
  readonly #parts: readonly SharedDescriptor[];
  readonly #partBytes: number;
  readonly #directory: string;

  /**
   * Creates the parts, initially empty.
   *
   * @param directory where the unnamed parts are stored
   * @throws {IoError} if the directory is missing, full or not writable
   */
  constructor(directory: string, { partCount, partBytes }: SpoolParts) {
    invariant(partCount > 0 && partBytes > 0, "a spool has a part, and the part some room");
    const parts: SharedDescriptor[] = [];
    this.#parts = parts;
    this.#partBytes = partBytes;
    this.#directory = directory;
    try {
      while (parts.length < partCount) {
        parts.push(new SharedDescriptor(createUnlinkedFile(directory)));
      }
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /** The target to write to. */
  get target(): SpoolTarget {
    return {
      descriptors: this.#parts.map(({ descriptor }) => descriptor),
      partBytes: this.#partBytes,
      directory: this.#directory,
    };
  }

  /** Adds a reference. */
  share(): PartedSpool {
    for (const part of this.#parts) part.share();
    return this;
  }

  /** Releases a reference. */
  release(): void {
    for (const part of this.#parts) part.release();
  }

  /**
   * A reader for the first `lengthBytes`, with the signature of a file's reader. It takes over one reference and releases
   * it on `close`; closing it twice is harmless. Its parts can be released earlier.
   */
  reader(name: string, offsetBytes: number, lengthBytes: number): RandomReader {
    invariant(offsetBytes === 0, "a spool is read from its start");
    const partBytes = this.#partBytes;
    const lastPart = this.#parts.length - 1;
    const readers = this.#parts.map((part, i) =>
      part.reader(name, 0, Math.max(0, i === lastPart ? lengthBytes - i * partBytes : partBytes))
    );
    const isReleased = readers.map(() => false);
    const parts: ReaderParts = {
      count: readers.length,
      partBytes,
      release: (index) => {
        readers[index]!.close();
        isReleased[index] = true;
      },
    };
    return {
      name,
      sizeBytes: lengthBytes,
      parts,
      readAt(target, position) {
        const wanted = target.subarray(0, Math.max(0, lengthBytes - position));
        for (let done = 0; done < wanted.length;) {
          const at = position + done;
          const part = partAt(parts, at);
          const inPart = at - part * partBytes;
          const end = part === lastPart
            ? wanted.length
            : Math.min(wanted.length, done + partBytes - inPart);
          // Reading ahead may reach a part that has been released.
          if (isReleased[part]) return done;
          const count = readers[part]!.readAt(wanted.subarray(done, end), inPart);
          if (count === 0) return done;
          done += count;
        }
        return wanted.length;
      },
      close: () => {
        for (const reader of readers) reader.close();
      },
    };
  }
}
