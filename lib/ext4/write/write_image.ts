/**
 * Writes a plan in one ascending pass: metadata and payload as they come, each byte once, holes left out.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { InputError, invariant, throwIfAborted } from "../../errors.ts";
import { type RandomReader, readAhead, readAheadBuffer } from "../../io/random_reader.ts";
import type { ImageSink } from "../../io/sink.ts";
import { BLOCK_SIZE_BYTES, type Payload, readPayload } from "../../model/payload.ts";
import type { Progress } from "../../progress.ts";
import type { ImagePlan, MetadataWrite, PayloadWrite } from "../plan/image_plan.ts";

/** How payload is read: this many bytes at most at a time. */
const PIECE_BYTES = 1024 * 1024;
/** Signals are seen between pieces of work of about this many bytes or writes. */
const YIELD_AFTER_BYTES = 16 * 1024 * 1024;
const YIELD_AFTER_WRITES = 2048;

/** What only the bytes could tell. */
export interface WriteResult {
  /** Cells of the grid that hold a byte that is not zero, in bytes. */
  readonly storedBytes: number;
}

/** How an image is written. */
export interface WriteOptions {
  /** Ends the writing when it is aborted. */
  readonly signal?: AbortSignal | undefined;
  /** Told how far it is. */
  readonly progress: Progress;
  /** Told of each write of payload when it is done. */
  readonly onWritten?: (write: PayloadWrite) => void;
}

/** Writes a whole image and finishes the sink. On any error the sink is aborted before the error goes on. */
export async function writeImage(
  plan: ImagePlan,
  sink: ImageSink,
  options: WriteOptions,
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
  readonly #cells: CellCounter;
  readonly #buffer = new Uint8Array(PIECE_BYTES);
  readonly #aheadBuffer = readAheadBuffer();
  /** The store of the payload before, and how it is read: small files mostly lie one behind the other. */
  #store: RandomReader | undefined;
  #ahead: RandomReader | undefined;
  #payload: Payload | undefined;
  #payloadHash = 0;
  /** Where in the payload the next run may start; two files can have the same payload, one behind the other. */
  #payloadBlock = 0;
  #bytesSinceYield = 0;
  #writesSinceYield = 0;
  #endOffset = 0;

  constructor(plan: ImagePlan, sink: ImageSink, options: WriteOptions) {
    this.#plan = plan;
    this.#sink = sink;
    this.#signal = options.signal;
    this.#progress = options.progress;
    this.#onWritten = options.onWritten;
    this.#cells = new CellCounter(plan.gridBlocks * BLOCK_SIZE_BYTES);
  }

  async run(): Promise<WriteResult> {
    throwIfAborted(this.#signal);
    const { metadata, payload, totalBlocks } = this.#plan;
    const task = this.#progress.begin("write", plannedBytes(this.#plan));
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
    task.end();
    return { storedBytes: this.#cells.storedBytes };
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
    for (let done = 0; done < sizeBytes; done += PIECE_BYTES) {
      const piece = this.#buffer.subarray(0, Math.min(PIECE_BYTES, sizeBytes - done));
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

  /** What was written must be what was planned from: a store that changed in between would be a wrong image. */
  #endPayload(): void {
    const payload = this.#payload;
    if (payload !== undefined && payload.contentHash !== this.#payloadHash) {
      throw new InputError(
        payload.store.name,
        `changed while it was read: a file of ${payload.sizeBytes} bytes has checksum ` +
          `${this.#payloadHash}, wanted ${payload.contentHash}`,
      );
    }
    this.#payload = undefined;
    this.#payloadHash = 0;
  }

  #put(bytes: Uint8Array, offset: number): Promise<void> | undefined {
    // The message is made only when it is wanted: this is called for every file.
    if (offset < this.#endOffset) {
      invariant(false, `a write at ${offset} behind ${this.#endOffset}`);
    }
    this.#endOffset = offset + bytes.length;
    this.#cells.add(bytes, offset);
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

/** Counts cells while bytes go by in ascending order. */
export class CellCounter {
  readonly #cellBytes: number;
  #count = 0;
  #lastCell = -1;

  constructor(cellBytes: number) {
    this.#cellBytes = cellBytes;
  }

  /** Cells counted so far, in bytes. */
  get storedBytes(): number {
    return this.#count * this.#cellBytes;
  }

  /** Counts the cells that `bytes` at `offset` put something into. */
  add(bytes: Uint8Array, offset: number): void {
    const cellBytes = this.#cellBytes;
    const end = offset + bytes.length;
    for (let at = offset; at < end;) {
      const cell = Math.floor(at / cellBytes);
      const cellEnd = Math.min((cell + 1) * cellBytes, end);
      if (cell !== this.#lastCell && hasNonZero(bytes, at - offset, cellEnd - offset)) {
        this.#lastCell = cell;
        this.#count++;
      }
      at = cellEnd;
    }
  }
}

function hasNonZero(bytes: Uint8Array, start: number, end: number): boolean {
  for (let i = start; i < end; i++) if (bytes[i] !== 0) return true;
  return false;
}
