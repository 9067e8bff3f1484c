/**
 * Symbolic links: the target is in i_block when it fits there, else in one block.
 *
 * @module
 */
import { INODE_FLAG } from "../../format/constants.ts";
import { INODE_BLOCK_FIELD_SIZE_BYTES } from "../../format/inode.ts";
import type { BlockMap } from "./block_walk.ts";
import { walkBlocks } from "./block_walk.ts";
import type { Context } from "./context.ts";
import type { InodeView } from "./inode_view.ts";

/** Judges a symbolic link without inline data; the answer is what it maps. */
export function checkSymlink(context: Context, inode: number, view: InodeView): BlockMap {
  const { findings, volume } = context;
  const { sizeBytes } = view;
  const bad = (problem: string, found: number, wanted: number | string) =>
    findings.add("inode", { inode }, problem, { found, wanted });
  const isFast = sizeBytes < INODE_BLOCK_FIELD_SIZE_BYTES && !view.usesExtents;
  if (sizeBytes === 0 || sizeBytes >= volume.blockSizeBytes) {
    bad("i_size of a symlink", sizeBytes, `1 to ${volume.blockSizeBytes - 1}`);
  }
  if (isFast) {
    checkLength(context, inode, view, view.blockField);
    return { runs: [], blockCount: 0, lastWritten: -1, last: -1 };
  }
  const map = walkBlocks(context, inode, view);
  if (sizeBytes < INODE_BLOCK_FIELD_SIZE_BYTES) {
    bad("i_size of a symlink with a block", sizeBytes, `at least ${INODE_BLOCK_FIELD_SIZE_BYTES}`);
  }
  const [run] = map.runs;
  if (map.runs.length !== 1 || run === undefined || run.logical !== 0 || run.count !== 1) {
    bad("blocks of a symlink", map.last + 1, 1);
    return map;
  }
  const block = volume.read(run.start);
  if (block === undefined) bad("block of a symlink is past the end", run.start, volume.endBlock);
  else if (!run.unwritten) checkLength(context, inode, view, block);
  return map;
}

/** The target ends with the first zero byte, and that is where i_size says. */
function checkLength(context: Context, inode: number, view: InodeView, bytes: Uint8Array): void {
  // An encrypted target has any bytes.
  if ((view.flags & INODE_FLAG.ENCRYPT) !== 0) return;
  const end = bytes.indexOf(0);
  const length = end < 0 ? bytes.length : end;
  context.findings.expect("inode", { inode }, "i_size of a symlink", view.sizeBytes, length);
}
