/**
 * The shape of a file system as its superblock gives it, and reading blocks of it without ever failing: a block that is
 * not there is undefined.
 *
 * @module
 */
import { divCeil } from "../../../bytes/arithmetic.ts";
import type { RandomReader } from "../../../io/random_reader.ts";
import { groupHasSuperblock } from "../../format/backup_groups.ts";
import { COMPAT, INCOMPAT, RO_COMPAT } from "../../format/constants.ts";
import type { Superblock } from "../../format/superblock.ts";
import { metadataSeed, superblockSeed } from "../../format/superblock.ts";
import type { ImageGeometry } from "../geometry.ts";
import { descriptorPlace, groupBlocks } from "../geometry.ts";

/** A run of blocks. */
export interface BlockRun {
  readonly start: number;
  readonly count: number;
}

/** An image whose superblock can be worked with. */
export class Volume {
  readonly reader: RandomReader;
  readonly superblock: Superblock;
  readonly geometry: ImageGeometry;
  readonly blockSizeBytes: number;
  readonly inodeSizeBytes: number;
  readonly firstInode: number;
  readonly groupCount: number;
  readonly descriptorSizeBytes: 32 | 64;
  readonly descriptorsPerBlock: number;
  /** Blocks of the whole descriptor table. */
  readonly descriptorBlocks: number;
  readonly inodesPerBlock: number;
  readonly inodeTableBlocks: number;
  /** Blocks from here on are not in the image, whatever the superblock says. */
  readonly endBlock: number;
  /** The seed of metadata checksums; undefined without them. */
  readonly seed: number | undefined;
  /** The seed whether or not there are metadata checksums. */
  readonly anySeed: number;
  /** Whether group descriptors have checksums, and with them flags for groups never used. */
  readonly hasGroupChecksums: boolean;

  constructor(reader: RandomReader, superblock: Superblock, geometry: ImageGeometry) {
    this.reader = reader;
    this.superblock = superblock;
    this.geometry = geometry;
    this.blockSizeBytes = geometry.blockSizeBytes;
    this.inodeSizeBytes = geometry.inodeSizeBytes;
    this.firstInode = geometry.firstInode;
    this.groupCount = geometry.groupCount;
    this.descriptorSizeBytes = geometry.descriptorSizeBytes;
    this.descriptorsPerBlock = geometry.descriptorsPerBlock;
    this.descriptorBlocks = divCeil(this.groupCount, this.descriptorsPerBlock);
    this.inodesPerBlock = this.blockSizeBytes / this.inodeSizeBytes;
    this.inodeTableBlocks = divCeil(geometry.inodesPerGroup, this.inodesPerBlock);
    const { blocksCount } = geometry;
    this.endBlock = Math.min(blocksCount, Math.floor(reader.sizeBytes / this.blockSizeBytes));
    this.seed = metadataSeed(superblock);
    this.anySeed = superblockSeed(superblock);
    this.hasGroupChecksums =
      (superblock.featureRoCompat & (RO_COMPAT.METADATA_CSUM | RO_COMPAT.GDT_CSUM)) !== 0;
  }

  hasCompat(feature: number): boolean {
    return (this.superblock.featureCompat & feature) !== 0;
  }

  hasIncompat(feature: number): boolean {
    return (this.superblock.featureIncompat & feature) !== 0;
  }

  hasRoCompat(feature: number): boolean {
    return (this.superblock.featureRoCompat & feature) !== 0;
  }

  /** The first block of a group. */
  groupStart(group: number): number {
    return groupBlocks(this.geometry, group).startBlock;
  }

  /** How many blocks a group has; the last may have fewer. */
  groupBlocks(group: number): number {
    return groupBlocks(this.geometry, group).blockCount;
  }

  /** Whether a group has a copy of the superblock. */
  hasSuperblock(group: number): boolean {
    return groupHasSuperblock(this.superblock, group);
  }

  /** The groups of the image that have a backup of the superblock. However many groups there should be, these are few. */
  backupGroups(): number[] {
    const { superblock } = this;
    const { blocksPerGroup, firstDataBlock } = superblock;
    const isInImage = (group: number) =>
      group > 0 && group < this.groupCount && this.groupStart(group) < this.endBlock;
    if (this.hasCompat(COMPAT.SPARSE_SUPER2)) {
      return [...new Set(superblock.backupGroups)].filter(isInImage).sort((a, b) => a - b);
    }
    const end = divCeil(Math.max(0, this.endBlock - firstDataBlock), blocksPerGroup);
    if (!this.hasRoCompat(RO_COMPAT.SPARSE_SUPER)) {
      return Array.from({ length: Math.max(0, end - 1) }, (_, i) => i + 1).filter(isInImage);
    }
    const groups = [1];
    for (const base of [3, 5, 7]) for (let at = base; at < end; at *= base) groups.push(at);
    return groups.filter(isInImage).sort((a, b) => a - b);
  }

  /** How many blocks of a group's head hold descriptors, and how many more are kept free for them. */
  descriptorRoom(group: number): { readonly used: number; readonly reserved: number } {
    const { firstMetaBlockGroup, reservedGdtBlocks } = this.superblock;
    const metaGroup = Math.floor(group / this.descriptorsPerBlock);
    const isMeta = this.hasIncompat(INCOMPAT.META_BG);
    if (isMeta && metaGroup >= firstMetaBlockGroup) {
      const place = group % this.descriptorsPerBlock;
      const hasCopy = place === 0 || place === 1 || place === this.descriptorsPerBlock - 1;
      return { used: hasCopy ? 1 : 0, reserved: 0 };
    }
    if (!this.hasSuperblock(group)) return { used: 0, reserved: 0 };
    const used = isMeta ? firstMetaBlockGroup : this.descriptorBlocks;
    return { used, reserved: reservedGdtBlocks };
  }

  /** The block of a part of the descriptor table that is in use. */
  descriptorBlock(index: number): number {
    const group = index * this.descriptorsPerBlock;
    return descriptorPlace(this.superblock, this.geometry, group).blockNumber;
  }

  /** Whether a run of blocks can hold anything but the superblock of group 0 and what is before it. */
  contains(start: number, count = 1): boolean {
    return start > 0 && start >= this.superblock.firstDataBlock &&
      start + count <= this.superblock.blocksCount;
  }

  /**
   * `count` blocks; undefined when the image ends before.
   *
   * @param buffer what to read into, when the blocks are not needed any more at the next read into it
   */
  read(start: number, count = 1, buffer?: Uint8Array): Uint8Array | undefined {
    if (start < 0 || start + count > this.endBlock) return undefined;
    const sizeBytes = count * this.blockSizeBytes;
    const bytes = buffer?.subarray(0, sizeBytes) ?? new Uint8Array(sizeBytes);
    const length = this.reader.readAt(bytes, start * this.blockSizeBytes);
    return length === sizeBytes ? bytes : undefined;
  }

  /** Where an inode is in the tables. */
  placeOfInode(inode: number): { readonly group: number; readonly index: number } {
    const { inodesPerGroup } = this.superblock;
    return {
      group: Math.floor((inode - 1) / inodesPerGroup),
      index: (inode - 1) % inodesPerGroup,
    };
  }
}
