/**
 * Content-defined chunkers and their parameters. The inner loops are WebAssembly, because 64-bit arithmetic is slow in
 * JavaScript; the source is fastcdc_kernel.wat beside this file.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { alignUp } from "../bytes/arithmetic.ts";
import { optionError } from "../errors.ts";

/** FastCDC with normalised chunking (v2020), or a plain gear chunker. Sizes are in bytes. */
export type ChunkerParameters =
  | {
    readonly kind: "fastcdc";
    readonly minBytes: number;
    readonly averageBytes: number;
    readonly maxBytes: number;
    /** The number of bits by which the masks differ from the average's; 0 to 3. */
    readonly normalization: number;
    readonly seed: bigint;
  }
  | {
    readonly kind: "gear";
    readonly minBytes: number;
    readonly maxBytes: number;
    readonly maskBits: number;
  };

/** A plain gear chunker with a mask of 17 bits, 16 KiB to 1 MiB. */
export const GEAR_PARAMETERS: ChunkerParameters = {
  kind: "gear",
  minBytes: 16 * 1024,
  maxBytes: 1024 * 1024,
  maskBits: 17,
};

const AVERAGE_BYTES_LEAST = 256;
const AVERAGE_BYTES_MOST = 4 * 1024 * 1024;
const MIN_BYTES_LEAST = 64;
const MAX_BYTES_MOST = 16 * 1024 * 1024;

/**
 * FastCDC parameters for an average chunk size. The default bounds are a quarter of the average and four times the
 * average.
 *
 * @throws {UsageError} when sizes are out of range or out of order
 */
export function fastCdcParameters(
  averageBytes: number,
  minBytes: number = alignUp(Math.floor(averageBytes / 4), 2),
  maxBytes: number = averageBytes * 4,
): ChunkerParameters {
  const isInRange = averageBytes >= AVERAGE_BYTES_LEAST && averageBytes <= AVERAGE_BYTES_MOST;
  if (!isInRange) {
    throw optionError("chunker", `wanted an average from 256 to 4M, found ${averageBytes}`);
  }
  const isOrdered = minBytes >= MIN_BYTES_LEAST && minBytes <= averageBytes &&
    averageBytes <= maxBytes && maxBytes <= MAX_BYTES_MOST;
  if (!isOrdered) {
    throw optionError(
      "chunker",
      `wanted 64 <= MIN <= AVG <= MAX <= 16M, found MIN ${minBytes}, AVG ${averageBytes}, ` +
        `MAX ${maxBytes}`,
    );
  }
  return { kind: "fastcdc", minBytes, averageBytes, maxBytes, normalization: 1, seed: 0n };
}

/** The parameters as spelled on the command line, in bytes. */
export function chunkerText(parameters: ChunkerParameters): string {
  if (parameters.kind === "gear") return "gear";
  return `${parameters.averageBytes}:${parameters.minBytes}:${parameters.maxBytes}`;
}

/**
 * Masks for chunk sizes from 2^5 bytes on, indexed by the binary logarithm of the size. They are part of the published
 * algorithm.
 */
const MASKS: readonly bigint[] = [
  0x1804110n,
  0x1803110n,
  0x18035100n,
  0x1800035300n,
  0x19000353000n,
  0x590003530000n,
  0xd90003530000n,
  0xd90103530000n,
  0xd90303530000n,
  0xd90313530000n,
  0xd90f03530000n,
  0xd90303537000n,
  0xd90703537000n,
  0xd90707537000n,
  0xd91707537000n,
  0xd91747537000n,
  0xd91767537000n,
  0xd93767537000n,
  0xd93777537000n,
  0xd93777577000n,
  0xdb3777577000n,
];
const FIRST_BITS = 5;

/** The masks before the average size, which is harder to match, and after it, which is easier. */
export function normalizedMasks(
  averageBytes: number,
  normalization: number,
): { readonly maskSmall: bigint; readonly maskLarge: bigint } {
  const bits = Math.round(Math.log2(averageBytes));
  return {
    maskSmall: MASKS[bits + normalization - FIRST_BITS]!,
    maskLarge: MASKS[bits - normalization - FIRST_BITS]!,
  };
}

const MASK_64 = 2n ** 64n - 1n;
const BYTE_VALUES = 256;

/** The canonical gear table of FastCDC: for each byte, the first 8 bytes, big-endian, of the MD5 of 64 copies of it. */
export function fastCdcGearTable(seed = 0n): BigUint64Array {
  return BigUint64Array.from({ length: BYTE_VALUES }, (_, byte) => {
    const digest = createHash("md5").update(new Uint8Array(64).fill(byte)).digest();
    return digest.readBigUInt64BE(0) ^ seed;
  });
}

/** A gear table from splitmix64 (Steele, Lea and Flood, OOPSLA 2014), whose state starts at the golden ratio. */
export function splitMixGearTable(): BigUint64Array {
  const step = 0x9e3779b97f4a7c15n;
  let state = step;
  return BigUint64Array.from({ length: BYTE_VALUES }, () => {
    state = (state + step) & MASK_64;
    let mixed = ((state ^ (state >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK_64;
    mixed = ((mixed ^ (mixed >> 27n)) * 0x94d049bb133111ebn) & MASK_64;
    return mixed ^ (mixed >> 31n);
  });
}

/** `fastcdc_kernel.wat`, assembled by wat2wasm. */
export const KERNEL_BASE64 =
  "AGFzbQEAAAABFwJgB39/f39/fn4Cf35gBX9/f39+An9+AwMCAAEFAwEAAQcbAwZtZW1vcnkCAAdmYXN0Q2RjAAAEZ2Vh" +
  "cgABCsUCAswBBAF+An8BfgF/IAEgAk0EQCABQgAPCyABIARLBEAgBCEBCyABIAMgASADSRshCSAAIAJBfnFqIQggBSEK" +
  "IAAgCUF+cWohCwNAAkADQCAIIAtPDQEgB0IChiAILQAAQQN0KQOAEHwhByAHIApCAYaDUARAIAggAGsgBw8LIAcgCC0A" +
  "AUEDdCkDAHwhByAHIAqDUARAIAggAGtBAWogBw8LIAhBAmohCAwACwsgBiEKIAAgAUF+cWohCSALIAlHBEAgCSELDAEL" +
  "CyABIAcLdQIBfgN/IAEgA0sEQCADIQELIAAgAWohCCAAIAJqIQcgB0HAAGsgACACQcAATxshBgJAA0AgBiAITw0BIAVC" +
  "AYYgBi0AAEEDdCkDAHwhBSAGQQFqIQYgBiAHSQ0AIAUgBINCAFINACAGIABrIAUPCwsgASAFCw==";

/** Where the data begins in the kernel's memory, after the tables. */
const DATA_OFFSET = 4096;

const PAGE_BYTES = 65536;
const TABLE_BYTES = 2048;

/** The length of a chunk, and the hash at its end. */
type Cut = readonly [lengthBytes: number, hash: bigint];

/**
 * The functions of the kernel. Offsets are in its memory; `length` is the number of bytes available from the offset.
 */
interface ChunkKernel {
  /** The whole memory. */
  readonly bytes: Uint8Array;
  fastCdc(
    offset: number,
    length: number,
    min: number,
    average: number,
    max: number,
    maskSmall: bigint,
    maskLarge: bigint,
  ): Cut;
  gear(offset: number, length: number, min: number, max: number, mask: bigint): Cut;
}

/** Creates a kernel with its own table and its own memory for `dataBytes`. */
function createKernel(table: BigUint64Array, dataBytes: number): ChunkKernel {
  const module = new WebAssembly.Module(Buffer.from(KERNEL_BASE64, "base64"));
  const { exports } = new WebAssembly.Instance(module);
  const memory = exports["memory"] as WebAssembly.Memory;
  memory.grow(Math.ceil((DATA_OFFSET + dataBytes) / PAGE_BYTES) - 1);
  const view = new DataView(memory.buffer);
  table.forEach((value, byte) => {
    view.setBigUint64(byte * 8, value, true);
    view.setBigUint64(TABLE_BYTES + byte * 8, value << 1n, true);
  });
  return {
    bytes: new Uint8Array(memory.buffer),
    fastCdc: exports["fastCdc"] as ChunkKernel["fastCdc"],
    gear: exports["gear"] as ChunkKernel["gear"],
  };
}

/** Receives a chunk. The bytes are valid only during the call. */
export type ChunkReceiver = (chunk: Uint8Array, offset: number, hash: bigint) => void;

/** Extra room beyond one chunk, so that leftovers are rarely moved. */
const WINDOW_SPARE_BYTES = 2 * 1024 * 1024;

/**
 * A chunker that accepts bytes in pieces of any size.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { Chunker, fastCdcParameters } from "./fastcdc.ts";
 *
 * const lengths: number[] = [];
 * const chunker = new Chunker(
 *   fastCdcParameters(256, 64, 1024),
 *   (chunk) => lengths.push(chunk.length),
 * );
 * chunker.push(new Uint8Array(2500));
 * chunker.finish();
 * assertEquals(lengths, [1024, 1024, 452]);
 * ```
 */
export class Chunker {
  readonly #kernel: ChunkKernel;
  readonly #cut: (offset: number, length: number) => Cut;
  readonly #maxBytes: number;
  readonly #receive: ChunkReceiver;
  readonly #windowEnd: number;
  /** Bytes that are not cut yet are between `#start` and `#end` in the kernel's memory. */
  #start = DATA_OFFSET;
  #end = DATA_OFFSET;
  #offset = 0;
  #zeroChunkBytes = 0;

  /**
   * Starts at offset 0.
   *
   * @param receive called with each chunk, valid only during the call, its offset and its hash
   */
  constructor(parameters: ChunkerParameters, receive: ChunkReceiver) {
    const windowBytes = alignUp(parameters.maxBytes + WINDOW_SPARE_BYTES, 65536);
    const table = parameters.kind === "gear"
      ? splitMixGearTable()
      : fastCdcGearTable(parameters.seed);
    this.#kernel = createKernel(table, windowBytes);
    this.#cut = cutter(this.#kernel, parameters);
    this.#maxBytes = parameters.maxBytes;
    this.#receive = receive;
    this.#windowEnd = DATA_OFFSET + windowBytes;
    this.#zeroChunkBytes = this.#cut(DATA_OFFSET, this.#maxBytes)[0];
  }

  /** The offset after all bytes so far. */
  get offset(): number {
    return this.#offset + this.#end - this.#start;
  }

  /** Adds bytes. */
  push(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length;) {
      const part = bytes.subarray(done, done + this.#room());
      this.#kernel.bytes.set(part, this.#end);
      done += part.length;
      this.#end += part.length;
      this.#cutWhole();
    }
  }

  /** Adds zeros. All-zero chunks are skipped in one step and not passed to the receiver. */
  pushZeros(sizeBytes: number): void {
    let left = sizeBytes;
    while (left > 0) {
      if (this.#start === this.#end && left >= this.#maxBytes) {
        const passed = Math.floor(left / this.#maxBytes) * this.#zeroChunkBytes;
        this.#offset += passed;
        left -= passed;
        continue;
      }
      // Stops where the current chunk must end, so that the next one may start within the zeros.
      const count = Math.min(left, this.#room(), this.#maxBytes - (this.#end - this.#start));
      this.#kernel.bytes.fill(0, this.#end, this.#end + count);
      this.#end += count;
      left -= count;
      this.#cutWhole();
    }
  }

  /** Cuts the remaining bytes. */
  finish(): void {
    while (this.#end > this.#start) this.#cutOne();
  }

  #room(): number {
    if (this.#end === this.#windowEnd) {
      this.#kernel.bytes.copyWithin(DATA_OFFSET, this.#start, this.#end);
      this.#end -= this.#start - DATA_OFFSET;
      this.#start = DATA_OFFSET;
    }
    return this.#windowEnd - this.#end;
  }

  #cutWhole(): void {
    while (this.#end - this.#start >= this.#maxBytes) this.#cutOne();
  }

  #cutOne(): void {
    const [length, hash] = this.#cut(this.#start, this.#end - this.#start);
    const chunk = this.#kernel.bytes.subarray(this.#start, this.#start + length);
    this.#receive(chunk, this.#offset, BigInt.asUintN(64, hash));
    this.#start += length;
    this.#offset += length;
    if (this.#start === this.#end) this.#start = this.#end = DATA_OFFSET;
  }
}

function cutter(
  kernel: ChunkKernel,
  parameters: ChunkerParameters,
): (offset: number, length: number) => Cut {
  const { minBytes, maxBytes } = parameters;
  if (parameters.kind === "gear") {
    const mask = 2n ** BigInt(parameters.maskBits) - 1n;
    return (offset, length) => kernel.gear(offset, length, minBytes, maxBytes, mask);
  }
  const { averageBytes } = parameters;
  const { maskSmall, maskLarge } = normalizedMasks(averageBytes, parameters.normalization);
  return (offset, length) =>
    kernel.fastCdc(offset, length, minBytes, averageBytes, maxBytes, maskSmall, maskLarge);
}
