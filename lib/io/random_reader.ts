/**
 * Reading at a position: what payloads, archives and images are read through.
 *
 * @module
 */
import { closeSync, readSync } from "node:fs";
import { InputError, IoError } from "../errors.ts";
import { openInputFile, type WantedInput } from "./input_file.ts";

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
  readonly parts?: ReaderParts;
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
