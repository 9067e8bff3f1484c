/**
 * The files that a user names to be read. One rule holds for all of them: what is not there, or is of a kind that cannot
 * be read at any position, is an InputError; what the operating system refuses is an IoError.
 *
 * @module
 */
import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from "node:fs";
import { InputError } from "../errors.ts";
import { displayPath, ioErrorFrom, systemErrorFacts } from "./system_error.ts";

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
  readonly directoryHint?: string;
  /** A remedy where there is a pipe. */
  readonly pipeHint?: string;
}

/**
 * Opens a regular file or a block device for reading.
 *
 * @throws {InputError} when nothing is there, or a directory, a pipe or another device
 * @throws {IoError} when it cannot be opened
 * @example
 * ```ts
 * import { assertThrows } from "@std/assert";
 * import { InputError } from "../errors.ts";
 * import { openInputFile } from "./input_file.ts";
 * assertThrows(
 *   () => openInputFile("/nonexistent", { what: "a tar" }),
 *   InputError,
 *   "/nonexistent: does not exist: wanted a tar",
 * );
 * ```
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
export function missingInput(path: string, wanted: string): InputError {
  const shown = displayPath(path);
  return new InputError(shown, `does not exist: wanted ${wanted}`, { data: { path: shown } });
}

function wrongKind(path: string, stats: Stats, wanted: WantedInput): InputError {
  const [kind, hint] = stats.isDirectory()
    ? ["a directory", wanted.directoryHint]
    : stats.isFIFO()
    ? ["a pipe", wanted.pipeHint]
    : ["no regular file and no block device", undefined];
  return new InputError(displayPath(path), `is ${kind}: wanted ${wanted.what}`, {
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
