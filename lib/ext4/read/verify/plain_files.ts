/**
 * The short way for the inodes that most images are full of: regular files with the flag EXTENTS and no other, up to
 * four extents in i_block, no attributes; and symlinks whose target is there. A file is taken when all that would be checked is right; every other inode
 * goes the long way, which knows what to say. Most of a small image would otherwise be over before a runtime has
 * compiled the long way.
 *
 * @module
 */
import { EXTENT_BLOCKS_MAX, FILE_MODE, INCOMPAT, INODE_FLAG } from "../../format/constants.ts";
import { EXTENT_MAGIC, EXTENT_ROOT_ENTRIES_MAX } from "../../format/extent.ts";
import {
  INODE_BASE_SIZE_BYTES,
  INODE_BLOCK_FIELD_SIZE_BYTES,
  INODE_EXTRA_SIZE_BYTES,
} from "../../format/inode.ts";
import type { Context } from "./context.ts";
import { INODE_TRAIT } from "./inode_book.ts";
import { INODE_WORD } from "./inode_view.ts";

const LOW_HALF = 0xffff;
const SECTOR_SIZE_BYTES = 512;
/** Words of an extent's header, and of each entry. */
const EXTENT_WORDS = 3;
/** Behind the fields of today, where attributes would begin. */
const ATTRIBUTES_WORD = (INODE_BASE_SIZE_BYTES + INODE_EXTRA_SIZE_BYTES) >>> 2;

/** Takes plain files. */
export class PlainFiles {
  readonly #context: Context;
  readonly #isPossible: boolean;
  readonly #isChecksummed: boolean;
  readonly #firstInode: number;
  /** Larger files count for the layout, or need the feature large_file. */
  readonly #sizeEndBytes: number;
  readonly #firstBlock: number;
  readonly #endBlock: number;
  readonly #blockSizeBytes: number;

  constructor(context: Context) {
    const { volume, quotas, layoutRule } = context;
    this.#context = context;
    this.#isPossible = volume.hasIncompat(INCOMPAT.EXTENTS) && quotas.length === 0 &&
      volume.inodeSizeBytes >= 4 * (ATTRIBUTES_WORD + 1);
    this.#isChecksummed = volume.seed !== undefined;
    this.#firstInode = volume.firstInode;
    this.#sizeEndBytes = Math.min(layoutRule.thresholdBytes, 2 ** 31);
    this.#firstBlock = Math.max(1, volume.superblock.firstDataBlock);
    this.#endBlock = volume.superblock.blocksCount;
    this.#blockSizeBytes = volume.blockSizeBytes;
  }

  /**
   * Takes an inode; false, and nothing is done, when it is to go the long way.
   *
   * @param words of the table, `at` the first of the inode's
   * @param checksum what the inode should carry
   */
  take(inode: number, words: Int32Array, at: number, checksum: number): boolean {
    if (!this.#isPossible || inode < this.#firstInode) return false;
    const modeWord = words[at + INODE_WORD.mode]!;
    const linkCount = words[at + INODE_WORD.linkCount]! >>> 16;
    const extraWord = words[at + INODE_WORD.extraSize]!;
    const type = modeWord & FILE_MODE.TYPE_MASK;
    const isSymlink = type === FILE_MODE.SYMLINK;
    const isPlain = (isSymlink || type === FILE_MODE.REGULAR) && linkCount > 0 &&
      words[at + INODE_WORD.flags] === (isSymlink ? 0 : INODE_FLAG.EXTENTS) &&
      words[at + INODE_WORD.dtime] === 0 && words[at + INODE_WORD.fragmentAddress] === 0 &&
      (extraWord & LOW_HALF) === INODE_EXTRA_SIZE_BYTES && words[at + ATTRIBUTES_WORD] === 0 &&
      words[at + INODE_WORD.xattrBlockLow] === 0 &&
      // Neither i_file_acl_high nor l_i_blocks_high.
      words[at + INODE_WORD.xattrBlockHigh] === 0;
    if (!isPlain) return false;
    if (this.#isChecksummed) {
      const low = words[at + INODE_WORD.checksumLow]! & LOW_HALF;
      if (((extraWord & ~LOW_HALF) | low) >>> 0 !== checksum) return false;
    }
    const count = isSymlink ? (hasTarget(words, at) ? 0 : -1) : this.#extentCount(words, at);
    if (count < 0) return false;
    const { book, claims } = this.#context;
    book.enter(inode, modeWord & LOW_HALF, linkCount, INODE_TRAIT.NONE);
    const end = at + INODE_WORD.blockField + EXTENT_WORDS * (1 + count);
    for (
      let entry = at + INODE_WORD.blockField + EXTENT_WORDS;
      entry < end;
      entry += EXTENT_WORDS
    ) {
      claims.claim(words[entry + 2]! >>> 0, words[entry + 1]!, inode);
    }
    return true;
  }

  /** How many extents there are; -1 when one of them is not plain, or i_size or i_blocks does not go with them. */
  #extentCount(words: Int32Array, at: number): number {
    const root = at + INODE_WORD.blockField;
    const head = words[root]!;
    const count = head >>> 16;
    // eh_depth of 0 over eh_max of 4.
    const isRoot = (head & LOW_HALF) === EXTENT_MAGIC &&
      words[root + 1] === EXTENT_ROOT_ENTRIES_MAX;
    if (!isRoot || count > EXTENT_ROOT_ENTRIES_MAX) return -1;
    let next = 0;
    let blockCount = 0;
    for (let i = 1; i <= count; i++) {
      const entry = root + EXTENT_WORDS * i;
      const logical = words[entry]! >>> 0;
      // ee_len under ee_start_hi, which must be 0; more than 32768 is an unwritten extent.
      const length = words[entry + 1]!;
      const start = words[entry + 2]! >>> 0;
      if (length < 1 || length > EXTENT_BLOCKS_MAX || logical < next) return -1;
      if (start < this.#firstBlock || start + length > this.#endBlock) return -1;
      next = logical + length;
      blockCount += length;
    }
    const sizeBytes = words[at + INODE_WORD.sizeLow]!;
    const sectorCount = words[at + INODE_WORD.blocksLow]! >>> 0;
    const isSizeRight = words[at + INODE_WORD.sizeHigh] === 0 && sizeBytes >= 0 &&
      sizeBytes < this.#sizeEndBytes && sizeBytes >= (next - 1) * this.#blockSizeBytes;
    if (!isSizeRight) return -1;
    return sectorCount === blockCount * (this.#blockSizeBytes / SECTOR_SIZE_BYTES) ? count : -1;
  }
}

/** Whether i_block holds the target of a symlink, as long as i_size says, with a zero behind it. */
function hasTarget(words: Int32Array, at: number): boolean {
  const sizeBytes = words[at + INODE_WORD.sizeLow]!;
  const isShort = words[at + INODE_WORD.sizeHigh] === 0 && sizeBytes > 0 &&
    sizeBytes < INODE_BLOCK_FIELD_SIZE_BYTES;
  if (!isShort || words[at + INODE_WORD.blocksLow] !== 0) return false;
  const field = at + INODE_WORD.blockField;
  for (let i = 0; i < sizeBytes; i++) {
    if (((words[field + (i >>> 2)]! >>> ((i & 3) << 3)) & 0xff) === 0) return false;
  }
  return ((words[field + (sizeBytes >>> 2)]! >>> ((sizeBytes & 3) << 3)) & 0xff) === 0;
}
