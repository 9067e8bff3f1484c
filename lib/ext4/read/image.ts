/**
 * An ext4 image (ext2 and ext3 too) opened for reading, strictly: every checksum and every invariant on the way to
 * what is asked for is checked, and nothing is forgiven. What is wrong is an InputError `WHAT: WHY` that names the
 * structure, the block or inode, the found and the wanted value.
 *
 * How the parts fit together:
 *
 * - {@linkcode openExt4Image} gives an {@linkcode Ext4Image}: superblock, measures, `readBlock()`, `groupDescriptor()`
 *   and `inode()`, with features that would be misread refused.
 * - block_map.ts, `blockRuns(image, inode)`: what an inode maps, from extents or from old block pointers.
 * - content.ts, `readContent()`: the bytes of a small inode; `inlineContent()`: bytes kept in the inode itself.
 * - directory.ts, `readDirectory(image, inode)`: the names of a directory, linear, hashed or inline.
 * - symlink.ts, `readSymlink()`; xattrs.ts, `XattrReader`; payload.ts, `filePayload()`: a file as the model's Payload,
 *   whose store is the image itself.
 * - tree.ts, `readTree(image, options)`: the whole as the model's FileTree. path.ts, `findInode()`: one path.
 * - geometry.ts, superblock.ts and group_table.ts have the steps one by one, for those who must look at a damaged
 *   image: `readSuperblock()` and `readGroupDescriptor()` judge nothing, `imageGeometry()` only numbers.
 *
 * Memory: blocks are kept up to a bound; a tree grows with its names, never with the bytes of files.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import type { RandomReader } from "../../io/random_reader.ts";
import type { Warnings } from "../../warnings.ts";
import { INCOMPAT } from "../format/constants.ts";
import type { GroupDescriptor } from "../format/group_descriptor.ts";
import {
  decodeMmpBlock,
  MMP_SEQUENCE_CLEAN,
  MMP_SIZE_BYTES,
  verifyMmpBlock,
} from "../format/mmp.ts";
import { metadataSeed, type Superblock, superblockSeed } from "../format/superblock.ts";
import { BlockCache } from "./block_cache.ts";
import { checkFeatures } from "./features.ts";
import { type BlockPlace, type ImageGeometry, imageGeometry } from "./geometry.ts";
import { GroupTable } from "./group_table.ts";
import { checkInode } from "./inode.ts";
import { readSuperblock, verifySuperblock, warnOfState } from "./superblock.ts";
import type { Ext4Image, ImageInode } from "./types.ts";

export type { Ext4Image, ImageInode } from "./types.ts";

/** What opening needs beside the bytes. */
export interface OpenExt4Options {
  /**
   * Counts `dirtyJournal`, `notUnmounted`, `recordedErrors`, `orphanInodes`, `inUse` and `unknownFeature`; a strict one
   * makes errors of them.
   */
  readonly warnings: Warnings;
  /** How many bytes of blocks are kept; 16 MiB by default. */
  readonly cacheBytes?: number;
}

const DEFAULT_CACHE_BYTES = 16 * 1024 * 1024;

/**
 * Opens an image. The image closes the reader when it is closed.
 *
 * @throws {InputError} for what is no ext2, ext3 or ext4 image, is cut short, damaged, or has a feature that the reader
 * does not know (bigalloc among them)
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { readFileSync } from "node:fs";
 * import { gunzipSync } from "node:zlib";
 * import { memoryReader } from "../../io/random_reader.ts";
 * import { Warnings } from "../../warnings.ts";
 * import { openExt4Image } from "./image.ts";
 * import { readTree } from "./tree.ts";
 * const fixture = new URL("../../../fixtures/ext4/csum-4k.img.gz", import.meta.url);
 * const reader = memoryReader(gunzipSync(readFileSync(fixture)), "csum-4k.img");
 * const image = openExt4Image(reader, { warnings: new Warnings() });
 * const { root } = await readTree(image, { warnings: new Warnings() });
 * assertEquals(root.children.get("disk")?.kind, "blockDevice");
 * image.close();
 * ```
 */
export function openExt4Image(reader: RandomReader, options: OpenExt4Options): Ext4Image {
  const found = readSuperblock(reader);
  verifySuperblock(found);
  const { superblock } = found;
  checkFeatures(superblock, options.warnings);
  const geometry = imageGeometry(superblock);
  const wantedBytes = geometry.blocksCount * geometry.blockSizeBytes;
  if (reader.sizeBytes < wantedBytes) {
    throw new InputError(
      reader.name,
      `it has ${reader.sizeBytes} bytes, but its file system has ${wantedBytes}`,
      { data: { actual: reader.sizeBytes, expected: wantedBytes } },
    );
  }
  const image = new OpenExt4Image(reader, superblock, geometry, options.cacheBytes);
  warnOfState(superblock, reader.name, options.warnings);
  if ((superblock.featureIncompat & INCOMPAT.MMP) !== 0) warnOfUse(image, options.warnings);
  return image;
}

class OpenExt4Image implements Ext4Image {
  readonly reader: RandomReader;
  readonly superblock: Superblock;
  readonly geometry: ImageGeometry;
  readonly seed: number | undefined;
  readonly valueSeed: number;
  readonly #cache: BlockCache;
  readonly #groups: GroupTable;

  constructor(
    reader: RandomReader,
    superblock: Superblock,
    geometry: ImageGeometry,
    cacheBytes = DEFAULT_CACHE_BYTES,
  ) {
    this.reader = reader;
    this.superblock = superblock;
    this.geometry = geometry;
    this.seed = metadataSeed(superblock);
    this.valueSeed = superblockSeed(superblock);
    this.#cache = new BlockCache(reader, geometry.blockSizeBytes, cacheBytes);
    this.#groups = new GroupTable(this);
  }

  get name(): string {
    return this.reader.name;
  }

  hasCompat(bit: number): boolean {
    return (this.superblock.featureCompat & bit) !== 0;
  }

  hasIncompat(bit: number): boolean {
    return (this.superblock.featureIncompat & bit) !== 0;
  }

  hasRoCompat(bit: number): boolean {
    return (this.superblock.featureRoCompat & bit) !== 0;
  }

  readBlock(blockNumber: number, what: string): Uint8Array {
    this.checkRange(blockNumber, 1, what);
    return this.#cache.read(blockNumber);
  }

  checkRange(startBlock: number, blockCount: number, what: string): void {
    const { firstDataBlock, blocksCount } = this.geometry;
    if (startBlock >= firstDataBlock && startBlock + blockCount <= blocksCount) return;
    throw new InputError(
      what,
      `it points to ${blockCount} blocks at ${startBlock}, ` +
        `not within blocks ${firstDataBlock} to ${blocksCount - 1}`,
      { data: { actual: startBlock } },
    );
  }

  groupDescriptor(groupIndex: number): GroupDescriptor {
    return this.#groups.get(groupIndex);
  }

  inodePlace(inodeNumber: number): BlockPlace {
    const { inodesCount, inodesPerGroup, inodeSizeBytes, blockSizeBytes } = this.geometry;
    if (inodeNumber < 1 || inodeNumber > inodesCount) {
      throw new InputError(`inode ${inodeNumber}`, `it does not exist: the last is ${inodesCount}`);
    }
    const groupIndex = Math.floor((inodeNumber - 1) / inodesPerGroup);
    const offset = ((inodeNumber - 1) % inodesPerGroup) * inodeSizeBytes;
    const { inodeTableBlock } = this.groupDescriptor(groupIndex);
    return {
      blockNumber: inodeTableBlock + Math.floor(offset / blockSizeBytes),
      offsetBytes: offset % blockSizeBytes,
    };
  }

  inodeSlot(inodeNumber: number): Uint8Array {
    const { blockNumber, offsetBytes } = this.inodePlace(inodeNumber);
    const block = this.readBlock(blockNumber, `inode ${inodeNumber}`);
    return block.subarray(offsetBytes, offsetBytes + this.geometry.inodeSizeBytes);
  }

  inode(inodeNumber: number): ImageInode {
    const slot = this.inodeSlot(inodeNumber);
    const { inodesPerGroup } = this.geometry;
    const groupIndex = Math.floor((inodeNumber - 1) / inodesPerGroup);
    const initialised = this.#groups.initialisedInodes(groupIndex);
    if ((inodeNumber - 1) % inodesPerGroup >= initialised) {
      throw new InputError(
        `inode ${inodeNumber}`,
        `it is in use, but only the first ${initialised} inodes of group ${groupIndex} ever were`,
      );
    }
    return checkInode(this, inodeNumber, slot);
  }

  close(): void {
    this.reader.close();
  }
}

function warnOfUse(image: Ext4Image, warnings: Warnings): void {
  const what = `multiple mount protection block ${image.superblock.mmpBlock}`;
  const block = image.readBlock(image.superblock.mmpBlock, what);
  const encoded = block.subarray(0, MMP_SIZE_BYTES);
  if (image.seed !== undefined) verifyMmpBlock(encoded, image.seed, what);
  const { sequence } = decodeMmpBlock(encoded, what);
  if (sequence !== MMP_SEQUENCE_CLEAN) {
    warnings.add("inUse", image.name, "a machine has it mounted, or did not unmount it");
  }
}
