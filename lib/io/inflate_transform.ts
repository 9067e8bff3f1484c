/**
 * An inflater over one of node:zlib's transform streams.
 *
 * @module
 */
import type { Transform } from "node:stream";
import { BlessfsError, InputError } from "../errors.ts";
import type { Inflater, InflaterOptions } from "./inflater.ts";

/** A transform of node:zlib. `bytesWritten` counts the input that was used. */
export interface ZlibTransform extends Transform {
  readonly bytesWritten: number;
}

/**
 * Drives a transform so that every output of a piece is emitted before `push` resolves: memory is then bounded by one
 * piece and one chunk, and what the receiver throws stops the stream.
 */
export class TransformInflater implements Inflater {
  readonly #stream: ZlibTransform;
  readonly #kind: string;
  readonly #name: string;
  readonly #ended: Promise<void>;
  #hasEnded = false;
  #pushedBytes = 0;
  #failure: { readonly reason: unknown } | undefined;
  #reject: ((reason: unknown) => void) | undefined;

  /** @param kind what the stream is compressed with, for errors */
  constructor(stream: ZlibTransform, kind: string, options: InflaterOptions) {
    this.#stream = stream;
    this.#kind = kind;
    this.#name = options.name;
    stream.on("error", (error) => this.#fail(this.#damage(error)));
    this.#ended = new Promise((resolve) =>
      stream.on("end", () => {
        this.#hasEnded = true;
        resolve();
      })
    );
    stream.on("data", ({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>) => {
      if (this.#failure) return;
      try {
        // Not a Buffer: what slices it must get a copy.
        options.emit(new Uint8Array(buffer, byteOffset, byteLength));
      } catch (error) {
        this.#fail(error);
      }
    });
  }

  async push(piece: Uint8Array): Promise<void> {
    this.#pushedBytes += piece.length;
    if (!this.#hasEnded) {
      await this.#step((resolve) => this.#stream.write(piece, () => resolve()));
    }
    if (this.#hasEnded) this.#checkPadding(piece);
  }

  async end(): Promise<void> {
    await this.#step((resolve) => {
      this.#ended.then(resolve);
      if (!this.#hasEnded) this.#stream.end();
    });
  }

  close(): void {
    this.#failure ??= { reason: new InputError(this.#name, "is no longer read") };
    this.#stream.destroy();
  }

  /** A decoder that is done ignores the rest. Zeros there are padding; anything else is data that would be lost. */
  #checkPadding(piece: Uint8Array): void {
    const unusedBytes = Math.min(piece.length, this.#pushedBytes - this.#stream.bytesWritten);
    if (piece.subarray(piece.length - unusedBytes).every((byte) => byte === 0)) return;
    throw new InputError(this.#name, `something that is no ${this.#kind} data follows the data`);
  }

  #step(start: (resolve: () => void) => void): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure.reason);
    return new Promise((resolve, reject) => {
      this.#reject = reject;
      start(() => this.#failure ? reject(this.#failure.reason) : resolve());
    });
  }

  #fail(error: unknown): void {
    if (this.#failure) return;
    this.#failure = { reason: error };
    this.#reject?.(this.#failure.reason);
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
