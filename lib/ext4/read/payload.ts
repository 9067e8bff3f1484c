/**
 * Files of an image as payloads of the model: their bytes stay in the image, which is the store.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { InputError, throwIfAborted } from "../../errors.ts";
import { memoryReader, type RandomReader } from "../../io/random_reader.ts";
import {
  type BlockRun,
  type DataSegment,
  type Payload,
  readPayload,
  wholeSegment,
} from "../../model/payload.ts";
import { type PayloadScan, PayloadScanner } from "../../tar/payload.ts";
import { INODE_FLAG } from "../format/constants.ts";
import { blockRuns } from "./block_map.ts";
import { inlineBytes, isInlineHole } from "./content.ts";
import { hasFlag } from "./inode.ts";
import { type BlockBudget, DEFAULT_READ_LIMITS } from "./limits.ts";
import type { Ext4Image, ImageInode } from "./types.ts";

/** Bounds that several files share. */
export interface PayloadBounds {
  /** Counts the blocks of all files. */
  readonly budget?: BlockBudget;
  /** Most runs of data; 4,194,304 by default. */
  readonly maxSegmentCount?: number;
}

const LOGICAL_BLOCKS_MAX = 2 ** 32;
const PIECE_BYTES = 1024 * 1024;
/** Signals are seen between pieces of about this many bytes. */
const YIELD_AFTER_BYTES = 16 * PIECE_BYTES;

/**
 * A file's payload. What is written of it are its segments; what was allocated only is a hole. `dataRuns` and
 * `contentHash` need the bytes: they are read when first asked for, or by `scan()`, a piece at a time.
 */
export class ImagePayload implements Payload {
  readonly sizeBytes: number;
  readonly segments: readonly DataSegment[];
  readonly store: RandomReader;
  #scan: PayloadScan | undefined;

  /** The segments point into the store. */
  constructor(sizeBytes: number, segments: readonly DataSegment[], store: RandomReader) {
    this.sizeBytes = sizeBytes;
    this.segments = segments;
    this.store = store;
  }

  get dataRuns(): readonly BlockRun[] {
    return this.#scanned().dataRuns;
  }

  get contentHash(): number {
    return this.#scanned().contentHash;
  }

  /** Reads the bytes now, and can be stopped in the middle of a large file. Does nothing the second time. */
  async scan(signal?: AbortSignal): Promise<void> {
    if (this.#scan !== undefined) return;
    const scanner = new PayloadScanner();
    let sinceYield = 0;
    for (const pieceBytes of scanPieces(this, scanner)) {
      sinceYield += pieceBytes;
      if (sinceYield < YIELD_AFTER_BYTES) continue;
      sinceYield = 0;
      await setImmediate();
      throwIfAborted(signal);
    }
    this.#scan = scanner.finish();
  }

  #scanned(): PayloadScan {
    if (this.#scan === undefined) {
      const scanner = new PayloadScanner();
      for (const _ of scanPieces(this, scanner));
      this.#scan = scanner.finish();
    }
    return this.#scan;
  }
}

/**
 * The payload of a regular file.
 *
 * @throws {InputError} for a file that is encrypted, whose map is damaged, or that has written blocks behind its end
 */
export function filePayload(
  image: Ext4Image,
  inode: ImageInode,
  bounds: PayloadBounds = {},
): ImagePayload {
  if (inode.kind !== "file") throw new InputError(inode.what, `it is a ${inode.kind}`);
  if (hasFlag(inode, INODE_FLAG.ENCRYPT)) {
    throw new InputError(inode.what, "the file is encrypted, and that is not supported");
  }
  const { sizeBytes } = inode.record;
  const hasInlineData = hasFlag(inode, INODE_FLAG.INLINE_DATA);
  const isHole = hasInlineData && isInlineHole(inode);
  if (hasInlineData && !isHole) {
    const store = memoryReader(inlineBytes(inode), image.name);
    return new ImagePayload(sizeBytes, wholeSegment(sizeBytes), store);
  }
  const sizeMax = LOGICAL_BLOCKS_MAX * image.geometry.blockSizeBytes;
  if (sizeBytes > sizeMax) {
    throw new InputError(inode.what, `its size is ${sizeBytes} bytes, over ${sizeMax}`);
  }
  const segments = isHole ? [] : fileSegments(image, inode, bounds);
  return new ImagePayload(sizeBytes, segments, image.reader);
}

function fileSegments(image: Ext4Image, inode: ImageInode, bounds: PayloadBounds): DataSegment[] {
  const { blockSizeBytes } = image.geometry;
  const { sizeBytes } = inode.record;
  const maxSegmentCount = bounds.maxSegmentCount ?? DEFAULT_READ_LIMITS.maxSegmentCount;
  // The hash tree of fs-verity lies behind the end of a file.
  const mayGoOn = hasFlag(inode, INODE_FLAG.VERITY);
  const segments: { fileOffset: number; storeOffset: number; lengthBytes: number }[] = [];
  const onMapBlock = (): void => bounds.budget?.take(1, inode.what);
  for (const run of blockRuns(image, inode, { onMapBlock })) {
    const { logicalBlock, blockCount, startBlock, unwritten } = run;
    bounds.budget?.take(blockCount, inode.what);
    if (unwritten) continue;
    const fileOffset = logicalBlock * blockSizeBytes;
    const endOffset = fileOffset + blockCount * blockSizeBytes;
    // As e2fsck has it: a file may own one block more than its size needs.
    if (endOffset - blockSizeBytes > sizeBytes && !mayGoOn) {
      throw new InputError(
        inode.what,
        `it has blocks up to byte ${endOffset}, but its size is ${sizeBytes}`,
      );
    }
    const lengthBytes = Math.min(endOffset, sizeBytes) - fileOffset;
    if (lengthBytes <= 0) continue;
    const storeOffset = startBlock * blockSizeBytes;
    const last = segments.at(-1);
    const follows = last !== undefined && last.fileOffset + last.lengthBytes === fileOffset &&
      last.storeOffset + last.lengthBytes === storeOffset;
    if (follows) last.lengthBytes += lengthBytes;
    else segments.push({ fileOffset, storeOffset, lengthBytes });
    if (segments.length > maxSegmentCount) {
      throw new InputError(inode.what, `it has more than ${maxSegmentCount} runs of data`);
    }
  }
  return segments.slice(); // with no more room than it needs
}

/** Feeds the bytes of all segments to a scanner; gives the length of each piece. */
function* scanPieces(payload: Payload, scanner: PayloadScanner): Generator<number> {
  const longest = payload.segments.reduce(
    (most, { lengthBytes }) => Math.max(most, lengthBytes),
    0,
  );
  const buffer = new Uint8Array(Math.min(PIECE_BYTES, longest));
  for (const { fileOffset, lengthBytes } of payload.segments) {
    for (let done = 0; done < lengthBytes; done += PIECE_BYTES) {
      const piece = buffer.subarray(0, Math.min(PIECE_BYTES, lengthBytes - done));
      readPayload(payload, piece, fileOffset + done);
      scanner.push(fileOffset + done, piece, 0, piece.length);
      yield piece.length;
    }
  }
}
