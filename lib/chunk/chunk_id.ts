/**
 * What names a chunk: the digest of its bytes before compression. Stores of casync and desync lay chunks out by it.
 *
 * @module
 */
import { type BinaryLike, createHash } from "node:crypto";
import { UsageError } from "../errors.ts";

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
 * import { chunkId } from "./chunk_id.ts";
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
