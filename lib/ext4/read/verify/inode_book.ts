/**
 * What is remembered of every inode: its type, its link count as stored, and how often it is named. Room is taken a
 * group at a time, when the first inode of the group turns out to be in use.
 *
 * @module
 */
import type { Volume } from "./volume.ts";

/** What is remembered beside the four bits of the type (i_mode >> 12). */
export const INODE_TRAIT = {
  NONE: 0,
  /** A directory with an index. */
  INDEXED: 0x10,
  /** Never to be named by a directory. */
  HIDDEN: 0x20,
  /** It holds the value of an extended attribute. */
  VALUE: 0x40,
  /** It is in use. */
  USED: 0x80,
} as const;
const { USED } = INODE_TRAIT;

interface GroupPage {
  readonly kinds: Uint8Array;
  readonly links: Uint16Array;
  readonly references: Uint32Array;
}

/** The inodes in use. */
export class InodeBook {
  readonly #inodesPerGroup: number;
  readonly #pages: (GroupPage | undefined)[] = [];

  constructor(volume: Volume) {
    this.#inodesPerGroup = volume.superblock.inodesPerGroup;
  }

  /**
   * Enters an inode in use.
   *
   * @param mode i_mode
   * @param traits INODE_TRAIT bits
   */
  enter(inode: number, mode: number, linkCount: number, traits: number): void {
    const group = this.#group(inode);
    const page = this.#pages[group] ??= newPage(this.#inodesPerGroup);
    const index = this.#index(inode);
    page.kinds[index] = USED | (mode >> 12) | traits;
    page.links[index] = linkCount;
  }

  isUsed(inode: number): boolean {
    return (this.kind(inode) & USED) !== 0;
  }

  isValue(inode: number): boolean {
    return (this.kind(inode) & INODE_TRAIT.VALUE) !== 0;
  }

  isHidden(inode: number): boolean {
    return (this.kind(inode) & INODE_TRAIT.HIDDEN) !== 0;
  }

  isIndexed(inode: number): boolean {
    return (this.kind(inode) & INODE_TRAIT.INDEXED) !== 0;
  }

  /** The type bits of i_mode; 0 for an inode that is not in use. */
  type(inode: number): number {
    return (this.kind(inode) & 0xf) << 12;
  }

  linkCount(inode: number): number {
    return this.#pages[this.#group(inode)]?.links[this.#index(inode)] ?? 0;
  }

  references(inode: number): number {
    return this.#pages[this.#group(inode)]?.references[this.#index(inode)] ?? 0;
  }

  /** Counts one name of an inode; one of a group without any inode in use is not counted. */
  refer(inode: number): void {
    const page = this.#pages[this.#group(inode)];
    if (page !== undefined) page.references[this.#index(inode)]!++;
  }

  /** The first inode in use behind another; 0 when there is none. */
  nextUsed(inode: number): number {
    const perGroup = this.#inodesPerGroup;
    for (let at = inode; at < this.#pages.length * perGroup;) {
      const page = this.#pages[Math.floor(at / perGroup)];
      let index = at % perGroup;
      const groupStart = at - index;
      if (page !== undefined) {
        for (; index < perGroup; index++) {
          if ((page.kinds[index]! & USED) !== 0) return groupStart + index + 1;
        }
      }
      at = groupStart + perGroup;
    }
    return 0;
  }

  /** Sets the bit of every inode of a group that is in use. */
  markUsed(group: number, bitmap: Uint8Array): void {
    const kinds = this.#pages[group]?.kinds;
    if (kinds === undefined) return;
    for (let i = 0; i < kinds.length; i++) {
      if ((kinds[i]! & USED) !== 0) bitmap[i >>> 3] = bitmap[i >>> 3]! | (1 << (i & 7));
    }
  }

  /** INODE_TRAIT bits, and below them i_mode >> 12. */
  kind(inode: number): number {
    return this.#pages[this.#group(inode)]?.kinds[this.#index(inode)] ?? 0;
  }

  #group(inode: number): number {
    return Math.floor((inode - 1) / this.#inodesPerGroup);
  }

  #index(inode: number): number {
    return (inode - 1) % this.#inodesPerGroup;
  }
}

function newPage(inodeCount: number): GroupPage {
  return {
    kinds: new Uint8Array(inodeCount),
    links: new Uint16Array(inodeCount),
    references: new Uint32Array(inodeCount),
  };
}
