/**
 * Cuts an image into units while its bytes pass through: cells of a grid, chunks, and whole files.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { alignDown, isZero } from "../../lib/bytes/arithmetic.ts";
import { Chunker, type ChunkerParameters } from "../../lib/chunk/fastcdc.ts";
import { invariant } from "../../lib/errors.ts";
import type { ImageSink } from "../../lib/io/sink.ts";
import {
  BLOCK_SIZE_BYTES,
  type FileTree,
  type Payload,
  readPayload,
  walkTree,
} from "../../lib/model/node.ts";
import type { Progress } from "../../lib/progress.ts";
import { contentId, type ContentTable, type ImageCollector } from "./store.ts";
import { pause, type StoredSizes } from "./stored_sizes.ts";

/** Number of bytes in blocks that are not all zeros, counting blocks from the start of `bytes`. */
export function countNonZeroBytes(bytes: Uint8Array): number {
  let count = 0;
  for (let at = 0; at < bytes.length; at += BLOCK_SIZE_BYTES) {
    const end = Math.min(at + BLOCK_SIZE_BYTES, bytes.length);
    if (!isZero(bytes, at, end)) count += end - at;
  }
  return count;
}

/**
 * Receives a cell that is not all zeros, with its number of bytes outside zero blocks. The bytes are only valid during
 * the call.
 */
export type CellReceiver = (cell: Uint8Array, cellIndex: number, rawBytes: number) => void;

export class CellCutter implements ImageSink {
  readonly #cellBytes: number;
  readonly #receive: CellReceiver;
  readonly #shiftBytes: number;
  readonly #cell: Uint8Array;
  /** The cell being filled; its bytes up to `filled` are set. */
  #cellIndex = 0;
  #filled = 0;

  /** @param shiftBytes zeros inserted before the image, which move it on the grid */
  constructor(cellBytes: number, receive: CellReceiver, shiftBytes = 0) {
    this.#cellBytes = cellBytes;
    this.#receive = receive;
    this.#shiftBytes = shiftBytes;
    this.#cell = new Uint8Array(cellBytes);
  }

  write(bytes: Uint8Array, offset: number): void {
    const cellBytes = this.#cellBytes;
    let at = offset + this.#shiftBytes;
    invariant(at >= this.#cellIndex * cellBytes + this.#filled, "writes ascend");
    for (let done = 0; done < bytes.length;) {
      const start = alignDown(at, cellBytes);
      if (start !== this.#cellIndex * cellBytes) this.#nextCell(start / cellBytes);
      const count = Math.min(bytes.length - done, start + cellBytes - at);
      const part = bytes.subarray(done, done + count);
      if (count === cellBytes) this.#emit(part);
      else this.#fill(part, at - start);
      done += count;
      at += count;
    }
  }

  /** The last cell may be shorter than the others. */
  finish(sizeBytes: number): void {
    const end = sizeBytes + this.#shiftBytes;
    const start = this.#cellIndex * this.#cellBytes;
    invariant(end >= start + this.#filled, "an image ends behind its last byte");
    if (this.#filled > 0) this.#flush(Math.min(this.#cellBytes, end - start));
  }

  abort(): void {
    this.#filled = 0;
  }

  #fill(part: Uint8Array, inset: number): void {
    this.#cell.fill(0, this.#filled, inset);
    this.#cell.set(part, inset);
    this.#filled = inset + part.length;
  }

  #nextCell(cellIndex: number): void {
    if (this.#filled > 0) this.#flush(this.#cellBytes);
    this.#cellIndex = cellIndex;
  }

  #flush(sizeBytes: number): void {
    this.#cell.fill(0, this.#filled, sizeBytes);
    this.#filled = 0;
    this.#emit(this.#cell.subarray(0, sizeBytes));
  }

  #emit(cell: Uint8Array): void {
    const rawBytes = countNonZeroBytes(cell);
    if (rawBytes > 0) this.#receive(cell, this.#cellIndex, rawBytes);
  }
}

/** Receives a chunk that is not all zeros, with its number of bytes outside the image's zero blocks, and its offset. */
export type MeasuredChunkReceiver = (chunk: Uint8Array, rawBytes: number, offset: number) => void;

/** The image is passed on in pieces of this size; holes that cover a whole piece are not read. */
const PIECE_BYTES = 1024 * 1024;
/** More blocks than the longest chunk and a piece span. */
const REMEMBERED_BLOCKS = 8192;

export class ChunkCutter implements ImageSink {
  readonly #pieces: CellCutter;
  readonly #chunker: Chunker;
  readonly #receive: MeasuredChunkReceiver;
  /** The numbers of blocks that are not all zeros, each stored at its number modulo the length. */
  readonly #nonZeroBlocks = new Float64Array(REMEMBERED_BLOCKS).fill(-1);

  constructor(parameters: ChunkerParameters, receive: MeasuredChunkReceiver) {
    this.#receive = receive;
    this.#chunker = new Chunker(parameters, (chunk, offset) => this.#measure(chunk, offset));
    this.#pieces = new CellCutter(PIECE_BYTES, (piece, index) => this.#push(piece, index));
  }

  write(bytes: Uint8Array, offset: number): void {
    this.#pieces.write(bytes, offset);
  }

  finish(sizeBytes: number): void {
    this.#pieces.finish(sizeBytes);
    this.#chunker.pushZeros(sizeBytes - this.#chunker.offset);
    this.#chunker.finish();
  }

  abort(): void {
    this.#pieces.abort();
  }

  #push(piece: Uint8Array, index: number): void {
    const offset = index * PIECE_BYTES;
    this.#chunker.pushZeros(offset - this.#chunker.offset);
    for (let at = 0; at < piece.length; at += BLOCK_SIZE_BYTES) {
      if (isZero(piece, at, Math.min(at + BLOCK_SIZE_BYTES, piece.length))) continue;
      const block = (offset + at) / BLOCK_SIZE_BYTES;
      this.#nonZeroBlocks[block % REMEMBERED_BLOCKS] = block;
    }
    this.#chunker.push(piece);
  }

  #measure(chunk: Uint8Array, offset: number): void {
    // The chunk may hold only the zero parts of blocks that are not all zeros.
    if (countNonZeroBytes(chunk) === 0) return;
    const end = offset + chunk.length;
    let rawBytes = 0;
    for (
      let block = Math.floor(offset / BLOCK_SIZE_BYTES);
      block * BLOCK_SIZE_BYTES < end;
      block++
    ) {
      if (this.#nonZeroBlocks[block % REMEMBERED_BLOCKS] !== block) continue;
      const blockStart = block * BLOCK_SIZE_BYTES;
      rawBytes += Math.min(blockStart + BLOCK_SIZE_BYTES, end) - Math.max(blockStart, offset);
    }
    this.#receive(chunk, rawBytes, offset);
  }
}

const FILE_PIECE_BYTES = 4 * 1024 * 1024;
const PAUSE_AFTER_BYTES = 16 * 1024 * 1024;

export interface FileUnitsContext {
  readonly table: ContentTable;
  readonly sizes: StoredSizes | undefined;
  readonly progress: Progress;
  readonly signal: AbortSignal | undefined;
}

/** Adds the files of a tree; returns the content number of each payload that is not all zeros. */
export async function addFileUnits(
  tree: FileTree,
  collector: ImageCollector,
  context: FileUnitsContext,
): Promise<Map<Payload, number>> {
  const contents = new Map<Payload, number>();
  const reader = new PayloadReader(context);
  const task = context.progress.begin("files");
  for (const { node } of walkTree(tree)) {
    if (node.kind !== "file" || contents.has(node.payload)) continue;
    const { payload } = node;
    collector.addSize(payload.sizeBytes, 0);
    const rawBytes = dataBytes(payload);
    if (rawBytes === 0) continue;
    const content = await reader.contentOf(payload);
    contents.set(payload, content);
    collector.add(content, rawBytes);
    task.advance(rawBytes);
  }
  task.end();
  return contents;
}

class PayloadReader {
  readonly #context: FileUnitsContext;
  readonly #buffer = new Uint8Array(FILE_PIECE_BYTES);
  #sincePause = 0;

  constructor(context: FileUnitsContext) {
    this.#context = context;
  }

  /** A file's identity is its size, the position of its data and the data itself; holes are not read. */
  async contentOf(payload: Payload): Promise<number> {
    const { table, sizes } = this.#context;
    this.#sincePause += BLOCK_SIZE_BYTES;
    const hash = createHash("sha256");
    const runs = payload.dataRuns.map((run) => `${run.startBlock}+${run.blockCount}`).join();
    hash.update(`file ${payload.sizeBytes} ${runs}\n`);
    for (const piece of this.#pieces(payload)) {
      hash.update(piece);
      await this.#pauseSometimes(piece.length);
    }
    const id = contentId(hash);
    const known = table.find(id);
    if (known !== undefined) return known;
    let takeStored = (_storedBytes: number) => {};
    const content = table.indexOf(id, payload.sizeBytes, (take) => takeStored = take);
    if (sizes === undefined) return content;
    for (const piece of this.#pieces(payload)) {
      sizes.measure(piece, takeStored);
      await this.#pauseSometimes(piece.length);
    }
    return content;
  }

  async #pauseSometimes(doneBytes: number): Promise<void> {
    this.#sincePause += doneBytes;
    if (this.#sincePause < PAUSE_AFTER_BYTES) return;
    this.#sincePause = 0;
    await pause(this.#context.sizes, this.#context.signal);
  }

  *#pieces(payload: Payload): Generator<Uint8Array> {
    for (const { startBlock, blockCount } of payload.dataRuns) {
      const end = Math.min((startBlock + blockCount) * BLOCK_SIZE_BYTES, payload.sizeBytes);
      for (let at = startBlock * BLOCK_SIZE_BYTES; at < end; at += FILE_PIECE_BYTES) {
        const piece = this.#buffer.subarray(0, Math.min(FILE_PIECE_BYTES, end - at));
        readPayload(payload, piece, at);
        yield piece;
      }
    }
  }
}

/** Number of a file's bytes in blocks that are not all zeros. */
function dataBytes(payload: Payload): number {
  let count = 0;
  for (const { startBlock, blockCount } of payload.dataRuns) {
    const start = startBlock * BLOCK_SIZE_BYTES;
    count += Math.min(blockCount * BLOCK_SIZE_BYTES, payload.sizeBytes - start);
  }
  return count;
}
