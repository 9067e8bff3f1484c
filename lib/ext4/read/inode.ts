/**
 * Inodes as the reader hands them out: decoded, with every field checked that does not need anything else of the image.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import { checkChecksum, inodeSeed } from "../format/checksum.ts";
import { FILE_MODE, INCOMPAT, INODE_FLAG, INODE_NUMBER, RO_COMPAT } from "../format/constants.ts";
import {
  decodeInode,
  inodeChecksum,
  type InodeRecord,
  storedInodeChecksum,
} from "../format/inode.ts";
import type { Ext4Image, ImageInode, NodeKind } from "./types.ts";

const KIND_OF_TYPE: Readonly<Record<number, NodeKind>> = {
  [FILE_MODE.FIFO]: "fifo",
  [FILE_MODE.CHARACTER_DEVICE]: "characterDevice",
  [FILE_MODE.DIRECTORY]: "directory",
  [FILE_MODE.BLOCK_DEVICE]: "blockDevice",
  [FILE_MODE.REGULAR]: "file",
  [FILE_MODE.SYMLINK]: "symlink",
  [FILE_MODE.SOCKET]: "socket",
};

const NANOSECONDS_END = 1_000_000_000;

/** The kind of file that i_mode tells of; undefined when it is none. */
export function kindOfMode(mode: number): NodeKind | undefined {
  return KIND_OF_TYPE[mode & FILE_MODE.TYPE_MASK];
}

/** Whether an inode has an INODE_FLAG bit. */
export function hasFlag(inode: ImageInode, flag: number): boolean {
  return (inode.record.flags & flag) !== 0;
}

/** Decodes a slot and checks it. Throws InputError for an inode that is not in use, or is not as it has to be. */
export function checkInode(image: Ext4Image, number: number, slot: Uint8Array): ImageInode {
  const what = `inode ${number}`;
  if (image.seed !== undefined) {
    const options = { inodeNumber: number, seed: image.seed };
    checkChecksum(what, storedInodeChecksum(slot), inodeChecksum(slot, options));
  }
  const record = decodeInode(slot, what);
  const kind = kindOfMode(record.mode);
  if (kind === undefined) {
    throw new InputError(what, `its mode 0${record.mode.toString(8)} has no known file type`);
  }
  checkInUse(image, record, what);
  checkFlags(image, record, what);
  checkTimes(record, what);
  if (kind === "directory") checkDirectorySize(image, record, what);
  if (record.xattrBlock !== 0) image.checkRange(record.xattrBlock, 1, what);
  return { number, kind, record, seed: seedOf(image, number, record), what };
}

/** An inode as it is, for a look at a damaged one; one without a known type passes for a socket, which has no content. */
export function unjudgedInode(image: Ext4Image, number: number, record: InodeRecord): ImageInode {
  const kind = kindOfMode(record.mode) ?? "socket";
  return { number, kind, record, seed: seedOf(image, number, record), what: `inode ${number}` };
}

/** A file that is being cut short at the moment is in the list of orphans, which lives in i_dtime. */
function checkInUse(image: Ext4Image, record: InodeRecord, what: string): void {
  if (record.linkCount === 0) throw new InputError(what, "it is pointed to, but has no links");
  if (record.dtime !== 0 && image.superblock.lastOrphan === 0) {
    throw new InputError(what, `it is in use, but has a time of deletion, ${record.dtime}`);
  }
}

function checkFlags(image: Ext4Image, record: InodeRecord, what: string): void {
  const needed = [
    [INODE_FLAG.EXTENTS, image.hasIncompat(INCOMPAT.EXTENTS), "extents"],
    [INODE_FLAG.INLINE_DATA, image.hasIncompat(INCOMPAT.INLINE_DATA), "inline data"],
    [INODE_FLAG.EA_INODE, image.hasIncompat(INCOMPAT.EA_INODE), "an attribute value"],
    [INODE_FLAG.HUGE_FILE, image.hasRoCompat(RO_COMPAT.HUGE_FILE), "a huge size"],
  ] as const;
  for (const [flag, isAllowed, name] of needed) {
    if ((record.flags & flag) !== 0 && !isAllowed) {
      throw new InputError(what, `its flags say ${name}, for which the feature is not set`);
    }
  }
  const both = INODE_FLAG.EXTENTS | INODE_FLAG.INLINE_DATA;
  if ((record.flags & both) === both) {
    throw new InputError(what, "its flags say both extents and inline data");
  }
}

function checkTimes(record: InodeRecord, what: string): void {
  for (const field of ["atime", "ctime", "mtime", "crtime"] as const) {
    const { nanoseconds } = record[field];
    if (nanoseconds >= NANOSECONDS_END) {
      throw new InputError(what, `its ${field} has ${nanoseconds} nanoseconds, over 999999999`);
    }
  }
}

function checkDirectorySize(image: Ext4Image, record: InodeRecord, what: string): void {
  const { sizeBytes, flags } = record;
  if ((flags & INODE_FLAG.INLINE_DATA) !== 0) return;
  const { blockSizeBytes, blocksCount } = image.geometry;
  const most = blocksCount * blockSizeBytes;
  if (sizeBytes > 0 && sizeBytes % blockSizeBytes === 0 && sizeBytes <= most) return;
  throw new InputError(
    what,
    `its size of ${sizeBytes} bytes is not 1 to ${blocksCount} blocks of ${blockSizeBytes}`,
  );
}

/** Whether a number is one of the inodes that the file system keeps for itself; the root is not. */
export function isReservedInode(image: Ext4Image, number: number): boolean {
  return number !== INODE_NUMBER.ROOT && number < image.geometry.firstInode;
}

function seedOf(image: Ext4Image, number: number, record: InodeRecord): number | undefined {
  return image.seed === undefined ? undefined : inodeSeed(image.seed, number, record.generation);
}
