/**
 * The blocks of one directory.
 *
 * @module
 */
import { InputError, invariant } from "../../errors.ts";
import { blockRuns } from "./block_map.ts";
import type { Ext4Image, ImageInode, MappedRun } from "./types.ts";

/** A block of a directory with its name for messages. */
export interface DirectoryBlock {
  /** Shared: not to be changed. */
  readonly bytes: Uint8Array;
  readonly what: string;
}

/** A directory's blocks by their logical numbers: all there, without a hole, as many as its size says. */
export class DirectoryBlocks {
  /** Logical blocks. */
  readonly blockCount: number;
  /** The blocks of its map as well. */
  readonly ownedBlockCount: number;
  readonly #image: Ext4Image;
  readonly #inode: ImageInode;
  readonly #runs: readonly MappedRun[];

  /** Reads the directory's map. Throws InputError for one with holes or more or fewer blocks than its size. */
  constructor(image: Ext4Image, inode: ImageInode) {
    this.#image = image;
    this.#inode = inode;
    this.blockCount = inode.record.sizeBytes / image.geometry.blockSizeBytes;
    const runs: MappedRun[] = [];
    let next = 0;
    let mapBlockCount = 0;
    for (const run of blockRuns(image, inode, { onMapBlock: () => mapBlockCount++ })) {
      if (run.unwritten) {
        throw new InputError(inode.what, `its block ${run.logicalBlock} was never written`);
      }
      if (run.logicalBlock !== next) {
        throw new InputError(inode.what, `the directory has a hole at its block ${next}`);
      }
      next += run.blockCount;
      runs.push(run);
    }
    if (next !== this.blockCount) {
      throw new InputError(
        inode.what,
        `the directory has ${next} blocks, but its size says ${this.blockCount}`,
      );
    }
    this.#runs = runs;
    this.ownedBlockCount = next + mapBlockCount;
  }

  /** One block. */
  read(logicalBlock: number): DirectoryBlock {
    const blockNumber = this.#find(logicalBlock);
    const what = `directory block ${blockNumber} (block ${logicalBlock} of ${this.#inode.what})`;
    return { bytes: this.#image.readBlock(blockNumber, what), what };
  }

  #find(logicalBlock: number): number {
    let low = 0;
    let high = this.#runs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const run = this.#runs[middle]!;
      if (run.logicalBlock + run.blockCount > logicalBlock) high = middle;
      else low = middle + 1;
    }
    const run = this.#runs[low];
    invariant(run !== undefined, `block ${logicalBlock} of ${this.blockCount} of a directory`);
    return run.startBlock + (logicalBlock - run.logicalBlock);
  }
}
