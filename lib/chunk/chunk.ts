/**
 * A chunk: its id, where stores of casync and desync keep it, and how it is stored. That is one zstd frame that states
 * its content's size. The same bytes always give the same frame in the same runtime; another runtime has another zstd
 * and may give another frame of the same content.
 *
 * @module
 */
import { type BinaryLike, createHash } from "node:crypto";
import * as zlib from "node:zlib";
import { invariant, optionError, UsageError } from "../errors.ts";
import { firstZstdFrame } from "../io/zstd_frames.ts";

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

/** The id of the chunk at a path in a store; undefined for what is not the path of one. */
export function chunkIdOf(path: string): string | undefined {
  const [, folder, id] = /^([0-9a-f]{4})\/([0-9a-f]{64})\.cacnk$/.exec(path) ?? [];
  return id !== undefined && chunkFolder(id) === folder ? id : undefined;
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
  throw new UsageError(what, `wanted a power of two from 4K to 16M, found ${chunkBytes}`);
}

/** A block of ext4. */
export const CHUNK_BYTES_MIN = 4096;
/** The largest grid. */
export const CHUNK_BYTES_MAX = 1 << 24;

/** What zstd(1), casync and desync take by themselves. */
export const ZSTD_LEVEL_DEFAULT = 3;
/** Levels above this one need much memory. */
export const ZSTD_LEVEL_MAX = 19;

/** Of a frame: magic, descriptor, one byte of content size, the header of one block (RFC 8878, section 3.1.1). */
export const STORED_BYTES_MIN = 9;
/** Of any chunk. */
export const STORED_BYTES_MAX = storedBytesMax(CHUNK_BYTES_MAX);

/** The most that a chunk takes: zstd grows what it cannot compress by less than 1 in 128 and a little. */
export function storedBytesMax(contentBytes: number): number {
  return contentBytes + contentBytes / 128 + 1024;
}

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
  const { frameBytes, contentBytes: statedBytes } = firstZstdFrame(stored) ?? {};
  const frame = stored.subarray(0, frameBytes);
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
  const found = firstZstdFrame(stored);
  if (found?.frameBytes !== stored.length) return undefined;
  const statedBytes = found.contentBytes;
  if (statedBytes !== undefined && statedBytes > mostBytes) return undefined;
  try {
    return zlib.zstdDecompressSync(stored, { maxOutputLength: mostBytes });
  } catch {
    return undefined;
  }
}
