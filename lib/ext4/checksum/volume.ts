/**
 * An ext4 image as the switch of its checksums sees it: where superblocks, descriptors, bitmaps and inode tables are.
 *
 * @module
 */
import { divCeil, isPowerOfTwo } from "../../bytes/arithmetic.ts";
import { InputError } from "../../errors.ts";
import type { RandomReader } from "../../io/random_reader.ts";
import { readExactly } from "../../io/random_reader.ts";
import { groupHasSuperblock } from "../format/backup_groups.ts";
import { INCOMPAT, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_SIZE_BYTES } from "../format/constants.ts";
import type { GroupDescriptor } from "../format/group_descriptor.ts";
import { decodeGroupDescriptor } from "../format/group_descriptor.ts";
import type { Superblock } from "../format/superblock.ts";
import { decodeSuperblock } from "../format/superblock.ts";

/** One group: its descriptor as it is stored, and what it says. */
export interface VolumeGroup {
  readonly index: number;
  readonly encoded: Uint8Array;
  readonly descriptor: GroupDescriptor;
}

/** The bytes of the primary superblock. */
export function readPrimarySuperblock(reader: RandomReader): Uint8Array {
  const encoded = new Uint8Array(SUPERBLOCK_SIZE_BYTES);
  readExactly(reader, encoded, SUPERBLOCK_OFFSET_BYTES);
  return encoded;
}

/** The places of an image's metadata. Sizes are checked when it is made; descriptors are read then. */
export class Volume {
  readonly reader: RandomReader;
  readonly superblock: Superblock;
  readonly encodedSuperblock: Uint8Array;
  readonly blockSizeBytes: number;
  readonly groupCount: number;
  readonly descriptorSizeBytes: 32 | 64;
  readonly groups: readonly VolumeGroup[];
  /** Those that begin with a superblock; found once, for there are many groups and many blocks of descriptors. */
  readonly #superblockGroups: readonly number[];

  /**
   * @throws InputError when the superblock has sizes that no image has, or the file ends before the file system does
   */
  constructor(reader: RandomReader) {
    this.reader = reader;
    this.encodedSuperblock = readPrimarySuperblock(reader);
    this.superblock = decodeSuperblock(this.encodedSuperblock);
    const { superblock } = this;
    checkSizes(superblock, reader);
    this.blockSizeBytes = 1024 << superblock.logBlockSize;
    const dataBlocks = superblock.blocksCount - superblock.firstDataBlock;
    this.groupCount = divCeil(dataBlocks, superblock.blocksPerGroup);
    const isWide = (superblock.featureIncompat & INCOMPAT.BIT64) !== 0;
    this.descriptorSizeBytes = isWide ? 64 : 32;
    checkCounts(superblock, reader.name, this.groupCount, this.blockSizeBytes);
    this.#superblockGroups = Array.from({ length: this.groupCount }, (_, group) => group)
      .filter((group) => groupHasSuperblock(superblock, group));
    this.groups = this.#readGroups();
  }

  /** The first block of a group. */
  groupStart(group: number): number {
    return this.superblock.firstDataBlock + group * this.superblock.blocksPerGroup;
  }

  /** Reads a whole block, in a buffer of its own. */
  readBlock(block: number, what: string): Uint8Array<ArrayBuffer> {
    if (block <= 0 || block >= this.superblock.blocksCount) {
      throw new InputError(
        `${this.reader.name}: ${what}`,
        `block ${block} is not within 1 to ${this.superblock.blocksCount - 1}`,
        { data: { actual: block } },
      );
    }
    const bytes = new Uint8Array(this.blockSizeBytes);
    readExactly(this.reader, bytes, block * this.blockSizeBytes);
    return bytes;
  }

  /** Where the backup superblocks are, in bytes, with their groups. */
  backupSuperblocks(): { readonly group: number; readonly offsetBytes: number }[] {
    const backups = this.#superblockGroups.filter((group) => group > 0);
    return backups.map((group) => ({
      group,
      offsetBytes: this.groupStart(group) * this.blockSizeBytes,
    }));
  }

  /** Descriptors in one block. */
  get descriptorsPerBlock(): number {
    return this.blockSizeBytes / this.descriptorSizeBytes;
  }

  /** Where the `i`th block of descriptors is: the primary first, then its copies. */
  descriptorBlocks(i: number): number[] {
    const { superblock } = this;
    const isMeta = (superblock.featureIncompat & INCOMPAT.META_BG) !== 0;
    if (isMeta && i >= superblock.firstMetaBlockGroup) return this.#metaDescriptorBlocks(i);
    return this.#superblockGroups.map((group) =>
      this.groupStart(group) + 1 + i + (group === 0 ? this.#groupZeroShift : 0)
    );
  }

  /** With 1 KiB blocks and clusters the superblock is in block 1 though counting begins at block 0. */
  get #groupZeroShift(): number {
    return this.blockSizeBytes === 1024 && this.superblock.firstDataBlock === 0 ? 1 : 0;
  }

  /** INCOMPAT.META_BG: each run of groups whose descriptors fill a block has copies in its 1st, 2nd and last group. */
  #metaDescriptorBlocks(i: number): number[] {
    const first = i * this.descriptorsPerBlock;
    const groups = [first, first + 1, first + this.descriptorsPerBlock - 1];
    return groups.filter((group) => group < this.groupCount).map((group) =>
      this.groupStart(group) + (groupHasSuperblock(this.superblock, group) ? 1 : 0) +
      (group === 0 ? this.#groupZeroShift : 0)
    );
  }

  #readGroups(): VolumeGroup[] {
    const groups: VolumeGroup[] = [];
    const { descriptorSizeBytes, descriptorsPerBlock } = this;
    for (let i = 0; groups.length < this.groupCount; i++) {
      const block = this.readBlock(this.descriptorBlocks(i)[0]!, "group descriptors");
      for (let j = 0; j < descriptorsPerBlock && groups.length < this.groupCount; j++) {
        const at = j * descriptorSizeBytes;
        const encoded = block.slice(at, at + descriptorSizeBytes);
        groups.push({
          index: groups.length,
          encoded,
          descriptor: decodeGroupDescriptor(encoded),
        });
      }
    }
    return groups;
  }
}

function checkSizes(superblock: Superblock, reader: RandomReader): void {
  const fault = (why: string) => new InputError(`${reader.name}: superblock`, why);
  const { logBlockSize, logClusterSize, inodeSizeBytes, descriptorSizeBytes } = superblock;
  if (logBlockSize > 6) throw fault(`its blocks are 2^${10 + logBlockSize} bytes long`);
  if (logClusterSize < logBlockSize || logClusterSize > 20) {
    throw fault(`its clusters are 2^${10 + logClusterSize} bytes long`);
  }
  const blockSizeBytes = 1024 << logBlockSize;
  if (superblock.revision === 0) throw fault("revision 0 has no features");
  if (inodeSizeBytes < 128 || inodeSizeBytes > blockSizeBytes || !isPowerOfTwo(inodeSizeBytes)) {
    throw fault(`its inodes are ${inodeSizeBytes} bytes long`);
  }
  if ((superblock.featureIncompat & INCOMPAT.BIT64) !== 0 && descriptorSizeBytes !== 64) {
    throw fault(`its group descriptors are ${descriptorSizeBytes} bytes long, not 64`);
  }
  const wanted = superblock.blocksCount * blockSizeBytes;
  if (reader.sizeBytes < wanted) {
    throw new InputError(
      reader.name,
      `it is ${reader.sizeBytes} bytes long, and its file system ${wanted}`,
    );
  }
}

function checkCounts(
  superblock: Superblock,
  name: string,
  groupCount: number,
  blockSizeBytes: number,
): void {
  const { blocksPerGroup, clustersPerGroup, inodesPerGroup, firstDataBlock } = superblock;
  const bits = blockSizeBytes * 8;
  const ratio = 2 ** (superblock.logClusterSize - superblock.logBlockSize);
  if (
    clustersPerGroup < 8 || clustersPerGroup > bits || clustersPerGroup % 8 !== 0 ||
    blocksPerGroup !== clustersPerGroup * ratio || inodesPerGroup < 8 || inodesPerGroup > bits ||
    inodesPerGroup % 8 !== 0 || firstDataBlock > 1 || groupCount < 1 ||
    superblock.inodesCount !== groupCount * inodesPerGroup
  ) {
    throw new InputError(
      `${name}: superblock`,
      `${groupCount} groups of ${blocksPerGroup} blocks and ${inodesPerGroup} inodes do not make ` +
        `${superblock.blocksCount} blocks and ${superblock.inodesCount} inodes`,
    );
  }
}
