/**
 * What inodes keep in themselves, and the targets of symbolic links wherever they are.
 *
 * @module
 */
import { FILE_MODE, INODE_FLAG } from "../format/constants.ts";
import { INODE_BLOCK_FIELD_SIZE_BYTES } from "../format/inode.ts";
import type { DecodedXattr } from "../format/xattr.ts";
import type { MappedRun } from "./block_map.ts";
import { type InodeView, judgeLargeFile } from "./inode.ts";
import type { FaultDetails } from "./judge.ts";
import type { Volume } from "./volume.ts";
import { isInlineData } from "./xattrs.ts";

/** Bytes that an inode keeps in itself. */
export interface InlineData {
  /** i_block, and the value of the attribute system.data. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /**
   * Whether it is a file of one hole, larger than what its inode could keep. mke2fs -d makes such inodes of files without
   * any data; the kernel reads zeros from them, and e2fsck says nothing.
   */
  readonly isHole: boolean;
}

/**
 * What i_block and the attribute behind it hold: a small file, directory or symlink.
 *
 * @param xattrs of the inode
 */
export function readInlineData(
  volume: Volume,
  inode: number,
  view: InodeView,
  xattrs: readonly DecodedXattr[],
): InlineData {
  const { judge } = volume;
  const rest = xattrs.find(isInlineData);
  if (rest === undefined || rest.valueInode !== undefined) {
    judge.report("inode", { inode }, "inline data without the attribute system.data");
  }
  const restBytes = rest?.value ?? new Uint8Array(0);
  const bytes = new Uint8Array(INODE_BLOCK_FIELD_SIZE_BYTES + restBytes.length);
  bytes.set(view.blockField);
  bytes.set(restBytes, INODE_BLOCK_FIELD_SIZE_BYTES);
  const isDirectory = view.type === FILE_MODE.DIRECTORY;
  const isLarger = view.sizeBytes > bytes.length;
  const isHole = isLarger && view.type === FILE_MODE.REGULAR && bytes.every((byte) => byte === 0);
  if ((isLarger && !isHole) || (isDirectory && view.sizeBytes !== bytes.length)) {
    judge.report("inode", { inode }, "i_size of inline data", {
      found: view.sizeBytes,
      wanted: isDirectory ? bytes.length : `at most ${bytes.length}`,
      isReadable: true,
    });
  }
  if (isHole) judgeLargeFile(volume, inode, view);
  return { bytes, isHole };
}

/** Whether a symlink keeps its target in i_block, and so maps no blocks. */
export function isFastSymlink(view: InodeView): boolean {
  return !view.hasInlineData && !view.usesExtents && view.sizeBytes < INODE_BLOCK_FIELD_SIZE_BYTES;
}

/** The size of a symlink's target. */
export function judgeSymlinkSize(
  volume: Volume,
  inode: number,
  view: InodeView,
  details: FaultDetails = {},
): boolean {
  const { sizeBytes } = view;
  const most = volume.blockSizeBytes - 1;
  if (sizeBytes > 0 && sizeBytes <= most) return true;
  volume.judge.report("inode", { inode }, "i_size of a symlink", {
    found: sizeBytes,
    wanted: `1 to ${most}`,
    ...details,
  });
  return false;
}

/**
 * The one block of a symlink that is not in its inode; undefined when it is not as it has to be.
 *
 * @param details of the fault that it has more than one block, if a reader goes on with the first
 */
export function readSymlinkBlock(
  volume: Volume,
  inode: number,
  view: InodeView,
  runs: readonly MappedRun[],
  details: FaultDetails = {},
): Uint8Array | undefined {
  const { judge } = volume;
  if (view.sizeBytes < INODE_BLOCK_FIELD_SIZE_BYTES) {
    judge.report("inode", { inode }, "i_size of a symlink with a block", {
      found: view.sizeBytes,
      wanted: `at least ${INODE_BLOCK_FIELD_SIZE_BYTES}`,
      isReadable: true,
    });
  }
  const [run] = runs;
  const isOne = runs.length === 1 && run!.logicalBlock === 0 && run!.blockCount === 1;
  if (!isOne) {
    const last = runs.at(-1);
    const found = last === undefined ? 0 : last.logicalBlock + last.blockCount;
    const isFirst = run !== undefined && run.logicalBlock === 0;
    judge.report("inode", { inode }, "blocks of a symlink", {
      found,
      wanted: 1,
      ...isFirst ? details : {},
    });
    if (!isFirst || !details.isReadable) return undefined;
  }
  if (run!.unwritten) return undefined;
  const block = volume.block(run!.startBlock);
  if (block === undefined) {
    judge.report("inode", { inode }, "block of a symlink is past the end", {
      found: run!.startBlock,
      wanted: volume.endBlock,
    });
  }
  return block;
}

/**
 * The target ends with the first zero byte, and that is where i_size says. For one in inline data nobody but the kernel
 * looks, which takes what is before the zero.
 */
export function judgeTarget(
  volume: Volume,
  inode: number,
  view: InodeView,
  bytes: Uint8Array,
  details: FaultDetails = {},
): void {
  // An encrypted target has any bytes.
  if ((view.flags & INODE_FLAG.ENCRYPT) !== 0) return;
  const end = bytes.indexOf(0);
  const length = end < 0 ? bytes.length : end;
  volume.judge.expect("inode", { inode }, "i_size of a symlink", view.sizeBytes, length, details);
}
