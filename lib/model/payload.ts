/**
 * The content of a regular file: where its bytes are stored, and which of its blocks are not zero.
 *
 * @module
 */
import { firstIndex } from "../bytes/arithmetic.ts";
import type { RandomReader } from "../io/random_reader.ts";
import { readExactly } from "../io/random_reader.ts";

/** The block size of every image that is written, and of the runs of payload. */
export const BLOCK_SIZE_BYTES = 4096;

/** A range of a file that is stored. Between segments there are zeros. */
export interface DataSegment {
  /** Where in the file. */
  readonly fileOffset: number;
  /** Where in the store. */
  readonly storeOffset: number;
  /** How many bytes. */
  readonly lengthBytes: number;
}

/** A run of blocks of a file, counted from its start. */
export interface BlockRun {
  /** The first block of the file. */
  readonly startBlock: number;
  /** How many blocks. */
  readonly blockCount: number;
}

/** The index of a payload, without its bytes. */
export interface PayloadIndex {
  /** The file's length, holes included. */
  readonly sizeBytes: number;
  /** Ascending, disjoint. */
  readonly segments: readonly DataSegment[];
  /** The blocks with a byte that is not zero: ascending, disjoint, never touching. All other blocks are holes. */
  readonly dataRuns: readonly BlockRun[];
  /** CRC-32 (as in zip) of the bytes of the data runs, padded to whole blocks. */
  readonly contentHash: number;
}

/** A payload index and the store that its segments point into. */
export interface Payload extends PayloadIndex {
  /** What the segments' store offsets point into. */
  readonly store: RandomReader;
}

/** The payload of an empty file. */
export const EMPTY_PAYLOAD_INDEX: PayloadIndex = {
  sizeBytes: 0,
  segments: [],
  dataRuns: [],
  contentHash: 0,
};

/** The one segment of a file that is stored whole, from the start of a store; none for an empty file. */
export function wholeSegment(sizeBytes: number): readonly DataSegment[] {
  return sizeBytes === 0 ? [] : [{ fileOffset: 0, storeOffset: 0, lengthBytes: sizeBytes }];
}

/** Most files are small and without holes: those of up to this many blocks share their runs. */
const SHARED_RUNS_MAX = 64;
const sharedRuns: (readonly BlockRun[])[] = [];

/** The data runs of a file with data in its first `blockCount` blocks and nowhere else. */
export function runFromStart(blockCount: number): readonly BlockRun[] {
  if (blockCount > SHARED_RUNS_MAX) return [{ startBlock: 0, blockCount }];
  return sharedRuns[blockCount] ??= Object.freeze([Object.freeze({ startBlock: 0, blockCount })]);
}

/**
 * Fills `target` with the file's bytes from `fileOffset`; zeros in holes and past the end.
 *
 * @param store another way to read the payload's store
 */
export function readPayload(
  payload: Payload,
  target: Uint8Array,
  fileOffset: number,
  store: RandomReader = payload.store,
): void {
  const end = fileOffset + target.length;
  let filled = fileOffset;
  const { segments } = payload;
  const first = firstIndex(segments.length, (i) => {
    const { fileOffset: start, lengthBytes } = segments[i]!;
    return start + lengthBytes > fileOffset;
  });
  for (let i = first; i < segments.length; i++) {
    const segment = segments[i]!;
    if (segment.fileOffset >= end) break;
    const from = Math.max(segment.fileOffset, fileOffset);
    const to = Math.min(segment.fileOffset + segment.lengthBytes, end);
    if (from > filled) target.fill(0, filled - fileOffset, from - fileOffset);
    readExactly(
      store,
      target.subarray(from - fileOffset, to - fileOffset),
      segment.storeOffset + (from - segment.fileOffset),
    );
    filled = to;
  }
  if (filled < end) target.fill(0, filled - fileOffset);
}

/** The size of the pieces of a stream. */
const STREAM_PIECE_BYTES = 256 << 10;

/**
 * The bytes of a file from its first to its last, as a stream; zeros for holes. Its store must stay open until the stream has
 * ended or was cancelled.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { memoryReader } from "../io/random_reader.ts";
 * import { EMPTY_PAYLOAD_INDEX, payloadStream, wholeSegment } from "./payload.ts";
 *
 * const store = memoryReader(new TextEncoder().encode("hello"));
 * const payload = { ...EMPTY_PAYLOAD_INDEX, sizeBytes: 5, segments: wholeSegment(5), store };
 * assertEquals(await new Response(payloadStream(payload)).text(), "hello");
 * ```
 */
export function payloadStream(payload: Payload): ReadableStream<Uint8Array<ArrayBuffer>> {
  let position = 0;
  return new ReadableStream({
    pull(controller) {
      const leftBytes = payload.sizeBytes - position;
      if (leftBytes === 0) return controller.close();
      const piece = new Uint8Array(Math.min(STREAM_PIECE_BYTES, leftBytes));
      readPayload(payload, piece, position);
      position += piece.length;
      controller.enqueue(piece);
    },
  }, { highWaterMark: 0 });
}
