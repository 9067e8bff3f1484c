/**
 * What the passes over an image share.
 *
 * @module
 */
import { RO_COMPAT } from "../format/constants.ts";
import type { DecodedXattr } from "../format/xattr.ts";
import type { Directory } from "../volume/directory.ts";
import type { Judge } from "../volume/judge.ts";
import type { Group, Volume } from "../volume/volume.ts";
import { BlockUsage, InodeCounts } from "./usage.ts";

/** An inode that is looked at again after all inodes have been seen. */
export type KeptInode = Directory;

/** An attribute in an inode whose value is in another inode. */
export interface ValueReference {
  readonly owner: number;
  readonly xattr: DecodedXattr;
}

/** What is known of an inode that holds a value. */
export interface ValueInode {
  readonly hash: number;
  readonly sizeBytes: number;
  readonly storedReferences: bigint;
  readonly isOldStyle: boolean;
}

/** An attribute block and what is known of it. */
export interface XattrBlockState {
  readonly firstOwner: number;
  readonly storedReferences: number;
  references: number;
  /** Blocks that its values in inodes charge to each owner. */
  readonly chargedBlocks: number;
  readonly xattrs: readonly DecodedXattr[];
  /** Those whose values are in inodes. */
  readonly values: readonly DecodedXattr[];
}

/** What a user, a group or a project has. */
export interface QuotaUsage {
  bytes: number;
  inodes: number;
}

/** How large files lie on a grid. */
export interface LayoutCount {
  files: number;
  congruentFiles: number;
  /** The first file that is not congruent, as inode number. */
  firstOff: number | undefined;
}

/** What is held against a grid. */
export interface LayoutRule {
  /** A power of two. */
  readonly gridBytes: number;
  /** Files of at least this size are large. */
  readonly thresholdBytes: number;
}

/** Everything that one pass leaves for the next. */
export interface Context {
  readonly volume: Volume;
  /** The volume's. */
  readonly judge: Judge;
  readonly usage: BlockUsage;
  readonly inodes: InodeCounts;
  /** As many as the image holds descriptors of. */
  readonly groups: readonly Group[];
  /** Directories in use, by group. */
  readonly usedDirectories: Uint32Array;
  readonly directories: KeptInode[];
  /** How encrypted inodes are encrypted, by number. */
  readonly policies: Map<number, string>;
  /** Journal, resize inode, quota files and the like, by number. */
  readonly special: Map<number, KeptInode>;
  readonly xattrBlocks: Map<number, XattrBlockState | undefined>;
  readonly valueReferences: ValueReference[];
  readonly valueInodes: Map<number, ValueInode>;
  /** By type (user, group, project), then by id; empty unless there are quota files. */
  readonly quotas: readonly Map<number, QuotaUsage>[];
  readonly layoutRule: LayoutRule;
  readonly layout: LayoutCount;
}

/** A context in which nothing was looked at yet. */
export function newContext(
  volume: Volume,
  groups: readonly Group[],
  layoutRule: LayoutRule,
  usage = new BlockUsage(volume),
): Context {
  const quotaTypes = volume.hasRoCompat(RO_COMPAT.PROJECT) ? 3 : 2;
  return {
    volume,
    judge: volume.judge,
    usage,
    inodes: new InodeCounts(volume),
    groups,
    usedDirectories: new Uint32Array(groups.length),
    directories: [],
    policies: new Map(),
    special: new Map(),
    xattrBlocks: new Map(),
    valueReferences: [],
    valueInodes: new Map(),
    quotas: volume.hasRoCompat(RO_COMPAT.QUOTA)
      ? Array.from({ length: quotaTypes }, () => new Map())
      : [],
    layoutRule,
    layout: { files: 0, congruentFiles: 0, firstOff: undefined },
  };
}
