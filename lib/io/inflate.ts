/**
 * Inflates gzip, zstd and xz streams piece by piece. The first bytes determine the format, not a name or a media type,
 * which are often wrong.
 *
 * @module
 */
import { versions } from "node:process";
import * as zlib from "node:zlib";
import * as xzModule from "xz-decompress";
import { InputError } from "../errors.ts";
import { type Inflater, type InflaterOptions, TransformInflater } from "./inflater.ts";
import { MAX_ZSTD_WINDOW_LOG, ZstdFrameWalker } from "./zstd_frames.ts";

export { type Inflater, type InflaterOptions, TransformInflater } from "./inflater.ts";

/** A compression format. */
export type Compression = "none" | "gzip" | "zstd" | "xz" | "bzip2";

/** How many bytes `sniffCompression` needs. */
export const SNIFF_BYTES = 10;

/** Pieces of this size go through zlib at once; smaller ones cost a third of the speed. */
const GZIP_CHUNK_BYTES = 1 << 20;

/**
 * Recognises a stream's compression from its first bytes.
 *
 * @param head the first {@link SNIFF_BYTES} bytes, or fewer if the stream is shorter
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
 * Creates an inflater for a compression format.
 *
 * @throws {InputError} for bzip2, which no runtime includes
 */
export function createInflater(
  compression: Exclude<Compression, "none">,
  options: InflaterOptions,
): Inflater {
  switch (compression) {
    case "gzip":
      return new GzipInflater(options);
    case "zstd":
      return createZstdInflater(options);
    case "xz":
      return createXzInflater(options);
    case "bzip2":
      throw new InputError(options.name, "is compressed with bzip2, which is not supported", {
        code: "unsupported",
        hint: "unpack it first, for example with bunzip2",
      });
  }
}

function startsWith(bytes: Uint8Array, magic: readonly number[]): boolean {
  return magic.every((value, i) => bytes[i] === value);
}

/** The next part of a gzip file (RFC 1952, section 2). */
type GzipState = "header" | "data" | "trailer" | "rest";

const GZIP_TRAILER_BYTES = 8;
/** Longer headers are rejected; the format itself does not limit names and comments. */
const GZIP_HEADER_BYTES_MAX = 1 << 18;
const GZIP_FLAG = { headerCrc: 0x02, extra: 0x04, name: 0x08, comment: 0x10 } as const;
/** A member that inflates to no more than this is one of many, as in eStargz. */
const SMALL_MEMBER_BYTES = 1 << 18;
const EMPTY = new Uint8Array(0);

/**
 * Inflates gzip files member by member. The runtimes' gunzip does so too, but loses its last output if something else
 * follows the last member, which gzip(1) ignores with a warning.
 */
class GzipInflater implements Inflater {
  readonly #options: InflaterOptions;
  #state: GzipState = "header";
  #memberCount = 0;
  #member: TransformInflater | undefined;
  #memberBytes = Infinity;
  #crc = 0;
  /** An incomplete header or trailer. */
  #pending = EMPTY;
  /** Whether zeros follow the last member. */
  #isPadded = false;
  #restBytes = 0;

  constructor(options: InflaterOptions) {
    this.#options = options;
  }

  async push(piece: Uint8Array): Promise<void> {
    let rest = this.#pending.length === 0 ? piece : joined(this.#pending, piece);
    this.#pending = EMPTY;
    while (rest.length > 0) {
      const count = this.#state === "data" ? await this.#pushData(rest) : this.#take(rest);
      if (count === 0 && this.#state !== "data") {
        this.#pending = rest.slice();
        return;
      }
      rest = rest.subarray(count);
    }
  }

  async end(): Promise<void> {
    if (this.#state === "data") await this.#member!.end();
    const isComplete = this.#memberCount > 0 && this.#state !== "data" &&
      this.#state !== "trailer";
    const isMember = this.#pending[0] === 0x1f && this.#pending[1] === 0x8b;
    if (!isComplete || isMember) throw this.#fault("ends too early");
    this.#restBytes += this.#pending.length;
    if (this.#restBytes === 0) return;
    const why =
      `${this.#restBytes} bytes that are not gzip data follow the gzip data, and are left out`;
    this.#options.warn?.("trailingBytes", this.#options.name, why);
  }

  close(): void {
    this.#member?.close();
  }

  async #pushData(bytes: Uint8Array): Promise<number> {
    const member = this.#member!;
    await member.push(bytes);
    if (!member.hasEnded) return bytes.length;
    const { unusedBytes } = member;
    member.close();
    this.#state = "trailer";
    return bytes.length - unusedBytes;
  }

  /** Consumes a part of the file that is not data; returns its length, or 0 if it is incomplete. */
  #take(bytes: Uint8Array): number {
    switch (this.#state) {
      case "trailer":
        return this.#takeTrailer(bytes);
      case "rest":
        this.#restBytes += bytes.length;
        return bytes.length;
      default:
        return this.#memberCount === 0 ? this.#takeHeader(bytes) : this.#takeNext(bytes);
    }
  }

  /** Handles what follows a member: another member, zeros that pad a block, or something else. */
  #takeNext(bytes: Uint8Array): number {
    const zeros = bytes.findIndex((byte) => byte !== 0);
    if (zeros !== 0) {
      this.#isPadded = true;
      return zeros < 0 ? bytes.length : zeros;
    }
    const isMember = !this.#isPadded && bytes[0] === 0x1f &&
      (bytes.length === 1 || bytes[1] === 0x8b);
    if (isMember) return bytes.length === 1 ? 0 : this.#takeHeader(bytes);
    this.#state = "rest";
    return this.#take(bytes);
  }

  #takeHeader(bytes: Uint8Array): number {
    const length = gzipHeaderLength(bytes);
    if (length === undefined) {
      if (bytes.length > GZIP_HEADER_BYTES_MAX) {
        throw this.#fault("is damaged (its header is too long)");
      }
      return 0;
    }
    if (bytes[2] !== 8) throw this.#fault("is damaged (unknown compression method)");
    if (bytes[3]! & 0xe0) throw this.#fault("is damaged (unknown header flags set)");
    const chunkSize = this.#memberBytes <= SMALL_MEMBER_BYTES
      ? SMALL_MEMBER_BYTES
      : GZIP_CHUNK_BYTES;
    this.#memberCount++;
    this.#memberBytes = 0;
    this.#crc = 0;
    this.#state = "data";
    const { name, emit } = this.#options;
    const options: InflaterOptions = {
      name,
      emit: (inflated) => {
        this.#crc = zlib.crc32(inflated, this.#crc);
        this.#memberBytes += inflated.length;
        emit(inflated);
      },
    };
    this.#member = new TransformInflater(
      zlib.createInflateRaw({ chunkSize }),
      "gzip",
      options,
      true,
    );
    return length;
  }

  #takeTrailer(bytes: Uint8Array): number {
    if (bytes.length < GZIP_TRAILER_BYTES) return 0;
    const view = new DataView(bytes.buffer, bytes.byteOffset, GZIP_TRAILER_BYTES);
    if (view.getUint32(0, true) !== this.#crc) {
      throw this.#fault("is damaged (incorrect data check)");
    }
    if (view.getUint32(4, true) !== this.#memberBytes % 2 ** 32) {
      throw this.#fault("is damaged (incorrect length check)");
    }
    this.#state = "header";
    return GZIP_TRAILER_BYTES;
  }

  #fault(why: string): InputError {
    return new InputError(this.#options.name, `the gzip data ${why}`);
  }
}

/** The length of a member's header; undefined if it is incomplete. */
function gzipHeaderLength(bytes: Uint8Array): number | undefined {
  if (bytes.length < 10) return undefined;
  const flags = bytes[3]!;
  let length = 10;
  if (flags & GZIP_FLAG.extra) {
    if (bytes.length < length + 2) return undefined;
    length += 2 + bytes[length]! + bytes[length + 1]! * 256;
  }
  for (const flag of [GZIP_FLAG.name, GZIP_FLAG.comment]) {
    if ((flags & flag) === 0) continue;
    const end = bytes.indexOf(0, length);
    if (end < 0) return undefined;
    length = end + 1;
  }
  if (flags & GZIP_FLAG.headerCrc) length += 2;
  return length <= bytes.length ? length : undefined;
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(a.length + b.length);
  bytes.set(a);
  bytes.set(b, a.length);
  return bytes;
}

/** Deno's decoders run in the calling thread: nothing else runs while they inflate a piece. */
export const INFLATES_IN_PLACE: boolean = "deno" in versions;
/** Deno's decoder must not meet damage after a write's first output: see zstd_frames.ts. */
const WRITES_ONE_BLOCK = INFLATES_IN_PLACE;
/** A block inflates to at most 128 KiB. */
const ZSTD_CHUNK_BYTES = WRITES_ONE_BLOCK ? 256 << 10 : 1 << 20;

/** @throws {InputError} if the runtime's node:zlib has no zstd */
export function createZstdInflater(options: InflaterOptions): Inflater {
  if (typeof zlib.createZstdDecompress !== "function") {
    throw new InputError(options.name, "is compressed with zstd, which this runtime cannot read", {
      code: "unsupported",
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
      // A decoder that received nothing may report an error, but a stream of only skippable frames is valid.
      if (this.#wrote) await this.#decoder.end();
    });
  }

  close(): void {
    this.#decoder.close();
  }

  /** The walker is ahead of the decoder: errors in bytes already emitted come before the walker's. */
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

// The package is wrapped CommonJS, and not every loader finds its named exports.
const XzReadableStream: XzStreamClass = xzModule.XzReadableStream ??
  (xzModule as unknown as { default: { XzReadableStream: XzStreamClass } }).default
    .XzReadableStream;

/** The meaning of xz-embedded's return codes (enum xz_ret in its xz.h). */
const DECODER_CODES: ReadonlyMap<string, string> = new Map([
  ["3", "the xz data needs more memory than there is"],
  ["4", "the xz data needs more memory than is allowed"],
  ["5", "the xz data is damaged: it has no xz header"],
  ["6", "the xz data uses an option that is not supported"],
  ["7", "the xz data is damaged"],
  ["8", "the xz data ends too early or is damaged"],
]);

const XZ_HINT = "unpack it first: xz -dc FILE.tar.xz > FILE.tar";
/** The start of a file: the stream flags and the first block header (xz file format, sections 2.1 and 3.1). */
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

/** Describes options in the head of an xz file that the decoder may not support. */
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

/** The decoder allows one stream at a time per thread; a second one waits for the first. */
export function createXzInflater(options: InflaterOptions): Inflater {
  return new XzInflater(options);
}

/** Turns a pull stream into a push stream: a piece is done when the decoder asks for the next. */
class XzInflater implements Inflater {
  readonly #name: string;
  readonly #emit: (bytes: Uint8Array) => void;
  #piece: Uint8Array | undefined;
  /** The start of the data, for errors. */
  #head = new Uint8Array(0);
  #ended = false;
  #decoderWaits: (() => void) | undefined;
  #pusher: { resolve: () => void; reject: (reason: unknown) => void } | undefined;
  /** Whether the decoder has received the current piece. */
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
    // The decoder treats an empty piece as the end.
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
    // The decoder's memory is freed only if its stream is cancelled.
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
      // The decoder does not read past its last stream.
      if (!this.#ended || this.#piece) {
        throw new InputError(this.#name, "something other than xz data follows the xz data");
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
