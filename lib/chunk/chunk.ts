/**
 * A chunk: its id, how it is stored, and the stores of casync and desync that keep it under its id. It is stored as one zstd
 * frame that states its content's size. The same bytes always give the same frame in the same runtime; another runtime has
 * another zstd and may give another frame of the same content.
 *
 * @module
 */
import { type BinaryLike, createHash } from "node:crypto";
import * as zlib from "node:zlib";
import { BlessfsError, InputError, invariant, optionError, UsageError } from "../errors.ts";
import { firstZstdFrame } from "../io/zstd_frames.ts";

/** The digests that an index can name; casync and desync use the first by default. */
export type ChunkDigest = "sha512-256" | "sha256";

/** All of them, the default first. */
export const CHUNK_DIGESTS: readonly ChunkDigest[] = ["sha512-256", "sha256"];

/** Of every id. */
export const CHUNK_ID_BYTES = 32;

/** The ending of a chunk's object: zstd-compressed by casync's default, and the only kind that desync writes. */
const COMPRESSED_ENDING = ".cacnk";
const PREFIX_DIGITS = 4;

/** The id of a chunk in lower-case hex. @param bytes uncompressed */
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

/** A block of ext4. */
const CHUNK_BYTES_MIN = 4096;
/** The largest grid. */
export const CHUNK_BYTES_MAX = 1 << 24;

/** Checks the size of chunks, such as the grid of an image. @throws {UsageError} when it is not a valid one */
export function checkChunkSize(chunkBytes: number, what: string): void {
  const isPower = Number.isInteger(Math.log2(chunkBytes));
  if (isPower && chunkBytes >= CHUNK_BYTES_MIN && chunkBytes <= CHUNK_BYTES_MAX) return;
  throw new UsageError(what, `wanted a power of two from 4K to 16M, found ${chunkBytes}`);
}

/** The default of zstd(1), casync and desync. */
export const ZSTD_LEVEL_DEFAULT = 3;
/** Levels above this one need much memory. */
export const ZSTD_LEVEL_MAX = 19;

/** Of a frame: magic, descriptor, one byte of content size, the header of one block (RFC 8878, section 3.1.1). */
const STORED_BYTES_MIN = 9;
/** Of any chunk. */
export const STORED_BYTES_MAX = storedBytesMax(CHUNK_BYTES_MAX);

/** The most that a chunk takes: zstd grows what it cannot compress by less than 1 in 128 and a little. */
function storedBytesMax(contentBytes: number): number {
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

/** Whether a chunk is new in its store, or another writer was faster. */
export type PutOutcome = "added" | "present";

/** An object of a store, as listed. */
export interface StoredObject {
  /** Where it lies in the store: the path of a chunk, or of something else. */
  readonly path: string;
  /** The chunk's id; undefined for what is not a chunk. */
  readonly id: string | undefined;
  /** As it is stored. */
  readonly sizeBytes: number;
  /** When it was stored; milliseconds since 1970 by the store's own clock. */
  readonly storedMs: number;
}

/** Chunks by their ids. A chunk is there whole or not at all, and is never replaced by another. */
export interface ChunkStore {
  /** Safe to print, without secrets. */
  readonly name: string;
  /**
   * Checks that the store can be used, before any work is done.
   *
   * @throws {IoError} when it cannot
   */
  open(): Promise<void>;
  /**
   * Whether a chunk is there. Its content is not looked at.
   *
   * @param contentBytes of the chunk; the size of what is there must be possible for it
   * @throws {IoError} when the store does not answer
   * @throws {InputError} when what is there cannot be the chunk
   */
  has(id: string, contentBytes: number, signal?: AbortSignal): boolean | Promise<boolean>;
  /**
   * The stored bytes of a chunk; no more of them than any chunk can have.
   *
   * @throws {InputError} when it is missing
   */
  get(id: string, signal?: AbortSignal): Promise<Uint8Array>;
  /**
   * Adds a chunk.
   *
   * @throws {IoError} when it cannot be stored; nothing of it is visible then
   */
  put(id: string, stored: Uint8Array, signal?: AbortSignal): Promise<PutOutcome>;
  /** Makes what was added and what was found safe from a loss of power, so that an index may speak of it. */
  settle(): Promise<void>;
  /** Everything in the store, or in one folder of it, in the store's order. */
  list(folder?: string, signal?: AbortSignal): AsyncIterable<StoredObject>;
  /**
   * Stores a small object that is not a chunk, such as a lock.
   *
   * @returns false when its name is taken
   */
  mark(path: string): Promise<boolean>;
  /** Removes an object, if it is there. @param path as listed */
  remove(path: string, signal?: AbortSignal): Promise<void>;
}

/** Where marks lie in a store. */
export const LOCK_FOLDER = ".blessfs";

/** The error for a chunk that is not in its store. */
export function missingChunk(where: string, path: string): InputError {
  return new InputError(where, "is missing: wanted a chunk", {
    code: "missingPart",
    data: { path, code: MISSING_CODE },
  });
}

const MISSING_CODE = "chunkMissing";

/** Whether an error says that a chunk is missing, and nothing worse. */
export function isMissingChunk(error: unknown): boolean {
  return error instanceof BlessfsError && error.data["code"] === MISSING_CODE;
}

/** The error for something that has the name of a chunk but is not one. */
export function notAChunk(where: string, path: string, why: string): InputError {
  return new InputError(where, `${why}: wanted a chunk`, {
    hint: "remove it, and it will be stored again",
    data: { path },
  });
}

/** Why an object of that size cannot be a chunk of so much content; undefined when it can. */
export function sizeFault(sizeBytes: number, contentBytes: number): string | undefined {
  if (sizeBytes === 0) return "is empty";
  const isPossible = sizeBytes >= STORED_BYTES_MIN && sizeBytes <= storedBytesMax(contentBytes);
  return isPossible ? undefined : `has ${sizeBytes} bytes`;
}

/** Reads a chunk from a store and checks it. @returns its content @throws {InputError} when it is missing or damaged */
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
