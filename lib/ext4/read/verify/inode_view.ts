/**
 * An inode's slot as plain numbers. Most inodes are looked at once, by one view that goes from slot to slot: a record of
 * its own for each, or a call for each field, would cost more than the look.
 *
 * @module
 */
import { crc32c } from "../../../bytes/crc32c.ts";
import { littleEndianWords } from "../../../bytes/words.ts";
import { inodeSeedKey } from "../../format/checksum.ts";
import { FILE_MODE, INODE_FLAG } from "../../format/constants.ts";
import {
  INODE_AT,
  INODE_BASE_SIZE_BYTES,
  INODE_BLOCK_FIELD_SIZE_BYTES,
} from "../../format/inode.ts";

/** The word that begins at an offset, or that the 16 bits at it are a part of. */
function wordAt(offset: number): number {
  return offset >>> 2;
}

/** Words of a slot, and which of its fields have 16 bits of them: `low` and `high`. */
export const INODE_WORD = {
  mode: wordAt(INODE_AT.mode), // low
  sizeLow: wordAt(INODE_AT.sizeLow),
  dtime: wordAt(INODE_AT.dtime),
  linkCount: wordAt(INODE_AT.linkCount), // high
  blocksLow: wordAt(INODE_AT.blocksLow),
  flags: wordAt(INODE_AT.flags),
  blockField: wordAt(INODE_AT.blockField),
  generation: wordAt(INODE_AT.generation),
  xattrBlockLow: wordAt(INODE_AT.xattrBlockLow),
  sizeHigh: wordAt(INODE_AT.sizeHigh),
  fragmentAddress: wordAt(0x70), // i_obso_faddr, which nothing uses
  blocksHigh: wordAt(INODE_AT.blocksHigh), // low
  xattrBlockHigh: wordAt(INODE_AT.xattrBlockHigh), // high
  checksumLow: wordAt(INODE_AT.checksumLow), // low
  extraSize: wordAt(INODE_AT.extraSize), // low
  checksumHigh: wordAt(INODE_AT.checksumHigh), // high
} as const;

const TWO_32 = 2 ** 32;
const LOW_HALF = 0xffff;
/** i_extra_isize from which on there is i_checksum_hi. */
const CHECKSUM_EXTRA_SIZE_BYTES = 4;
/** A slot of an inode table, and then another: it looks where it is told to. */
export class InodeView {
  /** i_mode. */
  mode = 0;
  /** The type bits of the mode. */
  type = 0;
  /** Sizes over 2^53 lose their last bits; none of them is possible. */
  sizeBytes = 0;
  linkCount = 0;
  /** Units of 512 bytes, or blocks with the flag HUGE_FILE. */
  sectorCount = 0;
  flags = 0;
  usesExtents = false;
  hasInlineData = false;
  dtime = 0;
  generation = 0;
  xattrBlock = 0;
  xattrBlockHigh = 0;
  fragmentAddress = 0;
  /** i_extra_isize; 0 in a slot without room for it. */
  extraSizeBytes = 0;
  /** Whether anything is behind the fields, where attributes would begin. */
  hasOwnXattrs = false;
  readonly slotSizeBytes: number;
  /** All slots as words, each with so many. */
  readonly words: Int32Array;
  readonly slotWords: number;
  readonly #bytes: Uint8Array;
  /** The slot's first word. */
  #at = 0;

  /**
   * Looks at the first slot.
   *
   * @param bytes whole slots; they must not change
   * @param slotSizeBytes s_inode_size
   */
  constructor(bytes: Uint8Array, slotSizeBytes = bytes.length) {
    this.slotSizeBytes = slotSizeBytes;
    this.#bytes = bytes;
    this.words = littleEndianWords(bytes);
    this.slotWords = slotSizeBytes >>> 2;
    this.moveTo(0);
  }

  /** Whether every byte of a slot is zero. */
  isBlankAt(index: number): boolean {
    const start = index * this.slotWords;
    const end = start + this.slotWords;
    for (let at = start; at < end; at++) if (this.words[at] !== 0) return false;
    return true;
  }

  /** Looks at another slot. */
  moveTo(index: number): void {
    const at = index * this.slotWords;
    this.#at = at;
    const words = this.words;
    const mode = words[at + INODE_WORD.mode]! & LOW_HALF;
    const flags = words[at + INODE_WORD.flags]! >>> 0;
    this.mode = mode;
    this.type = mode & FILE_MODE.TYPE_MASK;
    this.flags = flags;
    this.usesExtents = (flags & INODE_FLAG.EXTENTS) !== 0;
    this.hasInlineData = (flags & INODE_FLAG.INLINE_DATA) !== 0;
    this.linkCount = words[at + INODE_WORD.linkCount]! >>> 16;
    this.dtime = words[at + INODE_WORD.dtime]! >>> 0;
    this.generation = words[at + INODE_WORD.generation]! >>> 0;
    this.fragmentAddress = words[at + INODE_WORD.fragmentAddress]! >>> 0;
    this.sizeBytes = (words[at + INODE_WORD.sizeHigh]! >>> 0) * TWO_32 +
      (words[at + INODE_WORD.sizeLow]! >>> 0);
    this.sectorCount = (words[at + INODE_WORD.blocksHigh]! & LOW_HALF) * TWO_32 +
      (words[at + INODE_WORD.blocksLow]! >>> 0);
    this.xattrBlockHigh = words[at + INODE_WORD.xattrBlockHigh]! >>> 16;
    this.xattrBlock = this.xattrBlockHigh * TWO_32 + (words[at + INODE_WORD.xattrBlockLow]! >>> 0);
    if (this.slotSizeBytes === INODE_BASE_SIZE_BYTES) return;
    const extraSizeBytes = words[at + INODE_WORD.extraSize]! & LOW_HALF;
    this.extraSizeBytes = extraSizeBytes;
    const end = INODE_BASE_SIZE_BYTES + extraSizeBytes;
    this.hasOwnXattrs = extraSizeBytes > 0 && end + 4 <= this.slotSizeBytes &&
      this.#hasBytes(end, 4);
  }

  get uid(): number {
    return this.#half(INODE_AT.uidHigh) * 0x10000 + this.#half(INODE_AT.uidLow);
  }

  get gid(): number {
    return this.#half(INODE_AT.gidHigh) * 0x10000 + this.#half(INODE_AT.gidLow);
  }

  get projectId(): number {
    return this.extraSizeBytes >= INODE_AT.projectId + 4 - INODE_BASE_SIZE_BYTES
      ? this.#word(INODE_AT.projectId)
      : 0;
  }

  /** i_atime as stored: the hash of an attribute's value, in an inode that holds one. */
  get atimeWord(): number {
    return this.#word(INODE_AT.atime);
  }

  /** i_ctime as stored: the high word of the references to a value. */
  get ctimeWord(): number {
    return this.#word(INODE_AT.ctime);
  }

  /** i_mtime as stored: the owner of a value, in the older scheme. */
  get mtimeWord(): number {
    return this.#word(INODE_AT.mtime);
  }

  get versionLow(): number {
    return this.#word(INODE_AT.versionLow);
  }

  /** The slot's bytes; they must not change. */
  get slot(): Uint8Array {
    return this.#bytes.subarray(4 * this.#at, 4 * this.#at + this.slotSizeBytes);
  }

  /** i_block. */
  get blockField(): Uint8Array {
    const at = 4 * this.#at + INODE_AT.blockField;
    return this.#bytes.subarray(at, at + INODE_BLOCK_FIELD_SIZE_BYTES);
  }

  /** One of the 15 words of i_block. */
  blockWord(index: number): number {
    return this.words[this.#at + INODE_WORD.blockField + index]! >>> 0;
  }

  /** A view of a copy of this slot alone, for whom the table is not to be kept. */
  copy(): InodeView {
    return new InodeView(this.slot.slice());
  }

  /** The checksum that the slot carries: 32 bits, or 16 without i_checksum_hi. */
  get storedChecksum(): number {
    const low = this.words[this.#at + INODE_WORD.checksumLow]! & LOW_HALF;
    if (this.extraSizeBytes < CHECKSUM_EXTRA_SIZE_BYTES) return low;
    return (this.words[this.#at + INODE_WORD.checksumHigh]! >>> 16) * 0x10000 + low;
  }

  /**
   * The checksums that slots should carry, as inodeChecksum() of inode.ts computes them: 32 bits, or 16 without
   * i_checksum_hi. All of them at once, because a runtime is quick to compile a loop that does one thing.
   *
   * @param seed the file system's
   * @param firstInode the inode of slot 0
   * @param checksums for one number a slot
   */
  computeChecksums(seed: number, firstInode: number, checksums: Uint32Array): void {
    // One update of the hasher instead of five: what a checksum covers is put together first.
    const keyBytes = 8;
    const covered = new Uint8Array(keyBytes + this.slotSizeBytes);
    for (let index = 0; index < checksums.length; index++) {
      const at = index * this.slotWords;
      const isWide = this.slotSizeBytes > INODE_BASE_SIZE_BYTES &&
        (this.words[at + INODE_WORD.extraSize]! & LOW_HALF) >= CHECKSUM_EXTRA_SIZE_BYTES;
      covered.set(inodeSeedKey(firstInode + index, this.words[at + INODE_WORD.generation]!));
      covered.set(this.#bytes.subarray(4 * at, 4 * at + this.slotSizeBytes), keyBytes);
      // Both halves of the field count as zero.
      covered.fill(0, keyBytes + INODE_AT.checksumLow, keyBytes + INODE_AT.checksumLow + 2);
      const highAt = keyBytes + INODE_AT.checksumHigh;
      if (isWide) covered.fill(0, highAt, highAt + 2);
      const register = crc32c(seed, covered);
      checksums[index] = isWide ? register : register & LOW_HALF;
    }
  }

  /** Whether one of some bytes of the slot is not zero: i_extra_isize of a damaged inode may be any number. */
  #hasBytes(offset: number, count: number): boolean {
    const start = 4 * this.#at + offset;
    for (let at = start; at < start + count; at++) if (this.#bytes[at] !== 0) return true;
    return false;
  }

  #half(offset: number): number {
    return (this.words[this.#at + wordAt(offset)]! >>> ((offset & 2) << 3)) & LOW_HALF;
  }

  #word(offset: number): number {
    return this.words[this.#at + wordAt(offset)]! >>> 0;
  }
}
