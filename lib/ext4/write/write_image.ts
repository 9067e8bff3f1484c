/**
 * Writes a plan in one ascending pass over metadata and payload: each byte once, holes skipped.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { InputError, invariant, throwIfAborted } from "../../errors.ts";
import { type RandomReader, readAhead, readAheadBuffer } from "../../io/random_reader.ts";
import type { ImageSink } from "../../io/sink.ts";
import { isZero } from "../../bytes/arithmetic.ts";
import { BLOCK_SIZE_BYTES, type Payload, readPayload } from "../../model/node.ts";
import { NO_PROGRESS, type Progress, type ProgressTask } from "../../progress.ts";
import type { ImagePlan, MetadataWrite, PayloadWrite } from "../plan/image_plan.ts";

const PIECE_BYTES = 1024 * 1024;
/**
 * Files of up to 4 MiB are written in pieces that the sink passes on at once, while they are in the processor's cache. For
 * larger ones it pays to write a piece while the next one is read.
 */
const CACHED_PIECE_BYTES = 256 * 1024;
const CACHED_BYTES_MAX = 4 * 1024 * 1024;
/** Signals are handled after about this many bytes or writes. */
const YIELD_AFTER_BYTES = 16 * 1024 * 1024;
const YIELD_AFTER_WRITES = 2048;

/** The result of writing. */
export interface WriteResult {
  /** Cells of the grid that hold a non-zero byte, in bytes. */
  readonly cellBytes: number;
}

/** Options for writing an image. */
export interface WriteOptions {
  /** Stops the writing when it is aborted. */
  readonly signal?: AbortSignal | undefined;
  /** Progress reporter; default: none. */
  readonly progress?: Progress | undefined;
  /** Called after each write of payload. */
  readonly onWritten?: ((write: PayloadWrite) => void) | undefined;
  /** Called with all bytes in ascending order; the buffers are reused. */
  readonly onBytes?: ((bytes: Uint8Array, offset: number) => void) | undefined;
}

/** Writes an image and finishes the sink; aborts the sink before throwing any error. */
export async function writeImage(
  plan: ImagePlan,
  sink: ImageSink,
  options: WriteOptions = {},
): Promise<WriteResult> {
  const writer = new PlanWriter(plan, sink, options);
  try {
    return await writer.run();
  } catch (error) {
    await sink.abort();
    throw error;
  }
}

class PlanWriter {
  readonly #plan: ImagePlan;
  readonly #sink: ImageSink;
  readonly #signal: AbortSignal | undefined;
  readonly #progress: Progress;
  readonly #onWritten: ((write: PayloadWrite) => void) | undefined;
  readonly #onBytes: WriteOptions["onBytes"];
  readonly #cells: CellCounter;
  readonly #buffer = new Uint8Array(PIECE_BYTES);
  readonly #aheadBuffer = readAheadBuffer();
  /** The store of the previous payload and its reader: small files are mostly stored one after another. */
  #store: RandomReader | undefined;
  #ahead: RandomReader | undefined;
  #payload: Payload | undefined;
  #payloadHash = 0;
  /** The first block at which the next run may start; consecutive files can have the same payload. */
  #payloadBlock = 0;
  #bytesSinceYield = 0;
  #writesSinceYield = 0;
  #endOffset = 0;

  constructor(plan: ImagePlan, sink: ImageSink, options: WriteOptions) {
    this.#plan = plan;
    this.#sink = sink;
    this.#signal = options.signal;
    this.#progress = options.progress ?? NO_PROGRESS;
    this.#onWritten = options.onWritten;
    this.#onBytes = options.onBytes;
    this.#cells = new CellCounter(plan.gridBlocks * BLOCK_SIZE_BYTES);
  }

  async run(): Promise<WriteResult> {
    throwIfAborted(this.#signal);
    const task = this.#progress.begin("write", plannedBytes(this.#plan));
    try {
      await this.#writeAll(task);
    } finally {
      task.end();
    }
    return { cellBytes: this.#cells.cellBytes };
  }

  async #writeAll(task: ProgressTask): Promise<void> {
    const { metadata, payload, totalBlocks } = this.#plan;
    let nextMetadata = 0;
    for (const write of payload) {
      const startBytes = write.startBlock * BLOCK_SIZE_BYTES;
      while (nextMetadata < metadata.length && metadata[nextMetadata]!.offsetBytes < startBytes) {
        task.advance(await this.#writeMetadata(metadata[nextMetadata++]!));
      }
      task.advance(await this.#writePayload(write));
      this.#onWritten?.(write);
    }
    this.#endPayload();
    while (nextMetadata < metadata.length) {
      task.advance(await this.#writeMetadata(metadata[nextMetadata++]!));
    }
    await this.#sink.finish(totalBlocks * BLOCK_SIZE_BYTES);
  }

  async #writeMetadata(write: MetadataWrite): Promise<number> {
    const bytes = write.encode();
    invariant(
      bytes.length === write.sizeBytes,
      `metadata of ${bytes.length} bytes, planned ${write.sizeBytes}`,
    );
    await this.#put(bytes, write.offsetBytes);
    return bytes.length;
  }

  async #writePayload(write: PayloadWrite): Promise<number> {
    if (write.payload !== this.#payload || write.logicalBlock < this.#payloadBlock) {
      this.#endPayload();
      this.#payload = write.payload;
    }
    this.#payloadBlock = write.logicalBlock + write.blockCount;
    const store = this.#readerOf(write.payload);
    const sizeBytes = write.blockCount * BLOCK_SIZE_BYTES;
    const pieceBytes = sizeBytes <= CACHED_BYTES_MAX ? CACHED_PIECE_BYTES : PIECE_BYTES;
    for (let done = 0; done < sizeBytes; done += pieceBytes) {
      const piece = this.#buffer.subarray(0, Math.min(pieceBytes, sizeBytes - done));
      readPayload(write.payload, piece, write.logicalBlock * BLOCK_SIZE_BYTES + done, store);
      this.#payloadHash = crc32(piece, this.#payloadHash);
      const put = this.#put(piece, write.startBlock * BLOCK_SIZE_BYTES + done);
      if (put !== undefined) await put;
    }
    return sizeBytes;
  }

  #readerOf({ store }: Payload): RandomReader {
    if (this.#ahead === undefined || store !== this.#store) {
      this.#store = store;
      this.#ahead = readAhead(store, this.#aheadBuffer);
    }
    return this.#ahead;
  }

  /** Payload must match what was planned: a source that changed in between would make a wrong image. */
  #endPayload(): void {
    const payload = this.#payload;
    if (payload !== undefined && payload.contentHash !== this.#payloadHash) {
      throw new InputError(
        payload.store.name,
        `changed while it was read: a file of ${payload.sizeBytes} bytes has checksum ` +
          `${this.#payloadHash}, wanted ${payload.contentHash}`,
        { code: "changed" },
      );
    }
    this.#payload = undefined;
    this.#payloadHash = 0;
  }

  #put(bytes: Uint8Array, offset: number): Promise<void> | undefined {
    // Builds the message only if needed: this is called for every file.
    if (offset < this.#endOffset) {
      invariant(false, `a write at ${offset} behind ${this.#endOffset}`);
    }
    this.#endOffset = offset + bytes.length;
    this.#cells.add(bytes, offset);
    this.#onBytes?.(bytes, offset);
    const written = this.#sink.write(bytes, offset);
    this.#bytesSinceYield += bytes.length;
    this.#writesSinceYield++;
    const isDue = this.#bytesSinceYield >= YIELD_AFTER_BYTES ||
      this.#writesSinceYield >= YIELD_AFTER_WRITES;
    if (!isDue && !(written instanceof Promise)) return undefined;
    return this.#settle(written, isDue);
  }

  async #settle(written: void | Promise<void>, isDue: boolean): Promise<void> {
    await written;
    if (!isDue) return;
    this.#bytesSinceYield = 0;
    this.#writesSinceYield = 0;
    await setImmediate();
    throwIfAborted(this.#signal);
  }
}

function plannedBytes(plan: ImagePlan): number {
  let bytes = 0;
  for (const { sizeBytes } of plan.metadata) bytes += sizeBytes;
  for (const { blockCount } of plan.payload) bytes += blockCount * BLOCK_SIZE_BYTES;
  return bytes;
}

/** Counts grid cells of bytes in ascending order. */
export class CellCounter {
  readonly #cellBytes: number;
  #count = 0;
  #lastCell = -1;

  constructor(cellBytes: number) {
    this.#cellBytes = cellBytes;
  }

  /** The size of all counted cells. */
  get cellBytes(): number {
    return this.#count * this.#cellBytes;
  }

  /** Counts the cells in which `bytes` at `offset` has a non-zero byte. */
  add(bytes: Uint8Array, offset: number): void {
    const cellBytes = this.#cellBytes;
    const end = offset + bytes.length;
    for (let at = offset; at < end;) {
      const cell = Math.floor(at / cellBytes);
      const cellEnd = Math.min((cell + 1) * cellBytes, end);
      if (cell !== this.#lastCell && !isZero(bytes, at - offset, cellEnd - offset)) {
        this.#lastCell = cell;
        this.#count++;
      }
      at = cellEnd;
    }
  }
}
