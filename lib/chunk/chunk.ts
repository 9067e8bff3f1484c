/**
 * A chunk: its id, where stores of casync and desync keep it, and how it is stored. That is one zstd frame that states
 * its content's size. The same bytes always give the same frame in the same runtime; another runtime has another zstd
 * and may give another frame of the same content.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { type BinaryLike, createHash } from "node:crypto";
import * as zlib from "node:zlib";
import { invariant, optionError, UsageError } from "../errors.ts";

/** The digests that an index can say its ids are; casync and desync both take the first unless told otherwise. */
export type ChunkDigest = "sha512-256" | "sha256";

/** All of them, the default first. */
export const CHUNK_DIGESTS: readonly ChunkDigest[] = ["sha512-256", "sha256"];

/** Of every id. */
export const CHUNK_ID_BYTES = 32;

/** The ending of a chunk's object: zstd-compressed by casync's default, and the only kind that desync writes. */
const COMPRESSED_ENDING = ".cacnk";
const PREFIX_DIGITS = 4;

/**
 * The id of a chunk in lower-case hex.
 *
 * @param bytes uncompressed
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { chunkId } from "./chunk.ts";
 * assertEquals(
 *   chunkId(new Uint8Array(131072), "sha512-256"),
 *   "99ebf423818423d06dbef83065deee646a5c32ddaf444cccd0a520fd92b5cded",
 * );
 * ```
 */
export function chunkId(bytes: Uint8Array, digest: ChunkDigest): string {
  return createHash(digest).update(bytes as BinaryLike).digest("hex");
}

/** The folder of a chunk in its store. */
export function chunkFolder(id: string): string {
  return id.slice(0, PREFIX_DIGITS);
}

/** Where a chunk lies in its store: four digits of its id, then all of it (casync, src/castore.c). */
export function chunkPath(id: string): string {
  return `${chunkFolder(id)}/${id}${COMPRESSED_ENDING}`;
}

/**
 * Checks the size of chunks. The grid of an image is one that will do.
 *
 * @throws {UsageError} when it is none that blocks of a file system could be
 */
export function checkChunkSize(chunkBytes: number, what: string): void {
  if (Number.isInteger(chunkBytes) && Number.isInteger(Math.log2(chunkBytes))) {
    if (chunkBytes >= CHUNK_BYTES_MIN && chunkBytes <= CHUNK_BYTES_MAX) return;
  }
  throw new UsageError(what, `wanted a power of two from 4K to 1M, found ${chunkBytes}`);
}

/** A block of ext4. */
export const CHUNK_BYTES_MIN = 4096;
/** The largest grid. */
export const CHUNK_BYTES_MAX = 1 << 20;

const ZSTD_MAGIC = 0xfd2fb528;

/** What zstd(1), casync and desync take by themselves. */
export const ZSTD_LEVEL_DEFAULT = 3;
/** Levels above this one need much memory. */
export const ZSTD_LEVEL_MAX = 19;

/** zstd grows what it cannot compress by less than 1 in 128 and a little (ZSTD_compressBound). */
export const STORED_BYTES_MAX = CHUNK_BYTES_MAX + CHUNK_BYTES_MAX / 128 + 1024;

/**
 * Checks that chunks can be compressed here.
 *
 * @throws {UsageError} for a level out of range, and where the runtime has no zstd
 */
export function checkZstdLevel(level: number): void {
  if (!Number.isInteger(level) || level < 1 || level > ZSTD_LEVEL_MAX) {
    throw optionError("zstdLevel", `wanted 1 to ${ZSTD_LEVEL_MAX}, found ${level}`);
  }
  if (typeof zlib.zstdCompressSync === "function") return;
  throw optionError("store", "this runtime cannot compress with zstd", {
    hint: "use Deno, Bun or Node 22",
  });
}

/** Compresses a chunk into one frame. */
export function compressChunk(bytes: Uint8Array, level: number): Uint8Array {
  const params = { [zlib.constants.ZSTD_c_compressionLevel]: level };
  // A frame that knows its content's size gets tables to match, and lets a reader allocate once.
  const options = { params, pledgedSrcSize: bytes.length };
  const stored = zlib.zstdCompressSync(bytes, options);
  // Deno puts an empty frame behind; casync takes a chunk with anything behind its frame for a damaged one.
  const frame = stored.subarray(0, firstFrameBytes(stored));
  const statedBytes = statedContentBytes(frame);
  const isWhole = statedBytes === undefined
    ? decompressChunk(frame, bytes.length)?.length === bytes.length
    : statedBytes === bytes.length;
  invariant(isWhole, `a chunk of ${bytes.length} bytes in several zstd frames`);
  return frame;
}

/**
 * The content of a stored chunk; undefined when it is not exactly one frame that can be read. Whether it is the right one is for the
 * caller to say, by its digest: decoders of some runtimes take a truncated frame for a whole one.
 *
 * @param mostBytes of content; one that is longer is not read on
 */
export function decompressChunk(stored: Uint8Array, mostBytes: number): Uint8Array | undefined {
  if (firstFrameBytes(stored) !== stored.length) return undefined;
  const statedBytes = statedContentBytes(stored);
  if (statedBytes !== undefined && statedBytes > mostBytes) return undefined;
  try {
    return zlib.zstdDecompressSync(stored, { maxOutputLength: mostBytes });
  } catch {
    return undefined;
  }
}

/** The fields of a frame's header (RFC 8878, section 3.1.1.1). */
interface FrameHeader {
  readonly headerBytes: number;
  readonly contentBytes: number | undefined;
  readonly hasChecksum: boolean;
}

function frameHeader(stored: Uint8Array): FrameHeader | undefined {
  const frame = Buffer.from(stored.buffer, stored.byteOffset, stored.length);
  if (frame.length < 6 || frame.readUInt32LE(0) !== ZSTD_MAGIC) return undefined;
  const descriptor = frame[4]!;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const fieldBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6]!;
  const at = 5 + (isSingleSegment ? 0 : 1) + [0, 1, 2, 4][descriptor & 3]!;
  const headerBytes = at + fieldBytes;
  if (headerBytes > frame.length) return undefined;
  const contentBytes = fieldBytes === 0
    ? undefined
    : fieldBytes === 8
    ? Number(frame.readBigUInt64LE(at))
    : frame.readUIntLE(at, fieldBytes) + (fieldBytes === 2 ? 256 : 0);
  return { headerBytes, contentBytes, hasChecksum: (descriptor & 4) !== 0 };
}

/** The content's size where a frame states it. */
function statedContentBytes(stored: Uint8Array): number | undefined {
  return frameHeader(stored)?.contentBytes;
}

/** Where the first frame ends (RFC 8878, section 3.1.1.2); undefined when there is none that is whole. */
function firstFrameBytes(stored: Uint8Array): number | undefined {
  const header = frameHeader(stored);
  if (header === undefined) return undefined;
  let at = header.headerBytes;
  for (let isLast = false; !isLast;) {
    if (at + 3 > stored.length) return undefined;
    const block = stored[at]! | stored[at + 1]! << 8 | stored[at + 2]! << 16;
    isLast = (block & 1) === 1;
    const isRepeated = (block >> 1 & 3) === 1;
    at += 3 + (isRepeated ? 1 : block >> 3);
  }
  if (header.hasChecksum) at += 4;
  return at <= stored.length ? at : undefined;
}
