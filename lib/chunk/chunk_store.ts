/**
 * A place where chunks are kept under their ids, as casync and desync expect them.
 *
 * @module
 */

/** Whether a chunk is new in its store, or somebody else was quicker. */
export type PutOutcome = "added" | "present";

/** Chunks by their ids. A chunk is there whole or not at all, and is never replaced. */
export interface ChunkStore {
  /** Safe to print, without secrets. */
  readonly name: string;
  /**
   * Looks whether the store can be used, before any work is done.
   *
   * @throws {IoError} when it cannot
   */
  open(): Promise<void>;
  /**
   * Whether a chunk is there. Its content is not looked at.
   *
   * @throws {IoError} when that cannot be told
   * @throws {InputError} when what is there can be no chunk
   */
  has(id: string): boolean | Promise<boolean>;
  /** The stored bytes of a chunk that is there; no more of them than any chunk can have. */
  get(id: string): Promise<Uint8Array>;
  /**
   * Adds a chunk.
   *
   * @throws {IoError} when it cannot be stored; nothing of it is visible then
   */
  put(id: string, stored: Uint8Array): Promise<PutOutcome>;
  /** Makes what was added safe from a loss of power, so that an index may speak of it. */
  settle(): Promise<void>;
}
