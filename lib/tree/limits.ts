/**
 * Limits on trees, so that no input takes unbounded time or memory.
 *
 * @module
 */
import { limitError } from "../errors.ts";

/** Limits on one tree; each is the largest value that is accepted. */
export interface TreeLimits {
  /** Entries of all layers together, plus the directories that they imply. */
  readonly treeNodes: number;
  /** Directories without an entry of their own, which the paths of other entries imply. */
  readonly impliedDirectories: number;
  /** Directories on the way from the root to a name, that name included. */
  readonly pathDepth: number;
  /** Symlinks followed while one path is resolved. */
  readonly symlinkHops: number;
  /** Path components walked because of symlinks, for all layers together. */
  readonly symlinkSteps: number;
  /** Names in one directory. */
  readonly directoryNames: number;
}

/** The defaults, far above what real images need. */
export const DEFAULT_TREE_LIMITS: TreeLimits = {
  treeNodes: 2 ** 20,
  // A few bytes of a path make one, and each takes two kibibytes of memory.
  impliedDirectories: 2 ** 18,
  pathDepth: 1024,
  symlinkHops: 255,
  symlinkSteps: 50_000_000,
  directoryNames: 1_000_000,
};

/** The longest name that a directory entry of ext4 can hold. */
export const MAX_NAME_SIZE_BYTES = 255;

/** The longest symlink target: one block without the NUL at its end. */
export const MAX_SYMLINK_TARGET_SIZE_BYTES = 4095;

/** Counts against the limits of a whole tree. */
export class TreeBudget {
  readonly limits: TreeLimits;
  #nodeCount = 0;
  #impliedCount = 0;
  #symlinkStepCount = 0;

  constructor(limits: Partial<TreeLimits> = {}) {
    this.limits = { ...DEFAULT_TREE_LIMITS, ...limits };
  }

  /** Counts one entry or one implied directory; `what` is called for the message only. */
  countNode(what: () => string): void {
    if (++this.#nodeCount > this.limits.treeNodes) {
      throw limitError(
        what(),
        `the layers have more than ${this.limits.treeNodes} entries and implied directories`,
        { name: "treeNodes", expected: this.limits.treeNodes },
      );
    }
  }

  /** Counts one implied directory, which is a node as well. */
  countImplied(what: () => string): void {
    this.countNode(what);
    if (++this.#impliedCount > this.limits.impliedDirectories) {
      throw limitError(
        what(),
        `the layers imply more than ${this.limits.impliedDirectories} directories that have no entry`,
        { name: "impliedDirectories", expected: this.limits.impliedDirectories },
      );
    }
  }

  /** Counts the path components of a symlink that is followed. */
  countSymlinkSteps(stepCount: number, what: () => string): void {
    this.#symlinkStepCount += stepCount;
    if (this.#symlinkStepCount > this.limits.symlinkSteps) {
      throw limitError(
        what(),
        `the layers' paths lead through symlinks for more than ` +
          `${this.limits.symlinkSteps} components in all`,
        { name: "symlinkSteps", expected: this.limits.symlinkSteps },
      );
    }
  }
}
