/**
 * Reading at a position: what payloads, archives and images are read through.
 *
 * @module
 */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { InputError, IoError } from "../errors.ts";

/** Further than any device goes. */
const DEVICE_BYTES_MAX = 2 ** 60;

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
  return {
    sizeBytes,
    name,
    readAt(target, position) {
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
    close: () => closeSync(descriptor),
  };
}

/**
 * Opens a regular file or a block device for reading.
 *
 * @throws {InputError} for a directory, a pipe or whatever else cannot be read at any position
 * @throws {IoError} when it cannot be opened
 */
export function openFileReader(path: string): RandomReader {
  let descriptor: number;
  try {
    // Without O_NONBLOCK, a fifo would wait for somebody to write to it.
    descriptor = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (cause) {
    throw new IoError(path, `cannot be opened: ${(cause as Error).message}`, { cause });
  }
  const stats = fstatSync(descriptor);
  if (!stats.isFile() && !stats.isBlockDevice()) {
    closeSync(descriptor);
    const what = stats.isDirectory() ? "a directory" : stats.isFIFO() ? "a pipe" : "no file";
    throw new InputError(path, `is ${what}: wanted a regular file or a block device`);
  }
  const sizeBytes = stats.isBlockDevice() ? deviceSizeBytes(descriptor) : stats.size;
  return descriptorReader(descriptor, path, sizeBytes);
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
