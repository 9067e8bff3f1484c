/**
 * Reading at a position: what payloads, archives and images are read through, and how a file that a user names is
 * opened. What is missing, or of a kind that cannot be read at any position, is an InputError; what the operating system
 * refuses is an IoError.
 *
 * @module
 */
import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from "node:fs";
import { type ErrorDetails, InputError, invariant, IoError } from "../errors.ts";
import { displayPath, ioErrorFrom, systemErrorFacts } from "./system_error.ts";

/** Bytes that can be read at any position. */
export interface RandomReader {
  /** How many bytes there are. */
  readonly sizeBytes: number;
  /** What to call it in messages. */
  readonly name: string;
  /** Fills `target` from `position`; returns the bytes read, fewer only at the end. */
  readAt(target: Uint8Array, position: number): number;
  /** Gives the resource back; not to be read afterwards. */
  close(): void;
  /** The parts that it lies in, where they can be given back one by one. */
  readonly parts?: ReaderParts | undefined;
}

/** Parts of what a reader reads. */
export interface ReaderParts {
  /** How many there are. */
  readonly count: number;
  /** How long each is but the last, which is as long as the rest. */
  readonly partBytes: number;
  /** Gives a part back, which is not to be read afterwards. */
  release(index: number): void;
}

/** The part that holds the byte at an offset. */
export function partAt(
  { count, partBytes }: Pick<ReaderParts, "count" | "partBytes">,
  offset: number,
): number {
  return Math.min(Math.floor(offset / partBytes), count - 1);
}

/** Fills the whole of `target` or throws an InputError that names the position. */
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

/** A reader over bytes in memory. */
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

/** A reader over an open file descriptor. Closing the reader closes the descriptor. */
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
      // Its number may be another file's by now.
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
 * @param wanted what should be there, for errors
 * @throws {InputError} when nothing is there, or a directory, a pipe or whatever else cannot be read at any position
 * @throws {IoError} when it cannot be opened
 */
export function openFileReader(
  path: string,
  wanted: WantedInput = { what: "a regular file or a block device" },
): RandomReader {
  const { descriptor, sizeBytes } = openInputFile(path, wanted);
  return descriptorReader(descriptor, path, sizeBytes);
}

/** Further than any device goes. */
const DEVICE_BYTES_MAX = 2 ** 60;

/** An open regular file or block device. */
export interface InputFile {
  /** Whoever has it closes it. */
  readonly descriptor: number;
  readonly sizeBytes: number;
}

/** What should be there, for errors. */
export interface WantedInput {
  /** Such as `an ext4 image`. */
  readonly what: string;
  /** A remedy where there is a directory. */
  readonly directoryHint?: string | undefined;
  /** A remedy where there is a pipe. */
  readonly pipeHint?: string | undefined;
}

/**
 * Opens a regular file or a block device for reading.
 *
 * @throws {InputError} when nothing is there, or a directory, a pipe or another device
 * @throws {IoError} when it cannot be opened
 */
export function openInputFile(path: string, wanted: WantedInput): InputFile {
  let descriptor: number;
  try {
    // Without O_NONBLOCK, a fifo would wait for somebody to write to it.
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

/** The error of a call that was to open or find an input: an InputError when nothing is there, else an IoError. */
export function openFault(path: string, wanted: string, cause: unknown): Error {
  const code = systemErrorFacts(cause)?.code;
  return code === "ENOENT" || code === "ENOTDIR"
    ? missingInput(path, wanted)
    : ioErrorFrom(path, "cannot be opened", cause);
}

/** The error for an input that is not there. @param wanted what should be, such as `a tar` */
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

/** A block device has no size in its inode. It is found by reading single bytes: twice as far each time, then halving. */
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
  // The byte at `first` is there, the one at `last` is not.
  let first = Math.floor(last / 2);
  while (last - first > 1) {
    const middle = Math.floor((first + last) / 2);
    if (isThere(middle)) first = middle;
    else last = middle;
  }
  return last;
}

/** How far is read ahead. */
const WINDOW_BYTES = 256 << 10;
/** Reads of this size gain nothing. */
const LARGE_READ_BYTES = WINDOW_BYTES / 4;
/** A read that starts at most this far behind the one before is taken for the next of a row: tars have headers in between. */
const MAX_STEP_BYTES = 16 << 10;

/**
 * A reader of the same bytes that reads ahead while small reads follow each other closely. Others go straight to
 * `reader`. What it read ahead it does not look at again: use it for one pass over bytes that do not change.
 *
 * @param buffer to keep what is read ahead in, for who makes many of these one after another
 */
export function readAhead(
  reader: RandomReader,
  buffer: Uint8Array = readAheadBuffer(),
): RandomReader {
  let startOffset = 0;
  let endOffset = 0;
  /** Where the read before ended. */
  let lastOffset = -1;

  function fill(position: number): void {
    startOffset = endOffset = position;
    endOffset += reader.readAt(buffer, position);
  }

  return {
    sizeBytes: reader.sizeBytes,
    name: reader.name,
    readAt(target, position) {
      const step = lastOffset < 0 ? -1 : position - lastOffset;
      const end = position + target.length;
      lastOffset = end;
      const isInWindow = position >= startOffset && end <= endOffset;
      if (!isInWindow) {
        const follows = step >= 0 && step <= MAX_STEP_BYTES;
        if (!follows || target.length >= LARGE_READ_BYTES) return reader.readAt(target, position);
        fill(position);
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

/** A descriptor with a count of those who use it. Whoever makes it holds the first share. */
export class SharedDescriptor {
  readonly #descriptor: number;
  #shares = 1;

  /**
   * Takes a descriptor over.
   *
   * @param descriptor open; it belongs to this object from now on
   */
  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  /**
   * Opens a file for reading.
   *
   * @throws {IoError} when the file cannot be opened
   */
  static openFile(path: string): SharedDescriptor {
    try {
      return new SharedDescriptor(openSync(path, "r"));
    } catch (cause) {
      throw new IoError(path, `cannot be opened: ${(cause as Error).message}`, { cause });
    }
  }

  /** The descriptor, to read from while a share is held. */
  get descriptor(): number {
    invariant(this.#shares > 0, "a descriptor is used after its last release");
    return this.#descriptor;
  }

  /** The file's size now. */
  get sizeBytes(): number {
    return fstatSync(this.descriptor).size;
  }

  /** Takes one more share. */
  share(): SharedDescriptor {
    invariant(this.#shares > 0, "a descriptor is shared after its last release");
    this.#shares++;
    return this;
  }

  /** Gives a share back. */
  release(): void {
    invariant(this.#shares > 0, "a descriptor is released more often than it is shared");
    this.#shares--;
    if (this.#shares === 0) closeSync(this.#descriptor);
  }

  /**
   * A reader over a part of the file. It takes over one share, which its `close` gives back; closing it twice is
   * harmless.
   */
  reader(name: string, offsetBytes: number, lengthBytes: number): RandomReader {
    const whole = descriptorReader(this.descriptor, name, offsetBytes + lengthBytes);
    let open = true;
    return {
      name,
      sizeBytes: lengthBytes,
      readAt: (target, position) => {
        // The number may be another file's by now.
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
