/**
 * The inflater interface and its implementation with a node:zlib transform.
 *
 * @module
 */
import type { Transform } from "node:stream";
import { BlessfsError, InputError } from "../errors.ts";

/** Takes compressed pieces and emits the inflated bytes. */
export interface Inflater {
  /** Resolves when the piece may be reused. The last of its inflated bytes may be emitted only at the next call. */
  push(piece: Uint8Array): Promise<void>;
  /** Resolves when everything has been emitted. @throws {InputError} if the stream is incomplete */
  end(): Promise<void>;
  /** Frees the decoder. Safe at any time and more than once. */
  close(): void;
}

/** Options for an inflater. */
export interface InflaterOptions {
  /** The stream's name in errors. */
  readonly name: string;
  /** Receives inflated bytes in order; they are valid until it returns. Its errors are thrown by `push` or `end`. */
  readonly emit: (bytes: Uint8Array) => void;
  /** Called for everything left out; `Warnings.add` fits. */
  readonly warn?: ((kind: string, what: string, why: string) => void) | undefined;
}

/** A transform of node:zlib. `bytesWritten` counts the input consumed. */
export interface ZlibTransform extends Transform {
  readonly bytesWritten: number;
}

/**
 * Drives a transform. Some runtimes inflate in a separate thread; to let them work while the receiver handles the previous
 * chunk, each chunk is held back until the decoder has the next one to fill. Memory is bounded by one piece and two chunks,
 * and an error from the receiver stops the stream.
 */
export class TransformInflater implements Inflater {
  readonly #stream: ZlibTransform;
  readonly #kind: string;
  readonly #name: string;
  readonly #ended: Promise<void>;
  readonly #emit: (bytes: Uint8Array) => void;
  readonly #leavesRest: boolean;
  /** The decoder's last output, not yet emitted. */
  #heldBack: Uint8Array<ArrayBuffer> | undefined;
  /** Whether the decoder has nothing left to do. */
  #isIdle = true;
  #hasEnded = false;
  #pushedBytes = 0;
  #failure: { readonly reason: unknown } | undefined;
  #reject: ((reason: unknown) => void) | undefined;

  /**
   * @param kind the compression format, for errors
   * @param leavesRest whether bytes after the data belong to the caller
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
      // Output from before the damage may itself be invalid, and has to be reported first.
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
      // A runtime that inflates in this thread emits all output of a piece without a microtask in between.
      this.#release();
      if (this.#failure) return this.#giveUp();
      // Not a Buffer: slicing it must make a copy.
      this.#heldBack = new Uint8Array(buffer, byteOffset, byteLength);
      // By then the decoder has the next chunk, or is idle.
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
        // If a write continues past the end of the data, a decoder may never report that it is done.
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

  /** How many of the pushed bytes lie after the data. */
  get unusedBytes(): number {
    return this.#pushedBytes - this.#stream.bytesWritten;
  }

  /**
   * Emits the chunk held back, so that an error in it comes before errors in what follows. Call it only between pushes.
   *
   * @throws the receiver's errors
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

  /** Emits the chunk held back. */
  #release(): void {
    const chunk = this.#heldBack;
    this.#heldBack = undefined;
    if (chunk === undefined || this.#failure) return;
    try {
      this.#emit(chunk);
    } catch (error) {
      this.#failure = { reason: error };
      // A decoder working in its own thread is still reading the piece: its next event ends the wait.
      if (this.#isIdle) this.#giveUp();
    }
    freeIfLast(chunk);
  }

  /** A finished decoder ignores the rest. Zeros there are padding; anything else is data that would be lost. */
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

  /** Describes the decoder's error; runtimes agree only on some names. */
  #damage(error: unknown): unknown {
    if (error instanceof BlessfsError) return error;
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === "Z_BUF_ERROR" ? "ends too early" : `is damaged (${message})`;
    return new InputError(this.#name, `the ${this.#kind} data ${why}`, { cause: error });
  }
}

/**
 * Frees a buffer if this is its last part: the decoder allocates a new one anyway. Leaving it to the garbage collector
 * costs the kernel more time than the decoder takes, because each new buffer is untouched memory.
 */
function freeIfLast({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>): void {
  if (byteOffset + byteLength === buffer.byteLength) buffer.transfer(0);
}
