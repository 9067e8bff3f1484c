/**
 * Chunks: their ids, their stored form, and the interface of casync and desync stores, which keep chunks by id. A chunk
 * is stored as one zstd frame that states the size of its content. Equal bytes always give equal frames within one
 * runtime; another runtime has another zstd and may give a different frame for the same content.
 *
 * @module
 */
import { type BinaryLike, createHash } from "node:crypto";
import * as zlib from "node:zlib";
import { BlessfsError, InputError, invariant, optionError, UsageError } from "../errors.ts";
import { firstZstdFrame } from "../io/zstd_frames.ts";

/** The digests that an index can use; casync and desync use the first by default. */
export type ChunkDigest = "sha512-256" | "sha256";

/** All digests, the default first. */
export const CHUNK_DIGESTS: readonly ChunkDigest[] = ["sha512-256", "sha256"];

/** The size of a chunk id. */
export const CHUNK_ID_BYTES = 32;

/** The extension of a chunk's object: zstd-compressed, which is casync's default and all that desync writes. */
const COMPRESSED_ENDING = ".cacnk";
const PREFIX_DIGITS = 4;

/** The id of a chunk in lower-case hex. @param bytes the uncompressed content */
export function chunkId(bytes: Uint8Array, digest: ChunkDigest): string {
  return createHash(digest).update(bytes as BinaryLike).digest("hex");
}

/** The folder of a chunk in its store. */
export function chunkFolder(id: string): string {
  return id.slice(0, PREFIX_DIGITS);
}

/**
 * The path of a chunk in its store: a folder of the first four digits of its id, then the whole id (casync,
 * src/castore.c).
 */
export function chunkPath(id: string): string {
  return `${chunkFolder(id)}/${id}${COMPRESSED_ENDING}`;
}

/** The id of the chunk at a path in a store; undefined if the path is not that of a chunk. */
export function chunkIdOf(path: string): string | undefined {
  const [, folder, id] = /^([0-9a-f]{4})\/([0-9a-f]{64})\.cacnk$/.exec(path) ?? [];
  return id !== undefined && chunkFolder(id) === folder ? id : undefined;
}

/** An ext4 block. */
const CHUNK_BYTES_MIN = 4096;
/** The largest grid. */
export const CHUNK_BYTES_MAX = 1 << 24;

/** Checks a chunk size, such as the grid of an image. @throws {UsageError} when it is invalid */
export function checkChunkSize(chunkBytes: number, what: string): void {
  const isPower = Number.isInteger(Math.log2(chunkBytes));
  if (isPower && chunkBytes >= CHUNK_BYTES_MIN && chunkBytes <= CHUNK_BYTES_MAX) return;
  throw new UsageError(what, `wanted a power of two from 4K to 16M, found ${chunkBytes}`);
}

/** The default of zstd(1), casync and desync. */
export const ZSTD_LEVEL_DEFAULT = 3;
/** Higher levels need a lot of memory. */
export const ZSTD_LEVEL_MAX = 19;

/** The smallest frame: magic, descriptor, one byte of content size, one block header (RFC 8878, section 3.1.1). */
const STORED_BYTES_MIN = 9;
/** The largest stored size of any chunk. */
export const STORED_BYTES_MAX = storedBytesMax(CHUNK_BYTES_MAX);

/** The largest stored size of a chunk: zstd expands incompressible data by less than 1/128 and a small constant. */
function storedBytesMax(contentBytes: number): number {
  return contentBytes + contentBytes / 128 + 1024;
}

/**
 * Checks that this runtime can compress chunks at a level.
 *
 * @throws {UsageError} when the level is out of range, or the runtime has no zstd
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
  // With the size known in advance, the frame uses matching tables, and readers can allocate once.
  const options = { params, pledgedSrcSize: bytes.length };
  const stored = zlib.zstdCompressSync(bytes, options);
  // Deno appends an empty frame; casync treats a chunk with data after its frame as damaged.
  const { frameBytes, contentBytes: statedBytes } = firstZstdFrame(stored) ?? {};
  const frame = stored.subarray(0, frameBytes);
  const isWhole = statedBytes === undefined
    ? decompressChunk(frame, bytes.length)?.length === bytes.length
    : statedBytes === bytes.length;
  invariant(isWhole, `a chunk of ${bytes.length} bytes in several zstd frames`);
  return frame;
}

/**
 * The content of a stored chunk; undefined when it is not exactly one readable frame. The caller must compare the
 * digest: in some runtimes, decoders accept a truncated frame.
 *
 * @param mostBytes the largest content to accept
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

/** Whether a chunk was added, or was present because another writer was faster. */
export type PutOutcome = "added" | "present";

/** An object listed in a store. */
export interface StoredObject {
  /** Its path in the store, whether it is a chunk or not. */
  readonly path: string;
  /** The chunk's id; undefined for other objects. */
  readonly id: string | undefined;
  /** The stored size. */
  readonly sizeBytes: number;
  /** When it was stored, in milliseconds since 1970 by the store's own clock. */
  readonly storedMs: number;
}

/** A store of chunks by id. A chunk is either complete or absent, and is never replaced by another. */
export interface ChunkStore {
  /** The name of the store, safe to print, without secrets. */
  readonly name: string;
  /**
   * Checks that the store can be used, before any work is done.
   *
   * @throws {IoError} when the store cannot be used
   */
  open(): Promise<void>;
  /**
   * Whether the store has a chunk. The content is not checked.
   *
   * @param contentBytes the content size of the chunk; the stored size must be possible for it
   * @throws {IoError} when the store does not answer
   * @throws {InputError} when the stored object cannot be the chunk
   */
  has(id: string, contentBytes: number, signal?: AbortSignal): boolean | Promise<boolean>;
  /**
   * The stored bytes of a chunk; reads no more than the largest possible chunk.
   *
   * @throws {InputError} when the chunk is missing
   */
  get(id: string, signal?: AbortSignal): Promise<Uint8Array>;
  /**
   * Adds a chunk.
   *
   * @throws {IoError} when the chunk cannot be stored; nothing of it is visible then
   */
  put(id: string, stored: Uint8Array, signal?: AbortSignal): Promise<PutOutcome>;
  /** Makes all added and found chunks durable, so that an index may refer to them. */
  settle(): Promise<void>;
  /** Lists everything in the store or in one folder, in the store's order. */
  list(folder?: string, signal?: AbortSignal): AsyncIterable<StoredObject>;
  /**
   * Stores a small object that is not a chunk, such as a lock.
   *
   * @returns false when the name is taken
   */
  mark(path: string): Promise<boolean>;
  /** Removes an object if it exists. @param path as listed */
  remove(path: string, signal?: AbortSignal): Promise<void>;
}

/** The folder of marks in a store. */
export const LOCK_FOLDER = ".blessfs";

/** The error for a chunk that is missing from its store. */
export function missingChunk(where: string, path: string): InputError {
  return new InputError(where, "is missing: wanted a chunk", {
    code: "missingPart",
    data: { path, code: MISSING_CODE },
  });
}

const MISSING_CODE = "chunkMissing";

/** Whether an error only means that a chunk is missing. */
export function isMissingChunk(error: unknown): boolean {
  return error instanceof BlessfsError && error.data["code"] === MISSING_CODE;
}

/** The error for an object that has a chunk's name but is not a chunk. */
export function notAChunk(where: string, path: string, why: string): InputError {
  return new InputError(where, `${why}: wanted a chunk`, {
    hint: "remove it, and it will be stored again",
    data: { path },
  });
}

/** Why an object of that size cannot be a chunk with `contentBytes` of content; undefined if it can. */
export function sizeFault(sizeBytes: number, contentBytes: number): string | undefined {
  if (sizeBytes === 0) return "is empty";
  const isPossible = sizeBytes >= STORED_BYTES_MIN && sizeBytes <= storedBytesMax(contentBytes);
  return isPossible ? undefined : `has ${sizeBytes} bytes`;
}

/**
 * Reads a chunk from a store and verifies it.
 *
 * @returns its content
 * @throws {InputError} when it is missing or damaged
 */
export async function fetchChunk(
  store: ChunkStore,
  { id, digest, contentBytes }: {
    readonly id: string;
    readonly digest: ChunkDigest;
    readonly contentBytes: number;
  },
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const stored = await store.get(id, signal);
  const content = decompressChunk(stored, contentBytes);
  if (content?.length === contentBytes && chunkId(content, digest) === id) return content;
  const found = content === undefined
    ? `its ${stored.length} bytes are not a zstd frame of ${contentBytes} bytes`
    : `its content has ${content.length} bytes and the digest ${chunkId(content, digest)}`;
  throw new InputError(`${store.name}: chunk ${chunkPath(id)}`, `is damaged: ${found}`, {
    hint: "remove it from the store, and it will be stored again",
    data: { path: chunkPath(id) },
  });
}
