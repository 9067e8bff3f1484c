/**
 * Who has which block: one bit a block, and a list of the blocks that a second owner wanted.
 *
 * @module
 */
import type { Volume } from "./volume.ts";

/** An inode's number, or a part of a group as groupOwner() makes it. */
export type Owner = number;

/** What belongs to a group. */
export const GROUP_PARTS = [
  "superblock",
  "group descriptors",
  "room for group descriptors",
  "block bitmap",
  "inode bitmap",
  "inode table",
  "MMP block",
] as const;

/** A part of a group as an owner: negative, so that it is never an inode. */
export function groupOwner(group: number, part: typeof GROUP_PARTS[number]): Owner {
  return -(group * GROUP_PARTS.length + GROUP_PARTS.indexOf(part) + 1);
}

/** An owner in words. */
export function describeOwner(owner: Owner): string {
  if (owner > 0) return `inode ${owner}`;
  const code = -owner - 1;
  const part = GROUP_PARTS[code % GROUP_PARTS.length] ?? GROUP_PARTS[0];
  return `${part} of group ${Math.floor(code / GROUP_PARTS.length)}`;
}

/** A block that was claimed again. */
export interface Conflict {
  readonly block: number;
  readonly owner: Owner;
}

/** Conflicts that are kept with their owners; the rest are counted. */
const CONFLICTS_MAX = 1000;

/** The blocks in use, as far as they are in the image. */
export class Claims {
  /** Bit i is block firstDataBlock + i. */
  readonly bits: Uint8Array;
  readonly #firstBlock: number;
  readonly #endBlock: number;
  readonly #conflictsMax: number;
  readonly #conflicts: Conflict[] = [];
  readonly #watched: Map<number, Owner | undefined> | undefined;
  #conflictCount = 0;

  /** @param watched blocks whose first owners are to be written down */
  constructor(volume: Volume, watched?: Map<number, Owner | undefined>) {
    this.#firstBlock = volume.superblock.firstDataBlock;
    this.#endBlock = Math.max(volume.endBlock, this.#firstBlock);
    this.bits = new Uint8Array(Math.ceil((this.#endBlock - this.#firstBlock) / 8));
    this.#watched = watched;
    this.#conflictsMax = CONFLICTS_MAX + 4 * (this.#endBlock - this.#firstBlock);
  }

  get conflicts(): readonly Conflict[] {
    return this.#conflicts;
  }

  get conflictCount(): number {
    return this.#conflictCount;
  }

  has(block: number): boolean {
    const bit = block - this.#firstBlock;
    return ((this.bits[bit >>> 3] ?? 0) >> (bit & 7) & 1) === 1;
  }

  /**
   * Gives blocks to an owner; false when one of them has an owner already. Blocks that the image does not hold are left
   * out: whoever claims them has to look at their range.
   */
  claim(start: number, count: number, owner: Owner): boolean {
    // An image made to waste time could claim its blocks again and again.
    if (this.#conflictCount > this.#conflictsMax) return false;
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
        this.#conflictCount++;
        if (this.#conflicts.length < CONFLICTS_MAX) this.#conflicts.push({ block, owner });
      } else {
        this.bits[bit >>> 3] = byte | mask;
        if (this.#watched?.has(block)) this.#watched.set(block, owner);
      }
      block++;
    }
    return isFree;
  }
}
