/**
 * What an inflater is, and the one over a transform of node:zlib.
 *
 * @module
 */
import type { Transform } from "node:stream";
import { BlessfsError, InputError } from "../errors.ts";

/** Takes compressed pieces and hands out what they inflate to. */
export interface Inflater {
  /** Resolves when the piece may be reused. The last of what it inflates to may be emitted only at the next call. */
  push(piece: Uint8Array): Promise<void>;
  /** Resolves when everything has been emitted. @throws {InputError} when the stream is not complete */
  end(): Promise<void>;
  /** Frees the decoder. Safe at any time, more than once. */
  close(): void;
}

/** What an inflater is made from. */
export interface InflaterOptions {
  /** What the stream is called in errors. */
  readonly name: string;
  /** Receives inflated bytes in order, which are valid until it returns. What it throws comes out of `push` or `end`. */
  readonly emit: (bytes: Uint8Array) => void;
  /** Called with everything that is left out; `Warnings.add` fits. */
  readonly warn?: ((kind: string, what: string, why: string) => void) | undefined;
}

/** A transform of node:zlib. `bytesWritten` counts the input that was used. */
export interface ZlibTransform extends Transform {
  readonly bytesWritten: number;
}

/**
 * Drives a transform. Runtimes that inflate in a thread of their own do so while the receiver looks at the chunk before:
 * a chunk is held back until the decoder has the next one to fill. Memory is bounded by one piece and two chunks, and
 * what the receiver throws stops the stream.
 */
export class TransformInflater implements Inflater {
  readonly #stream: ZlibTransform;
  readonly #kind: string;
  readonly #name: string;
  readonly #ended: Promise<void>;
  readonly #emit: (bytes: Uint8Array) => void;
  readonly #leavesRest: boolean;
  /** What the decoder has put out last, while nobody has seen it. */
  #heldBack: Uint8Array<ArrayBuffer> | undefined;
  /** Whether the decoder has no more to do. */
  #isIdle = true;
  #hasEnded = false;
  #pushedBytes = 0;
  #failure: { readonly reason: unknown } | undefined;
  #reject: ((reason: unknown) => void) | undefined;

  /**
   * @param kind what the stream is compressed with, for errors
   * @param leavesRest whether what comes behind the data is for somebody else
   */
  constructor(
    stream: ZlibTransform,
    kind: string,
    options: InflaterOptions,
    leavesRest = false,
  ) {
    this.#leavesRest = leavesRest;
    this.#stream = stream;
    this.#kind = kind;
    this.#name = options.name;
    this.#emit = options.emit;
    stream.on("error", (error) => {
      // What came out before the damage may be wrong in itself, and comes first.
      this.#release();
      this.#failure ??= { reason: this.#damage(error) };
      this.#giveUp();
    });
    this.#ended = new Promise((resolve) =>
      stream.on("end", () => {
        this.#hasEnded = true;
        resolve();
      })
    );
    stream.on("data", ({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>) => {
      // A runtime that inflates in this thread puts out all of a piece without a microtask in between.
      this.#release();
      if (this.#failure) return this.#giveUp();
      // Not a Buffer: what slices it must get a copy.
      this.#heldBack = new Uint8Array(buffer, byteOffset, byteLength);
      // By then the decoder has been given the next chunk, or is idle.
      queueMicrotask(() => {
        if (!this.#isIdle) this.#release();
      });
    });
  }

  async push(piece: Uint8Array): Promise<void> {
    this.#pushedBytes += piece.length;
    if (!this.#hasEnded) {
      await this.#step((resolve) => {
        this.#isIdle = false;
        const onDone = () => {
          this.#isIdle = true;
          resolve();
        };
        this.#stream.write(piece, onDone);
        // Of a write that goes on behind the end, a decoder may never say that it is done.
        this.#ended.then(onDone);
        this.#release();
      });
    }
    if (!this.#hasEnded) return;
    this.emitHeldBack();
    if (!this.#leavesRest) this.#checkPadding(piece);
  }

  /** Whether the data is complete. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** How many of the pushed bytes come behind the data. */
  get unusedBytes(): number {
    return this.#pushedBytes - this.#stream.bytesWritten;
  }

  /**
   * Emits what was held back, so that a fault in it comes before those of what follows. To be called between pushes.
   *
   * @throws what the receiver throws
   */
  emitHeldBack(): void {
    this.#release();
    if (this.#failure) throw this.#failure.reason;
  }

  async end(): Promise<void> {
    await this.#step((resolve) => {
      this.#ended.then(resolve);
      if (!this.#hasEnded) this.#stream.end();
    });
    this.emitHeldBack();
  }

  close(): void {
    this.#failure ??= { reason: new InputError(this.#name, "is no longer read") };
    this.#stream.destroy();
  }

  /** Emits what was held back. */
  #release(): void {
    const chunk = this.#heldBack;
    this.#heldBack = undefined;
    if (chunk === undefined || this.#failure) return;
    try {
      this.#emit(chunk);
    } catch (error) {
      this.#failure = { reason: error };
      // While the decoder is at work in its thread, it reads the piece: what it has to say next ends the wait.
      if (this.#isIdle) this.#giveUp();
    }
    freeIfLast(chunk);
  }

  /** A decoder that is done ignores the rest. Zeros there are padding; anything else is data that would be lost. */
  #checkPadding(piece: Uint8Array): void {
    const unusedBytes = Math.min(piece.length, this.#pushedBytes - this.#stream.bytesWritten);
    if (piece.subarray(piece.length - unusedBytes).every((byte) => byte === 0)) return;
    throw new InputError(this.#name, `something other than ${this.#kind} data follows the data`);
  }

  #step(start: (resolve: () => void) => void): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure.reason);
    return new Promise((resolve, reject) => {
      this.#reject = reject;
      start(() => this.#failure ? reject(this.#failure.reason) : resolve());
    });
  }

  #giveUp(): void {
    this.#reject?.(this.#failure?.reason);
    this.#stream.destroy();
  }

  /** What the decoder complains of; runtimes name only some of it the same way. */
  #damage(error: unknown): unknown {
    if (error instanceof BlessfsError) return error;
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === "Z_BUF_ERROR" ? "ends too early" : `is damaged (${message})`;
    return new InputError(this.#name, `the ${this.#kind} data ${why}`, { cause: error });
  }
}

/**
 * Frees a buffer whose last part this is: the decoder makes a new one for what follows. To leave it to the garbage
 * collector costs the kernel more time than the decoder takes: each new buffer is memory that was never touched before.
 */
function freeIfLast({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>): void {
  if (byteOffset + byteLength === buffer.byteLength) buffer.transfer(0);
}
