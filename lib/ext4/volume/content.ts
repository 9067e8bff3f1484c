/**
 * The content of inodes besides block maps: extended attributes (in the inode, in a block that several inodes may
 * share, and in inodes of their own), data in the inode itself, and symlink targets wherever they are.
 *
 * @module
 */
import { COMPAT, FILE_MODE, INCOMPAT, INODE_FLAG } from "../format/constants.ts";
import { INODE_BASE_SIZE_BYTES, INODE_BLOCK_FIELD_SIZE_BYTES } from "../format/inode.ts";
import {
  type DecodedXattr,
  type DecodedXattrBlock,
  decodeInodeXattrs,
  decodeXattrBlock,
  verifyXattrBlock,
  XATTR_INDEX,
  XATTR_VALUE_SIZE_MAX,
  type XattrComplaint,
  xattrValueHash,
} from "../format/xattr.ts";
import { type MappedRun, readRuns } from "./block_map.ts";
import { type InodeView, judgeLargeFile, reportInode, viewOfInode } from "./inode.ts";
import { type FaultDetails, HERE, hex, type Location, type Structure } from "./judge.ts";
import type { Volume } from "./volume.ts";

export interface AttributeValue {
  readonly value: Uint8Array<ArrayBuffer>;
  /** The correct hash of the value. */
  readonly hash: number;
  /** Whether it follows an older scheme, in which the inode points back to its only owner and has no hash. */
  readonly isOldStyle: boolean;
}

const NO_XATTRS: readonly DecodedXattr[] = [];

/** Whether an attribute is the one that holds inline data, which is not visible as an attribute. */
export function isInlineData(
  xattr: { readonly nameIndex: number; readonly suffix: string },
): boolean {
  return xattr.nameIndex === XATTR_INDEX.SYSTEM && xattr.suffix === "data";
}

/** The attributes stored in an inode itself; none if they cannot be read. */
export function readInodeXattrs(volume: Volume, view: InodeView): readonly DecodedXattr[] {
  if (!view.hasOwnXattrs) return NO_XATTRS;
  const area = view.slot.subarray(INODE_BASE_SIZE_BYTES + view.extraSizeBytes);
  const structure = "extended attributes";
  const location = { inode: view.number };
  const complain = complaintTo(volume, structure, location);
  const decode = () => decodeInodeXattrs(area, HERE, complain);
  return volume.judge.attempt(structure, location, decode) ?? NO_XATTRS;
}

/** Whether an inode may have an attribute block there, and it is in the file system. */
export function judgeXattrBlockPointer(volume: Volume, inode: number, block: number): boolean {
  const isInVolume = volume.mayOwn(inode, block);
  if (isInVolume && volume.hasCompat(COMPAT.EXT_ATTR)) return true;
  volume.judge.report("inode", { inode, block }, "i_file_acl", {
    found: block,
    wanted: isInVolume ? "0 without ext_attr" : "a block of the file system",
    isReadable: isInVolume,
  });
  return isInVolume;
}

/** An attribute block inside the file system; undefined if it cannot be read. */
export function readXattrBlock(volume: Volume, block: number): DecodedXattrBlock | undefined {
  const { judge, seed } = volume;
  const structure = "attribute block";
  const location = { block, offset: block * volume.blockSizeBytes };
  const bytes = volume.block(block);
  if (bytes === undefined) {
    judge.report(structure, location, "block is past the end");
    return undefined;
  }
  if (seed !== undefined) {
    const options = { blockNumber: block, seed, what: HERE };
    judge.attempt(structure, location, () => verifyXattrBlock(bytes, options));
  }
  const complain = complaintTo(volume, structure, location);
  return judge.attempt(structure, location, () => decodeXattrBlock(bytes, HERE, complain));
}

/** Whether a value follows the older scheme: its inode has its only owner's number in i_mtime, and its generation. */
export function isOldStyleValue(volume: Volume, view: InodeView): boolean {
  const owner = viewOfInode(volume, view.mtimeWord);
  return owner !== undefined && owner.generation === view.generation;
}

/** Complaints concern hashes and order, which the kernel does not check. */
function complaintTo(volume: Volume, structure: Structure, location: Location): XattrComplaint {
  return (problem, details) =>
    volume.judge.report(structure, location, problem, { ...details, isReadable: true });
}

/** The value stored in an inode, checked against the inode's hash; undefined if it cannot be read. */
export function readAttributeValue(
  volume: Volume,
  view: InodeView,
  runs: readonly MappedRun[],
): AttributeValue | undefined {
  const { sizeBytes, atimeWord } = view;
  const bad = (problem: string, details?: FaultDetails) =>
    volume.judge.report("attribute value", { inode: view.number }, problem, details);
  if (!volume.hasIncompat(INCOMPAT.EA_INODE)) {
    reportInode(volume, view, "flag EA_INODE without the feature ea_inode");
  }
  if (sizeBytes > XATTR_VALUE_SIZE_MAX) {
    bad("size in bytes", { found: sizeBytes, wanted: `at most ${XATTR_VALUE_SIZE_MAX}` });
    return undefined;
  }
  const value = readRuns(volume, runs, sizeBytes);
  if (value === undefined) {
    bad("its blocks are past the end");
    return undefined;
  }
  const hash = xattrValueHash(volume.valueSeed, value);
  const isOldStyle = atimeWord !== hash && isOldStyleValue(volume, view);
  if (!isOldStyle && atimeWord !== hash) {
    bad("hash of the value", { found: hex(atimeWord), wanted: hex(hash) });
  }
  return { value, hash, isOldStyle };
}

/** Bytes stored in an inode itself. */
export interface InlineData {
  /** i_block, then the value of the attribute system.data. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /**
   * Whether it is a file of one hole, larger than its inode could store. mke2fs -d makes such inodes for files without
   * any data; the kernel reads zeros from them, and e2fsck accepts them.
   */
  readonly isHole: boolean;
}

/**
 * The data in i_block and the attribute: a small file, directory or symlink.
 *
 * @param xattrs of the inode
 */
export function readInlineData(
  volume: Volume,
  view: InodeView,
  xattrs: readonly DecodedXattr[],
): InlineData {
  const rest = xattrs.find(isInlineData);
  if (rest === undefined || rest.valueInode !== undefined) {
    reportInode(volume, view, "inline data without the attribute system.data");
  }
  const restBytes = rest?.value ?? new Uint8Array(0);
  const bytes = new Uint8Array(INODE_BLOCK_FIELD_SIZE_BYTES + restBytes.length);
  bytes.set(view.blockField);
  bytes.set(restBytes, INODE_BLOCK_FIELD_SIZE_BYTES);
  const isDirectory = view.type === FILE_MODE.DIRECTORY;
  const isLarger = view.sizeBytes > bytes.length;
  const isHole = isLarger && view.type === FILE_MODE.REGULAR && bytes.every((byte) => byte === 0);
  if ((isLarger && !isHole) || (isDirectory && view.sizeBytes !== bytes.length)) {
    reportInode(volume, view, "i_size of inline data", {
      found: view.sizeBytes,
      wanted: isDirectory ? bytes.length : `at most ${bytes.length}`,
      isReadable: true,
    });
  }
  if (isHole) judgeLargeFile(volume, view);
  return { bytes, isHole };
}

/** Whether a symlink's target is in i_block, so that it maps no blocks. */
export function isFastSymlink(view: InodeView): boolean {
  return !view.hasInlineData && !view.usesExtents && view.sizeBytes < INODE_BLOCK_FIELD_SIZE_BYTES;
}

export function judgeSymlinkSize(
  volume: Volume,
  view: InodeView,
  details: FaultDetails = {},
): void {
  const { sizeBytes: found } = view;
  const most = volume.blockSizeBytes - 1;
  if (found > 0 && found <= most) return;
  reportInode(volume, view, "i_size of a symlink", { found, wanted: `1 to ${most}`, ...details });
}

/**
 * The only block of a symlink that is not in its inode; undefined if it is not as required.
 *
 * @param details for the fault of having more than one block, if a reader continues with the first
 */
export function readSymlinkBlock(
  volume: Volume,
  view: InodeView,
  runs: readonly MappedRun[],
  details: FaultDetails = {},
): Uint8Array | undefined {
  const bad = (problem: string, more: FaultDetails) => reportInode(volume, view, problem, more);
  const { sizeBytes } = view;
  if (sizeBytes < INODE_BLOCK_FIELD_SIZE_BYTES) {
    const wanted = `at least ${INODE_BLOCK_FIELD_SIZE_BYTES}`;
    bad("i_size of a symlink with a block", { found: sizeBytes, wanted, isReadable: true });
  }
  const [run] = runs;
  const isOne = runs.length === 1 && run!.logicalBlock === 0 && run!.blockCount === 1;
  if (!isOne) {
    const last = runs.at(-1);
    const found = last === undefined ? 0 : last.logicalBlock + last.blockCount;
    const isFirst = run !== undefined && run.logicalBlock === 0;
    bad("blocks of a symlink", { found, wanted: 1, ...isFirst ? details : {} });
    if (!isFirst || !details.isReadable) return undefined;
  }
  if (run!.unwritten) return undefined;
  const block = volume.block(run!.startBlock);
  if (block === undefined) {
    const details = { found: run!.startBlock, wanted: volume.endBlock };
    bad("block of a symlink is past the end", details);
  }
  return block;
}

/**
 * The target must end with the first zero byte, where i_size says. For inline data only the kernel looks, and it takes
 * the bytes before the zero.
 */
export function judgeTarget(
  volume: Volume,
  view: InodeView,
  bytes: Uint8Array,
  details: FaultDetails = {},
): void {
  // An encrypted target may contain any bytes.
  if ((view.flags & INODE_FLAG.ENCRYPT) !== 0) return;
  const end = bytes.indexOf(0);
  const wanted = end < 0 ? bytes.length : end;
  const { sizeBytes: found } = view;
  if (found !== wanted) {
    reportInode(volume, view, "i_size of a symlink", { ...details, found, wanted });
  }
}
