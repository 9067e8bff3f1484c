/**
 * Reading ahead of many small reads: a read of 4 KiB costs as much as one of 64 KiB.
 *
 * @module
 */
import type { RandomReader } from "./random_reader.ts";

/** How far is read ahead. */
const WINDOW_BYTES = 256 << 10;
/** Reads of this size gain nothing. */
const LARGE_READ_BYTES = WINDOW_BYTES / 4;
/** A read that starts at most this far behind the one before is taken for the next of a row: tars have headers in between. */
const MAX_STEP_BYTES = 16 << 10;

/**
 * A reader of the same bytes that reads ahead while small reads follow each other closely. Others go straight to
 * `reader`. What it read ahead it does not look at again: use it for one pass over bytes that do not change.
 *
 * @param buffer to keep what is read ahead in, for who makes many of these one after another
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { memoryReader } from "./random_reader.ts";
 * import { readAhead } from "./read_ahead.ts";
 * const reader = readAhead(memoryReader(Uint8Array.of(1, 2, 3, 4)));
 * const target = new Uint8Array(2);
 * assertEquals(reader.readAt(target, 1), 2);
 * assertEquals([...target], [2, 3]);
 * ```
 */
export function readAhead(
  reader: RandomReader,
  buffer: Uint8Array = readAheadBuffer(),
): RandomReader {
  let startOffset = 0;
  let endOffset = 0;
  /** Where the read before ended. */
  let lastOffset = -1;

  function fill(position: number): void {
    startOffset = endOffset = position;
    endOffset += reader.readAt(buffer, position);
  }

  return {
    sizeBytes: reader.sizeBytes,
    name: reader.name,
    readAt(target, position) {
      const step = lastOffset < 0 ? -1 : position - lastOffset;
      const end = position + target.length;
      lastOffset = end;
      const isInWindow = position >= startOffset && end <= endOffset;
      if (!isInWindow) {
        const follows = step >= 0 && step <= MAX_STEP_BYTES;
        if (!follows || target.length >= LARGE_READ_BYTES) return reader.readAt(target, position);
        fill(position);
      }
      const from = position - startOffset;
      const count = Math.min(target.length, endOffset - position);
      target.set(buffer.subarray(from, from + count));
      return count;
    },
    close: () => reader.close(),
  };
}

/** A buffer for {@linkcode readAhead}. */
export function readAheadBuffer(): Uint8Array {
  return new Uint8Array(WINDOW_BYTES);
}
