/**
 * What the passes over an image share.
 *
 * @module
 */
import type { GroupDescriptor } from "../../format/group_descriptor.ts";
import type { DecodedXattr } from "../../format/xattr_decode.ts";
import type { Claims } from "./claims.ts";
import type { Findings } from "./findings.ts";
import type { InodeBook } from "./inode_book.ts";
import type { InodeView } from "./inode_view.ts";
import type { Volume } from "./volume.ts";

/** A run of a file's blocks, in logical order. */
export interface MappedRun {
  readonly logical: number;
  readonly start: number;
  readonly count: number;
  readonly unwritten: boolean;
}

/** One group. */
export interface GroupState {
  /** Undefined when its descriptor cannot be read. */
  readonly descriptor: GroupDescriptor | undefined;
  /** Whether its descriptor can be read and has the right checksum, if it has any. */
  readonly isIntact: boolean;
  /** bg_flags as far as they count: without group checksums nobody looks at them. */
  readonly flags: number;
  /** Inodes of its table that may be in use; the others have never been. */
  readonly initializedInodes: number;
  /** Whether the table is where it can be. */
  readonly isTableSound: boolean;
  usedDirectories: number;
}

/** An inode that is looked at again after all inodes have been seen. */
export interface KeptInode {
  readonly number: number;
  readonly view: InodeView;
  readonly runs: readonly MappedRun[];
  /** The bytes of its inline data; undefined when its data is in blocks. */
  readonly inlineData: Uint8Array | undefined;
}

/** An attribute in an inode whose value is in another inode. */
export interface ValueReference {
  readonly owner: number;
  readonly xattr: DecodedXattr;
}

/** What is known of an inode that holds a value. */
export interface ValueInode {
  readonly hash: number;
  readonly sizeBytes: number;
  readonly storedReferences: number;
  /** An older scheme, in which the inode points back to its one owner and has no hash. */
  readonly isOldStyle: boolean;
}

/** An attribute block and what is known of it. */
export interface XattrBlockState {
  readonly firstOwner: number;
  readonly storedReferences: number;
  references: number;
  /** Blocks that its values in inodes charge to each owner. */
  readonly chargedBlocks: number;
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
  readonly findings: Findings;
  readonly claims: Claims;
  readonly book: InodeBook;
  readonly groups: readonly GroupState[];
  readonly directories: KeptInode[];
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
