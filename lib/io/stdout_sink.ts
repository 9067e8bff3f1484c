/**
 * An image as a stream: the holes go out as zeros, because what reads it cannot seek.
 *
 * @module
 */
import process from "node:process";
import { InterruptedError, invariant } from "../errors.ts";
import type { ImageSink } from "./sink.ts";
import { ioErrorFrom } from "./system_error.ts";
import { PIECE_BYTES } from "./write_gatherer.ts";

/** Writes all of `bytes`, which may be used again once the promise is fulfilled. */
export type StreamWriter = (bytes: Uint8Array) => Promise<void>;

const ZEROS = new Uint8Array(PIECE_BYTES);

/**
 * A sink that streams the image in pieces of 1 MiB and waits for the reader after each.
 * `abort` drops what is held back; what has gone out cannot be taken back.
 *
 * @param writer where the pieces go; standard output when left out
 */
export function createStdoutSink(writer: StreamWriter = writeToStandardOutput): ImageSink {
  return new StreamSink(writer);
}

class StreamSink implements ImageSink {
  readonly #writer: StreamWriter;
  readonly #buffer = new Uint8Array(PIECE_BYTES);
  #filledBytes = 0;
  #endOffset = 0;
  #aborted = false;

  constructor(writer: StreamWriter) {
    this.#writer = writer;
  }

  write(bytes: Uint8Array, offset: number): void | Promise<void> {
    invariant(offset >= this.#endOffset, `write at ${offset} after the end ${this.#endOffset}`);
    const gapBytes = offset - this.#endOffset;
    this.#checkLive();
    if (gapBytes + bytes.length > this.#buffer.length - this.#filledBytes) {
      return this.#writeSlowly(bytes, gapBytes);
    }
    this.#fillBuffer(ZEROS.subarray(0, gapBytes));
    this.#fillBuffer(bytes);
  }

  async finish(sizeBytes: number): Promise<void> {
    invariant(sizeBytes >= this.#endOffset, `image ends at ${sizeBytes}, before what was written`);
    await this.#zeros(sizeBytes - this.#endOffset);
    await this.#flush();
  }

  abort(): void {
    this.#aborted = true;
    this.#filledBytes = 0;
  }

  async #writeSlowly(bytes: Uint8Array, gapBytes: number): Promise<void> {
    await this.#zeros(gapBytes);
    await this.#append(bytes);
  }

  async #zeros(count: number): Promise<void> {
    let leftBytes = count;
    while (leftBytes > 0) {
      const piece = ZEROS.subarray(0, Math.min(leftBytes, ZEROS.length));
      await this.#append(piece);
      leftBytes -= piece.length;
    }
  }

  async #append(bytes: Uint8Array): Promise<void> {
    let rest = bytes;
    while (rest.length > 0) {
      const piece = rest.subarray(0, this.#buffer.length - this.#filledBytes);
      this.#fillBuffer(piece);
      rest = rest.subarray(piece.length);
      if (this.#filledBytes === this.#buffer.length) await this.#flush();
    }
  }

  #fillBuffer(bytes: Uint8Array): void {
    this.#buffer.set(bytes, this.#filledBytes);
    this.#filledBytes += bytes.length;
    this.#endOffset += bytes.length;
  }

  async #flush(): Promise<void> {
    this.#checkLive();
    const piece = this.#buffer.subarray(0, this.#filledBytes);
    this.#filledBytes = 0;
    if (piece.length > 0) await this.#writer(piece);
  }

  #checkLive(): void {
    if (this.#aborted) throw new InterruptedError("standard output", "the image was dropped");
  }
}

function writeToStandardOutput(bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(bytes, (error) => {
      if (error) reject(ioErrorFrom("standard output", "cannot be written", error));
      else resolve();
    });
  });
}
