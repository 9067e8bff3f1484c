/**
 * What an inode maps: its logical blocks as runs of physical ones, whatever way they are written down.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import { INODE_FLAG } from "../format/constants.ts";
import { extentRuns } from "./extents.ts";
import { indirectRuns } from "./indirect.ts";
import { hasFlag } from "./inode.ts";
import type { BlockMapOptions, Ext4Image, ImageInode, MappedRun } from "./types.ts";

/**
 * What an inode maps, in the order of its logical blocks. Each block of the map is checked before it is believed; runs
 * are within the file system and never more, with the blocks of the map, than it has. An inode with inline data maps
 * nothing, and so do devices, fifos, sockets and short symlinks: do not ask for them.
 *
 * @throws {InputError} for a map that is damaged
 */
export function* blockRuns(
  image: Ext4Image,
  inode: ImageInode,
  options: BlockMapOptions = {},
): Generator<MappedRun> {
  if (hasFlag(inode, INODE_FLAG.INLINE_DATA)) return;
  let blockCount = 0;
  const count = (more: number): void => {
    blockCount += more;
    if (blockCount <= image.geometry.blocksCount) return;
    throw new InputError(
      inode.what,
      `it maps ${blockCount} blocks: the file system has ${image.geometry.blocksCount}`,
    );
  };
  const counted: BlockMapOptions = {
    onMapBlock(block) {
      count(1);
      options.onMapBlock?.(block);
    },
  };
  const runs = hasFlag(inode, INODE_FLAG.EXTENTS)
    ? extentRuns(image, inode, counted)
    : indirectRuns(image, inode, counted);
  for (const run of runs) {
    count(run.blockCount);
    yield run;
  }
}
