/**
 * The superblock as it is found, and the measures of a file system that follow from it, checked so far that everything
 * computed from them is a sane number.
 *
 * @module
 */
import { divCeil, isPowerOfTwo } from "../../bytes/arithmetic.ts";
import { InputError } from "../../errors.ts";
import { type RandomReader, readExactly } from "../../io/random_reader.ts";
import {
  INCOMPAT,
  INODE_NUMBER,
  RO_COMPAT,
  SUPERBLOCK_OFFSET_BYTES,
  SUPERBLOCK_SIZE_BYTES,
} from "../format/constants.ts";
import { INODE_BASE_SIZE_BYTES } from "../format/inode.ts";
import type { Superblock } from "../format/superblock.ts";
import {
  decodeSuperblock,
  storedSuperblockChecksum,
  superblockChecksum,
} from "../format/superblock.ts";

/** A checksum as it is, and as it should be. */
export interface ChecksumPair {
  /** As it is. */
  readonly stored: number;
  /** As it should be. */
  readonly computed: number;
}

/** A superblock as it was found. */
export interface FoundSuperblock {
  readonly superblock: Superblock;
  /** Its 1024 bytes. */
  readonly encoded: Uint8Array;
  /** Undefined without METADATA_CSUM. */
  readonly checksum: ChecksumPair | undefined;
}

/**
 * Reads the primary superblock; only its magic number is demanded.
 *
 * @throws {InputError} when the image is too short, or something else is there
 */
export function readSuperblock(reader: RandomReader): FoundSuperblock {
  const encoded = new Uint8Array(SUPERBLOCK_SIZE_BYTES);
  if (reader.sizeBytes < SUPERBLOCK_OFFSET_BYTES + encoded.length) {
    throw new InputError(reader.name, `not an ext4 image: it has only ${reader.sizeBytes} bytes`, {
      code: "wrongKind",
    });
  }
  readExactly(reader, encoded, SUPERBLOCK_OFFSET_BYTES);
  const superblock = decodeSuperblock(encoded);
  const isChecksummed = (superblock.featureRoCompat & RO_COMPAT.METADATA_CSUM) !== 0;
  const checksum = isChecksummed
    ? { stored: storedSuperblockChecksum(encoded), computed: superblockChecksum(encoded) }
    : undefined;
  return { superblock, encoded, checksum };
}

/** What follows from a superblock. */
export interface ImageGeometry {
  /** 1024 to 65536, a power of two. */
  readonly blockSizeBytes: number;
  /** All blocks of the file system. */
  readonly blocksCount: number;
  /** The first block of group 0: 1 with 1 KiB blocks, else 0. */
  readonly firstDataBlock: number;
  /** Blocks of a group; the last one may have fewer. */
  readonly blocksPerGroup: number;
  /** Blocks of a cluster, for which a bit of a block bitmap stands: 1 without bigalloc, else a power of two. */
  readonly clusterBlocks: number;
  /** Bits of a block bitmap that have a meaning. */
  readonly clustersPerGroup: number;
  /** Block groups. */
  readonly groupCount: number;
  /** All inodes of the file system. */
  readonly inodesCount: number;
  /** Inodes of each group. */
  readonly inodesPerGroup: number;
  /** Length of an inode's slot: 128 bytes to a block. */
  readonly inodeSizeBytes: number;
  /** The first inode that can have a name; the root is below it. */
  readonly firstInode: number;
  /** Length of a group descriptor. */
  readonly descriptorSizeBytes: number;
  /** How many of them fit a block. */
  readonly descriptorsPerBlock: number;
}

const LOG_BLOCK_SIZE_MAX = 6; // 64 KiB
const LOG_CLUSTER_SIZE_MAX = 20; // 1 GiB
const DESCRIPTOR_SIZE_MIN_BYTES = 64;
const DESCRIPTOR_SIZE_MAX_BYTES = 1024;
const TWO_32 = 2 ** 32;
const BLOCKS_COUNT_MAX = 2 ** 48;
const REVISION_DYNAMIC = 1;
/** s_creator_os of GNU/Hurd. */
export const CREATOR_HURD = 1;
const CHECKSUM_TYPE_CRC32C = 1;

/**
 * The measures of a file system. Throws InputError, naming the field, for numbers that no file system has.
 *
 * @example
 * ```ts
 * import { assertThrows } from "@std/assert";
 * import { InputError } from "../../errors.ts";
 * import { defaultSuperblock } from "../format/superblock.ts";
 * import { imageGeometry } from "./geometry.ts";
 * const superblock = { ...defaultSuperblock(), logBlockSize: 7 };
 * assertThrows(() => imageGeometry(superblock), InputError, "s_log_block_size is 7, not 0 to 6");
 * ```
 */
export function imageGeometry(superblock: Superblock): ImageGeometry {
  checkRevision(superblock);
  const { logBlockSize, blocksCount, blocksPerGroup, inodesPerGroup } = superblock;
  wantRange("s_log_block_size", logBlockSize, 0, LOG_BLOCK_SIZE_MAX);
  const blockSizeBytes = 2 ** (10 + logBlockSize);
  const clusterBlocks = checkedClusters(superblock, blockSizeBytes);
  const firstDataBlock = logBlockSize === 0 && clusterBlocks === 1 ? 1 : 0;
  wantEqual("s_first_data_block", superblock.firstDataBlock, firstDataBlock);
  const has64Bit = (superblock.featureIncompat & INCOMPAT.BIT64) !== 0;
  const blocksMax = has64Bit ? BLOCKS_COUNT_MAX : TWO_32;
  wantRange("s_blocks_count", blocksCount, firstDataBlock + 1, blocksMax - 1);
  const inodeSizeBytes = checkedInodeSize(superblock, blockSizeBytes);
  const inodesPerBlock = blockSizeBytes / inodeSizeBytes;
  wantRange("s_inodes_per_group", inodesPerGroup, inodesPerBlock, 8 * blockSizeBytes);
  wantMultipleOf8("s_inodes_per_group", inodesPerGroup);
  const groupCount = divCeil(blocksCount - firstDataBlock, blocksPerGroup);
  wantEqual("s_inodes_count", superblock.inodesCount, groupCount * inodesPerGroup);
  const descriptorSizeBytes = checkedDescriptorSize(superblock, has64Bit);
  return {
    clusterBlocks,
    clustersPerGroup: superblock.clustersPerGroup,
    blockSizeBytes,
    blocksCount,
    firstDataBlock,
    blocksPerGroup,
    groupCount,
    inodesCount: superblock.inodesCount,
    inodesPerGroup,
    inodeSizeBytes,
    firstInode: checkedFirstInode(superblock),
    descriptorSizeBytes,
    descriptorsPerBlock: blockSizeBytes / descriptorSizeBytes,
  };
}

/** The first revision has no features and fixed inodes. */
function checkRevision(superblock: Superblock): void {
  const { revision, featureCompat, featureIncompat, featureRoCompat } = superblock;
  wantRange("s_rev_level", revision, 0, REVISION_DYNAMIC);
  if (revision === 0 && (featureCompat | featureIncompat | featureRoCompat) !== 0) {
    throw new InputError("superblock", "s_rev_level is 0, but it has features");
  }
  if ((featureRoCompat & RO_COMPAT.METADATA_CSUM) !== 0) {
    wantEqual("s_checksum_type", superblock.checksumType, CHECKSUM_TYPE_CRC32C);
  }
}

function checkedInodeSize(superblock: Superblock, blockSizeBytes: number): number {
  if (superblock.revision === 0) return INODE_BASE_SIZE_BYTES;
  const size = superblock.inodeSizeBytes;
  wantRange("s_inode_size", size, INODE_BASE_SIZE_BYTES, blockSizeBytes);
  if (!isPowerOfTwo(size)) {
    throw new InputError("superblock", `s_inode_size is ${size}, not a power of two`);
  }
  return size;
}

function checkedFirstInode(superblock: Superblock): number {
  if (superblock.revision === 0) return INODE_NUMBER.FIRST_USABLE;
  const { firstInode, inodesCount } = superblock;
  wantRange("s_first_ino", firstInode, INODE_NUMBER.FIRST_USABLE, inodesCount);
  return firstInode;
}

/**
 * Groups are whole numbers of clusters. Without bigalloc clusters are blocks, and s_blocks_per_group alone counts.
 *
 * @returns blocks of a cluster
 */
function checkedClusters(superblock: Superblock, blockSizeBytes: number): number {
  const { logBlockSize, logClusterSize, blocksPerGroup, clustersPerGroup } = superblock;
  const hasClusters = (superblock.featureRoCompat & RO_COMPAT.BIGALLOC) !== 0;
  const most = hasClusters ? LOG_CLUSTER_SIZE_MAX : logBlockSize;
  wantRange("s_log_cluster_size", logClusterSize, logBlockSize, most);
  const clusterBlocks = 2 ** (logClusterSize - logBlockSize);
  wantRange("s_clusters_per_group", clustersPerGroup, 8, 8 * blockSizeBytes);
  wantMultipleOf8("s_clusters_per_group", clustersPerGroup);
  wantEqual("s_blocks_per_group", blocksPerGroup, clustersPerGroup * clusterBlocks);
  return clusterBlocks;
}

/** Without 64BIT the field is not looked at, by the kernel as by e2fsck. */
function checkedDescriptorSize(superblock: Superblock, has64Bit: boolean): number {
  if (!has64Bit) return 32;
  const size = superblock.descriptorSizeBytes;
  wantRange("s_desc_size", size, DESCRIPTOR_SIZE_MIN_BYTES, DESCRIPTOR_SIZE_MAX_BYTES);
  if (!isPowerOfTwo(size)) {
    throw new InputError("superblock", `s_desc_size is ${size}, not a power of two`);
  }
  return size;
}

function wantRange(field: string, found: number, least: number, most: number): void {
  if (found >= least && found <= most) return;
  throw new InputError("superblock", `${field} is ${found}, not ${least} to ${most}`, {
    data: { field, actual: found },
  });
}

function wantEqual(field: string, found: number, wanted: number): void {
  if (found === wanted) return;
  throw new InputError("superblock", `${field} is ${found}, not ${wanted}`, {
    data: { field, actual: found, expected: wanted },
  });
}

function wantMultipleOf8(field: string, found: number): void {
  if (found % 8 === 0) return;
  throw new InputError("superblock", `${field} is ${found}, not a multiple of 8`, {
    data: { field, actual: found },
  });
}
