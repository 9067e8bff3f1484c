/**
 * Gives a file or a stream to a sink, from its beginning to its end. Holes of a sparse file are skipped.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { fstatSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { setImmediate } from "node:timers/promises";
import { InputError, throwIfAborted } from "../errors.ts";
import type { Progress } from "../progress.ts";
import { descriptorReader, openInputFile, type RandomReader } from "./random_reader.ts";
import type { ImageSink } from "./sink.ts";
import { displayPath } from "./system_error.ts";

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

const READ_BYTES = 1 << 20;
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
  const buffer = new Uint8Array(READ_BYTES);
  let pieceCount = 0;
  for (const { offsetBytes, lengthBytes } of ranges) {
    const endBytes = offsetBytes + lengthBytes;
    for (let at = offsetBytes; at < endBytes;) {
      const wanted = buffer.subarray(0, Math.min(READ_BYTES, endBytes - at));
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
  const found = await sparseMapOf(resolve(path));
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
