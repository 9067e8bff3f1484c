/**
 * A file system as described by its superblock: where superblocks, descriptors, bitmaps and inode tables are, and
 * reading blocks and descriptors. Everything else in this folder walks the structures of a volume; faults go to its
 * judge.
 *
 * Bytes come through a RandomReader, so a reader that overlays a journal's changes fits below. A missing block is
 * undefined, never an error: the caller reports it.
 *
 * @module
 */
import { divCeil } from "../../bytes/arithmetic.ts";
import { InputError, invariant } from "../../errors.ts";
import type { RandomReader } from "../../io/random_reader.ts";
import { COMPAT, GROUP_FLAG, INCOMPAT, RO_COMPAT } from "../format/constants.ts";
import type { GroupDescriptor } from "../format/group_descriptor.ts";
import {
  decodeGroupDescriptor,
  groupDescriptorChecksum,
  groupDescriptorCrc16,
  groupHasSuperblock,
  storedGroupDescriptorChecksum,
} from "../format/group_descriptor.ts";
import { metadataSeed, type Superblock, superblockSeed } from "../format/superblock.ts";
import type { ChecksumPair, ImageGeometry } from "./superblock.ts";
import type { Judge, Location } from "./judge.ts";

/** A position in the image, in blocks and bytes. */
export interface BlockOffset {
  /** The block. */
  readonly blockNumber: number;
  /** Offset from the start of the block. */
  readonly offsetBytes: number;
}

/** An unchecked descriptor. */
export interface FoundDescriptor {
  /** Its fields. */
  readonly descriptor: GroupDescriptor;
  /** Its bytes; they must not be changed. */
  readonly encoded: Uint8Array;
  /** Undefined for a file system without them. */
  readonly checksum: ChecksumPair | undefined;
}

/** One group, checked. */
export interface Group {
  /** Its number, from 0. */
  readonly index: number;
  /** Undefined if its descriptor cannot be read. */
  readonly descriptor: GroupDescriptor | undefined;
  /** Whether its descriptor can be read and, if it has a checksum, that is right. */
  readonly isIntact: boolean;
  /** bg_flags if they count: without group checksums they are ignored. */
  readonly flags: number;
  /** Inodes in its table that may be in use; the others never were. */
  readonly initializedInodes: number;
  /** Whether the table is in a valid place. */
  readonly isTableSound: boolean;
}

/** What a volume needs besides its bytes. */
export interface VolumeOptions {
  /** The primary superblock. */
  readonly superblock: Superblock;
  /** The geometry that follows from it. */
  readonly geometry: ImageGeometry;
  /** Receives faults. */
  readonly judge: Judge;
  /** Bytes of blocks to cache; 16 MiB by default. */
  readonly cacheBytes?: number | undefined;
}

const CACHE_BYTES_DEFAULT = 16 * 1024 * 1024;
const KEPT_GROUPS_MAX = 16384;

/** An image with a usable superblock. */
export class Volume {
  /** The image's bytes. */
  readonly reader: RandomReader;
  /** The primary superblock. */
  readonly superblock: Superblock;
  /** The geometry that follows from it. */
  readonly geometry: ImageGeometry;
  /** Receives faults. */
  readonly judge: Judge;
  /** 1024 to 65536, a power of two. */
  readonly blockSizeBytes: number;
  /** Size of an inode's slot. */
  readonly inodeSizeBytes: number;
  /** The first inode that can have a name; the root is below it. */
  readonly firstInode: number;
  /** Block groups. */
  readonly groupCount: number;
  /** Group descriptors per block. */
  readonly descriptorsPerBlock: number;
  /** Blocks of the whole descriptor table. */
  readonly descriptorBlocks: number;
  /** Inode slots per block. */
  readonly inodesPerBlock: number;
  /** Blocks of each group's inode table. */
  readonly inodeTableBlocks: number;
  /** Blocks from here on are not in the image, whatever the superblock says. */
  readonly endBlock: number;
  /** The seed of metadata checksums; undefined without them. */
  readonly seed: number | undefined;
  /** The seed for hashes of attribute values in inodes, which exist without METADATA_CSUM, too. */
  readonly valueSeed: number;
  /** Whether group descriptors have checksums, and hence flags for groups never used. */
  readonly hasGroupChecksums: boolean;
  readonly #keptBlocksMax: number;
  /** Cached blocks; the least recently used one is evicted first. */
  readonly #blocks = new Map<number, Uint8Array>();
  readonly #groups = new Map<number, Group>();

  /** A volume over the bytes of an image. Everything is read on demand. */
  constructor(reader: RandomReader, options: VolumeOptions) {
    const { superblock, geometry, judge, cacheBytes = CACHE_BYTES_DEFAULT } = options;
    this.reader = reader;
    this.superblock = superblock;
    this.geometry = geometry;
    this.judge = judge;
    this.blockSizeBytes = geometry.blockSizeBytes;
    this.inodeSizeBytes = geometry.inodeSizeBytes;
    this.firstInode = geometry.firstInode;
    this.groupCount = geometry.groupCount;
    this.descriptorsPerBlock = geometry.descriptorsPerBlock;
    this.descriptorBlocks = divCeil(this.groupCount, this.descriptorsPerBlock);
    this.inodesPerBlock = this.blockSizeBytes / this.inodeSizeBytes;
    this.inodeTableBlocks = divCeil(geometry.inodesPerGroup, this.inodesPerBlock);
    const { blocksCount } = geometry;
    this.endBlock = Math.min(blocksCount, Math.floor(reader.sizeBytes / this.blockSizeBytes));
    this.seed = metadataSeed(superblock);
    this.valueSeed = superblockSeed(superblock);
    this.hasGroupChecksums =
      (superblock.featureRoCompat & (RO_COMPAT.METADATA_CSUM | RO_COMPAT.GDT_CSUM)) !== 0;
    this.#keptBlocksMax = Math.max(1, Math.floor(cacheBytes / this.blockSizeBytes));
  }

  /** The same volume with another judge. */
  withJudge(judge: Judge): Volume {
    const { superblock, geometry } = this;
    return new Volume(this.reader, { superblock, geometry, judge });
  }

  /** The image's name in messages. */
  get name(): string {
    return this.reader.name;
  }

  /** Whether a COMPAT bit is set. */
  hasCompat(feature: number): boolean {
    return (this.superblock.featureCompat & feature) !== 0;
  }

  /** Whether an INCOMPAT bit is set. */
  hasIncompat(feature: number): boolean {
    return (this.superblock.featureIncompat & feature) !== 0;
  }

  /** Whether an RO_COMPAT bit is set. */
  hasRoCompat(feature: number): boolean {
    return (this.superblock.featureRoCompat & feature) !== 0;
  }

  /** The bits of a bitmap's checksum that a descriptor stores. */
  get bitmapChecksumMask(): number {
    return this.geometry.descriptorSizeBytes >= 64 ? 0xffffffff : 0xffff;
  }

  /** The first block of a group. */
  groupStart(group: number): number {
    return this.geometry.firstDataBlock + group * this.geometry.blocksPerGroup;
  }

  /** How many blocks a group has; the last may have fewer. */
  groupBlocks(group: number): number {
    const { blocksPerGroup, blocksCount } = this.geometry;
    return Math.min(blocksPerGroup, blocksCount - this.groupStart(group));
  }

  /**
   * The block of a group's superblock, if it has one. With 1 KiB blocks and clusters, the primary one is in block 1
   * although counting begins at block 0.
   */
  superblockBlock(group: number): number {
    const isShifted = group === 0 && this.blockSizeBytes === 1024 &&
      this.geometry.firstDataBlock === 0;
    return this.groupStart(group) + (isShifted ? 1 : 0);
  }

  /** Whether a group has a superblock. */
  hasSuperblock(group: number): boolean {
    return groupHasSuperblock(this.superblock, group);
  }

  /**
   * The groups in the image with a backup of the superblock. The image bounds them, however many groups the superblock
   * claims.
   */
  backupGroups(): number[] {
    const { backupGroups } = this.superblock;
    const { blocksPerGroup, firstDataBlock } = this.geometry;
    const isInImage = (group: number) =>
      group > 0 && group < this.groupCount && this.groupStart(group) < this.endBlock;
    if (this.hasCompat(COMPAT.SPARSE_SUPER2)) {
      return [...new Set(backupGroups)].filter(isInImage).sort((a, b) => a - b);
    }
    const end = divCeil(Math.max(0, this.endBlock - firstDataBlock), blocksPerGroup);
    if (!this.hasRoCompat(RO_COMPAT.SPARSE_SUPER)) {
      return Array.from({ length: Math.max(0, end - 1) }, (_, i) => i + 1).filter(isInImage);
    }
    const groups = [1];
    for (const base of [3, 5, 7]) for (let at = base; at < end; at *= base) groups.push(at);
    return groups.filter(isInImage).sort((a, b) => a - b);
  }

  /** How many blocks at a group's head hold descriptors, and how many more are reserved for them. */
  descriptorRoom(group: number): { readonly used: number; readonly reserved: number } {
    const { firstMetaBlockGroup, reservedGdtBlocks } = this.superblock;
    const isMeta = this.hasIncompat(INCOMPAT.META_BG);
    if (this.#isMetaBlock(Math.floor(group / this.descriptorsPerBlock))) {
      const index = group % this.descriptorsPerBlock;
      const hasCopy = index === 0 || index === 1 || index === this.descriptorsPerBlock - 1;
      return { used: hasCopy ? 1 : 0, reserved: 0 };
    }
    if (!this.hasSuperblock(group)) return { used: 0, reserved: 0 };
    return {
      used: isMeta ? firstMetaBlockGroup : this.descriptorBlocks,
      reserved: reservedGdtBlocks,
    };
  }

  /** Whether META_BG puts a block of the descriptor table into the groups that it describes. */
  #isMetaBlock(index: number): boolean {
    return this.hasIncompat(INCOMPAT.META_BG) && index >= this.superblock.firstMetaBlockGroup;
  }

  /** The primary copy of a block of the descriptor table. */
  descriptorBlock(index: number): number {
    if (!this.#isMetaBlock(index)) return this.superblockBlock(0) + 1 + index;
    return this.#headOf(index * this.descriptorsPerBlock);
  }

  /**
   * The groups of the image, and the blocks in them, that hold backups of a block of the descriptor table.
   *
   * @param backups result of backupGroups()
   */
  descriptorBackups(
    index: number,
    backups: readonly number[] = this.backupGroups(),
  ): { readonly group: number; readonly block: number }[] {
    const { descriptorsPerBlock, groupCount, endBlock } = this;
    if (this.#isMetaBlock(index)) {
      const first = index * descriptorsPerBlock;
      return [first + 1, first + descriptorsPerBlock - 1]
        .filter((group) => group < groupCount && this.groupStart(group) < endBlock)
        .map((group) => ({ group, block: this.#headOf(group) }));
    }
    return backups
      .filter((group) => !this.#isMetaBlock(Math.floor(group / descriptorsPerBlock)))
      .map((group) => ({ group, block: this.groupStart(group) + 1 + index }));
  }

  /** The block after a group's superblock, or its first one. */
  #headOf(group: number): number {
    return this.superblockBlock(group) + (this.hasSuperblock(group) ? 1 : 0);
  }

  /** Whether a run of blocks can hold anything but the superblock of group 0 and the bytes before it. */
  contains(start: number, count = 1): boolean {
    return start > 0 && start >= this.geometry.firstDataBlock &&
      start + count <= this.geometry.blocksCount;
  }

  /** Whether an inode may have a run of blocks. Like the kernel, readers refuse the file system's own blocks. */
  mayOwn(_inode: number, start: number, count = 1): boolean {
    return this.contains(start, count);
  }

  /**
   * Reads `count` blocks; undefined if the image ends before them.
   *
   * @param buffer to read into, if the blocks are not needed after the next read into it
   */
  read(start: number, count = 1, buffer?: Uint8Array): Uint8Array | undefined {
    if (start < 0 || start + count > this.endBlock) return undefined;
    const sizeBytes = count * this.blockSizeBytes;
    const bytes = buffer?.subarray(0, sizeBytes) ?? new Uint8Array(sizeBytes);
    const length = this.reader.readAt(bytes, start * this.blockSizeBytes);
    return length === sizeBytes ? bytes : undefined;
  }

  /** One block. It is cached and shared, so it must not be changed. Undefined past the end. */
  block(blockNumber: number): Uint8Array | undefined {
    const known = this.#blocks.get(blockNumber);
    if (known !== undefined) {
      // A Map keeps insertion order: move the block just used to the end.
      this.#blocks.delete(blockNumber);
      this.#blocks.set(blockNumber, known);
      return known;
    }
    // A new buffer, since callers may still hold an evicted one.
    const block = this.read(blockNumber);
    if (block === undefined) return undefined;
    if (this.#blocks.size >= this.#keptBlocksMax) {
      this.#blocks.delete(this.#blocks.keys().next().value!);
    }
    this.#blocks.set(blockNumber, block);
    return block;
  }

  /** A descriptor, unchecked; undefined past the end of the image. Throws InputError for numbers that are too large. */
  findDescriptor(group: number): FoundDescriptor | undefined {
    const { descriptorSizeBytes } = this.geometry;
    const block = this.block(this.descriptorBlock(Math.floor(group / this.descriptorsPerBlock)));
    if (block === undefined) return undefined;
    const at = (group % this.descriptorsPerBlock) * descriptorSizeBytes;
    const encoded = block.subarray(at, at + descriptorSizeBytes);
    const checksum = this.#descriptorChecksum(encoded, group);
    return { descriptor: decodeGroupDescriptor(encoded), encoded, checksum };
  }

  /** The stored and the correct checksum of a descriptor; undefined if descriptors have none. */
  #descriptorChecksum(encoded: Uint8Array, groupIndex: number): ChecksumPair | undefined {
    if (!this.hasGroupChecksums) return undefined;
    const { seed, superblock: { uuid } } = this;
    const computed = seed === undefined
      ? groupDescriptorCrc16(encoded, { groupIndex, uuid })
      : groupDescriptorChecksum(encoded, { groupIndex, seed });
    return { stored: storedGroupDescriptorChecksum(encoded), computed };
  }

  /** Compares the checksum of a descriptor, or of a copy of one. */
  judgeDescriptorChecksum(
    structure: "group descriptor" | "backup group descriptor",
    location: Location,
    encoded: Uint8Array,
    group: number,
  ): boolean {
    const checksum = this.#descriptorChecksum(encoded, group);
    if (checksum === undefined) return true;
    const { stored, computed } = checksum;
    // A read-only mount reports this and continues (ext4_check_descriptors()).
    return this.judge.expectChecksum(structure, location, stored, computed, { isReadable: true });
  }

  /** A group, which is checked on first use. */
  group(index: number): Group {
    if (index >= this.groupCount) invariant(false, `a group ${index}`);
    const known = this.#groups.get(index);
    if (known !== undefined) return known;
    if (this.#groups.size >= KEPT_GROUPS_MAX) this.#groups.clear();
    const group = readGroup(this, index);
    this.#groups.set(index, group);
    return group;
  }

  /** The position of an inode in the tables. */
  locateInode(
    inodeNumber: number,
  ): BlockOffset & { readonly group: number; readonly index: number } {
    const { inodesPerGroup, inodesCount } = this.geometry;
    if (inodeNumber < 1 || inodeNumber > inodesCount) {
      const why = `it does not exist: the last is ${inodesCount}`;
      throw new InputError(`inode ${inodeNumber}`, why, { code: "notFound" });
    }
    const group = Math.floor((inodeNumber - 1) / inodesPerGroup);
    const index = (inodeNumber - 1) % inodesPerGroup;
    const table = this.group(group).descriptor?.inodeTableBlock ?? 0;
    const blockNumber = table + Math.floor(index / this.inodesPerBlock);
    const offsetBytes = (index % this.inodesPerBlock) * this.inodeSizeBytes;
    return { group, index, blockNumber, offsetBytes };
  }

  /** The offset of an inode's slot from the start of the image. */
  inodeOffset(inodeNumber: number): number {
    const { blockNumber, offsetBytes } = this.locateInode(inodeNumber);
    return blockNumber * this.blockSizeBytes + offsetBytes;
  }
}

function readGroup(volume: Volume, index: number): Group {
  const { judge, geometry } = volume;
  const block = volume.descriptorBlock(Math.floor(index / volume.descriptorsPerBlock));
  const at = (index % volume.descriptorsPerBlock) * geometry.descriptorSizeBytes;
  const location = { group: index, offset: block * volume.blockSizeBytes + at };
  const unread = {
    index,
    descriptor: undefined,
    isIntact: false,
    flags: 0,
    initializedInodes: geometry.inodesPerGroup,
    isTableSound: false,
  };
  if (volume.block(block) === undefined) {
    judge.report("group descriptor", { group: index, block }, "it is past the end of the image");
    return unread;
  }
  const found = judge.attempt("group descriptor", location, () => volume.findDescriptor(index));
  if (found === undefined) return unread;
  const { descriptor, encoded } = found;
  const isIntact = volume.judgeDescriptorChecksum("group descriptor", location, encoded, index);
  const isTableSound = judgeLocations(volume, descriptor, location);
  // Counts that a wrong checksum makes doubtful must not hide inodes.
  const counts = volume.hasGroupChecksums && isIntact;
  const isUnused = counts && (descriptor.flags & GROUP_FLAG.INODE_UNINIT) !== 0;
  const unused = counts ? descriptor.itableUnusedCount : 0;
  return {
    index,
    descriptor,
    isIntact,
    flags: volume.hasGroupChecksums ? descriptor.flags : 0,
    initializedInodes: isUnused ? 0 : Math.max(0, geometry.inodesPerGroup - unused),
    isTableSound,
  };
}

/** Bitmaps and tables must lie in the file system and, without flex_bg, in their group. */
function judgeLocations(
  volume: Volume,
  descriptor: GroupDescriptor,
  location: Location & { readonly group: number },
): boolean {
  const { group } = location;
  const { firstDataBlock, blocksCount } = volume.geometry;
  const start = volume.groupStart(group);
  const [first, end] = volume.hasIncompat(INCOMPAT.FLEX_BG)
    ? [firstDataBlock, blocksCount]
    : [start, start + volume.groupBlocks(group)];
  const judgeRange = (problem: string, found: number, count: number): boolean => {
    if (found > 0 && found >= first && found + count <= end) return true;
    const wanted = `${Math.max(1, first)} to ${end - count}`;
    volume.judge.report("group descriptor", location, problem, { found, wanted });
    return false;
  };
  judgeRange("bg_block_bitmap", descriptor.blockBitmapBlock, 1);
  judgeRange("bg_inode_bitmap", descriptor.inodeBitmapBlock, 1);
  return judgeRange("bg_inode_table", descriptor.inodeTableBlock, volume.inodeTableBlocks);
}
