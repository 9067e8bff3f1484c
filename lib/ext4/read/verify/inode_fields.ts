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
const DIRECTORY_TYPES: readonly number[] = [FILE_MODE.DIRECTORY];
const SPECIAL_TYPES: readonly number[] = [
  FILE_MODE.CHARACTER_DEVICE,
  FILE_MODE.BLOCK_DEVICE,
  FILE_MODE.FIFO,
  FILE_MODE.SOCKET,
];
const DATA_TYPES: readonly number[] = [
  FILE_MODE.REGULAR,
  FILE_MODE.DIRECTORY,
  FILE_MODE.SYMLINK,
];

/** Fields that mean something by themselves. */
export function checkFields(context: Context, inode: number, view: InodeView): void {
  const { findings, volume } = context;
  const bad = (problem: string, found: number | string, wanted: number | string) =>
    findings.add("inode", { inode }, problem, { found, wanted });
  const { slot, extraSizeBytes, type } = view;
  const room = slot.length - INODE_BASE_SIZE_BYTES;
  const isExtraSound = extraSizeBytes % 4 === 0 && extraSizeBytes <= room &&
    (extraSizeBytes === 0 || extraSizeBytes >= EXTRA_SIZE_MIN);
  if (!isExtraSound) bad("i_extra_isize", extraSizeBytes, `0, or a multiple of 4 up to ${room}`);
  if (view.fragmentAddress !== 0) bad("i_faddr", view.fragmentAddress, 0);
  if (view.xattrBlockHigh !== 0 && !volume.hasIncompat(INCOMPAT.BIT64)) {
    bad("i_file_acl_high without 64bit", view.xattrBlockHigh, 0);
  }
  const isSpecial = SPECIAL_TYPES.includes(type);
  if (!isSpecial && !DATA_TYPES.includes(type)) {
    bad("type", `mode 0${view.mode.toString(8)}`, "one of the seven types");
  }
  if (isSpecial && view.sizeBytes !== 0) bad("i_size of a special file", view.sizeBytes, 0);
  checkFlags(context, inode, view);
  if (!view.usesExtents && !view.hasInlineData && looksLikeExtents(view)) {
    bad("flag EXTENTS of an inode with an extent tree", "clear", "set");
  }
}

/** Flags that the features or the type of the inode do not allow. */
function checkFlags(context: Context, inode: number, view: InodeView): void {
  const { findings, volume } = context;
  const { flags, type } = view;
  if (flags === 0 || (flags === INODE_FLAG.EXTENTS && isPlain(volume, type))) return;
  const isSpecial = SPECIAL_TYPES.includes(type);
  const { EXTENTS, INLINE_DATA, INDEX, IMMUTABLE, APPEND } = INODE_FLAG;
  const wrong: [flag: number, when: boolean, why: string][] = [
    [EXTENTS, !volume.hasIncompat(INCOMPAT.EXTENTS), "EXTENTS without the feature"],
    [EXTENTS, isSpecial, "EXTENTS on a special file"],
    [EXTENTS, view.hasInlineData, "EXTENTS beside INLINE_DATA"],
    [INLINE_DATA, !volume.hasIncompat(INCOMPAT.INLINE_DATA), "INLINE_DATA without the feature"],
    [INLINE_DATA, isSpecial, "INLINE_DATA on a special file"],
    [INDEX, !volume.hasCompat(COMPAT.DIR_INDEX), "INDEX without the feature"],
    [INDEX, !DIRECTORY_TYPES.includes(type), "INDEX on what is no directory"],
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

/** Whether an inode may have the flag EXTENTS, which most have, and no other. */
function isPlain(volume: Volume, type: number): boolean {
  return volume.hasIncompat(INCOMPAT.EXTENTS) && DATA_TYPES.includes(type);
}

/** No map of blocks begins like this: its second pointer would be to a block of the first descriptors. */
function looksLikeExtents(view: InodeView): boolean {
  if (!DATA_TYPES.includes(view.type)) return false;
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
  if (usesExtents) return 2 ** 32 * blockSizeBytes - 1;
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
  findings.expect("inode", { inode }, "i_blocks", view.sectorCount, wanted);
}
