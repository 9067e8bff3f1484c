/**
 * Gives a file that exists to a sink, from its beginning to its end. Holes are read as the zeros that they are: no
 * runtime can ask where they begin (SEEK_DATA).
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { InputError, throwIfAborted } from "../errors.ts";
import { openFileReader, type RandomReader } from "../io/random_reader.ts";
import type { ImageSink } from "../io/sink.ts";
import type { Progress } from "../progress.ts";

const READ_BYTES = 1 << 20;
/** Signals are served after so many pieces. */
const YIELD_AFTER_PIECES = 16;

/** What reading needs. */
export interface ReadFileOptions {
  readonly signal?: AbortSignal | undefined;
  readonly progress: Progress;
}

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
  options: ReadFileOptions,
): Promise<number> {
  const reader = openFileReader(path, {
    what: "a disk image or any file",
    pipeHint: "a stream is read with `-`",
  });
  const totalBytes = reader.sizeBytes;
  const task = options.progress.begin("chunk", totalBytes);
  try {
    const sizeBytes = await streamInto(piecesOf(reader), sink, {
      ...options,
      advance: task.advance,
    });
    if (sizeBytes !== totalBytes) {
      throw new InputError(
        reader.name,
        `changed while it was read: it had ${totalBytes} bytes, and now ${sizeBytes}`,
      );
    }
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
  options: ReadFileOptions,
): Promise<number> {
  const task = options.progress.begin("chunk");
  try {
    const sizeBytes = await streamInto(stream, sink, { ...options, advance: task.advance });
    await sink.finish(sizeBytes);
    return sizeBytes;
  } finally {
    task.end();
  }
}

async function streamInto(
  pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  sink: ImageSink,
  options: { readonly signal?: AbortSignal | undefined; readonly advance: (bytes: number) => void },
): Promise<number> {
  let offset = 0;
  let count = 0;
  for await (const piece of pieces) {
    await sink.write(piece, offset);
    offset += piece.length;
    options.advance(piece.length);
    if (++count % YIELD_AFTER_PIECES === 0) await setImmediate();
    throwIfAborted(options.signal);
  }
  return offset;
}

function* piecesOf(reader: RandomReader): Generator<Uint8Array> {
  const buffer = new Uint8Array(READ_BYTES);
  for (let position = 0;;) {
    const count = reader.readAt(buffer, position);
    if (count > 0) yield buffer.subarray(0, count);
    if (count < buffer.length) return;
    position += count;
  }
}
