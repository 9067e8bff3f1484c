/**
 * What is remembered of every inode: its type, its link count as stored, and how often it is named. Room is taken a
 * group at a time, when the first inode of the group turns out to be in use.
 *
 * @module
 */
import type { Volume } from "./volume.ts";

/** Bits beside the four of the type (i_mode >> 12). */
const USED = 0x80;
const VALUE = 0x40;
/** Never to be named by a directory. */
const HIDDEN = 0x20;

interface GroupPage {
  readonly kinds: Uint8Array;
  readonly links: Uint16Array;
  readonly references: Uint32Array;
}

/** How an inode is entered. */
export interface BookEntry {
  /** i_mode. */
  readonly mode: number;
  readonly linkCount: number;
  /** It holds the value of an extended attribute. */
  readonly isValue: boolean;
  readonly isHidden: boolean;
}

/** The inodes in use. */
export class InodeBook {
  readonly #volume: Volume;
  readonly #pages: (GroupPage | undefined)[] = [];

  constructor(volume: Volume) {
    this.#volume = volume;
  }

  enter(inode: number, entry: BookEntry): void {
    const { group, index } = this.#volume.placeOfInode(inode);
    const page = this.#pages[group] ??= newPage(this.#volume.superblock.inodesPerGroup);
    page.kinds[index] = USED | (entry.mode >> 12) | (entry.isValue ? VALUE : 0) |
      (entry.isHidden ? HIDDEN : 0);
    page.links[index] = entry.linkCount;
  }

  isUsed(inode: number): boolean {
    return (this.#kind(inode) & USED) !== 0;
  }

  isValue(inode: number): boolean {
    return (this.#kind(inode) & VALUE) !== 0;
  }

  isHidden(inode: number): boolean {
    return (this.#kind(inode) & HIDDEN) !== 0;
  }

  /** The type bits of i_mode; 0 for an inode that is not in use. */
  type(inode: number): number {
    return (this.#kind(inode) & 0xf) << 12;
  }

  linkCount(inode: number): number {
    const { group, index } = this.#volume.placeOfInode(inode);
    return this.#pages[group]?.links[index] ?? 0;
  }

  references(inode: number): number {
    const { group, index } = this.#volume.placeOfInode(inode);
    return this.#pages[group]?.references[index] ?? 0;
  }

  /** Counts one name of an inode that is in use. */
  refer(inode: number): void {
    const { group, index } = this.#volume.placeOfInode(inode);
    const page = this.#pages[group];
    if (page !== undefined) page.references[index]!++;
  }

  /** All inodes in use, ascending. */
  *used(): Generator<number> {
    for (const [group, page] of this.#pages.entries()) {
      if (page === undefined) continue;
      const first = group * this.#volume.superblock.inodesPerGroup + 1;
      for (let i = 0; i < page.kinds.length; i++) {
        if ((page.kinds[i]! & USED) !== 0) yield first + i;
      }
    }
  }

  /** Sets the bit of every inode of a group that is in use. */
  markUsed(group: number, bitmap: Uint8Array): void {
    const kinds = this.#pages[group]?.kinds;
    if (kinds === undefined) return;
    for (let i = 0; i < kinds.length; i++) {
      if ((kinds[i]! & USED) !== 0) bitmap[i >>> 3] = bitmap[i >>> 3]! | (1 << (i & 7));
    }
  }

  #kind(inode: number): number {
    const { group, index } = this.#volume.placeOfInode(inode);
    return this.#pages[group]?.kinds[index] ?? 0;
  }
}

function newPage(inodeCount: number): GroupPage {
  return {
    kinds: new Uint8Array(inodeCount),
    links: new Uint16Array(inodeCount),
    references: new Uint32Array(inodeCount),
  };
}
