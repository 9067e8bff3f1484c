/**
 * State shared by the verification passes: which blocks are in use, and which of them have two owners; which inodes are
 * in use and how often each is named; which directory names which; and what one pass leaves for the next.
 *
 * @module
 */
import { FILE_MODE, RO_COMPAT } from "../format/constants.ts";
import type { DecodedXattr } from "../format/xattr.ts";
import type { Directory } from "../volume/directory.ts";
import type { Judge } from "../volume/judge.ts";
import type { Group, Volume } from "../volume/volume.ts";

/** An inode to be checked again after all inodes have been read. */
export type KeptInode = Directory;

/** An attribute in an inode whose value is in another inode. */
export interface ValueReference {
  readonly owner: number;
  readonly xattr: DecodedXattr;
}

export interface ValueInode {
  readonly hash: number;
  readonly sizeBytes: number;
  readonly storedReferences: bigint;
  readonly isOldStyle: boolean;
}

export interface XattrBlockState {
  readonly firstOwner: number;
  /** h_refcount. */
  readonly storedReferences: number;
  references: number;
  /** Blocks that its values in inodes charge to each owner. */
  readonly chargedBlocks: number;
  readonly xattrs: readonly DecodedXattr[];
  /** Attributes whose values are in inodes. */
  readonly values: readonly DecodedXattr[];
}

export interface QuotaUsage {
  bytes: number;
  inodes: number;
}

export interface LayoutCount {
  files: number;
  congruentFiles: number;
  /** Inode number of the first file that is not congruent. */
  firstOff: number | undefined;
}

/** The grid that large files are checked against. */
export interface LayoutRule {
  /** A power of two. */
  readonly gridBytes: number;
  /** Files of at least this size are large. */
  readonly thresholdBytes: number;
}

/** Everything that one pass leaves for the next. */
export interface Context {
  readonly volume: Volume;
  readonly judge: Judge;
  readonly usage: BlockUsage;
  readonly inodes: InodeCounts;
  /** As many groups as the image holds descriptors for. */
  readonly groups: readonly Group[];
  /** Number of directories in use, by group. */
  readonly usedDirectories: Uint32Array;
  readonly directories: KeptInode[];
  /** The first directory that names each directory. */
  readonly namedBy: Map<number, number>;
  /** The inode number in each directory's "..". */
  readonly dotDots: Map<number, number>;
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
    namedBy: new Map(),
    dotDots: new Map(),
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

/** An inode number, or a part of a group as returned by groupOwner(). */
export type Owner = number;

export const GROUP_PARTS = [
  "superblock",
  "group descriptors",
  "room for group descriptors",
  "block bitmap",
  "inode bitmap",
  "inode table",
  "MMP block",
] as const;

/** A part of a group as an owner: negative, so it is never an inode. */
export function groupOwner(group: number, part: typeof GROUP_PARTS[number]): Owner {
  return -(group * GROUP_PARTS.length + GROUP_PARTS.indexOf(part) + 1);
}

export function describeOwner(owner: Owner): string {
  if (owner > 0) return `inode ${owner}`;
  const code = -owner - 1;
  const part = GROUP_PARTS[code % GROUP_PARTS.length] ?? GROUP_PARTS[0];
  return `${part} of group ${Math.floor(code / GROUP_PARTS.length)}`;
}

export interface SharedBlock {
  readonly block: number;
  readonly owner: Owner;
}

/** How many shared blocks are kept with their owners; the rest are only counted. */
const SHARED_MAX = 1000;

/** The blocks in use that the image holds, one bit each. */
export class BlockUsage {
  /** Bit i is block firstDataBlock + i. */
  readonly bits: Uint8Array;
  readonly #firstBlock: number;
  readonly #endBlock: number;
  readonly #sharedMax: number;
  readonly #shared: SharedBlock[] = [];
  readonly #watched: Map<number, Owner | undefined> | undefined;
  #sharedCount = 0;

  /** @param watched blocks whose first owners are recorded */
  constructor(volume: Volume, watched?: Map<number, Owner | undefined>) {
    this.#firstBlock = volume.geometry.firstDataBlock;
    this.#endBlock = Math.max(volume.endBlock, this.#firstBlock);
    this.bits = new Uint8Array(Math.ceil((this.#endBlock - this.#firstBlock) / 8));
    this.#watched = watched;
    this.#sharedMax = SHARED_MAX + 4 * (this.#endBlock - this.#firstBlock);
  }

  /** The first blocks with two owners, each with the later one. */
  get shared(): readonly SharedBlock[] {
    return this.#shared;
  }

  /** How often a used block was marked again. */
  get sharedCount(): number {
    return this.#sharedCount;
  }

  has(block: number): boolean {
    const bit = block - this.#firstBlock;
    return ((this.bits[bit >>> 3] ?? 0) >> (bit & 7) & 1) === 1;
  }

  /** Marks blocks as used, whether or not they already are. */
  markAgain(start: number, count: number): void {
    const end = Math.min(start + count, this.#endBlock);
    for (let block = Math.max(start, this.#firstBlock); block < end; block++) {
      const bit = block - this.#firstBlock;
      this.bits[bit >>> 3]! |= 1 << (bit & 7);
    }
  }

  /**
   * Marks blocks as used by an owner; returns false if one of them was in use before. Blocks outside the image are
   * ignored: the caller must check the range.
   */
  mark(start: number, count: number, owner: Owner): boolean {
    // A malicious image could name its blocks again and again.
    if (this.#sharedCount > this.#sharedMax) return false;
    const end = Math.min(start + count, this.#endBlock);
    let isFree = true;
    for (let block = Math.max(start, this.#firstBlock); block < end;) {
      const bit = block - this.#firstBlock;
      if ((bit & 7) === 0 && end - block >= 8 && this.bits[bit >>> 3] === 0 && !this.#watched) {
        this.bits[bit >>> 3] = 0xff;
        block += 8;
        continue;
      }
      const mask = 1 << (bit & 7);
      const byte = this.bits[bit >>> 3]!;
      if ((byte & mask) !== 0) {
        isFree = false;
        this.#sharedCount++;
        if (this.#shared.length < SHARED_MAX) this.#shared.push({ block, owner });
      } else {
        this.bits[bit >>> 3] = byte | mask;
        if (this.#watched?.has(block)) this.#watched.set(block, owner);
      }
      block++;
    }
    return isFree;
  }
}

/** What is remembered of an inode besides the four bits of its type (i_mode >> 12). */
export const INODE_TRAIT = {
  NONE: 0,
  INDEXED: 0x10,
  /** Must not be named by a directory. */
  HIDDEN: 0x20,
  /** Holds the value of an extended attribute. */
  VALUE: 0x40,
  USED: 0x80,
  ENCRYPTED: 0x100,
} as const;
const { USED } = INODE_TRAIT;
const TYPE = 0xf;
const DIRECTORY = FILE_MODE.DIRECTORY >>> 12;

interface GroupCounts {
  readonly kinds: Uint16Array;
  readonly links: Uint16Array;
  readonly references: Uint32Array;
  /** One past the last inode that was added. */
  end: number;
}

/**
 * The inodes in use: type, stored link count, and how often each is named. Memory is allocated per group, when its
 * first inode in use is found.
 */
export class InodeCounts {
  readonly #inodesPerGroup: number;
  readonly #groups: (GroupCounts | undefined)[] = [];

  constructor(volume: Volume) {
    this.#inodesPerGroup = volume.geometry.inodesPerGroup;
  }

  /**
   * Adds an inode in use.
   *
   * @param mode i_mode
   * @param traits INODE_TRAIT bits
   */
  add(inode: number, mode: number, linkCount: number, traits: number): void {
    const group = this.#group(inode);
    const counts = this.#groups[group] ??= {
      kinds: new Uint16Array(this.#inodesPerGroup),
      links: new Uint16Array(this.#inodesPerGroup),
      references: new Uint32Array(this.#inodesPerGroup),
      end: 0,
    };
    const index = this.#index(inode);
    counts.kinds[index] = USED | (mode >> 12) | traits;
    counts.links[index] = linkCount;
    if (index >= counts.end) counts.end = index + 1;
  }

  /** Whether an inode has any of the given INODE_TRAIT bits. */
  is(inode: number, traits: number): boolean {
    return (this.kind(inode) & traits) !== 0;
  }

  /** The type bits of i_mode; 0 for an unused inode. */
  type(inode: number): number {
    return (this.kind(inode) & TYPE) << 12;
  }

  linkCount(inode: number): number {
    return this.#groups[this.#group(inode)]?.links[this.#index(inode)] ?? 0;
  }

  references(inode: number): number {
    return this.#groups[this.#group(inode)]?.references[this.#index(inode)] ?? 0;
  }

  /** Counts one name of an inode, unless its group has no inode in use. */
  refer(inode: number): void {
    const counts = this.#groups[this.#group(inode)];
    if (counts !== undefined) counts.references[this.#index(inode)]!++;
  }

  /**
   * The next inode in use after another that is not simply a file with as many links as names: a directory, a hidden
   * inode, or one whose counts differ; 0 if there is none.
   */
  nextUnsettled(inode: number): number {
    const perGroup = this.#inodesPerGroup;
    for (let group = Math.floor(inode / perGroup); group < this.#groups.length; group++) {
      const counts = this.#groups[group];
      if (counts === undefined) continue;
      const first = group * perGroup;
      for (let index = Math.max(0, inode - first); index < counts.end; index++) {
        const kind = counts.kinds[index]!;
        if ((kind & USED) === 0) continue;
        const isFile = (kind & TYPE) !== DIRECTORY && (kind & INODE_TRAIT.HIDDEN) === 0;
        const links = counts.links[index]!;
        if (!isFile || links === 0 || links !== counts.references[index]) return first + index + 1;
      }
    }
    return 0;
  }

  markUsed(group: number, bitmap: Uint8Array): void {
    const counts = this.#groups[group];
    if (counts === undefined) return;
    for (let i = 0; i < counts.end; i++) {
      if ((counts.kinds[i]! & USED) !== 0) bitmap[i >>> 3] = bitmap[i >>> 3]! | (1 << (i & 7));
    }
  }

  /** The INODE_TRAIT bits, and below them i_mode >> 12. */
  kind(inode: number): number {
    return this.#groups[this.#group(inode)]?.kinds[this.#index(inode)] ?? 0;
  }

  #group(inode: number): number {
    return Math.floor((inode - 1) / this.#inodesPerGroup);
  }

  #index(inode: number): number {
    return (inode - 1) % this.#inodesPerGroup;
  }
}
