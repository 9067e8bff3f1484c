/**
 * What is remembered of every inode: its type, its link count as stored, and how often it is named. Room is taken a
 * group at a time, when the first inode of the group turns out to be in use.
 *
 * @module
 */
import { FILE_MODE } from "../../format/constants.ts";
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
const TYPE = 0xf;
const DIRECTORY = FILE_MODE.DIRECTORY >>> 12;

interface GroupPage {
  readonly kinds: Uint8Array;
  readonly links: Uint16Array;
  readonly references: Uint32Array;
  /** Behind the last inode that was entered. */
  end: number;
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
    if (index >= page.end) page.end = index + 1;
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

  /**
   * The first inode in use behind another that is more than a file with as many links as names: a directory, a hidden
   * one, one whose numbers differ; 0 when there is none.
   */
  nextUnsettled(inode: number): number {
    const perGroup = this.#inodesPerGroup;
    for (let group = Math.floor(inode / perGroup); group < this.#pages.length; group++) {
      const page = this.#pages[group];
      if (page === undefined) continue;
      const first = group * perGroup;
      for (let index = Math.max(0, inode - first); index < page.end; index++) {
        const kind = page.kinds[index]!;
        if ((kind & USED) === 0) continue;
        const isFile = (kind & TYPE) !== DIRECTORY && (kind & INODE_TRAIT.HIDDEN) === 0;
        const links = page.links[index]!;
        if (!isFile || links === 0 || links !== page.references[index]) return first + index + 1;
      }
    }
    return 0;
  }

  /** Sets the bit of every inode of a group that is in use. */
  markUsed(group: number, bitmap: Uint8Array): void {
    const page = this.#pages[group];
    if (page === undefined) return;
    for (let i = 0; i < page.end; i++) {
      if ((page.kinds[i]! & USED) !== 0) bitmap[i >>> 3] = bitmap[i >>> 3]! | (1 << (i & 7));
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
    end: 0,
  };
}
