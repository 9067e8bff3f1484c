/**
 * The superblock as found: the geometry that follows from it, checked so that everything computed from it is sane; its
 * features by their dumpe2fs names, and which of them the reader knows; and the state in which the file system was
 * left.
 *
 * @module
 */
import { divCeil, isPowerOfTwo } from "../../bytes/arithmetic.ts";
import { InputError } from "../../errors.ts";
import { type RandomReader, readExactly } from "../../io/random_reader.ts";
import type { Warnings } from "../../warnings.ts";
import {
  COMPAT,
  HALF_SWITCHED_FEATURE,
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

/** A stored checksum and the correct one. */
export interface ChecksumPair {
  /** The checksum in the image. */
  readonly stored: number;
  /** The correct checksum. */
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
 * Reads the primary superblock; requires only its magic number.
 *
 * @throws {InputError} if the image is too short, or the magic number is missing
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

/** Whether an image is an ext file system whose journal has to be replayed. */
export function needsRecovery(image: RandomReader): boolean {
  let superblock: Superblock;
  try {
    superblock = readSuperblock(image).superblock;
  } catch (error) {
    // Opening the image reports what is wrong with it.
    if (error instanceof InputError) return false;
    throw error;
  }
  const { featureCompat, featureIncompat } = superblock;
  return (featureCompat & COMPAT.HAS_JOURNAL) !== 0 && (featureIncompat & INCOMPAT.RECOVER) !== 0 &&
    (featureIncompat & INCOMPAT.JOURNAL_DEV) === 0;
}

/** Numbers that follow from a superblock. */
export interface ImageGeometry {
  /** 1024 to 65536, a power of two. */
  readonly blockSizeBytes: number;
  /** All blocks of the file system. */
  readonly blocksCount: number;
  /** The first block of group 0: 1 with 1 KiB blocks, else 0. */
  readonly firstDataBlock: number;
  /** Blocks per group; the last group may have fewer. */
  readonly blocksPerGroup: number;
  /** Blocks per cluster, the unit of a bit in a block bitmap: 1 without bigalloc, else a power of two. */
  readonly clusterBlocks: number;
  /** Meaningful bits in a block bitmap. */
  readonly clustersPerGroup: number;
  /** Block groups. */
  readonly groupCount: number;
  /** All inodes of the file system. */
  readonly inodesCount: number;
  /** Inodes per group. */
  readonly inodesPerGroup: number;
  /** Size of an inode's slot: 128 bytes up to a block. */
  readonly inodeSizeBytes: number;
  /** The first inode that can have a name; the root is below it. */
  readonly firstInode: number;
  /** Size of a group descriptor. */
  readonly descriptorSizeBytes: number;
  /** Group descriptors per block. */
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
 * The geometry of a file system. Throws InputError, naming the field, for impossible numbers.
 *
 * @example
 * ```ts
 * import { assertThrows } from "@std/assert";
 * import { InputError } from "../../errors.ts";
 * import { defaultSuperblock } from "../format/superblock.ts";
 * import { imageGeometry } from "./superblock.ts";
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
  wantPowerOfTwo("s_inode_size", size);
  return size;
}

function checkedFirstInode(superblock: Superblock): number {
  if (superblock.revision === 0) return INODE_NUMBER.FIRST_USABLE;
  const { firstInode, inodesCount } = superblock;
  wantRange("s_first_ino", firstInode, INODE_NUMBER.FIRST_USABLE, inodesCount);
  return firstInode;
}

/**
 * Groups are whole numbers of clusters. Without bigalloc, clusters are blocks, and only s_blocks_per_group counts.
 *
 * @returns blocks per cluster
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

/** Without 64BIT, both the kernel and e2fsck ignore the field. */
function checkedDescriptorSize(superblock: Superblock, has64Bit: boolean): number {
  if (!has64Bit) return 32;
  const size = superblock.descriptorSizeBytes;
  wantRange("s_desc_size", size, DESCRIPTOR_SIZE_MIN_BYTES, DESCRIPTOR_SIZE_MAX_BYTES);
  wantPowerOfTwo("s_desc_size", size);
  return size;
}

function fieldFault(field: string, actual: number, wanted: string, expected?: number): InputError {
  return new InputError("superblock", `${field} is ${actual}, not ${wanted}`, {
    data: { field, actual, ...expected === undefined ? {} : { expected } },
  });
}

function wantRange(field: string, found: number, least: number, most: number): void {
  if (found < least || found > most) throw fieldFault(field, found, `${least} to ${most}`);
}

function wantEqual(field: string, found: number, wanted: number): void {
  if (found !== wanted) throw fieldFault(field, found, `${wanted}`, wanted);
}

function wantMultipleOf8(field: string, found: number): void {
  if (found % 8 !== 0) throw fieldFault(field, found, "a multiple of 8");
}

function wantPowerOfTwo(field: string, found: number): void {
  if (!isPowerOfTwo(found)) throw fieldFault(field, found, "a power of two");
}

/** The three words of features. */
export type FeatureWords = Pick<
  Superblock,
  "featureCompat" | "featureIncompat" | "featureRoCompat"
>;

type Names = Readonly<Record<number, string>>;

const COMPAT_NAMES: Names = {
  0x1: "dir_prealloc",
  0x2: "imagic_inodes",
  [COMPAT.HAS_JOURNAL]: "has_journal",
  [COMPAT.EXT_ATTR]: "ext_attr",
  [COMPAT.RESIZE_INODE]: "resize_inode",
  [COMPAT.DIR_INDEX]: "dir_index",
  0x40: "lazy_bg",
  0x100: "exclude_bitmap",
  [COMPAT.SPARSE_SUPER2]: "sparse_super2",
  0x400: "fast_commit",
  0x800: "stable_inodes",
  [COMPAT.ORPHAN_FILE]: "orphan_file",
};

const INCOMPAT_NAMES: Names = {
  0x1: "compression",
  [INCOMPAT.FILETYPE]: "filetype",
  [INCOMPAT.RECOVER]: "needs_recovery",
  [INCOMPAT.JOURNAL_DEV]: "journal_dev",
  [INCOMPAT.META_BG]: "meta_bg",
  [INCOMPAT.EXTENTS]: "extent",
  [INCOMPAT.BIT64]: "64bit",
  [INCOMPAT.MMP]: "mmp",
  [INCOMPAT.FLEX_BG]: "flex_bg",
  [INCOMPAT.EA_INODE]: "ea_inode",
  [INCOMPAT.DIRDATA]: "dirdata",
  [INCOMPAT.CSUM_SEED]: "metadata_csum_seed",
  [INCOMPAT.LARGEDIR]: "large_dir",
  [INCOMPAT.INLINE_DATA]: "inline_data",
  [INCOMPAT.ENCRYPT]: "encrypt",
  [INCOMPAT.CASEFOLD]: "casefold",
};

const RO_COMPAT_NAMES: Names = {
  [RO_COMPAT.SPARSE_SUPER]: "sparse_super",
  [RO_COMPAT.LARGE_FILE]: "large_file",
  [RO_COMPAT.HUGE_FILE]: "huge_file",
  [RO_COMPAT.GDT_CSUM]: "uninit_bg",
  [RO_COMPAT.DIR_NLINK]: "dir_nlink",
  [RO_COMPAT.EXTRA_ISIZE]: "extra_isize",
  0x80: "snapshot",
  [RO_COMPAT.QUOTA]: "quota",
  [RO_COMPAT.BIGALLOC]: "bigalloc",
  [RO_COMPAT.METADATA_CSUM]: "metadata_csum",
  0x800: "replica",
  [RO_COMPAT.READONLY]: "read-only",
  [RO_COMPAT.PROJECT]: "project",
  [RO_COMPAT.SHARED_BLOCKS]: "shared_blocks",
  [RO_COMPAT.VERITY]: "verity",
  [RO_COMPAT.ORPHAN_PRESENT]: "orphan_present",
};

function all(features: Readonly<Record<string, number>>): number {
  return Object.values(features).reduce((word, bit) => word | bit, 0);
}

/**
 * Features whose structures are known; encrypted names and files are listed, not read. Besides those of COMPAT,
 * dir_prealloc, imagic_inodes, fast_commit and stable_inodes do not affect reading.
 */
export const KNOWN_FEATURES: FeatureWords = {
  featureCompat: all(COMPAT) | 0x1 | 0x2 | 0x400 | 0x800,
  featureIncompat: all(INCOMPAT) & ~(INCOMPAT.JOURNAL_DEV | INCOMPAT.DIRDATA),
  featureRoCompat: all(RO_COMPAT),
};

/** The unknown ones among the given features. */
export function unknownFeatures(features: FeatureWords): FeatureWords {
  const { featureCompat, featureIncompat, featureRoCompat } = KNOWN_FEATURES;
  return {
    featureCompat: (features.featureCompat & ~featureCompat) >>> 0,
    featureIncompat: (features.featureIncompat & ~featureIncompat) >>> 0,
    featureRoCompat: (features.featureRoCompat & ~featureRoCompat) >>> 0,
  };
}

const HALF_SWITCHED_HINT =
  "a switch of its checksums was interrupted: finish it with `blessfs checksum`";

/**
 * The names of all features that are set, in dumpe2fs's words and order: compat, incompat, ro_compat. A bit without a
 * name is shown as `FEATURE_I20`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { featureNames } from "./superblock.ts";
 * const words = { featureCompat: 0x20, featureIncompat: 0x80000040, featureRoCompat: 0x400 };
 * assertEquals(featureNames(words), ["dir_index", "extent", "FEATURE_I31", "metadata_csum"]);
 * ```
 */
export function featureNames(features: FeatureWords): string[] {
  return [
    ...namesOf(features.featureCompat, COMPAT_NAMES, "C"),
    ...namesOf(features.featureIncompat, INCOMPAT_NAMES, "I"),
    ...namesOf(features.featureRoCompat, RO_COMPAT_NAMES, "R"),
  ];
}

/**
 * Throws InputError for a file system that the reader would misread, and counts `unknownFeature` for one that the
 * kernel would mount read-only without knowing every feature.
 */
export function checkFeatures(features: FeatureWords, warnings: Warnings): void {
  const { featureIncompat, featureRoCompat } = features;
  const unknown = unknownFeatures(features);
  const refused = namesOf(unknown.featureIncompat, INCOMPAT_NAMES, "I");
  if (refused.length > 0) {
    const isHalfSwitched = (featureIncompat & HALF_SWITCHED_FEATURE) !== 0;
    throw new InputError("superblock", `the feature ${refused.join(", ")} is not supported`, {
      code: "unsupported",
      ...isHalfSwitched ? { hint: HALF_SWITCHED_HINT } : {},
      data: { features: refused.join(",") },
    });
  }
  const unread = namesOf(unknown.featureRoCompat, RO_COMPAT_NAMES, "R").join(", ");
  if (unread !== "") {
    const why = `the feature ${unread} is not known, and was left aside as a read-only mount does`;
    warnings.add("unknownFeature", "superblock", why);
  }
  const both = RO_COMPAT.METADATA_CSUM | RO_COMPAT.GDT_CSUM;
  if ((featureRoCompat & both) === both) {
    throw new InputError("superblock", "it has both metadata_csum and uninit_bg, wanted one");
  }
}

function namesOf(word: number, names: Names, prefix: string): string[] {
  const found: string[] = [];
  for (let bit = 0; bit < 32; bit++) {
    if (((word >>> bit) & 1) === 0) continue;
    found.push(names[2 ** bit] ?? `FEATURE_${prefix}${bit}`);
  }
  return found;
}

/** s_state. */
export const STATE = { CLEAN: 1, ERRORS: 2 } as const;

/** Warns if the image was not left as an unmounted file system is. */
export function warnOfState(superblock: Superblock, name: string, warnings: Warnings): void {
  const { state, featureCompat, featureIncompat, featureRoCompat, lastOrphan } = superblock;
  const hasJournal = (featureCompat & COMPAT.HAS_JOURNAL) !== 0;
  if ((featureIncompat & INCOMPAT.RECOVER) !== 0) {
    if (!hasJournal) {
      throw new InputError(name, "its journal needs recovery, but it has no journal");
    }
    const why =
      "its journal holds changes that are not in place yet; it is read as it is, without them";
    warnings.add("dirtyJournal", name, why);
  } else if ((state & STATE.CLEAN) === 0) {
    warnings.add("notUnmounted", name, "it was not unmounted; it is read as it is");
  }
  if (superblock.creatorOs === CREATOR_HURD) {
    const why = "it was made by the Hurd: translators and authors of files are not read";
    warnings.add("unknownFeature", name, why);
  }
  if ((state & STATE.ERRORS) !== 0) {
    warnings.add("recordedErrors", name, "the kernel found errors in it that were never repaired");
  }
  if (lastOrphan !== 0 || (featureRoCompat & RO_COMPAT.ORPHAN_PRESENT) !== 0) {
    const why = "it has deleted or half-truncated files that the kernel would clean up";
    warnings.add("orphanInodes", name, why);
  }
}
