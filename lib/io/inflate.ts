/**
 * Inflating gzip, zstd and xz streams piece by piece. The format is recognised by the first bytes, never by a name or a
 * media type: those are often wrong.
 *
 * @module
 */
import { versions } from "node:process";
import type { Transform } from "node:stream";
import { createGunzip } from "node:zlib";
import * as zlib from "node:zlib";
import * as xzModule from "xz-decompress";
import { BlessfsError, InputError } from "../errors.ts";
import { MAX_ZSTD_WINDOW_LOG, ZstdFrameWalker } from "./zstd_frames.ts";

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
}

/** How bytes are stored. */
export type Compression = "none" | "gzip" | "zstd" | "xz" | "bzip2";

/** How many bytes `sniffCompression` wants to see. */
export const SNIFF_BYTES = 10;

/** A piece of this size goes through zlib at once; smaller ones cost a third of the speed. */
const GZIP_CHUNK_BYTES = 1 << 20;

/**
 * Tells from its first bytes how a stream is compressed.
 *
 * @param head the first {@link SNIFF_BYTES} bytes, fewer if there are no more
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sniffCompression } from "./inflate.ts";
 * assertEquals(sniffCompression(new Uint8Array([0x1f, 0x8b, 8, 0])), "gzip");
 * ```
 */
export function sniffCompression(head: Uint8Array): Compression {
  if (startsWith(head, [0x1f, 0x8b, 0x08])) return "gzip";
  if (startsWith(head, [0x28, 0xb5, 0x2f, 0xfd])) return "zstd";
  // A skippable frame (RFC 8878, section 3.1.2) may come first.
  if (
    head.length >= 4 && (head[0]! & 0xf0) === 0x50 &&
    startsWith(head.subarray(1), [0x2a, 0x4d, 0x18])
  ) {
    return "zstd";
  }
  if (startsWith(head, [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00])) return "xz";
  if (
    startsWith(head, [0x42, 0x5a, 0x68]) &&
    startsWith(head.subarray(4), [0x31, 0x41, 0x59, 0x26, 0x53, 0x59])
  ) {
    return "bzip2";
  }
  return "none";
}

/**
 * An inflater for a stream that is compressed as `compression` says.
 *
 * @throws {InputError} for bzip2, which no runtime brings along
 */
export function createInflater(
  compression: Exclude<Compression, "none">,
  options: InflaterOptions,
): Inflater {
  switch (compression) {
    case "gzip":
      return new TransformInflater(createGunzip({ chunkSize: GZIP_CHUNK_BYTES }), "gzip", options);
    case "zstd":
      return createZstdInflater(options);
    case "xz":
      return createXzInflater(options);
    case "bzip2":
      throw new InputError(options.name, "is compressed with bzip2, which is not supported", {
        hint: "unpack it first, for example with bunzip2",
      });
  }
}

function startsWith(bytes: Uint8Array, magic: readonly number[]): boolean {
  return magic.every((value, i) => bytes[i] === value);
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
  /** What the decoder has put out last, while nobody has seen it. */
  #heldBack: Uint8Array<ArrayBuffer> | undefined;
  /** Whether the decoder has no more to do. */
  #isIdle = true;
  #hasEnded = false;
  #pushedBytes = 0;
  #failure: { readonly reason: unknown } | undefined;
  #reject: ((reason: unknown) => void) | undefined;

  /** @param kind what the stream is compressed with, for errors */
  constructor(stream: ZlibTransform, kind: string, options: InflaterOptions) {
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
        this.#stream.write(piece, () => {
          this.#isIdle = true;
          resolve();
        });
        this.#release();
      });
    }
    if (!this.#hasEnded) return;
    this.emitHeldBack();
    this.#checkPadding(piece);
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
    throw new InputError(this.#name, `something that is no ${this.#kind} data follows the data`);
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
    // A header is wanted at the start of each member, and that of the first was seen already.
    if (message.includes("incorrect header check")) {
      const why = `bytes that are not ${this.#kind} data follow the ${this.#kind} data`;
      return new InputError(this.#name, why, {
        hint: "if they can be left out, unpack it first: gzip -dc FILE > FILE.tar",
        cause: error,
      });
    }
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

/** Deno's decoder must not meet damage behind its first output of a write: see zstd_frames.ts. */
const WRITES_ONE_BLOCK = "deno" in versions;
/** A block inflates to 128 KiB at most. */
const ZSTD_CHUNK_BYTES = WRITES_ONE_BLOCK ? 256 << 10 : 1 << 20;

/** @throws {InputError} on a runtime whose node:zlib has no zstd */
export function createZstdInflater(options: InflaterOptions): Inflater {
  if (typeof zlib.createZstdDecompress !== "function") {
    throw new InputError(options.name, "is compressed with zstd, which this runtime cannot read", {
      hint: "use Deno, Bun, or Node 22.15 or later, or compress it with gzip",
    });
  }
  const decoder = zlib.createZstdDecompress({
    chunkSize: ZSTD_CHUNK_BYTES,
    params: { [zlib.constants.ZSTD_d_windowLogMax]: MAX_ZSTD_WINDOW_LOG },
  });
  return new ZstdInflater(new TransformInflater(decoder, "zstd", options), options.name);
}

class ZstdInflater implements Inflater {
  readonly #decoder: TransformInflater;
  readonly #walker: ZstdFrameWalker;
  #wrote = false;

  constructor(decoder: TransformInflater, name: string) {
    this.#decoder = decoder;
    this.#walker = new ZstdFrameWalker(name, WRITES_ONE_BLOCK);
  }

  async push(piece: Uint8Array): Promise<void> {
    await this.#inOrder(async () => {
      for (const part of this.#walker.walk(piece)) {
        this.#wrote = true;
        await this.#decoder.push(part);
      }
    });
  }

  async end(): Promise<void> {
    await this.#inOrder(async () => {
      this.#walker.end();
      // A decoder that was fed nothing may call that an error; skippable frames alone are none.
      if (this.#wrote) await this.#decoder.end();
    });
  }

  close(): void {
    this.#decoder.close();
  }

  /** The walker is ahead of the decoder: what is wrong with bytes that came out comes before what it finds. */
  async #inOrder(step: () => Promise<void>): Promise<void> {
    try {
      await step();
    } catch (error) {
      this.#decoder.emitHeldBack();
      throw error;
    }
  }
}

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

const XZ_HINT = "unpack it first: xz -dc FILE.tar.xz > FILE.tar";
/** The start of a file holds the stream's flags and the header of its first block (xz file format, sections 2.1 and 3.1). */
const XZ_HEAD_BYTES = 64;
const XZ_CHECKS: ReadonlyMap<number, string> = new Map([
  [0, "no check"],
  [1, "CRC32"],
  [4, "CRC64"],
  [10, "SHA-256"],
]);
const XZ_FILTERS: ReadonlyMap<number, string> = new Map([
  [0x03, "delta"],
  [0x04, "x86 (BCJ)"],
  [0x05, "PowerPC (BCJ)"],
  [0x06, "IA-64 (BCJ)"],
  [0x07, "ARM (BCJ)"],
  [0x08, "ARM-Thumb (BCJ)"],
  [0x09, "SPARC (BCJ)"],
  [0x0a, "ARM64 (BCJ)"],
  [0x0b, "RISC-V (BCJ)"],
]);

/** What of the options in the head of an xz file the decoder may not know, in words. */
function xzOptions(head: Uint8Array): string {
  const check = (head[7] ?? 0) & 0x0f;
  const parts = [`the check ${XZ_CHECKS.get(check) ?? `of type ${check}`}`];
  // Block header: its size, flags with the number of filters, two optional sizes, then the filters.
  const flags = head[13] ?? 0;
  let at = 14;
  for (const bit of [0x40, 0x80]) {
    if ((flags & bit) === 0) continue;
    while ((head[at++] ?? 0) & 0x80);
  }
  for (let i = 0; i <= (flags & 3) && at + 1 < head.length; i++) {
    const filter = head[at]!;
    const propertyBytes = head[at + 1]!;
    const name = XZ_FILTERS.get(filter);
    if (name !== undefined) parts.push(`the filter ${name}`);
    if (filter === 0x21) parts.push(`a dictionary of ${dictionaryText(head[at + 2] ?? 0)}`);
    at += 2 + propertyBytes;
  }
  return parts.join(", ");
}

/** LZMA2's dictionary size is coded in six bits (xz file format, section 5.3.1). */
function dictionaryText(bits: number): string {
  const bytes = (2 | (bits & 1)) * 2 ** (Math.floor(bits / 2) + 11);
  return `${bytes / 2 ** 20} MiB`;
}

/** The decoder allows one stream at a time in a thread; a second one waits for the first. */
export function createXzInflater(options: InflaterOptions): Inflater {
  return new XzInflater(options);
}

/** Turns a pull stream into a push one: a piece is done with when the decoder asks for the next. */
class XzInflater implements Inflater {
  readonly #name: string;
  readonly #emit: (bytes: Uint8Array) => void;
  #piece: Uint8Array | undefined;
  /** The start of the data, for errors. */
  #head = new Uint8Array(0);
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
    if (this.#running === undefined) this.#head = piece.slice(0, XZ_HEAD_BYTES);
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
    if (why === undefined) return error;
    const isUnsupported = code === "3" || code === "4" || code === "6";
    if (!isUnsupported) return new InputError(this.#name, why, { cause: error });
    return new InputError(this.#name, `${why}: it has ${xzOptions(this.#head)}`, {
      hint: XZ_HINT,
      cause: error,
    });
  }
}
