/**
 * The fields of an inode that is in use, against each other and against what it maps.
 *
 * @module
 */
import { COMPAT, FILE_MODE, INCOMPAT, INODE_FLAG, RO_COMPAT } from "../../format/constants.ts";
import { EXTENT_MAGIC } from "../../format/extent.ts";
import { INODE_BASE_SIZE_BYTES } from "../../format/inode.ts";
import type { BlockMap } from "./block_walk.ts";
import type { Context } from "./context.ts";
import { hex } from "./findings.ts";
import type { InodeView } from "./inode_view.ts";
import type { Volume } from "./volume.ts";

/** EXT2_COMPRBLK_FL and EXT2_IMAGIC_FL: nothing has used them for decades. */
const COMPRESSED_BLOCKS = 0x200;
const IMAGIC = 0x2000;
const COMPAT_IMAGIC = 0x2;
const EXTRA_SIZE_MIN = 4;
const SECTOR_SIZE_BYTES = 512;
const TWO_32 = 2 ** 32;
const SPECIAL_TYPES = typeSet([
  FILE_MODE.CHARACTER_DEVICE,
  FILE_MODE.BLOCK_DEVICE,
  FILE_MODE.FIFO,
  FILE_MODE.SOCKET,
]);
const DATA_TYPES = typeSet([FILE_MODE.REGULAR, FILE_MODE.DIRECTORY, FILE_MODE.SYMLINK]);

/** Fields that mean something by themselves. */
export function checkFields(context: Context, inode: number, view: InodeView): void {
  const { findings, volume } = context;
  const bad = (problem: string, found: number | string, wanted: number | string) =>
    findings.add("inode", { inode }, problem, { found, wanted });
  const { extraSizeBytes, type } = view;
  const room = view.slotSizeBytes - INODE_BASE_SIZE_BYTES;
  const isExtraSound = extraSizeBytes % 4 === 0 && extraSizeBytes <= room &&
    (extraSizeBytes === 0 || extraSizeBytes >= EXTRA_SIZE_MIN);
  if (!isExtraSound) bad("i_extra_isize", extraSizeBytes, `0, or a multiple of 4 up to ${room}`);
  if (view.fragmentAddress !== 0) bad("i_faddr", view.fragmentAddress, 0);
  if (view.xattrBlockHigh !== 0 && !volume.hasIncompat(INCOMPAT.BIT64)) {
    bad("i_file_acl_high without 64bit", view.xattrBlockHigh, 0);
  }
  const isSpecial = isIn(SPECIAL_TYPES, type);
  if (!isSpecial && !isIn(DATA_TYPES, type)) {
    bad("type", `mode 0${view.mode.toString(8)}`, "one of the seven types");
  }
  if (isSpecial && view.sizeBytes !== 0) bad("i_size of a special file", view.sizeBytes, 0);
  if (!areFlagsPlain(volume, view)) checkFlags(context, inode, view);
  if (!view.usesExtents && !view.hasInlineData && looksLikeExtents(view)) {
    bad("flag EXTENTS of an inode with an extent tree", "clear", "set");
  }
}

/** Types of inodes as a set of bits: bit n is that of i_mode >> 12. */
function typeSet(types: readonly number[]): number {
  return types.reduce((set, type) => set | 1 << (type >>> 12), 0);
}

function isIn(types: number, type: number): boolean {
  return (types >>> (type >>> 12) & 1) === 1;
}

/** Whether an inode has the flag EXTENTS where it may, as most have, or none at all. */
function areFlagsPlain(volume: Volume, { flags, type }: InodeView): boolean {
  if (flags === 0) return true;
  return flags === INODE_FLAG.EXTENTS && volume.hasIncompat(INCOMPAT.EXTENTS) &&
    isIn(DATA_TYPES, type);
}

/** Flags that the features or the type of the inode do not allow. */
function checkFlags(context: Context, inode: number, view: InodeView): void {
  const { findings, volume } = context;
  const { flags, type } = view;
  const isSpecial = isIn(SPECIAL_TYPES, type);
  const { EXTENTS, INLINE_DATA, INDEX, IMMUTABLE, APPEND } = INODE_FLAG;
  const wrong: [flag: number, when: boolean, why: string][] = [
    [EXTENTS, !volume.hasIncompat(INCOMPAT.EXTENTS), "EXTENTS without the feature"],
    [EXTENTS, isSpecial, "EXTENTS on a special file"],
    [EXTENTS, view.hasInlineData, "EXTENTS beside INLINE_DATA"],
    [INLINE_DATA, !volume.hasIncompat(INCOMPAT.INLINE_DATA), "INLINE_DATA without the feature"],
    [INLINE_DATA, isSpecial, "INLINE_DATA on a special file"],
    [INDEX, !volume.hasCompat(COMPAT.DIR_INDEX), "INDEX without the feature"],
    [INDEX, type !== FILE_MODE.DIRECTORY, "INDEX on what is no directory"],
    [INDEX, view.hasInlineData, "INDEX beside INLINE_DATA"],
    [IMMUTABLE | APPEND, isSpecial || type === FILE_MODE.SYMLINK, "IMMUTABLE or APPEND"],
    [INODE_FLAG.VERITY, !volume.hasRoCompat(RO_COMPAT.VERITY), "VERITY without the feature"],
    [INODE_FLAG.ENCRYPT, !volume.hasIncompat(INCOMPAT.ENCRYPT), "ENCRYPT without the feature"],
    [INODE_FLAG.CASEFOLD, !volume.hasIncompat(INCOMPAT.CASEFOLD), "CASEFOLD without the feature"],
    [INODE_FLAG.EA_INODE, type !== FILE_MODE.REGULAR, "EA_INODE on what is no regular file"],
    [IMAGIC, !volume.hasCompat(COMPAT_IMAGIC), "IMAGIC"],
    [COMPRESSED_BLOCKS, true, "COMPRBLK"],
  ];
  for (const [flag, when, why] of wrong) {
    if (when && (flags & flag) !== 0) {
      findings.add("inode", { inode }, `i_flags: ${why}`, {
        found: hex(flags),
        wanted: hex((flags & ~flag) >>> 0),
      });
    }
  }
}

/** No map of blocks begins like this: its second pointer would be to a block of the first descriptors. */
function looksLikeExtents(view: InodeView): boolean {
  if (!isIn(DATA_TYPES, view.type)) return false;
  const isSymlinkText = view.type === FILE_MODE.SYMLINK && view.sectorCount === 0;
  return !isSymlinkText && (view.blockWord(0) & 0xffff) === EXTENT_MAGIC &&
    (view.blockWord(1) & 0xffff) === 4 && view.blockWord(1) >>> 16 <= 5;
}

/** i_size against the blocks of a file or a directory. */
export function checkSize(
  context: Context,
  inode: number,
  view: InodeView,
  map: Readonly<BlockMap>,
): void {
  const { findings, volume } = context;
  const { blockSizeBytes } = volume;
  const { sizeBytes } = view;
  const bad = (wanted: number | string) =>
    findings.add("inode", { inode }, "i_size", { found: sizeBytes, wanted });
  if (view.type === FILE_MODE.DIRECTORY) {
    const mapped = (map.last + 1) * blockSizeBytes;
    if (sizeBytes !== mapped || sizeBytes === 0) bad(mapped);
    return;
  }
  // Blocks past the end of a file may only be unwritten ones; e2fsck, too, lets one begin right at the end. What
  // fs-verity needs lies past the end of its file.
  const isVerity = (view.flags & INODE_FLAG.VERITY) !== 0;
  if (map.lastWritten >= 0 && sizeBytes < map.lastWritten * blockSizeBytes && !isVerity) {
    bad(`at least ${map.lastWritten * blockSizeBytes}`);
  }
  const most = largestSize(volume, view.usesExtents);
  if (sizeBytes > most) bad(`at most ${most}`);
  checkLargeFile(context, inode, view);
}

/** Sizes of 2 GiB and more need the feature large_file, wherever the bytes are. */
export function checkLargeFile(
  { findings, volume }: Context,
  inode: number,
  view: InodeView,
): void {
  if (view.sizeBytes < 2 ** 31 || volume.hasRoCompat(RO_COMPAT.LARGE_FILE)) return;
  findings.add("inode", { inode }, "i_size", {
    found: view.sizeBytes,
    wanted: `below ${2 ** 31} without large_file`,
  });
}

function largestSize(volume: Volume, usesExtents: boolean): number {
  const { blockSizeBytes } = volume;
  if (usesExtents) return TWO_32 * blockSizeBytes - 1;
  const fanOut = blockSizeBytes / 4;
  return (12 + fanOut + fanOut ** 2 + fanOut ** 3) * blockSizeBytes;
}

/** i_blocks against the blocks that were counted. */
export function checkBlockCount(
  context: Context,
  inode: number,
  view: InodeView,
  blockCount: number,
): void {
  const { findings, volume } = context;
  const countsBlocks = volume.hasRoCompat(RO_COMPAT.HUGE_FILE) &&
    (view.flags & INODE_FLAG.HUGE_FILE) !== 0;
  const wanted = countsBlocks
    ? blockCount
    : blockCount * (volume.blockSizeBytes / SECTOR_SIZE_BYTES);
  const { sectorCount } = view;
  if (sectorCount !== wanted) {
    findings.expect("inode", { inode }, "i_blocks", sectorCount, wanted);
  }
}
