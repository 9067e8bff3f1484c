/**
 * How an image file is proved to be whole: by the CRC-32 of each of its pieces, made while it was written.
 *
 * CRC-32 finds accidents, not forgery: whoever can change an image can change its record too. It is read at the speed
 * of memory, where SHA-256 takes several times as long as reading.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { invariant, throwIfAborted } from "../errors.ts";
import { openFileReader } from "../io/random_reader.ts";
import type { ImageSink } from "../io/sink.ts";
import type { Progress } from "../progress.ts";

/** Each piece but the last is so long. */
export const CHECKSUM_PIECE_BYTES = 1024 * 1024;

const ZEROS = new Uint8Array(CHECKSUM_PIECE_BYTES);
/** Signals are served after so many pieces. */
const YIELD_AFTER_PIECES = 64;

/** What a file was when it was whole. */
export interface FileChecksums {
  readonly sizeBytes: number;
  /** Of each piece in turn; holes count as zeros. */
  readonly crc32s: readonly number[];
}

/** A sink that keeps the checksums of what it is given, and nothing else. */
export class ChecksumSink implements ImageSink {
  readonly #crc32s: number[] = [];
  #endOffset = 0;
  #crc32 = 0;
  #isFinished = false;

  /** The checksums of the whole. */
  get checksums(): FileChecksums {
    invariant(this.#isFinished, "checksums of a file that has not ended");
    return { sizeBytes: this.#endOffset, crc32s: this.#crc32s };
  }

  write(bytes: Uint8Array, offset: number): void {
    invariant(offset >= this.#endOffset, `a write at ${offset} behind ${this.#endOffset}`);
    this.#addZeros(offset);
    for (let done = 0; done < bytes.length;) {
      const part = bytes.subarray(done, done + this.#leftInPiece());
      this.#add(part);
      done += part.length;
    }
  }

  finish(sizeBytes: number): void {
    invariant(sizeBytes >= this.#endOffset, `the end ${sizeBytes} before ${this.#endOffset}`);
    this.#addZeros(sizeBytes);
    if (sizeBytes % CHECKSUM_PIECE_BYTES !== 0) this.#crc32s.push(this.#crc32);
    this.#isFinished = true;
  }

  abort(): void {}

  #leftInPiece(): number {
    return CHECKSUM_PIECE_BYTES - this.#endOffset % CHECKSUM_PIECE_BYTES;
  }

  #addZeros(endOffset: number): void {
    while (this.#endOffset < endOffset) {
      this.#add(ZEROS.subarray(0, Math.min(this.#leftInPiece(), endOffset - this.#endOffset)));
    }
  }

  /** @param part no more than what is left in the piece */
  #add(part: Uint8Array): void {
    this.#crc32 = crc32(part, this.#crc32);
    this.#endOffset += part.length;
    if (this.#endOffset % CHECKSUM_PIECE_BYTES !== 0) return;
    this.#crc32s.push(this.#crc32);
    this.#crc32 = 0;
  }
}

/**
 * Reads a file and says how it differs from what it was when it was whole; undefined when it does not.
 *
 * @throws {InputError} when it is not there
 * @throws {IoError} when it cannot be read
 * @throws {InterruptedError} when the signal is aborted
 */
export async function findDamage(
  path: string,
  wanted: FileChecksums,
  options: { readonly signal?: AbortSignal | undefined; readonly progress: Progress },
): Promise<string | undefined> {
  const reader = openFileReader(path, { what: "an image of a layer" });
  try {
    if (reader.sizeBytes !== wanted.sizeBytes) {
      return `has ${reader.sizeBytes} bytes: wanted ${wanted.sizeBytes}`;
    }
    const task = options.progress.begin("check", wanted.sizeBytes);
    const buffer = new Uint8Array(CHECKSUM_PIECE_BYTES);
    try {
      for (const [i, crc] of wanted.crc32s.entries()) {
        const start = i * CHECKSUM_PIECE_BYTES;
        const count = reader.readAt(buffer, start);
        const found = crc32(buffer.subarray(0, count));
        if (found !== crc) {
          return `was changed in bytes ${start} to ${
            start + count - 1
          }: their checksum is ${found}, wanted ${crc}`;
        }
        task.advance(count);
        if ((i + 1) % YIELD_AFTER_PIECES !== 0) continue;
        await setImmediate();
        throwIfAborted(options.signal);
      }
      return undefined;
    } finally {
      task.end();
    }
  } finally {
    reader.close();
  }
}
