/**
 * Between streams, readers and sinks: images into memory and into a WritableStream, bytes from anywhere as a reader, and files
 * and streams into a sink. Holes of a sparse file are skipped.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { fstatSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname } from "node:path";
import { setImmediate } from "node:timers/promises";
import { abortError, InputError, invariant, throwIfAborted } from "../errors.ts";
import type { Progress } from "../progress.ts";
import {
  descriptorReader,
  memoryReader,
  openFileReader,
  openInputFile,
  type RandomReader,
} from "./random_reader.ts";
import { createStdoutSink, type ImageSink, PIECE_BYTES } from "./sink.ts";
import { displayPath } from "./system_error.ts";
import { createUnlinkedFile, singleFile, SpoolWriter } from "./spool.ts";

/**
 * Keeps an image in memory.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { blessMerged, MemorySink, openExt4Image } from "@blessfs/blessfs";
 *
 * const sink = new MemorySink();
 * const { sizeBytes } = await blessMerged({ source: "oci:fixtures/oci-tiny", sink });
 * assertEquals(sink.bytes.length, sizeBytes);
 * using image = openExt4Image(sink.bytes);
 * assertEquals(image.superblock.uuid.length, 16);
 * ```
 */
export class MemorySink implements ImageSink {
  #buffer = new Uint8Array(PIECE_BYTES);
  #endOffset = 0;
  #bytes: Uint8Array<ArrayBuffer> | undefined;

  /** The image, once it is finished. @throws {TypeError} before */
  get bytes(): Uint8Array<ArrayBuffer> {
    if (this.#bytes === undefined) throw new TypeError("the image is not finished");
    return this.#bytes;
  }

  /** Keeps a copy. */
  write(bytes: Uint8Array, offset: number): void {
    invariant(offset >= this.#endOffset, `write at ${offset} after the end ${this.#endOffset}`);
    this.#endOffset = offset + bytes.length;
    this.#reserve(this.#endOffset);
    this.#buffer.set(bytes, offset);
  }

  /** Ends the image. */
  finish(sizeBytes: number): void {
    this.#reserve(sizeBytes);
    this.#bytes = this.#buffer.subarray(0, sizeBytes);
  }

  /** Forgets the image. */
  abort(): void {
    this.#buffer = new Uint8Array();
    this.#bytes = undefined;
  }

  #reserve(sizeBytes: number): void {
    if (sizeBytes <= this.#buffer.length) return;
    const grown = new Uint8Array(Math.max(sizeBytes, 2 * this.#buffer.length));
    grown.set(this.#buffer);
    this.#buffer = grown;
  }
}

/**
 * A sink that writes an image into a stream from its first byte to its last, with holes as zeros, in pieces of 1 MiB. It waits
 * for the stream's reader, closes the stream at the end, and aborts it when the work fails.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { blessMerged, toWritable } from "@blessfs/blessfs";
 *
 * // Any stream, such as that of a request or of a file.
 * const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
 * const blessed = blessMerged({ source: "oci:fixtures/oci-tiny", sink: toWritable(writable) });
 * let receivedBytes = 0;
 * for await (const piece of readable) receivedBytes += piece.length;
 * assertEquals(receivedBytes, (await blessed).sizeBytes);
 * ```
 */
export function toWritable(stream: WritableStream<Uint8Array>): ImageSink {
  const writer = stream.getWriter();
  // What fails is told by the write that waits.
  writer.closed.catch(() => {});
  let isOver = false;
  const sink = createStdoutSink(async (bytes) => {
    await writer.ready;
    // The sink fills its buffer again, and a stream may pass it on.
    await writer.write(bytes.slice());
  });
  return {
    write: (bytes, offset) => sink.write(bytes, offset),
    async finish(sizeBytes) {
      await sink.finish(sizeBytes);
      isOver = true;
      await writer.close();
    },
    async abort() {
      await sink.abort();
      if (isOver) return;
      isOver = true;
      await writer.abort(new Error("the image was dropped")).catch(() => {});
    },
  };
}

/** Bytes that can be read at any position, after a while: of an object in a store, of a file of another host. */
export interface AsyncReader {
  /** How many bytes there are. */
  readonly sizeBytes: number;
  /** Fills `target` from `position`; gives the bytes read, fewer only at the end. */
  read(target: Uint8Array, position: number): Promise<number>;
}

/** Bytes from anywhere. A string is the path of a file. */
export type BytesSource =
  | string
  | Uint8Array
  | RandomReader
  | AsyncReader
  | AsyncIterable<Uint8Array>
  | ReadableStream<Uint8Array>;

/** How bytes are brought here. */
export interface ReaderOptions {
  /** Where what comes in a stream is kept, without a name; default: the system's directory for temporary files. */
  readonly temporaryDirectory?: string | undefined;
  /** What to call the bytes in messages. */
  readonly name?: string | undefined;
  /** Ends the work with its reason. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * A reader over bytes from anywhere. Memory, files and readers are read where they are; streams and readers that have to be
 * waited for are first copied into a temporary file, as an image is read here and there.
 *
 * @throws {InputError} when there is no such file
 * @throws {IoError} when it cannot be read, or the temporary file not be written
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { readerOf } from "@blessfs/blessfs";
 *
 * const blob = new Blob(["hello"]);
 * using reader = await readerOf(blob.stream());
 * assertEquals(reader.sizeBytes, 5);
 * ```
 */
export async function readerOf(
  source: BytesSource,
  options: ReaderOptions = {},
): Promise<RandomReader & Disposable> {
  if (typeof source === "string") return disposable(openFileReader(source));
  if (source instanceof Uint8Array) return disposable(memoryReader(source, options.name));
  if ("readAt" in source) return disposable(source);
  return disposable(await spooled(isAsyncReader(source) ? piecesOf(source) : source, options));
}

/** Bytes from anywhere, from the first to the last. */
export function byteStream(source: Exclude<BytesSource, string>): AsyncIterable<Uint8Array> {
  if (source instanceof Uint8Array) return iterableOf(source);
  if ("readAt" in source) return piecesOf({ sizeBytes: source.sizeBytes, read: readLater(source) });
  return isAsyncReader(source) ? piecesOf(source) : source;
}

/** Streams of Node have a method `read`, too, and no size. */
function isAsyncReader(source: AsyncReader | AsyncIterable<Uint8Array>): source is AsyncReader {
  return !(Symbol.asyncIterator in source);
}

async function* iterableOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

function readLater(reader: RandomReader): AsyncReader["read"] {
  return (target, position) => Promise.resolve(reader.readAt(target, position));
}

async function* piecesOf(reader: AsyncReader): AsyncGenerator<Uint8Array> {
  for (let position = 0; position < reader.sizeBytes;) {
    const piece = new Uint8Array(Math.min(PIECE_BYTES, reader.sizeBytes - position));
    const count = await reader.read(piece, position);
    if (count === 0) {
      throw new InputError("the reader", `ends at ${position} of ${reader.sizeBytes} bytes`);
    }
    yield piece.subarray(0, count);
    position += count;
  }
}

async function spooled(
  stream: AsyncIterable<Uint8Array>,
  { temporaryDirectory = tmpdir(), name = "the stream", signal }: ReaderOptions,
): Promise<RandomReader> {
  const descriptor = createUnlinkedFile(temporaryDirectory);
  const writer = new SpoolWriter(singleFile(descriptor, temporaryDirectory));
  try {
    for await (const piece of untilAborted(stream, signal)) writer.append(piece);
    writer.flush();
  } catch (error) {
    descriptorReader(descriptor, name, 0).close();
    throw error;
  }
  return descriptorReader(descriptor, name, writer.sizeBytes);
}

/** The pieces of a stream. Throws when the signal is aborted, also while the stream stalls. */
export async function* untilAborted(
  stream: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  const pieces = stream[Symbol.asyncIterator]();
  let state = "given" as "waiting" | "given" | "ended";
  const next = () =>
    new Promise<IteratorResult<Uint8Array>>((resolve, reject) => {
      throwIfAborted(signal);
      const onAbort = () => reject(abortError(signal!));
      signal?.addEventListener("abort", onAbort, { once: true });
      state = "waiting";
      pieces.next().then((piece) => {
        state = piece.done ? "ended" : "given";
        resolve(piece);
      }, (error) => {
        state = "ended";
        reject(error);
      }).finally(() => signal?.removeEventListener("abort", onAbort));
    });
  try {
    for (let piece = await next(); !piece.done; piece = await next()) yield piece.value;
  } finally {
    const end = state === "ended" ? undefined : pieces.return?.();
    // A stream that stalls may not end before its next piece, so nothing waits for it.
    if (state === "waiting") end?.catch(() => {});
    else await end;
  }
}

function disposable(reader: RandomReader): RandomReader & Disposable {
  return Object.assign(Object.create(reader) as RandomReader, {
    [Symbol.dispose]: () => reader.close(),
  });
}

/** A part of a file. */
export interface ByteRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** How a file is read. */
export interface ReadIntoOptions {
  readonly signal?: AbortSignal | undefined;
  readonly progress: Progress;
  /** What the progress is called; default: `chunk`. */
  readonly task?: string | undefined;
  /** Called with the size of a file before it is read; may throw. */
  readonly checkSize?: ((sizeBytes: number) => void) | undefined;
}

/** Signals are served after so many pieces. */
const YIELD_AFTER_PIECES = 16;
/** Holes of smaller files are read faster than they are asked for. */
const SPARSE_BYTES_MIN = 256 << 20;
const TAR_BLOCK_BYTES = 512;
/** A map that takes more is of a file in pieces so small that reading it all costs little more. */
const MAP_BYTES_MAX = 16 << 20;

/**
 * Reads a regular file or a block device into a sink, and finishes it.
 *
 * @returns the size of the file
 * @throws {InputError} when nothing is there, or neither, or when it changes its size while it is read
 * @throws {IoError} when it cannot be read
 */
export async function readFileInto(
  path: string,
  sink: ImageSink,
  options: ReadIntoOptions,
): Promise<number> {
  const { descriptor, sizeBytes } = openInputFile(path, {
    what: "a disk image or any file",
    pipeHint: "a stream is read with `-`",
  });
  const reader = descriptorReader(descriptor, displayPath(path), sizeBytes);
  const task = options.progress.begin(options.task ?? "chunk", sizeBytes);
  try {
    options.checkSize?.(sizeBytes);
    const ranges = await dataRanges(path, descriptor, sizeBytes);
    let doneBytes = 0;
    const advance = (endBytes: number) => {
      task.advance(endBytes - doneBytes);
      doneBytes = endBytes;
    };
    const readBytes = await readRanges(reader, ranges, sink, { ...options, advance });
    if (readBytes !== sizeBytes) {
      const what = `it had ${sizeBytes} bytes, and now ${readBytes}`;
      throw new InputError(reader.name, `changed while it was read: ${what}`, { code: "changed" });
    }
    advance(sizeBytes);
    await sink.finish(sizeBytes);
    return sizeBytes;
  } finally {
    task.end();
    reader.close();
  }
}

/**
 * Reads a stream into a sink, and finishes it.
 *
 * @returns the size of what was read
 */
export async function readStreamInto(
  stream: AsyncIterable<Uint8Array>,
  sink: ImageSink,
  options: ReadIntoOptions,
): Promise<number> {
  const task = options.progress.begin(options.task ?? "chunk");
  try {
    let sizeBytes = 0;
    let pieceCount = 0;
    for await (const piece of stream) {
      await sink.write(piece, sizeBytes);
      sizeBytes += piece.length;
      task.advance(piece.length);
      if (++pieceCount % YIELD_AFTER_PIECES === 0) await setImmediate();
      throwIfAborted(options.signal);
    }
    await sink.finish(sizeBytes);
    return sizeBytes;
  } finally {
    task.end();
  }
}

/** Returns where the file ends now. */
async function readRanges(
  reader: RandomReader,
  ranges: readonly ByteRange[],
  sink: ImageSink,
  options: {
    readonly signal?: AbortSignal | undefined;
    readonly advance: (endBytes: number) => void;
  },
): Promise<number> {
  const buffer = new Uint8Array(PIECE_BYTES);
  let pieceCount = 0;
  for (const { offsetBytes, lengthBytes } of ranges) {
    const endBytes = offsetBytes + lengthBytes;
    for (let at = offsetBytes; at < endBytes;) {
      const wanted = buffer.subarray(0, Math.min(PIECE_BYTES, endBytes - at));
      const count = reader.readAt(wanted, at);
      if (count > 0) await sink.write(buffer.subarray(0, count), at);
      at += count;
      options.advance(at);
      if (++pieceCount % YIELD_AFTER_PIECES === 0) await setImmediate();
      throwIfAborted(options.signal);
      if (count < wanted.length) return at;
    }
  }
  return reader.readAt(buffer.subarray(0, 1), reader.sizeBytes) + reader.sizeBytes;
}

/** Where a file has data. No runtime can ask (SEEK_DATA), but GNU tar can, and says it at the start of an archive. */
async function dataRanges(
  path: string,
  descriptor: number,
  sizeBytes: number,
): Promise<readonly ByteRange[]> {
  const all = [{ offsetBytes: 0, lengthBytes: sizeBytes }];
  if (sizeBytes < SPARSE_BYTES_MIN) return all;
  const { blocks } = fstatSync(descriptor);
  if (blocks * TAR_BLOCK_BYTES > sizeBytes / 2) return all;
  const found = await sparseMapOf(path);
  const isSound = found?.every(({ offsetBytes, lengthBytes }, i) =>
    lengthBytes >= 0 && offsetBytes + lengthBytes <= sizeBytes &&
    (i === 0 || offsetBytes >= found[i - 1]!.offsetBytes + found[i - 1]!.lengthBytes)
  );
  return found !== undefined && isSound === true ? found : all;
}

/** The sparse map that GNU tar writes for a file; undefined where there is no such tar, or no map. */
async function sparseMapOf(path: string): Promise<ByteRange[] | undefined> {
  const tar = spawn("tar", [
    "--create",
    "--file=-",
    "--format=posix",
    "--sparse",
    "--sparse-version=1.0",
    "--hole-detection=seek",
    "--no-recursion",
    `--directory=${dirname(path)}`,
    "--",
    `./${basename(path)}`,
  ], { stdio: ["ignore", "pipe", "ignore"] });
  const isEnded = new Promise<void>((resolve) => {
    tar.on("error", () => resolve());
    tar.on("close", () => resolve());
  });
  let head = new Uint8Array(0);
  try {
    for await (const piece of tar.stdout as AsyncIterable<Uint8Array>) {
      const grown = new Uint8Array(head.length + piece.length);
      grown.set(head);
      grown.set(piece, head.length);
      head = grown;
      const map = readSparseMap(head);
      if (map !== "more") return map;
      if (head.length > MAP_BYTES_MAX) return undefined;
    }
  } catch {
    // Without tar, everything is read.
  } finally {
    tar.kill();
    await isEnded;
  }
  return undefined;
}

/**
 * The map at the start of an archive of one sparse file: a header with extended attributes, the attributes, the header
 * of the file, and as text the count of ranges and each one's offset and length (GNU tar manual, "Storing Sparse Files",
 * PAX format 1.0).
 *
 * @returns `more` when the archive goes on and the map is not whole yet
 */
function readSparseMap(head: Uint8Array): ByteRange[] | "more" | undefined {
  if (head.length < TAR_BLOCK_BYTES) return "more";
  const text = (start: number, end: number) =>
    new TextDecoder("latin1").decode(head.subarray(start, end));
  if (text(156, 157) !== "x") return undefined;
  const attributeBytes = Number.parseInt(text(124, 135), 8);
  const mapOffset = (2 + Math.ceil(attributeBytes / TAR_BLOCK_BYTES)) * TAR_BLOCK_BYTES;
  if (!Number.isSafeInteger(mapOffset)) return undefined;
  if (head.length < mapOffset) return "more";
  const attributes = text(TAR_BLOCK_BYTES, TAR_BLOCK_BYTES + attributeBytes);
  if (!attributes.includes("GNU.sparse.major=1\n")) return undefined;
  const numbers = text(mapOffset, head.length).split("\n").slice(0, -1);
  const count = Number(numbers[0]);
  if (numbers.length < 1 || numbers.length < 1 + 2 * count) return "more";
  return Array.from({ length: count }, (_, i) => ({
    offsetBytes: Number(numbers[1 + 2 * i]),
    lengthBytes: Number(numbers[2 + 2 * i]),
  }));
}
