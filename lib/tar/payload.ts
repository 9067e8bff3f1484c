/**
 * The stored bytes of files: which blocks of a file contain data, their checksum, and the maps of sparse files in all of
 * GNU's formats (GNU tar manual, "Storing Sparse Files").
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { isZero } from "../bytes/arithmetic.ts";
import type { ByteString } from "../bytes/byte_string.ts";
import {
  BLOCK_SIZE_BYTES,
  type BlockRun,
  type DataSegment,
  EMPTY_PAYLOAD_INDEX,
  type PayloadIndex,
  runFromStart,
} from "../model/node.ts";
import {
  GNU_FIELDS,
  limitFault,
  parseDecimal,
  quoted,
  readNumberField,
  TAR_BLOCK_SIZE_BYTES,
  tarFault,
  type TarLimits,
  type TarLocation,
} from "./header.ts";
import type { PaxSparseRecords } from "./pax.ts";

const NO_SEGMENTS: readonly DataSegment[] = [];

/** Collects one payload after another. */
export class PayloadCollector {
  readonly #scanner = new PayloadScanner();
  #segments = NO_SEGMENTS;
  #sizeBytes = 0;
  #remaining = 0;
  /** The position of the next byte: a segment and the offset in it. */
  #segmentIndex = 0;
  #inSegment = 0;

  /** The number of stored bytes still to come. */
  get remaining(): number {
    return this.#remaining;
  }

  /** The number of segments and data runs so far beyond the first of each, which determines the index's memory use. */
  get extraPieces(): number {
    return Math.max(0, this.#segments.length - 1) + Math.max(0, this.#scanner.runCount - 1);
  }

  /** Starts a file. The segments are stored contiguously. */
  begin(segments: readonly DataSegment[], sizeBytes: number, storedSizeBytes: number): void {
    this.#segments = segments;
    this.#sizeBytes = sizeBytes;
    this.#remaining = storedSizeBytes;
    this.#segmentIndex = 0;
    this.#inSegment = 0;
  }

  /** Consumes the payload's bytes from `chunk[at...]`; returns how many there were. */
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

  /** The index of the complete payload. */
  finish(): PayloadIndex {
    if (this.#sizeBytes === 0) return EMPTY_PAYLOAD_INDEX;
    const { dataRuns, contentHash } = this.#scanner.finish();
    return { sizeBytes: this.#sizeBytes, segments: this.#segments, dataRuns, contentHash };
  }
}

/** The result of a scan: see PayloadIndex. */
export interface PayloadScan {
  readonly dataRuns: readonly BlockRun[];
  readonly contentHash: number;
}

const NO_RUNS: readonly BlockRun[] = [];

/**
 * Scans one file after another. A file's bytes arrive in pieces of any length at ascending offsets; gaps are zeros. Whole
 * blocks are examined in place; only a block split between pieces is copied.
 */
export class PayloadScanner {
  readonly #partial = new Uint8Array(BLOCK_SIZE_BYTES);
  /** The block in `#partial`, and how much of it is filled; 0 if there is none. */
  #partialBlock = 0;
  #partialLength = 0;
  readonly #runs: { startBlock: number; blockCount: number }[] = [];
  #hash = 0;

  /** The number of runs in the current file so far. */
  get runCount(): number {
    return this.#runs.length;
  }

  /** Takes `bytes[start, end)`, located at `fileOffset` in the file. */
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

  /** Finishes the file and prepares for the next. */
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
    // A slice allocates only what it needs; an array that has grown does not, and there may be millions.
    return this.#runs.slice();
  }

  /** Adds the blocks that are entirely in `bytes`. Stretches of data are hashed at once. */
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

  /** Adds a stretch of data blocks; returns the block after it. */
  #addData(block: number, bytes: Uint8Array, start: number, end: number): number {
    const count = (end - start) / BLOCK_SIZE_BYTES;
    this.#hash = crc32(bytes.subarray(start, end), this.#hash);
    const last = this.#runs.at(-1);
    if (last && last.startBlock + last.blockCount === block) last.blockCount += count;
    else this.#runs.push({ startBlock: block, blockCount: count });
    return block + count;
  }

  /** Adds a part of one block. A block's parts arrive in ascending order, with zeros between them. */
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

/** A stored range of a file; empty ranges may occur. */
export interface SparseRange {
  readonly fileOffset: number;
  readonly lengthBytes: number;
}

/** How an entry's PAX records describe a sparse file. */
export type PaxSparseForm =
  & {
    /** The path, which the preceding records may lack; empty if not stated. */
    readonly path: ByteString;
    readonly sizeBytes: number;
  }
  & (
    /** 0.0 and 0.1: the map is in the records. */
    | { readonly kind: "mapped"; readonly ranges: readonly SparseRange[] }
    /** 1.0: the map comes first in the entry's data. */
    | { readonly kind: "mapInData" }
  );

/** Reads the GNU.sparse records; undefined if they do not make the entry sparse. Errors: InputError. */
export function paxSparseForm(
  records: PaxSparseRecords,
  location: TarLocation,
  limits: TarLimits,
): PaxSparseForm | undefined {
  const { major, minor } = records;
  const map = records.pairs.length > 0 ? records.pairs.join(",") : records.map;
  const hasVersion = major !== "" || minor !== "";
  const isMapped = hasVersion
    ? major === "0" && (minor === "0" || minor === "1")
    : map !== "" || records.numBlocks !== "";
  const isMapInData = major === "1" && minor === "0";
  if (hasVersion && !isMapped && !isMapInData) {
    throw tarFault(
      location,
      `it is sparse in the GNU format ${quoted(`${major}.${minor}`)}; 0.0, 0.1 and 1.0 are known`,
    );
  }
  if (!isMapped && !isMapInData) return undefined;
  const sizeText = records.size || records.realSize;
  const sizeBytes = parseDecimal(sizeText);
  if (!(sizeBytes >= 0)) {
    throw tarFault(location, `its GNU.sparse size is ${quoted(sizeText)}; wanted a decimal number`);
  }
  const path = records.name;
  if (isMapInData) return { kind: "mapInData", path, sizeBytes };
  return {
    kind: "mapped",
    path,
    sizeBytes,
    ranges: parseMapRecord(map, records, location, limits),
  };
}

/** Parses the 0.1 map, `OFFSET,LENGTH,...`, or the pairs of 0.0 converted to that form. */
function parseMapRecord(
  map: ByteString,
  records: PaxSparseRecords,
  location: TarLocation,
  limits: TarLimits,
): SparseRange[] {
  const texts = map === "" ? [] : map.split(",");
  const count = parseDecimal(records.numBlocks);
  if (texts.length !== 2 * count) {
    throw tarFault(
      location,
      `its sparse map has ${texts.length} numbers; wanted two for each of ${
        quoted(records.numBlocks)
      } blocks`,
    );
  }
  checkRangeCount(count, location, limits);
  const ranges: SparseRange[] = [];
  for (let i = 0; i < texts.length; i += 2) {
    ranges.push({
      fileOffset: mapNumber(texts[i]!, location),
      lengthBytes: mapNumber(texts[i + 1]!, location),
    });
  }
  return ranges;
}

/** Reads a GNU.sparse 1.0 map block by block: decimal numbers, each followed by a newline. */
export class SparseMapReader {
  readonly #location: TarLocation;
  readonly #limits: TarLimits;
  readonly #ranges: SparseRange[] = [];
  #digits = "";
  /** The expected number of ranges; undefined until the first number. */
  #rangeCount: number | undefined;
  #pendingOffset: number | undefined;

  constructor(location: TarLocation, limits: TarLimits) {
    this.#location = location;
    this.#limits = limits;
  }

  /** Takes the next block of data; returns the map if it ends in this block. The rest of the block is padding. */
  push(bytes: Uint8Array, base: number): readonly SparseRange[] | undefined {
    for (let at = base; at < base + TAR_BLOCK_SIZE_BYTES; at++) {
      const code = bytes[at]!;
      if (code !== 0x0a) {
        this.#digits += String.fromCharCode(code);
        if (this.#digits.length > MAP_NUMBER_DIGITS) mapNumber(this.#digits, this.#location, true);
        continue;
      }
      const value = mapNumber(this.#digits, this.#location);
      this.#digits = "";
      if (this.#rangeCount === undefined) {
        checkRangeCount(value, this.#location, this.#limits);
        this.#rangeCount = value;
      } else if (this.#pendingOffset === undefined) {
        this.#pendingOffset = value;
      } else {
        this.#ranges.push({ fileOffset: this.#pendingOffset, lengthBytes: value });
        this.#pendingOffset = undefined;
      }
      if (this.#ranges.length === this.#rangeCount) return this.#ranges;
    }
    return undefined;
  }
}

/** The sparse fields of an old GNU header and of the blocks that continue its map. */
const OLD_MAP_IN_HEADER = { offset: 386, entryCount: 4, extendedOffset: 482 } as const;
const OLD_MAP_IN_EXTENSION = { offset: 0, entryCount: 21, extendedOffset: 504 } as const;
const OLD_MAP_NUMBER_SIZE_BYTES = 12;

/** Reads an old GNU map: a few ranges in the header, the rest in the blocks after it. */
export class OldSparseMapReader {
  readonly #location: TarLocation;
  readonly #limits: TarLimits;
  readonly ranges: SparseRange[] = [];
  /** The file's length. */
  readonly sizeBytes: number;
  /** Whether another block of the map follows. */
  expectsMore = false;

  constructor(header: Uint8Array, base: number, location: TarLocation, limits: TarLimits) {
    this.#location = location;
    this.#limits = limits;
    this.sizeBytes = readNumberField(header, base, GNU_FIELDS.realSize);
    if (!(this.sizeBytes >= 0)) {
      throw tarFault(location, `its sparse real size is ${this.sizeBytes}; wanted a number from 0`);
    }
    this.#take(header, base, OLD_MAP_IN_HEADER);
  }

  /** Takes a block that follows the header. */
  push(bytes: Uint8Array, base: number): void {
    this.#take(bytes, base, OLD_MAP_IN_EXTENSION);
  }

  #take(
    bytes: Uint8Array,
    base: number,
    form: { offset: number; entryCount: number; extendedOffset: number },
  ): void {
    this.expectsMore = bytes[base + form.extendedOffset] !== 0;
    const lengthBytes = OLD_MAP_NUMBER_SIZE_BYTES;
    for (let i = 0; i < form.entryCount; i++) {
      const offset = form.offset + i * 2 * lengthBytes;
      if (bytes[base + offset] === 0) return; // an unused slot ends the block
      const fileOffset = readNumberField(bytes, base, { offset, lengthBytes });
      const length = readNumberField(bytes, base, { offset: offset + lengthBytes, lengthBytes });
      if (!(fileOffset >= 0 && length >= 0)) {
        throw tarFault(
          this.#location,
          `its sparse map has the range ${fileOffset}+${length}; wanted numbers from 0`,
        );
      }
      this.ranges.push({ fileOffset, lengthBytes: length });
      checkRangeCount(this.ranges.length, this.#location, this.#limits);
    }
  }
}

/**
 * Where each range is stored, given that the ranges are contiguous from `storeOffset`. Empty ranges are dropped. Throws an
 * InputError unless they ascend, do not overlap, stay within the file and add up to the stored size.
 */
export function placeRanges(
  ranges: readonly SparseRange[],
  sizeBytes: number,
  storedSizeBytes: number,
  storeOffset: number,
  location: TarLocation,
): DataSegment[] {
  const segments: DataSegment[] = [];
  let end = 0;
  let stored = 0;
  for (const { fileOffset, lengthBytes } of ranges) {
    if (fileOffset < end) {
      throw tarFault(
        location,
        `its sparse map has a range at ${fileOffset}, before the end of the one before at ${end}`,
      );
    }
    end = fileOffset + lengthBytes;
    if (end > sizeBytes) {
      throw tarFault(location, `its sparse map goes to ${end}, beyond its size of ${sizeBytes}`);
    }
    if (lengthBytes > 0) {
      segments.push({ fileOffset, storeOffset: storeOffset + stored, lengthBytes });
    }
    stored += lengthBytes;
  }
  if (stored !== storedSizeBytes) {
    throw tarFault(
      location,
      `its sparse map adds up to ${stored} bytes, and ${storedSizeBytes} are stored`,
      { expected: stored, actual: storedSizeBytes },
    );
  }
  return segments.slice(); // allocates only what it needs
}

/** No number in a map needs more: 2^53 has 16. */
const MAP_NUMBER_DIGITS = 20;

function mapNumber(text: ByteString, location: TarLocation, isUnfinished = false): number {
  const value = isUnfinished ? NaN : parseDecimal(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw tarFault(location, `its sparse map has ${quoted(text)} where a number from 0 is wanted`);
}

function checkRangeCount(count: number, location: TarLocation, limits: TarLimits): void {
  if (count > limits.sparseSegments) {
    throw limitFault(
      location,
      "the number of ranges in its sparse map",
      "sparseSegments",
      count,
      limits.sparseSegments,
    );
  }
}
