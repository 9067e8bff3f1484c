/**
 * Conversions between streams, readers and sinks: images to memory or a WritableStream, bytes from any source to a reader,
 * and files and streams to a sink. Holes in sparse files are skipped.
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

  /** The image, available once it is finished. @throws {TypeError} before that */
  get bytes(): Uint8Array<ArrayBuffer> {
    if (this.#bytes === undefined) throw new TypeError("the image is not finished");
    return this.#bytes;
  }

  /** Stores a copy of the bytes. */
  write(bytes: Uint8Array, offset: number): void {
    invariant(offset >= this.#endOffset, `write at ${offset} after the end ${this.#endOffset}`);
    this.#endOffset = offset + bytes.length;
    this.#reserve(this.#endOffset);
    this.#buffer.set(bytes, offset);
  }

  /** Finishes the image. */
  finish(sizeBytes: number): void {
    this.#reserve(sizeBytes);
    this.#bytes = this.#buffer.subarray(0, sizeBytes);
  }

  /** Discards the image. */
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
 * A sink that writes an image to a stream from first byte to last, with holes as zeros, in pieces of 1 MiB. It waits for
 * the stream's reader, closes the stream at the end, and aborts it if the work fails.
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
  // The pending write reports the failure.
  writer.closed.catch(() => {});
  let isOver = false;
  const sink = createStdoutSink(async (bytes) => {
    await writer.ready;
    // The sink reuses its buffer, but a stream may pass the piece on.
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

/** Bytes that can be read asynchronously at any position, such as an object in a store or a file on another host. */
export interface AsyncReader {
  /** The total number of bytes. */
  readonly sizeBytes: number;
  /** Fills `target` from `position`; resolves to the number of bytes read, which is smaller only at the end. */
  read(target: Uint8Array, position: number): Promise<number>;
}

/** Bytes from any source. A string is the path of a file. */
export type BytesSource =
  | string
  | Uint8Array
  | RandomReader
  | AsyncReader
  | AsyncIterable<Uint8Array>
  | ReadableStream<Uint8Array>;

/** Options for making a reader from a source. */
export interface ReaderOptions {
  /** Where streamed data is stored, in an unnamed file; default: the system's directory for temporary files. */
  readonly temporaryDirectory?: string | undefined;
  /** The name of the bytes in messages. */
  readonly name?: string | undefined;
  /** Aborting it stops the work with its reason. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * A reader for bytes from any source. Memory, files and readers are read in place; streams and asynchronous readers are
 * first copied to a temporary file, because images need random access.
 *
 * @throws {InputError} if the file does not exist
 * @throws {IoError} if the source cannot be read or the temporary file cannot be written
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

/** The bytes of a source, from first to last. */
export function byteStream(source: Exclude<BytesSource, string>): AsyncIterable<Uint8Array> {
  if (source instanceof Uint8Array) return iterableOf(source);
  if ("readAt" in source) return piecesOf({ sizeBytes: source.sizeBytes, read: readLater(source) });
  return isAsyncReader(source) ? piecesOf(source) : source;
}

/** Node's streams also have a `read` method, but no size. */
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

/** The pieces of a stream. Throws when the signal is aborted, even if the stream has stalled. */
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
    // A stalled stream may not end before its next piece, so do not wait for it.
    if (state === "waiting") end?.catch(() => {});
    else await end;
  }
}

function disposable(reader: RandomReader): RandomReader & Disposable {
  return Object.assign(Object.create(reader) as RandomReader, {
    [Symbol.dispose]: () => reader.close(),
  });
}

export interface ByteRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** Options for reading a file. */
export interface ReadIntoOptions {
  readonly signal?: AbortSignal | undefined;
  readonly progress: Progress;
  /** The name of the progress task; default: `chunk`. */
  readonly task?: string | undefined;
  /** Called with the file's size before it is read; may throw. */
  readonly checkSize?: ((sizeBytes: number) => void) | undefined;
}

/** After this many pieces, the event loop may handle signals. */
const YIELD_AFTER_PIECES = 16;
/** Reading smaller files is faster than looking for their holes. */
const SPARSE_BYTES_MIN = 256 << 20;
const TAR_BLOCK_BYTES = 512;
/** A larger map means pieces so small that reading everything costs little more. */
const MAP_BYTES_MAX = 16 << 20;

/**
 * Reads a regular file or a block device into a sink and finishes the sink.
 *
 * @returns the size of the file
 * @throws {InputError} if nothing exists there, it is another kind of file, or its size changes while it is read
 * @throws {IoError} if it cannot be read
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
 * Reads a stream into a sink and finishes the sink.
 *
 * @returns the number of bytes read
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

/** Returns the current end of the file. */
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

/**
 * Finds a file's data. node:fs has no SEEK_DATA, but GNU tar uses it and writes the ranges at the start of an archive.
 */
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

/** The sparse map that GNU tar writes for a file; undefined without GNU tar or a map. */
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
 * Parses the map at the start of an archive of one sparse file: a header with extended attributes, the attributes, the
 * file's header, then as text the number of ranges and the offset and length of each (GNU tar manual, "Storing Sparse
 * Files", PAX format 1.0).
 *
 * @returns `more` if the map is incomplete and the archive continues
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
