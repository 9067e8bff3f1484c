/**
 * Inodes as the walkers see them: a slot as plain numbers, and checks of its individual fields.
 *
 * Most inodes are read once, by one view that moves from slot to slot: a record for each, or a call for each field,
 * would cost more than the check.
 *
 * @module
 */
import { crc32c, crc32cBehindZeros, crc32cOfLength } from "../../bytes/crc32c.ts";
import { littleEndianWords } from "../../bytes/arithmetic.ts";
import type { TreeNode } from "../../model/node.ts";
import { inodeSeed, inodeSeedKey } from "../format/checksum.ts";
import {
  COMPAT,
  DIRENT_TYPE,
  FILE_MODE,
  INCOMPAT,
  INODE_FLAG,
  INODE_NUMBER,
  RO_COMPAT,
} from "../format/constants.ts";
import { EXTENT_MAGIC } from "../format/extent.ts";
import {
  INODE_AT,
  INODE_BASE_SIZE_BYTES,
  INODE_BLOCK_FIELD_SIZE_BYTES,
  INODE_FIELDS,
} from "../format/inode.ts";
import { CREATOR_HURD } from "./superblock.ts";
import { type FaultDetails, hex, modeText } from "./judge.ts";
import type { Volume } from "./volume.ts";

/** The word that begins at an offset, or contains the 16 bits there. */
function wordAt(offset: number): number {
  return offset >>> 2;
}

/** Words of a slot; 16-bit fields are marked `low` or `high`. */
const INODE_WORD = {
  mode: wordAt(INODE_FIELDS.mode.offset), // low
  sizeLow: wordAt(INODE_FIELDS.sizeBytes.offset),
  dtime: wordAt(INODE_FIELDS.dtime.offset),
  linkCount: wordAt(INODE_FIELDS.linkCount.offset), // high
  blocksLow: wordAt(INODE_FIELDS.sectorCount.offset),
  flags: wordAt(INODE_FIELDS.flags.offset),
  blockField: wordAt(INODE_FIELDS.blockField.offset),
  generation: wordAt(INODE_FIELDS.generation.offset),
  xattrBlockLow: wordAt(INODE_FIELDS.xattrBlock.offset),
  sizeHigh: wordAt(INODE_AT.sizeHigh),
  fragmentAddress: wordAt(INODE_AT.fragmentAddress),
  blocksHigh: wordAt(INODE_AT.blocksHigh), // low
  xattrBlockHigh: wordAt(INODE_AT.xattrBlockHigh), // high
  checksumLow: wordAt(INODE_AT.checksumLow), // low
  extraSize: wordAt(INODE_AT.extraSize), // low
  checksumHigh: wordAt(INODE_AT.checksumHigh), // high
} as const;

const TWO_32 = 2 ** 32;
const LOW_HALF = 0xffff;
/** From this i_extra_isize on, there is i_checksum_hi. */
const CHECKSUM_EXTRA_SIZE_BYTES = 4;
/** Number and generation of an inode, with which its checksum begins. */
const KEY_SIZE_BYTES = 8;
const UID_HIGH_AT = 0x78; // l_i_uid_high
const GID_HIGH_AT = 0x7a; // l_i_gid_high

/** One slot of an inode table at a time; moveTo() selects another. */
export class InodeView {
  /** The inode's number. */
  number = 0;
  /** i_mode. */
  mode = 0;
  /** The type bits of the mode. */
  type = 0;
  /** Sizes over 2^53 lose their last bits, but are invalid anyway. */
  sizeBytes = 0;
  /** i_links_count. */
  linkCount = 0;
  /** Units of 512 bytes, or blocks with the flag HUGE_FILE. */
  sectorCount = 0;
  /** INODE_FLAG bits. */
  flags = 0;
  /** Whether it has an extent tree. */
  usesExtents = false;
  /** Whether its data is stored in the inode. */
  hasInlineData = false;
  /** i_dtime. */
  dtime = 0;
  /** i_generation. */
  generation = 0;
  /** The block of its attributes, or 0. */
  xattrBlock = 0;
  /** The high half of xattrBlock. */
  xattrBlockHigh = 0;
  /** i_obso_faddr. */
  fragmentAddress = 0;
  /** i_extra_isize; 0 in a slot without room for it. */
  extraSizeBytes = 0;
  /** Whether anything follows the fields, where attributes would begin. */
  hasOwnXattrs = false;
  /** s_inode_size. */
  readonly slotSizeBytes: number;
  /** All slots as words, `slotWords` each. */
  readonly words: Int32Array;
  /** Words of a slot. */
  readonly slotWords: number;
  readonly #bytes: Uint8Array;
  readonly #firstNumber: number;
  #at = 0;

  /**
   * Starts at the first slot.
   *
   * @param bytes whole slots; they must not change
   * @param firstNumber inode number of the first slot
   * @param slotSizeBytes s_inode_size
   */
  constructor(bytes: Uint8Array, firstNumber: number, slotSizeBytes = bytes.length) {
    this.#firstNumber = firstNumber;
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

  /** Moves to another slot. */
  moveTo(index: number): void {
    const at = index * this.slotWords;
    this.#at = at;
    this.number = this.#firstNumber + index;
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

  /** Owner. */
  get uid(): number {
    return this.#half(UID_HIGH_AT) * 0x10000 + this.#half(INODE_FIELDS.uid.offset);
  }

  /** Group. */
  get gid(): number {
    return this.#half(GID_HIGH_AT) * 0x10000 + this.#half(INODE_FIELDS.gid.offset);
  }

  /** i_projid; 0 in a slot without it. */
  get projectId(): number {
    const { offset } = INODE_FIELDS.projectId;
    const isThere = this.extraSizeBytes >= offset + 4 - INODE_BASE_SIZE_BYTES;
    return isThere ? this.#word(offset) : 0;
  }

  /** i_atime as stored: the value's hash, in an inode that holds an attribute value. */
  get atimeWord(): number {
    return this.#word(INODE_FIELDS.atime.offset);
  }

  /** i_ctime as stored: the high word of the reference count, in an inode that holds an attribute value. */
  get ctimeWord(): number {
    return this.#word(INODE_FIELDS.ctime.offset);
  }

  /** i_mtime as stored: the owner of an attribute value, in the older scheme. */
  get mtimeWord(): number {
    return this.#word(INODE_FIELDS.mtime.offset);
  }

  /** l_i_version. */
  get versionLow(): number {
    return this.#word(INODE_FIELDS.versionLow.offset);
  }

  /** The slot's bytes; they must not change. */
  get slot(): Uint8Array {
    return this.#bytes.subarray(4 * this.#at, 4 * this.#at + this.slotSizeBytes);
  }

  /** i_block. */
  get blockField(): Uint8Array {
    const at = 4 * this.#at + INODE_FIELDS.blockField.offset;
    return this.#bytes.subarray(at, at + INODE_BLOCK_FIELD_SIZE_BYTES);
  }

  /** Index of the word at which i_block begins. */
  get blockFieldWord(): number {
    return this.#at + INODE_WORD.blockField;
  }

  /** One of the 15 words of i_block. */
  blockWord(index: number): number {
    return this.words[this.#at + INODE_WORD.blockField + index]! >>> 0;
  }

  /** A view of a copy of this slot alone, so that the table need not be kept. */
  copy(): InodeView {
    return new InodeView(this.slot.slice(), this.number);
  }

  /** The stored checksum: 32 bits, or 16 without i_checksum_hi. */
  get storedChecksum(): number {
    const low = this.words[this.#at + INODE_WORD.checksumLow]! & LOW_HALF;
    if (this.extraSizeBytes < CHECKSUM_EXTRA_SIZE_BYTES) return low;
    return (this.words[this.#at + INODE_WORD.checksumHigh]! >>> 16) * 0x10000 + low;
  }

  /**
   * Computes the correct checksums of slots, like inodeChecksum() in inode.ts: 32 bits, or 16 without i_checksum_hi.
   * All at once, because runtimes quickly compile a loop that does one thing.
   *
   * @param seed the file system's
   * @param checksums receives one number per slot
   */
  computeChecksums(seed: number, checksums: Uint32Array): void {
    // One update of the hasher instead of five: first assemble the covered bytes.
    const covered = new Uint8Array(KEY_SIZE_BYTES + this.slotSizeBytes);
    const sum = crc32cOfLength(seed, covered.length);
    for (let index = 0; index < checksums.length; index++) {
      const isWide = this.#cover(index, covered, 0);
      const register = sum(covered);
      checksums[index] = isWide ? register : register & LOW_HALF;
    }
  }

  /**
   * Whether the first slots that are not blank have the right 32-bit checksums. One sum over all of them decides, since
   * the sum of the whole follows from those of its parts: it costs half as much as a sum per slot. It never misses a
   * single wrong checksum, and misses several as rarely as separate sums would.
   *
   * @param seed the file system's
   */
  areChecksumsRight(seed: number, count: number): boolean {
    const sizeBytes = KEY_SIZE_BYTES + this.slotSizeBytes;
    const covered = new Uint8Array(count * sizeBytes);
    const behindZeros = crc32cBehindZeros(sizeBytes);
    const behindSeed = behindZeros(seed);
    let [end, wanted] = [0, 0];
    for (let index = 0; index < count; index++) {
      if (this.isBlankAt(index)) continue;
      if (!this.#cover(index, covered, end)) return false;
      end += sizeBytes;
      const at = index * this.slotWords;
      const stored = this.words[at + INODE_WORD.checksumLow]! & LOW_HALF |
        this.words[at + INODE_WORD.checksumHigh]! & ~LOW_HALF;
      wanted = behindZeros(wanted) ^ behindSeed ^ stored;
    }
    return crc32c(0, covered.subarray(0, end)) === wanted >>> 0;
  }

  /** Copies the bytes that the checksum of a slot covers, and returns whether it has 32 bits. */
  #cover(index: number, covered: Uint8Array, start: number): boolean {
    const at = index * this.slotWords;
    const isWide = this.slotSizeBytes > INODE_BASE_SIZE_BYTES &&
      (this.words[at + INODE_WORD.extraSize]! & LOW_HALF) >= CHECKSUM_EXTRA_SIZE_BYTES;
    const generation = this.words[at + INODE_WORD.generation]!;
    covered.set(inodeSeedKey(this.#firstNumber + index, generation), start);
    const slotAt = start + KEY_SIZE_BYTES;
    covered.set(this.#bytes.subarray(4 * at, 4 * at + this.slotSizeBytes), slotAt);
    // Both halves of the field are covered as zeros.
    const lowAt = slotAt + INODE_AT.checksumLow;
    covered[lowAt] = covered[lowAt + 1] = 0;
    if (!isWide) return false;
    const highAt = slotAt + INODE_AT.checksumHigh;
    covered[highAt] = covered[highAt + 1] = 0;
    return true;
  }

  /** Whether any of some bytes of the slot is not zero: in a damaged inode, i_extra_isize may be any number. */
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

/** The kind of tree node that an inode is. */
export type NodeKind = TreeNode["kind"];

/** The seven types of files as in i_mode, directories and trees. */
const FILE_TYPES: readonly (readonly [mode: number, direntType: number, kind: NodeKind])[] = [
  [FILE_MODE.FIFO, DIRENT_TYPE.FIFO, "fifo"],
  [FILE_MODE.CHARACTER_DEVICE, DIRENT_TYPE.CHARACTER_DEVICE, "characterDevice"],
  [FILE_MODE.DIRECTORY, DIRENT_TYPE.DIRECTORY, "directory"],
  [FILE_MODE.BLOCK_DEVICE, DIRENT_TYPE.BLOCK_DEVICE, "blockDevice"],
  [FILE_MODE.REGULAR, DIRENT_TYPE.REGULAR, "file"],
  [FILE_MODE.SYMLINK, DIRENT_TYPE.SYMLINK, "symlink"],
  [FILE_MODE.SOCKET, DIRENT_TYPE.SOCKET, "socket"],
];
const KINDS = new Map(FILE_TYPES.map(([mode, , kind]) => [mode, kind]));
const KINDS_BY_DIRENT = new Map(FILE_TYPES.map(([, direntType, kind]) => [direntType, kind]));

/** The type in a directory entry for an inode, by i_mode >> 12. */
export const DIRENT_TYPES: readonly number[] = Array.from(
  { length: 16 },
  (_, type) => FILE_TYPES.find(([mode]) => mode >>> 12 === type)?.[1] ?? DIRENT_TYPE.UNKNOWN,
);

/** The kind of file for an i_mode; undefined for an invalid one. */
export function kindOfMode(mode: number): NodeKind | undefined {
  return KINDS.get(mode & FILE_MODE.TYPE_MASK);
}

/** The kind of file for a DIRENT_TYPE; undefined if it gives none. */
export function kindOfDirent(direntType: number): NodeKind | undefined {
  return KINDS_BY_DIRENT.get(direntType);
}

/** The seed of an inode's blocks; undefined without metadata checksums. */
export function seedOf({ seed }: Volume, { number, generation }: InodeView): number | undefined {
  return seed === undefined ? undefined : inodeSeed(seed, number, generation);
}

/** An inode as stored in its table, unchecked; undefined if it is missing. */
export function viewOfInode(volume: Volume, inode: number): InodeView | undefined {
  if (inode < 1 || inode > volume.geometry.inodesCount) return undefined;
  const { blockNumber, offsetBytes } = volume.locateInode(inode);
  const block = volume.contains(blockNumber) ? volume.block(blockNumber) : undefined;
  if (block === undefined) return undefined;
  return new InodeView(block.subarray(offsetBytes, offsetBytes + volume.inodeSizeBytes), inode);
}

/** The block of an inode's attributes, or 0. Without 64bit, and on the Hurd, the kernel ignores the high half. */
export function xattrBlockOf(volume: Volume, view: InodeView): number {
  const isWide = volume.hasIncompat(INCOMPAT.BIT64) &&
    volume.superblock.creatorOs !== CREATOR_HURD;
  return isWide ? view.xattrBlock : view.xattrBlock % TWO_32;
}

/** Whether an inode number is reserved for the file system; the root's is not. */
export function isReservedInode(volume: Volume, inode: number): boolean {
  return inode !== INODE_NUMBER.ROOT && inode < volume.firstInode;
}

/** EXT2_COMPRBLK_FL and EXT2_IMAGIC_FL: unused for decades. */
const COMPRESSED_BLOCKS = 0x200;
const IMAGIC = 0x2000;
const COMPAT_IMAGIC = 0x2;
const EXTRA_SIZE_MIN = 4;
/** The unit of i_blocks. */
export const SECTOR_SIZE_BYTES = 512;
const LARGE_FILE_BYTES = 2 ** 31;
const SPECIAL_TYPES = typeSet([
  FILE_MODE.CHARACTER_DEVICE,
  FILE_MODE.BLOCK_DEVICE,
  FILE_MODE.FIFO,
  FILE_MODE.SOCKET,
]);
const DATA_TYPES = typeSet([FILE_MODE.REGULAR, FILE_MODE.DIRECTORY, FILE_MODE.SYMLINK]);

/** A set of inode types as bits: bit n stands for i_mode >> 12. */
function typeSet(types: readonly number[]): number {
  return types.reduce((set, type) => set | 1 << (type >>> 12), 0);
}

function isIn(types: number, type: number): boolean {
  return (types >>> (type >>> 12) & 1) === 1;
}

export function reportInode(
  { judge }: Volume,
  { number: inode }: InodeView,
  problem: string,
  details?: FaultDetails,
): void {
  judge.report("inode", { inode }, problem, details);
}

/** Checks the individual fields of an inode in use. Most are right and need no location for findings. */
export function judgeFields(volume: Volume, view: InodeView): void {
  const { extraSizeBytes, type } = view;
  const isSpecial = isIn(SPECIAL_TYPES, type);
  const room = view.slotSizeBytes - INODE_BASE_SIZE_BYTES;
  const bad = (problem: string, details: FaultDetails) =>
    reportInode(volume, view, problem, details);
  const isExtraSound = (extraSizeBytes & 3) === 0 && extraSizeBytes <= room &&
    (extraSizeBytes === 0 || extraSizeBytes >= EXTRA_SIZE_MIN);
  if (!isExtraSound) {
    bad("i_extra_isize", { found: extraSizeBytes, wanted: `0, or a multiple of 4 up to ${room}` });
  }
  if (view.fragmentAddress !== 0) {
    bad("i_faddr", { found: view.fragmentAddress, wanted: 0, isReadable: true });
  }
  // The Hurd uses that half for something else.
  if (
    view.xattrBlockHigh !== 0 && !volume.hasIncompat(INCOMPAT.BIT64) &&
    volume.superblock.creatorOs !== CREATOR_HURD
  ) {
    const details = { found: view.xattrBlockHigh, wanted: 0, isReadable: true };
    bad("i_file_acl_high without 64bit", details);
  }
  if (!isSpecial && !isIn(DATA_TYPES, type)) {
    bad("type", { found: modeText(view.mode), wanted: "one of the seven types" });
  }
  if (isSpecial && view.sizeBytes !== 0) {
    bad("i_size of a special file", { found: view.sizeBytes, wanted: 0, isReadable: true });
  }
  if (!areFlagsPlain(volume, view)) judgeFlags(volume, view);
  if (!view.usesExtents && !view.hasInlineData && looksLikeExtents(view)) {
    const details = { found: "clear", wanted: "set", isReadable: true };
    bad("flag EXTENTS of an inode with an extent tree", details);
  }
}

/** Whether an inode has no flags, or only EXTENTS where that is allowed, as most do. */
function areFlagsPlain(volume: Volume, { flags, type }: InodeView): boolean {
  if (flags === 0) return true;
  return flags === INODE_FLAG.EXTENTS && isIn(DATA_TYPES, type) &&
    volume.hasIncompat(INCOMPAT.EXTENTS);
}

/** Reports flags that the features or the inode's type do not allow; the kernel tolerates some of them. */
function judgeFlags(volume: Volume, view: InodeView): void {
  const { flags, type } = view;
  const isSpecial = isIn(SPECIAL_TYPES, type);
  const isDirectory = type === FILE_MODE.DIRECTORY;
  const lacks = (feature: number) => !volume.hasIncompat(feature);
  const { EXTENTS, INLINE_DATA, INDEX, IMMUTABLE, APPEND, VERITY, ENCRYPT } = INODE_FLAG;
  const { CASEFOLD, EA_INODE } = INODE_FLAG;
  const isIndexRead = !isDirectory || volume.seed === undefined;
  const wrong: [flag: number, when: boolean, why: string, isReadable: boolean][] = [
    [EXTENTS, lacks(INCOMPAT.EXTENTS), "EXTENTS without the feature", true],
    [EXTENTS, isSpecial, "EXTENTS on a special file", true],
    [EXTENTS, view.hasInlineData, "EXTENTS beside INLINE_DATA", false],
    [INLINE_DATA, lacks(INCOMPAT.INLINE_DATA), "INLINE_DATA without the feature", true],
    [INLINE_DATA, isSpecial, "INLINE_DATA on a special file", true],
    [INDEX, !volume.hasCompat(COMPAT.DIR_INDEX), "INDEX without the feature", isIndexRead],
    [INDEX, !isDirectory, "INDEX on something other than a directory", true],
    [INDEX, view.hasInlineData, "INDEX beside INLINE_DATA", true],
    [IMMUTABLE | APPEND, isSpecial, "IMMUTABLE or APPEND", true],
    [IMMUTABLE | APPEND, type === FILE_MODE.SYMLINK, "IMMUTABLE or APPEND", false],
    [VERITY, !volume.hasRoCompat(RO_COMPAT.VERITY), "VERITY without the feature", true],
    [ENCRYPT, lacks(INCOMPAT.ENCRYPT), "ENCRYPT without the feature", true],
    [CASEFOLD, lacks(INCOMPAT.CASEFOLD), "CASEFOLD without the feature", false],
    [
      EA_INODE,
      type !== FILE_MODE.REGULAR,
      "EA_INODE on something other than a regular file",
      false,
    ],
    [IMAGIC, !volume.hasCompat(COMPAT_IMAGIC), "IMAGIC", true],
    [COMPRESSED_BLOCKS, true, "COMPRBLK", true],
  ];
  for (const [flag, when, why, isReadable] of wrong) {
    if (!when || (flags & flag) === 0) continue;
    const details = { found: hex(flags), wanted: hex(flags & ~flag), isReadable };
    reportInode(volume, view, `i_flags: ${why}`, details);
  }
}

/**
 * Whether i_block looks like an extent tree. No block map begins like this: its second pointer would be to a block of
 * the first descriptors.
 */
function looksLikeExtents(view: InodeView): boolean {
  if ((view.blockWord(0) & 0xffff) !== EXTENT_MAGIC || !isIn(DATA_TYPES, view.type)) return false;
  const isSymlinkText = view.type === FILE_MODE.SYMLINK && view.sectorCount === 0;
  const second = view.blockWord(1);
  return !isSymlinkText && (second & 0xffff) === 4 && second >>> 16 <= 5;
}

/** The parts of a block map needed to check its inode's size. */
export interface MappedExtent {
  /** The last mapped logical block; -1 if none. */
  readonly last: number;
  /** The last written logical block; -1 if none. */
  readonly lastWritten: number;
}

/**
 * Whether the kernel lists a directory by the hashes of its names: it does for those with an index or a single block
 * (is_dx_dir()), and reads all others sequentially.
 */
export function isHashed(volume: Volume, view: InodeView): boolean {
  return volume.hasCompat(COMPAT.DIR_INDEX) && ((view.flags & INODE_FLAG.INDEX) !== 0 ||
    Math.floor(view.sizeBytes / volume.blockSizeBytes) === 1);
}

/** Checks i_size against the blocks of a file or directory. */
export function judgeSize(volume: Volume, view: InodeView, map: MappedExtent): void {
  const { blockSizeBytes } = volume;
  const { sizeBytes } = view;
  const bad = (wanted: number | string, isReadable = false) =>
    reportInode(volume, view, "i_size", { found: sizeBytes, wanted, isReadable });
  if (view.type === FILE_MODE.DIRECTORY) {
    const mapped = (map.last + 1) * blockSizeBytes;
    if (sizeBytes !== mapped || sizeBytes === 0) bad(mapped, true);
    return;
  }
  // Blocks past the end of a file must be unwritten; like e2fsck, this lets a written one begin exactly at the end.
  // fs-verity stores its data past the end of the file.
  const isVerity = (view.flags & INODE_FLAG.VERITY) !== 0;
  if (map.lastWritten >= 0 && sizeBytes < map.lastWritten * blockSizeBytes && !isVerity) {
    bad(`at least ${map.lastWritten * blockSizeBytes}`, true);
  }
  const most = largestSize(volume, view.usesExtents);
  if (sizeBytes > most) bad(`at most ${most}`);
  if (sizeBytes >= LARGE_FILE_BYTES) judgeLargeFile(volume, view);
}

/** Sizes of 2 GiB and more need the feature large_file, wherever the bytes are. */
export function judgeLargeFile(volume: Volume, view: InodeView): void {
  const { sizeBytes: found } = view;
  if (found < LARGE_FILE_BYTES || volume.hasRoCompat(RO_COMPAT.LARGE_FILE)) return;
  const wanted = `below ${LARGE_FILE_BYTES} without large_file`;
  reportInode(volume, view, "i_size", { found, wanted, isReadable: true });
}

function largestSize(volume: Volume, usesExtents: boolean): number {
  const { blockSizeBytes } = volume;
  if (usesExtents) return TWO_32 * blockSizeBytes - 1;
  const fanOut = blockSizeBytes / 4;
  return (12 + fanOut + fanOut ** 2 + fanOut ** 3) * blockSizeBytes;
}

/** Checks i_blocks against the counted blocks. */
export function judgeBlockCount(volume: Volume, view: InodeView, blockCount: number): void {
  const { sectorCount: found } = view;
  const countsBlocks = (view.flags & INODE_FLAG.HUGE_FILE) !== 0 &&
    volume.hasRoCompat(RO_COMPAT.HUGE_FILE);
  const wanted = countsBlocks
    ? blockCount
    : blockCount * (volume.blockSizeBytes / SECTOR_SIZE_BYTES);
  if (found !== wanted) reportInode(volume, view, "i_blocks", { found, wanted, isReadable: true });
}
