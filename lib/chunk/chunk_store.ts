/**
 * A place where chunks are kept under their ids, as casync and desync expect them.
 *
 * @module
 */
import type { BlessfsError } from "../errors.ts";

/** Whether a chunk is new in its store, or somebody else was quicker. */
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
   * @param contentBytes of the chunk; what is there must be able to be one of so many bytes
   * @throws {IoError} when that cannot be told
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

/** Whether an error says that a chunk is missing, and nothing worse. */
export function isMissingChunk(error: unknown): boolean {
  return (error as BlessfsError | undefined)?.data?.["code"] === MISSING_CODE;
}

/** The `code` in the data of the error for a missing chunk. */
export const MISSING_CODE = "chunkMissing";
