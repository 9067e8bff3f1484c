/**
 * Bounds on what an image may make of a tree, so that no image takes unbounded time or memory.
 *
 * @module
 */
import { InputError } from "../../errors.ts";

/** Each is the largest value that is still accepted. */
export interface ReadLimits {
  /** Names in all directories together. */
  readonly maxNameCount: number;
  /** Directories on the way from the root to a name, that name included. */
  readonly maxPathDepth: number;
  /** Names in one directory. */
  readonly maxChildCount: number;
  /** Separate runs of data in all files together. */
  readonly maxSegmentCount: number;
}

/** The defaults, those of trees that are built of layers (docs/LIMITS.md). */
export const DEFAULT_READ_LIMITS: ReadLimits = {
  maxNameCount: 1_048_576,
  maxPathDepth: 1024,
  maxChildCount: 1_000_000,
  maxSegmentCount: 4_194_304,
};

/**
 * Counts the blocks that inodes say are theirs. Together they cannot be more than the file system has; where they are,
 * some block has two owners, and following them all could take forever.
 */
export class BlockBudget {
  readonly #blocksCount: number;
  #taken = 0;

  /** A budget for a file system of so many blocks. */
  constructor(blocksCount: number) {
    this.#blocksCount = blocksCount;
  }

  /** Counts some blocks of what `what` names. */
  take(blockCount: number, what: string): void {
    this.#taken += blockCount;
    if (this.#taken <= this.#blocksCount) return;
    throw new InputError(
      what,
      `with it, ${this.#taken} blocks have owners: the file system has ${this.#blocksCount}`,
    );
  }
}
