/**
 * Inflating xz with the WebAssembly build of xz-embedded that the package xz-decompress carries.
 *
 * @module
 */
import * as xzModule from "xz-decompress";
import { InputError } from "../errors.ts";
import type { Inflater, InflaterOptions } from "./inflater.ts";

type XzStreamClass = typeof xzModule.XzReadableStream;

// The package is CommonJS in a wrapper that not every loader finds the names in.
const XzReadableStream: XzStreamClass = xzModule.XzReadableStream ??
  (xzModule as unknown as { default: { XzReadableStream: XzStreamClass } }).default
    .XzReadableStream;

/** What xz-embedded's return codes mean (enum xz_ret in its xz.h). */
const DECODER_CODES: ReadonlyMap<string, string> = new Map([
  ["3", "the xz data wants more memory than there is"],
  ["4", "the xz data wants more memory than is allowed"],
  ["5", "the xz data is damaged: it has no xz header"],
  ["6", "the xz data uses an option that is not supported"],
  ["7", "the xz data is damaged"],
  ["8", "the xz data ends too early or is damaged"],
]);

/** The decoder allows one stream at a time in a thread; a second one waits for the first. */
export function createXzInflater(options: InflaterOptions): Inflater {
  return new XzInflater(options);
}

/** Turns a pull stream into a push one: a piece is done with when the decoder asks for the next. */
class XzInflater implements Inflater {
  readonly #name: string;
  readonly #emit: (bytes: Uint8Array) => void;
  #piece: Uint8Array | undefined;
  #ended = false;
  #decoderWaits: (() => void) | undefined;
  #pusher: { resolve: () => void; reject: (reason: unknown) => void } | undefined;
  /** Whether the decoder has the pusher's piece. */
  #supplied = false;
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #running: Promise<void> | undefined;
  #failure: { readonly reason: unknown } | undefined;

  constructor(options: InflaterOptions) {
    this.#name = options.name;
    this.#emit = options.emit;
  }

  push(piece: Uint8Array): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure.reason);
    // The decoder takes an empty piece for the end.
    if (piece.length === 0) return Promise.resolve();
    this.#running ??= this.#run();
    this.#piece = piece;
    return new Promise((resolve, reject) => {
      this.#pusher = { resolve, reject };
      this.#decoderWaits?.();
    });
  }

  async end(): Promise<void> {
    this.#ended = true;
    this.#decoderWaits?.();
    await this.#running;
    if (this.#failure) throw this.#failure.reason;
  }

  close(): void {
    this.#ended = true;
    this.#failure ??= { reason: new InputError(this.#name, "is no longer read") };
    // The decoder's memory is freed only when its stream is cancelled.
    this.#reader?.cancel().catch(() => {});
    this.#decoderWaits?.();
  }

  /** Reads the decoder's output to its end. Never rejects. */
  async #run(): Promise<void> {
    const compressed = new ReadableStream<Uint8Array>({ pull: (to) => this.#supply(to) }, {
      highWaterMark: 0,
    });
    const reader = new XzReadableStream(compressed).getReader();
    this.#reader = reader;
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        if (value.length > 0 && !this.#failure) this.#emit(value);
      }
      // The decoder leaves what comes behind its last stream unread.
      if (!this.#ended || this.#piece) {
        throw new InputError(this.#name, "something that is no xz data follows the xz data");
      }
    } catch (error) {
      this.#failure ??= { reason: this.#describe(error) };
      reader.cancel().catch(() => {});
      this.#pusher?.reject(this.#failure.reason);
    }
  }

  async #supply(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    if (this.#supplied) this.#pusher?.resolve();
    this.#supplied = false;
    if (!this.#piece && !this.#ended) {
      await new Promise<void>((resolve) => this.#decoderWaits = resolve);
      this.#decoderWaits = undefined;
    }
    if (this.#piece) {
      const piece = this.#piece;
      this.#piece = undefined;
      this.#supplied = true;
      controller.enqueue(piece);
    } else {
      controller.close();
    }
  }

  #describe(error: unknown): unknown {
    const code = /error code (\d+)/.exec((error as Error).message ?? "")?.[1];
    const why = code === undefined ? undefined : DECODER_CODES.get(code);
    return why === undefined ? error : new InputError(this.#name, why, { cause: error });
  }
}
