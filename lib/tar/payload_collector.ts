/**
 * Follows the stored bytes of one file through the tar and makes its payload index.
 *
 * @module
 */
import type { DataSegment, PayloadIndex } from "../model/payload.ts";
import { EMPTY_PAYLOAD_INDEX } from "../model/payload.ts";
import { PayloadScanner } from "./payload_scanner.ts";

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
