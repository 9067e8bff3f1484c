/**
 * Extended attributes: in the inode, in a block that several inodes may share, and values in inodes of their own.
 *
 * @module
 */
import { COMPAT, INCOMPAT } from "../format/constants.ts";
import { INODE_BASE_SIZE_BYTES } from "../format/inode.ts";
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
import { type InodeView, viewOfInode } from "./inode.ts";
import { HERE, hex, type Location, type Structure } from "./judge.ts";
import type { Volume } from "./volume.ts";

/** A value that an inode holds. */
export interface AttributeValue {
  readonly value: Uint8Array<ArrayBuffer>;
  /** Of the value, as it should be. */
  readonly hash: number;
  /** An older scheme, in which the inode points back to its one owner and has no hash. */
  readonly isOldStyle: boolean;
}

const NO_XATTRS: readonly DecodedXattr[] = [];

/** Whether an attribute is the one that holds inline data, which nobody sees as an attribute. */
export function isInlineData(
  xattr: { readonly nameIndex: number; readonly suffix: string },
): boolean {
  return xattr.nameIndex === XATTR_INDEX.SYSTEM && xattr.suffix === "data";
}

/** The attributes that an inode keeps in itself; none when they cannot be read. */
export function readInodeXattrs(
  volume: Volume,
  inode: number,
  view: InodeView,
): readonly DecodedXattr[] {
  if (!view.hasOwnXattrs) return NO_XATTRS;
  const area = view.slot.subarray(INODE_BASE_SIZE_BYTES + view.extraSizeBytes);
  const { judge } = volume;
  const location = { inode };
  const complain = complaintTo(volume, "extended attributes", location);
  return judge.attempt(
    "extended attributes",
    location,
    () => decodeInodeXattrs(area, HERE, complain),
  ) ?? NO_XATTRS;
}

/** Whether an inode may have an attribute block, and has it in the file system. */
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

/** An attribute block, which is in the file system; undefined when it cannot be read. */
export function readXattrBlock(volume: Volume, block: number): DecodedXattrBlock | undefined {
  const { judge, seed } = volume;
  const location = { block, offset: block * volume.blockSizeBytes };
  const bytes = volume.block(block);
  if (bytes === undefined) {
    judge.report("attribute block", location, "block is past the end");
    return undefined;
  }
  if (seed !== undefined) {
    judge.attempt(
      "attribute block",
      location,
      () => verifyXattrBlock(bytes, { blockNumber: block, seed, what: HERE }),
    );
  }
  const complain = complaintTo(volume, "attribute block", location);
  return judge.attempt(
    "attribute block",
    location,
    () => decodeXattrBlock(bytes, HERE, complain),
  );
}

/** Whether a value is of the older scheme: its inode has the number of its one owner in i_mtime, and its generation. */
export function isOldStyleValue(volume: Volume, view: InodeView): boolean {
  const owner = viewOfInode(volume, view.mtimeWord);
  return owner !== undefined && owner.generation === view.generation;
}

/** Complaints are of hashes and of order, for which the kernel does not look. */
function complaintTo(volume: Volume, structure: Structure, location: Location): XattrComplaint {
  return (problem, details) =>
    volume.judge.report(structure, location, problem, { ...details, isReadable: true });
}

/** The value that an inode holds, which must have the hash that the inode says; undefined when it cannot be read. */
export function readAttributeValue(
  volume: Volume,
  inode: number,
  view: InodeView,
  runs: readonly MappedRun[],
): AttributeValue | undefined {
  const { judge } = volume;
  const { sizeBytes } = view;
  const location = { inode };
  if (!volume.hasIncompat(INCOMPAT.EA_INODE)) {
    judge.report("inode", location, "flag EA_INODE without the feature ea_inode");
  }
  if (sizeBytes > XATTR_VALUE_SIZE_MAX) {
    judge.report("attribute value", location, "size in bytes", {
      found: sizeBytes,
      wanted: `at most ${XATTR_VALUE_SIZE_MAX}`,
    });
    return undefined;
  }
  const value = readRuns(volume, runs, sizeBytes);
  if (value === undefined) {
    judge.report("attribute value", location, "its blocks are past the end");
    return undefined;
  }
  const hash = xattrValueHash(volume.valueSeed, value);
  const isOldStyle = view.atimeWord !== hash && isOldStyleValue(volume, view);
  if (!isOldStyle && view.atimeWord !== hash) {
    judge.report("attribute value", location, "hash of the value", {
      found: hex(view.atimeWord),
      wanted: hex(hash),
    });
  }
  return { value, hash, isOldStyle };
}
