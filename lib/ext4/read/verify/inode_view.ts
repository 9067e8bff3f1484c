/**
 * An inode's slot, read field by field as it is needed: most inodes are only looked at once, and a record of all
 * fields would cost more than the look.
 *
 * @module
 */
import { FILE_MODE, INODE_FLAG } from "../../format/constants.ts";
import { viewOf } from "../../format/fields.ts";
import {
  INODE_AT,
  INODE_BASE_SIZE_BYTES,
  INODE_BLOCK_FIELD_SIZE_BYTES,
} from "../../format/inode.ts";

/** i_obso_faddr, which nothing uses. */
const FRAGMENT_ADDRESS_AT = 0x70;
const TWO_32 = 2 ** 32;

/** One slot of an inode table. */
export class InodeView {
  readonly slot: Uint8Array;
  /** The same bytes. */
  readonly dataView: DataView<ArrayBufferLike>;

  /** @param slot s_inode_size bytes; they must not change */
  constructor(slot: Uint8Array) {
    this.slot = slot;
    this.dataView = viewOf(slot);
  }

  get mode(): number {
    return this.dataView.getUint16(INODE_AT.mode, true);
  }

  /** The type bits of the mode. */
  get type(): number {
    return this.mode & FILE_MODE.TYPE_MASK;
  }

  get uid(): number {
    return this.#u16(INODE_AT.uidHigh) * 0x10000 + this.#u16(INODE_AT.uidLow);
  }

  get gid(): number {
    return this.#u16(INODE_AT.gidHigh) * 0x10000 + this.#u16(INODE_AT.gidLow);
  }

  /** Sizes over 2^53 lose their last bits; none of them is possible. */
  get sizeBytes(): number {
    return this.#u32(INODE_AT.sizeHigh) * TWO_32 + this.#u32(INODE_AT.sizeLow);
  }

  get linkCount(): number {
    return this.#u16(INODE_AT.linkCount);
  }

  /** Units of 512 bytes, or blocks with the flag HUGE_FILE. */
  get sectorCount(): number {
    return this.#u16(INODE_AT.blocksHigh) * TWO_32 + this.#u32(INODE_AT.blocksLow);
  }

  get flags(): number {
    return this.#u32(INODE_AT.flags);
  }

  get dtime(): number {
    return this.#u32(INODE_AT.dtime);
  }

  get generation(): number {
    return this.#u32(INODE_AT.generation);
  }

  get xattrBlock(): number {
    return this.#u16(INODE_AT.xattrBlockHigh) * TWO_32 + this.#u32(INODE_AT.xattrBlockLow);
  }

  get xattrBlockHigh(): number {
    return this.#u16(INODE_AT.xattrBlockHigh);
  }

  get fragmentAddress(): number {
    return this.#u32(FRAGMENT_ADDRESS_AT);
  }

  get projectId(): number {
    return this.extraSizeBytes >= INODE_AT.projectId + 4 - INODE_BASE_SIZE_BYTES
      ? this.#u32(INODE_AT.projectId)
      : 0;
  }

  /** i_atime as stored: the hash of an attribute's value, in an inode that holds one. */
  get atimeWord(): number {
    return this.#u32(INODE_AT.atime);
  }

  /** i_ctime as stored: the high word of the references to a value. */
  get ctimeWord(): number {
    return this.#u32(INODE_AT.ctime);
  }

  /** i_mtime as stored: the owner of a value, in the older scheme. */
  get mtimeWord(): number {
    return this.#u32(INODE_AT.mtime);
  }

  get versionLow(): number {
    return this.#u32(INODE_AT.versionLow);
  }

  /** i_extra_isize; 0 in a slot without room for it. */
  get extraSizeBytes(): number {
    return this.slot.length > INODE_BASE_SIZE_BYTES ? this.#u16(INODE_AT.extraSize) : 0;
  }

  /** Whether anything is behind the fields, where attributes would begin. */
  get hasOwnXattrs(): boolean {
    const { extraSizeBytes } = this;
    const at = INODE_BASE_SIZE_BYTES + extraSizeBytes;
    return extraSizeBytes > 0 && at + 4 <= this.slot.length && this.#u32(at) !== 0;
  }

  /** i_block. */
  get blockField(): Uint8Array {
    const at = INODE_AT.blockField;
    return this.slot.subarray(at, at + INODE_BLOCK_FIELD_SIZE_BYTES);
  }

  /** One of the 15 words of i_block. */
  blockWord(index: number): number {
    return this.#u32(INODE_AT.blockField + 4 * index);
  }

  get usesExtents(): boolean {
    return (this.flags & INODE_FLAG.EXTENTS) !== 0;
  }

  get hasInlineData(): boolean {
    return (this.flags & INODE_FLAG.INLINE_DATA) !== 0;
  }

  /** Whether every byte of the slot is zero. */
  get isBlank(): boolean {
    for (let at = 0; at < this.slot.length; at += 4) if (this.#u32(at) !== 0) return false;
    return true;
  }

  #u16(at: number): number {
    return this.dataView.getUint16(at, true);
  }

  #u32(at: number): number {
    return this.dataView.getUint32(at, true);
  }
}
