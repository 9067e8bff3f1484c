/**
 * Follows the stored bytes of one file through the tar: which of its blocks hold anything, and what they add up to.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import {
  BLOCK_SIZE_BYTES,
  type BlockRun,
  type DataSegment,
  EMPTY_PAYLOAD_INDEX,
  type PayloadIndex,
  runFromStart,
} from "../model/payload.ts";

const NO_SEGMENTS: readonly DataSegment[] = [];

/** Collects one payload after the other. */
export class PayloadCollector {
  readonly #scanner = new PayloadScanner();
  #segments = NO_SEGMENTS;
  #sizeBytes = 0;
  #remaining = 0;
  /** Where the next byte belongs: a segment, and how far into it. */
  #segmentIndex = 0;
  #inSegment = 0;

  /** Stored bytes that are still to come. */
  get remaining(): number {
    return this.#remaining;
  }

  /** Segments and data runs beyond the first of each, so far: what memory the index takes. */
  get extraPieces(): number {
    return Math.max(0, this.#segments.length - 1) + Math.max(0, this.#scanner.runCount - 1);
  }

  /** Starts on a file. The segments are stored back to back. */
  begin(segments: readonly DataSegment[], sizeBytes: number, storedSizeBytes: number): void {
    this.#segments = segments;
    this.#sizeBytes = sizeBytes;
    this.#remaining = storedSizeBytes;
    this.#segmentIndex = 0;
    this.#inSegment = 0;
  }

  /** Takes what belongs to the payload from `chunk[at...]`; returns how much that was. */
  push(chunk: Uint8Array, at: number): number {
    const taken = Math.min(this.#remaining, chunk.length - at);
    const end = at + taken;
    while (at < end) {
      const segment = this.#segments[this.#segmentIndex]!;
      const count = Math.min(segment.lengthBytes - this.#inSegment, end - at);
      this.#scanner.push(segment.fileOffset + this.#inSegment, chunk, at, at + count);
      at += count;
      this.#inSegment += count;
      if (this.#inSegment === segment.lengthBytes) {
        this.#segmentIndex++;
        this.#inSegment = 0;
      }
    }
    this.#remaining -= taken;
    return taken;
  }

  /** The index of the whole payload. */
  finish(): PayloadIndex {
    if (this.#sizeBytes === 0) return EMPTY_PAYLOAD_INDEX;
    const { dataRuns, contentHash } = this.#scanner.finish();
    return { sizeBytes: this.#sizeBytes, segments: this.#segments, dataRuns, contentHash };
  }
}

/** What a scan finds out: see PayloadIndex. */
export interface PayloadScan {
  readonly dataRuns: readonly BlockRun[];
  readonly contentHash: number;
}

const NO_RUNS: readonly BlockRun[] = [];

/**
 * Scans one file after the other. The bytes of a file come in pieces of any length at ascending offsets; what is left out
 * is zeros. Whole blocks are looked at in place; only a block that is cut by the end of a piece is copied together.
 */
export class PayloadScanner {
  readonly #partial = new Uint8Array(BLOCK_SIZE_BYTES);
  /** Which block `#partial` is, and how much of it is filled; 0 when there is none. */
  #partialBlock = 0;
  #partialLength = 0;
  readonly #runs: { startBlock: number; blockCount: number }[] = [];
  #hash = 0;

  /** Runs of the current file so far. */
  get runCount(): number {
    return this.#runs.length;
  }

  /** Takes `bytes[start, end)`, which is at `fileOffset` in the file. */
  push(fileOffset: number, bytes: Uint8Array, start: number, end: number): void {
    let at = start;
    let offset = fileOffset;
    const inBlock = offset % BLOCK_SIZE_BYTES;
    if (inBlock !== 0) {
      const count = Math.min(BLOCK_SIZE_BYTES - inBlock, end - at);
      this.#addPartial(offset, bytes, at, at + count);
      at += count;
      offset += count;
    }
    const wholeEnd = at + Math.floor((end - at) / BLOCK_SIZE_BYTES) * BLOCK_SIZE_BYTES;
    if (wholeEnd > at) {
      if (this.#partialLength > 0) this.#closePartial();
      this.#addWhole(offset / BLOCK_SIZE_BYTES, bytes, at, wholeEnd);
      offset += wholeEnd - at;
    }
    if (end > wholeEnd) this.#addPartial(offset, bytes, wholeEnd, end);
  }

  /** Closes the file, and is ready for the next. */
  finish(): PayloadScan {
    if (this.#partialLength > 0) this.#closePartial();
    const scan = { dataRuns: this.#takeRuns(), contentHash: this.#hash };
    this.#runs.length = 0;
    this.#hash = 0;
    return scan;
  }

  #takeRuns(): readonly BlockRun[] {
    const [first] = this.#runs;
    if (first === undefined) return NO_RUNS;
    if (this.#runs.length === 1 && first.startBlock === 0) return runFromStart(first.blockCount);
    // A slice holds no more room than it needs; an array that has grown does, and there may be millions.
    return this.#runs.slice();
  }

  /** Blocks that lie whole in `bytes`. Stretches of data are hashed at once. */
  #addWhole(firstBlock: number, bytes: Uint8Array, start: number, end: number): void {
    let block = firstBlock;
    let dataStart = -1;
    for (let at = start; at < end; at += BLOCK_SIZE_BYTES) {
      if (!isZero(bytes, at, at + BLOCK_SIZE_BYTES)) {
        if (dataStart < 0) dataStart = at;
      } else if (dataStart >= 0) {
        block = this.#addData(block, bytes, dataStart, at) + 1;
        dataStart = -1;
      } else {
        block++;
      }
    }
    if (dataStart >= 0) this.#addData(block, bytes, dataStart, end);
  }

  /** A stretch of data blocks; returns the block behind it. */
  #addData(block: number, bytes: Uint8Array, start: number, end: number): number {
    const count = (end - start) / BLOCK_SIZE_BYTES;
    this.#hash = crc32(bytes.subarray(start, end), this.#hash);
    const last = this.#runs.at(-1);
    if (last && last.startBlock + last.blockCount === block) last.blockCount += count;
    else this.#runs.push({ startBlock: block, blockCount: count });
    return block + count;
  }

  /** A part of one block. Parts of a block come in ascending order; zeros between them. */
  #addPartial(fileOffset: number, bytes: Uint8Array, start: number, end: number): void {
    const block = Math.floor(fileOffset / BLOCK_SIZE_BYTES);
    if (this.#partialLength > 0 && this.#partialBlock !== block) this.#closePartial();
    const inBlock = fileOffset - block * BLOCK_SIZE_BYTES;
    if (this.#partialLength < inBlock) this.#partial.fill(0, this.#partialLength, inBlock);
    this.#partial.set(bytes.subarray(start, end), inBlock);
    this.#partialBlock = block;
    this.#partialLength = inBlock + (end - start);
    if (this.#partialLength === BLOCK_SIZE_BYTES) this.#closePartial();
  }

  #closePartial(): void {
    this.#partial.fill(0, this.#partialLength);
    this.#partialLength = 0;
    if (!isZero(this.#partial, 0, BLOCK_SIZE_BYTES)) {
      this.#addData(this.#partialBlock, this.#partial, 0, BLOCK_SIZE_BYTES);
    }
  }
}

/** Whether `bytes[start, end)` are all zeros. Most data shows that it is not within its first bytes. */
export function isZero(bytes: Uint8Array, start: number, end: number): boolean {
  const address = bytes.byteOffset + start;
  if (address % 4 !== 0 || (end - start) % 4 !== 0) return isZeroByBytes(bytes, start, end);
  if (bytes[start] !== 0 || bytes[start + 1] !== 0) return false;
  const words = new Int32Array(bytes.buffer, address, (end - start) / 4);
  for (let i = 0; i < words.length; i++) {
    if (words[i] !== 0) return false;
  }
  return true;
}

function isZeroByBytes(bytes: Uint8Array, start: number, end: number): boolean {
  for (let at = start; at < end; at++) {
    if (bytes[at] !== 0) return false;
  }
  return true;
}
