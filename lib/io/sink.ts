/**
 * Where images are written. The writer calls `write` in ascending order, never twice for the same byte; skipped ranges are
 * holes and read as zeros. This file has the interface, combinations of sinks, and streams; file_sink.ts has files.
 *
 * @module
 */
import process from "node:process";
import { zeroBytes } from "../bytes/arithmetic.ts";
import { InterruptedError, invariant } from "../errors.ts";
import { ioErrorFrom } from "./system_error.ts";

/** Takes an image in one ascending pass. */
export interface ImageSink {
  /**
   * Announces the image's size before the first write, if it is known.
   *
   * @throws if there is no room for it
   */
  checkSize?(sizeBytes: number): void;
  /**
   * Writes bytes, which may be reused once it is done.
   *
   * @param offset at or after the end of the previous write
   */
  write(bytes: Uint8Array, offset: number): void | Promise<void>;
  /**
   * Replaces bytes already written, before the end. Only sinks that keep their data, such as files, have it; streams and
   * chunk stores do not.
   */
  writeAgain?(bytes: Uint8Array, offset: number): Promise<void>;
  /** Ends the image at `sizeBytes` and makes it visible under its name. */
  finish(sizeBytes: number): void | Promise<void>;
  /** Discards everything written so far. Safe to call at any time, even after `finish` failed. */
  abort(): void | Promise<void>;
}

/** Discards an image: for measuring the cost of everything else. */
export const nullSink: ImageSink = { write: () => {}, finish: () => {}, abort: () => {} };

/** The `writeAgain` for a sink that wraps `target`. */
export function writingAgain(target: ImageSink): Pick<ImageSink, "writeAgain"> {
  if (target.writeAgain === undefined) return {};
  return { writeAgain: (bytes, offset) => target.writeAgain!(bytes, offset) };
}

/** Writes a whole image to a sink at once. The sink is aborted on failure. */
export async function writeWhole(sink: ImageSink, bytes: Uint8Array): Promise<void> {
  try {
    await sink.write(bytes, 0);
    await sink.finish(bytes.length);
  } catch (error) {
    await sink.abort();
    throw error;
  }
}

/**
 * Writes the same image to several sinks in turn. If one fails, the whole fails, and the caller then aborts it. They finish
 * in the order given, so a sink whose end cannot be undone, such as a file, belongs last.
 */
export function teeSink(...sinks: readonly ImageSink[]): ImageSink {
  return {
    checkSize(sizeBytes) {
      for (const sink of sinks) sink.checkSize?.(sizeBytes);
    },
    async write(bytes, offset) {
      for (const sink of sinks) await sink.write(bytes, offset);
    },
    async finish(sizeBytes) {
      for (const sink of sinks) await sink.finish(sizeBytes);
    },
    async abort() {
      const outcomes = await Promise.allSettled(sinks.map(async (sink) => await sink.abort()));
      for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
    },
  };
}

/** The size of the pieces passed on. */
export const PIECE_BYTES = 1 << 20;

/** Copying more than this costs more than a separate call. */
const LARGE_BYTES = 64 << 10;

/**
 * Collects ascending writes and passes them on in pieces of at most `pieceBytes`, preserving gaps. A large write with
 * nothing pending is passed on directly.
 */
export class WriteGatherer {
  readonly #emit: (bytes: Uint8Array, offset: number) => void | Promise<void>;
  #buffer: Uint8Array;
  /** The same size as `#buffer`; reused once `#onItsWay` is done. */
  #otherBuffer: Uint8Array;
  #onItsWay: Promise<void> | undefined;
  #startOffset = 0;
  #filledBytes = 0;
  #endOffset = 0;

  /** @param emit receives bytes that are valid only until it is done; it is not called again before that */
  constructor(
    emit: (bytes: Uint8Array, offset: number) => void | Promise<void>,
    pieceBytes = PIECE_BYTES,
  ) {
    this.#emit = emit;
    this.#buffer = new Uint8Array(pieceBytes);
    this.#otherBuffer = new Uint8Array(pieceBytes);
  }

  /** The offset after the last byte written. */
  get endOffset(): number {
    return this.#endOffset;
  }

  /** An error from `emit` is thrown by this or a later call, or by `flush`. The bytes may be reused once it is done. */
  write(bytes: Uint8Array, offset: number): void | Promise<void> {
    if (offset < this.#endOffset) {
      invariant(false, `write at ${offset} after the end ${this.#endOffset}`);
    }
    const isAdjacent = offset === this.#endOffset;
    const isAlone = this.#filledBytes === 0 || !isAdjacent;
    if (isAlone && bytes.length >= LARGE_BYTES && bytes.length <= this.#buffer.length / 2) {
      return this.#writeAlone(bytes, offset);
    }
    if (isAdjacent && bytes.length < this.#buffer.length - this.#filledBytes) {
      return this.#append(bytes);
    }
    return this.#writeSlowly(bytes, offset);
  }

  /** Passes on everything pending and waits for it. */
  async flush(): Promise<void> {
    await this.#passOn();
    await this.#onItsWay;
    this.#onItsWay = undefined;
  }

  /** Returns no promise if there is nothing to wait for. */
  #writeAlone(bytes: Uint8Array, offset: number): void | Promise<void> {
    if (this.#filledBytes > 0 || this.#onItsWay !== undefined) {
      return this.flush().then(() => this.#writeAlone(bytes, offset));
    }
    this.#startOffset = this.#endOffset = offset + bytes.length;
    return this.#emit(bytes, offset);
  }

  async #writeSlowly(bytes: Uint8Array, offset: number): Promise<void> {
    if (offset !== this.#endOffset) {
      if (this.#filledBytes > 0) await this.#passOn();
      this.#startOffset = this.#endOffset = offset;
    }
    for (let at = 0; at < bytes.length;) {
      const count = Math.min(bytes.length - at, this.#buffer.length - this.#filledBytes);
      this.#append(bytes.subarray(at, at + count));
      at += count;
      if (this.#filledBytes === this.#buffer.length) await this.#passOn();
    }
  }

  #append(bytes: Uint8Array): void {
    this.#buffer.set(bytes, this.#filledBytes);
    this.#filledBytes += bytes.length;
    this.#endOffset += bytes.length;
  }

  async #passOn(): Promise<void> {
    await this.#onItsWay;
    const piece = this.#buffer.subarray(0, this.#filledBytes);
    const offset = this.#startOffset;
    this.#startOffset = this.#endOffset;
    this.#filledBytes = 0;
    if (piece.length === 0) return;
    this.#onItsWay = this.#emit(piece, offset) ?? undefined;
    if (this.#onItsWay === undefined) return;
    // The next call that waits for it gets the failure.
    this.#onItsWay.catch(() => {});
    [this.#buffer, this.#otherBuffer] = [this.#otherBuffer, this.#buffer];
  }
}

/** Writes all of `bytes`, which may be reused once the promise is fulfilled. */
export type StreamWriter = (bytes: Uint8Array) => Promise<void>;

/**
 * A sink that streams the image in pieces of at most 1 MiB, each after the reader has taken the one before. `abort`
 * discards pending data; data already sent cannot be taken back.
 *
 * @param writer where the pieces go; defaults to standard output
 */
export function createStdoutSink(writer: StreamWriter = writeToStandardOutput): ImageSink {
  let isDropped = false;
  const checkLive = () => {
    if (isDropped) throw new InterruptedError("standard output", "the image was dropped");
  };
  const gatherer = new WriteGatherer((bytes) => {
    checkLive();
    return writer(bytes);
  });
  const fillTo = async (endOffset: number) => {
    while (gatherer.endOffset < endOffset) {
      const zeros = zeroBytes(Math.min(PIECE_BYTES, endOffset - gatherer.endOffset));
      await gatherer.write(zeros, gatherer.endOffset);
    }
  };
  return {
    write(bytes, offset) {
      checkLive();
      if (offset <= gatherer.endOffset) return gatherer.write(bytes, offset);
      return fillTo(offset).then(() => gatherer.write(bytes, offset));
    },
    async finish(sizeBytes) {
      checkLive();
      const { endOffset } = gatherer;
      invariant(sizeBytes >= endOffset, `image ends at ${sizeBytes}, before what was written`);
      await fillTo(sizeBytes);
      await gatherer.flush();
    },
    abort() {
      isDropped = true;
    },
  };
}

function writeToStandardOutput(bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(bytes, (error) => {
      if (error) reject(ioErrorFrom("standard output", "cannot be written", error));
      else resolve();
    });
  });
}
