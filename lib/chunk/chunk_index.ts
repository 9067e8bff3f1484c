/**
 * Chunk indexes, `FILE.caibx`: the chunks of a file, in order, in casync's format. All numbers are 64 bits,
 * little-endian (casync, src/caformat.h):
 *
 * | offset    | bytes | is                                                             |
 * | --------- | ----- | -------------------------------------------------------------- |
 * | 0         | 8     | 48, the size of the header                                     |
 * | 8         | 8     | CA_FORMAT_INDEX                                                |
 * | 16        | 8     | feature flags                                                  |
 * | 24        | 8     | the least size of a chunk                                      |
 * | 32        | 8     | the average                                                    |
 * | 40        | 8     | the largest                                                    |
 * | 48        | 8     | 2^64 - 1: the table has no size of its own                     |
 * | 56        | 8     | CA_FORMAT_TABLE                                                |
 * | 64        | 40 n  | each chunk: where it ends in the file, and its id of 32 bytes  |
 * | 64 + 40 n | 16    | zeros                                                          |
 * | + 16      | 8     | 48, the size of the header again                               |
 * | + 24      | 8     | the size of the table: 16 + 40 n + 40                          |
 * | + 32      | 8     | CA_FORMAT_TABLE_TAIL_MARKER                                    |
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { InputError, invariant } from "../errors.ts";
import { CHUNK_BYTES_MAX, CHUNK_ID_BYTES, type ChunkDigest } from "./chunk.ts";

const INDEX_MAGIC = 0x96824d9c7b129ff9n;
const TABLE_MAGIC = 0xe75b9e112f17417dn;
const TAIL_MAGIC = 0x4b4f050e5549ecd1n;
const UNKNOWN_SIZE = 0xffffffffffffffffn;

/** Ids are SHA-512/256; without this bit, they are SHA-256. */
const FLAG_SHA512_256 = 0x2000000000000000n;
/** EXCLUDE_FILE and EXCLUDE_NODUMP, which casync sets for blobs. */
const FLAGS_OF_CASYNC = 0x9000000000000000n;

const HEADER_BYTES = 48;
const TABLE_OFFSET = 64;
const TABLE_HEADER_BYTES = 16;
const ITEM_BYTES = 8 + CHUNK_ID_BYTES;
const TAIL_BYTES = 40;
const TWO_32 = 2 ** 32;

/** The chunks of a file. */
export interface ChunkIndex {
  /** The digest that chunk ids are. */
  readonly digest: ChunkDigest;
  /** The size of each chunk, of which the last may be shorter; with `cut`, the size of the largest possible chunk. */
  readonly chunkBytes: number;
  /** For content-defined chunks: the parameters of the chunker, and where each chunk ends. */
  readonly cut?: {
    readonly minBytes: number;
    readonly averageBytes: number;
    readonly ends: readonly number[];
  };
  /** The size of the file. */
  readonly sizeBytes: number;
  /** The concatenated ids, 32 bytes each. */
  readonly ids: Uint8Array;
}

/**
 * Encodes an index, with the same bytes that `casync make --chunk-size=N:N:N` writes for the file.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { decodeChunkIndex, encodeChunkIndex } from "./chunk_index.ts";
 * const index = {
 *   digest: "sha512-256" as const,
 *   chunkBytes: 131072,
 *   sizeBytes: 131073,
 *   ids: new Uint8Array(64).fill(7),
 * };
 * const bytes = encodeChunkIndex(index);
 * assertEquals(bytes.length, 64 + 2 * 40 + 40);
 * assertEquals(decodeChunkIndex(bytes, "test").sizeBytes, 131073);
 * ```
 */
export function encodeChunkIndex(index: ChunkIndex): Uint8Array {
  const { chunkBytes, ids, digest, cut } = index;
  const count = chunkCount(index);
  invariant(
    ids.length === count * CHUNK_ID_BYTES,
    `${ids.length} bytes of ids for ${count} chunks`,
  );
  const bytes = new Uint8Array(TABLE_OFFSET + count * ITEM_BYTES + TAIL_BYTES);
  const view = new DataView(bytes.buffer);
  const fields: readonly (readonly [offset: number, value: bigint])[] = [
    ...constantFields(count).map(([offset, value]) => [offset, value] as const),
    [16, FLAGS_OF_CASYNC | (digest === "sha512-256" ? FLAG_SHA512_256 : 0n)],
    [24, BigInt(cut?.minBytes ?? chunkBytes)],
    [32, BigInt(cut?.averageBytes ?? chunkBytes)],
    [40, BigInt(chunkBytes)],
  ];
  for (const [offset, value] of fields) view.setBigUint64(offset, value, true);
  for (let i = 0; i < count; i++) {
    const offset = TABLE_OFFSET + i * ITEM_BYTES;
    const end = chunkEnd(index, i);
    view.setUint32(offset, end % TWO_32, true);
    view.setUint32(offset + 4, Math.floor(end / TWO_32), true);
    bytes.set(ids.subarray(i * CHUNK_ID_BYTES, (i + 1) * CHUNK_ID_BYTES), offset + 8);
  }
  return bytes;
}

/** The fields that depend only on the number of chunks. */
function constantFields(count: number): [offset: number, value: bigint, field: string][] {
  const tail = TABLE_OFFSET + count * ITEM_BYTES;
  return [
    [0, BigInt(HEADER_BYTES), "header size"],
    [8, INDEX_MAGIC, "magic of an index"],
    [48, UNKNOWN_SIZE, "table size"],
    [56, TABLE_MAGIC, "magic of the table"],
    [tail, 0n, "zeros"],
    [tail + 8, 0n, "zeros"],
    [tail + 16, BigInt(HEADER_BYTES), "header size"],
    [tail + 24, BigInt(TABLE_HEADER_BYTES + count * ITEM_BYTES + TAIL_BYTES), "size of the table"],
    [tail + 32, TAIL_MAGIC, "magic of the end"],
  ];
}

/**
 * Decodes an index written by any program.
 *
 * @param what the name of the index, safe to print
 * @throws {InputError} when the index is damaged, or its chunks exceed the limit of 16 MiB
 */
export function decodeChunkIndex(bytes: Uint8Array, what: string): ChunkIndex {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const itemBytes = bytes.length - TABLE_OFFSET - TAIL_BYTES;
  if (itemBytes < 0 || itemBytes % ITEM_BYTES !== 0) {
    const wanted = `${TABLE_OFFSET + TAIL_BYTES} and ${ITEM_BYTES} more for each chunk`;
    throw new InputError(what, `has ${bytes.length} bytes: an index has ${wanted}`);
  }
  const count = itemBytes / ITEM_BYTES;
  for (const [offset, value, field] of constantFields(count)) {
    const found = view.getBigUint64(offset, true);
    if (found !== value) throw fieldFault(what, offset, field, found, value);
  }
  const sizes = readChunkSizes(view, what);
  const index = {
    digest: (view.getBigUint64(16, true) & FLAG_SHA512_256) === 0n
      ? "sha256" as const
      : "sha512-256" as const,
    chunkBytes: sizes.maxBytes,
    ...readEnds(view, count, sizes, what),
    ids: new Uint8Array(count * CHUNK_ID_BYTES),
  };
  for (let i = 0; i < count; i++) {
    const offset = TABLE_OFFSET + i * ITEM_BYTES + 8;
    index.ids.set(bytes.subarray(offset, offset + CHUNK_ID_BYTES), i * CHUNK_ID_BYTES);
  }
  return index;
}

/** The number of chunks in a file. */
export function chunkCount({ chunkBytes, sizeBytes, cut }: Omit<ChunkIndex, "ids">): number {
  return cut?.ends.length ?? Math.ceil(sizeBytes / chunkBytes);
}

/** The offset in the file where a chunk ends. */
function chunkEnd(
  { chunkBytes, sizeBytes, cut }: Omit<ChunkIndex, "ids">,
  i: number,
): number {
  return cut === undefined ? Math.min((i + 1) * chunkBytes, sizeBytes) : cut.ends[i]!;
}

/** A chunk of an index. */
export interface IndexedChunk {
  readonly id: string;
  /** The offset in the file. */
  readonly offset: number;
  readonly sizeBytes: number;
}

/** Iterates over the chunks of an index in order. */
export function* chunksOf(index: ChunkIndex): Generator<IndexedChunk> {
  const ids = Buffer.from(index.ids.buffer, index.ids.byteOffset, index.ids.length);
  const count = chunkCount(index);
  let offset = 0;
  for (let i = 0; i < count; i++) {
    const id = ids.toString("hex", i * CHUNK_ID_BYTES, (i + 1) * CHUNK_ID_BYTES);
    const end = chunkEnd(index, i);
    yield { id, offset, sizeBytes: end - offset };
    offset = end;
  }
}

interface ChunkSizes {
  readonly minBytes: number;
  readonly averageBytes: number;
  readonly maxBytes: number;
}

function readChunkSizes(view: DataView, what: string): ChunkSizes {
  const sizeAt = (offset: number) => view.getBigUint64(offset, true);
  const [min, average, max] = [sizeAt(24), sizeAt(32), sizeAt(40)];
  if (min < 1n || min > average || average > max) {
    throw new InputError(
      what,
      `has chunks of ${min} to ${max} bytes, ${average} on average: wanted ascending sizes`,
    );
  }
  if (max > BigInt(CHUNK_BYTES_MAX)) {
    throw new InputError(what, `has chunks of ${max} bytes: wanted at most ${CHUNK_BYTES_MAX}`, {
      code: "limitExceeded",
    });
  }
  return { minBytes: Number(min), averageBytes: Number(average), maxBytes: Number(max) };
}

/** Checks the ends of chunks. Returns the size of the file and, for chunks of varying size, their ends. */
function readEnds(
  view: DataView,
  count: number,
  { minBytes, averageBytes, maxBytes }: ChunkSizes,
  what: string,
): Pick<ChunkIndex, "sizeBytes" | "cut"> {
  const isFixed = minBytes === maxBytes;
  const ends: number[] = [];
  let start = 0;
  for (let i = 0; i < count; i++) {
    const offset = TABLE_OFFSET + i * ITEM_BYTES;
    const end = view.getUint32(offset, true) + TWO_32 * view.getUint32(offset + 4, true);
    const whole = start + maxBytes;
    const mayBeShort = !isFixed || i === count - 1;
    const isRight = end === whole || mayBeShort && end > start && end < whole;
    if (!isRight) {
      const found = view.getBigUint64(offset, true);
      throw fieldFault(what, offset, `end of chunk ${i}`, found, BigInt(whole));
    }
    if (!Number.isSafeInteger(end)) {
      throw new InputError(what, `is of a file of ${end} bytes: wanted less than 2^53`);
    }
    if (!isFixed) ends.push(end);
    start = end;
  }
  return { sizeBytes: start, ...isFixed ? {} : { cut: { minBytes, averageBytes, ends } } };
}

function fieldFault(
  what: string,
  offset: number,
  field: string,
  found: bigint,
  wanted: bigint,
): InputError {
  return new InputError(
    what,
    `offset ${offset}: the ${field} is 0x${found.toString(16)}, wanted 0x${wanted.toString(16)}`,
  );
}
