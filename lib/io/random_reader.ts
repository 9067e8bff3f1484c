/**
 * Random-access reading of payloads, archives and images, and opening of files that the user names. Missing files, and
 * files without random access, cause an InputError; refusals by the operating system cause an IoError.
 *
 * @module
 */
import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from "node:fs";
import { type ErrorDetails, InputError, invariant, IoError } from "../errors.ts";
import { displayPath, ioErrorFrom, systemErrorFacts } from "./system_error.ts";

/** Bytes that can be read at any position. */
export interface RandomReader {
  /** The total number of bytes. */
  readonly sizeBytes: number;
  /** The name to use in messages. */
  readonly name: string;
  /** Fills `target` from `position`; returns the number of bytes read, which is smaller only at the end. */
  readAt(target: Uint8Array, position: number): number;
  /** Releases the resource; the reader must not be used afterwards. */
  close(): void;
  /** The parts of the storage, if they can be released one by one. */
  readonly parts?: ReaderParts | undefined;
}

/** The parts of a reader's storage. */
export interface ReaderParts {
  /** The number of parts. */
  readonly count: number;
  /** The length of each part except the last, which contains the rest. */
  readonly partBytes: number;
  /** Releases a part, which must not be read afterwards. */
  release(index: number): void;
}

/** The index of the part that contains the byte at an offset. */
export function partAt(
  { count, partBytes }: Pick<ReaderParts, "count" | "partBytes">,
  offset: number,
): number {
  return Math.min(Math.floor(offset / partBytes), count - 1);
}

/** Fills all of `target`, or throws an InputError that names the position. */
export function readExactly(reader: RandomReader, target: Uint8Array, position: number): void {
  const count = reader.readAt(target, position);
  if (count !== target.length) {
    throw new InputError(
      reader.name,
      `ends at offset ${
        count === 0 ? Math.min(position, reader.sizeBytes) : position + count
      }: wanted ${target.length} bytes at ${position}`,
    );
  }
}

/** A reader for bytes in memory. */
export function memoryReader(bytes: Uint8Array, name = "memory"): RandomReader {
  return {
    sizeBytes: bytes.length,
    name,
    readAt(target, position) {
      const part = bytes.subarray(position, position + target.length);
      target.set(part);
      return part.length;
    },
    close() {},
  };
}

/** A reader for an open file descriptor. Closing the reader closes the descriptor. */
export function descriptorReader(
  descriptor: number,
  name: string,
  sizeBytes: number,
): RandomReader {
  let isOpen = true;
  return {
    sizeBytes,
    name,
    readAt(target, position) {
      // The number may already belong to another file.
      invariant(isOpen, "a descriptor is not read from once it is closed");
      let done = 0;
      while (done < target.length) {
        let count: number;
        try {
          count = readSync(descriptor, target, done, target.length - done, position + done);
        } catch (cause) {
          throw new IoError(
            name,
            `cannot read at offset ${position + done}: ${(cause as Error).message}`,
            { cause },
          );
        }
        if (count === 0) break;
        done += count;
      }
      return done;
    },
    close: () => {
      if (isOpen) closeSync(descriptor);
      isOpen = false;
    },
  };
}

/**
 * Opens a regular file or a block device for reading.
 *
 * @param wanted the expected kind of input, for errors
 * @throws {InputError} if nothing exists there, or it has no random access, such as a directory or a pipe
 * @throws {IoError} if it cannot be opened
 */
export function openFileReader(
  path: string,
  wanted: WantedInput = { what: "a regular file or a block device" },
): RandomReader {
  const { descriptor, sizeBytes } = openInputFile(path, wanted);
  return descriptorReader(descriptor, path, sizeBytes);
}

/** Larger than any device. */
const DEVICE_BYTES_MAX = 2 ** 60;

/** An open regular file or block device. */
export interface InputFile {
  /** The owner must close it. */
  readonly descriptor: number;
  readonly sizeBytes: number;
}

/** The expected input, for errors. */
export interface WantedInput {
  /** A description, such as `an ext4 image`. */
  readonly what: string;
  /** The hint if it is a directory. */
  readonly directoryHint?: string | undefined;
  /** The hint if it is a pipe. */
  readonly pipeHint?: string | undefined;
}

/**
 * Opens a regular file or a block device for reading.
 *
 * @throws {InputError} if nothing exists there, or it is a directory, a pipe or another kind of device
 * @throws {IoError} if it cannot be opened
 */
export function openInputFile(path: string, wanted: WantedInput): InputFile {
  let descriptor: number;
  try {
    // Without O_NONBLOCK, opening a fifo would wait for a writer.
    descriptor = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (cause) {
    throw openFault(path, wanted.what, cause);
  }
  try {
    const stats = fstatSync(descriptor);
    if (stats.isFile()) return { descriptor, sizeBytes: stats.size };
    if (stats.isBlockDevice()) return { descriptor, sizeBytes: deviceSizeBytes(descriptor) };
    throw wrongKind(path, stats, wanted);
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}

/** The error for a failed attempt to open or find an input: an InputError if it does not exist, otherwise an IoError. */
export function openFault(path: string, wanted: string, cause: unknown): Error {
  const code = systemErrorFacts(cause)?.code;
  return code === "ENOENT" || code === "ENOTDIR"
    ? missingInput(path, wanted)
    : ioErrorFrom(path, "cannot be opened", cause);
}

/** The error for a missing input. @param wanted what was expected, such as `a tar` */
export function missingInput(
  path: string,
  wanted: string,
  details: Pick<ErrorDetails, "hint"> = {},
): InputError {
  const shown = displayPath(path);
  const why = `does not exist: wanted ${wanted}`;
  return new InputError(shown, why, { ...details, code: "notFound", data: { path: shown } });
}

function wrongKind(path: string, stats: Stats, wanted: WantedInput): InputError {
  const [kind, hint] = stats.isDirectory()
    ? ["a directory", wanted.directoryHint]
    : stats.isFIFO()
    ? ["a pipe", wanted.pipeHint]
    : ["neither a regular file nor a block device", undefined];
  return new InputError(displayPath(path), `is ${kind}: wanted ${wanted.what}`, {
    code: "wrongKind",
    ...hint === undefined ? {} : { hint },
  });
}

/** A block device has no size in its inode. Find it by reading single bytes: double the offset, then bisect. */
function deviceSizeBytes(descriptor: number): number {
  const byte = new Uint8Array(1);
  const isThere = (position: number) => {
    try {
      return readSync(descriptor, byte, 0, 1, position) === 1;
    } catch {
      return false;
    }
  };
  if (!isThere(0)) return 0;
  let last = 1;
  while (last < DEVICE_BYTES_MAX && isThere(last)) last *= 2;
  // The byte at `first` exists, the one at `last` does not.
  let first = Math.floor(last / 2);
  while (last - first > 1) {
    const middle = Math.floor((first + last) / 2);
    if (isThere(middle)) first = middle;
    else last = middle;
  }
  return last;
}

const WINDOW_BYTES = 256 << 10;
/** Reads of this size gain nothing from reading ahead. */
const LARGE_READ_BYTES = WINDOW_BYTES / 4;
/** A read that starts at most this far after the previous one counts as sequential: in tars, headers lie in between. */
const MAX_STEP_BYTES = 16 << 10;
/** A window takes as long to read as about this many small reads; windows around reads are not more frequent. */
const READS_PER_WINDOW = 16;

/**
 * A reader of the same bytes that reads ahead while small reads follow each other closely, and around them when they stay
 * near one another, as in a tar whose names are not sorted. Other reads go straight to `reader`. The data read ahead is not
 * refreshed: use it for one pass over bytes that do not change.
 *
 * @param buffer holds the data read ahead; pass one to reuse it for many readers in turn
 */
export function readAhead(
  reader: RandomReader,
  buffer: Uint8Array = readAheadBuffer(),
): RandomReader {
  let startOffset = 0;
  let endOffset = 0;
  let lastOffset = -1;
  let readsSinceWindow = 0;

  function fill(position: number): void {
    startOffset = endOffset = position;
    endOffset += reader.readAt(buffer, position);
    readsSinceWindow = 0;
  }

  return {
    sizeBytes: reader.sizeBytes,
    name: reader.name,
    readAt(target, position) {
      const step = lastOffset < 0 ? -Infinity : position - lastOffset;
      const end = position + target.length;
      lastOffset = end;
      readsSinceWindow++;
      if (position < startOffset || end > endOffset) {
        if (target.length >= LARGE_READ_BYTES) return reader.readAt(target, position);
        if (step >= 0 && step <= MAX_STEP_BYTES) fill(position);
        else if (Math.abs(step) <= WINDOW_BYTES / 2 && readsSinceWindow > READS_PER_WINDOW) {
          fill(Math.max(0, position - WINDOW_BYTES / 2));
        } else return reader.readAt(target, position);
        // The window may begin in a part that is released already.
        if (endOffset <= position) return reader.readAt(target, position);
      }
      const from = position - startOffset;
      const count = Math.min(target.length, endOffset - position);
      target.set(buffer.subarray(from, from + count));
      return count;
    },
    close: () => reader.close(),
  };
}

/** A buffer for {@linkcode readAhead}. */
export function readAheadBuffer(): Uint8Array {
  return new Uint8Array(WINDOW_BYTES);
}

/** A reference-counted descriptor. The creator holds the first reference. */
export class SharedDescriptor {
  readonly #descriptor: number;
  #shares = 1;

  /**
   * Takes ownership of a descriptor.
   *
   * @param descriptor an open descriptor; it belongs to this object from now on
   */
  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  /**
   * Opens a file for reading.
   *
   * @throws {IoError} if the file cannot be opened
   */
  static openFile(path: string): SharedDescriptor {
    try {
      return new SharedDescriptor(openSync(path, "r"));
    } catch (cause) {
      throw new IoError(path, `cannot be opened: ${(cause as Error).message}`, { cause });
    }
  }

  /** The descriptor; read from it only while holding a reference. */
  get descriptor(): number {
    invariant(this.#shares > 0, "a descriptor is used after its last release");
    return this.#descriptor;
  }

  /** The file's current size. */
  get sizeBytes(): number {
    return fstatSync(this.descriptor).size;
  }

  /** Adds a reference. */
  share(): SharedDescriptor {
    invariant(this.#shares > 0, "a descriptor is shared after its last release");
    this.#shares++;
    return this;
  }

  /** Releases a reference. */
  release(): void {
    invariant(this.#shares > 0, "a descriptor is released more often than it is shared");
    this.#shares--;
    if (this.#shares === 0) closeSync(this.#descriptor);
  }

  /**
   * A reader for part of the file. It takes over one reference and releases it on `close`; closing it twice is harmless.
   */
  reader(name: string, offsetBytes: number, lengthBytes: number): RandomReader {
    const whole = descriptorReader(this.descriptor, name, offsetBytes + lengthBytes);
    let open = true;
    return {
      name,
      sizeBytes: lengthBytes,
      readAt: (target, position) => {
        // The number may already belong to another file.
        invariant(open, "a reader is not read from once it is closed");
        const available = Math.max(0, Math.min(target.length, lengthBytes - position));
        return whole.readAt(target.subarray(0, available), offsetBytes + position);
      },
      close: () => {
        if (open) this.release();
        open = false;
      },
    };
  }
}
