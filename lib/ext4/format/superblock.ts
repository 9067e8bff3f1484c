/**
 * The superblock (kernel documentation, "The Super Block"; fs/ext4/ext4.h, struct ext4_super_block): 1024 bytes that
 * describe the whole file system, at byte 1024 and, as backups, at the start of some groups.
 *
 * @module
 */
import { crc32c } from "../../bytes/crc32c.ts";
import { InputError, invariant } from "../../errors.ts";
import { CRC32C_START, filesystemSeed } from "./checksum.ts";
import { INCOMPAT, RO_COMPAT, SUPERBLOCK_MAGIC, SUPERBLOCK_SIZE_BYTES } from "./constants.ts";
import type { FieldTable } from "./fields.ts";
import {
  bytes,
  i16,
  neutralFields,
  paddedBytes,
  readFields,
  u16,
  u16WithHigh,
  u32,
  u32Array,
  u32WithHigh,
  u64,
  u8,
  viewOf,
  writeFields,
} from "./fields.ts";

/**
 * The fields of a superblock. Times are seconds since 1970, and counts are of file system blocks unless stated
 * otherwise.
 */
export interface Superblock {
  /** s_inodes_count. */
  readonly inodesCount: number;
  /** s_blocks_count. */
  readonly blocksCount: number;
  /** Blocks reserved for reservedUid and reservedGid. */
  readonly reservedBlocksCount: number;
  /** s_free_blocks_count. */
  readonly freeBlocksCount: number;
  /** s_free_inodes_count. */
  readonly freeInodesCount: number;
  /** 1 with 1 KiB blocks, else 0. */
  readonly firstDataBlock: number;
  /** The block size is 2 ** (10 + this). */
  readonly logBlockSize: number;
  /** The cluster size is 2 ** (10 + this); equal to logBlockSize without bigalloc. */
  readonly logClusterSize: number;
  /** s_blocks_per_group. */
  readonly blocksPerGroup: number;
  /** s_clusters_per_group. */
  readonly clustersPerGroup: number;
  /** s_inodes_per_group. */
  readonly inodesPerGroup: number;
  /** Time of the last mount. */
  readonly mountTime: number;
  /** Time of the last write. */
  readonly writeTime: number;
  /** Mounts since the last check. */
  readonly mountCount: number;
  /** Mounts until a check is due; -1 for never. */
  readonly maxMountCount: number;
  /** 1 cleanly unmounted, 2 errors seen, 4 orphans being recovered. */
  readonly state: number;
  /** 1 continue, 2 remount read-only, 3 panic. */
  readonly errorsBehaviour: number;
  /** s_minor_rev_level. */
  readonly minorRevision: number;
  /** Time of the last check. */
  readonly lastCheckTime: number;
  /** Seconds until a check is due; 0 for never. */
  readonly checkIntervalSeconds: number;
  /** 0 is Linux. */
  readonly creatorOs: number;
  /** 1: inode sizes and features are stored. */
  readonly revision: number;
  /** User who may fill the reserved blocks. */
  readonly reservedUid: number;
  /** Group that may fill the reserved blocks. */
  readonly reservedGid: number;
  /** The first inode available for files. */
  readonly firstInode: number;
  /** Size of an inode's slot. */
  readonly inodeSizeBytes: number;
  /** The group of this copy. */
  readonly blockGroupNumber: number;
  /** COMPAT bits. */
  readonly featureCompat: number;
  /** INCOMPAT bits. */
  readonly featureIncompat: number;
  /** RO_COMPAT bits. */
  readonly featureRoCompat: number;
  /** UUID, 16 bytes. */
  readonly uuid: Uint8Array;
  /** The label, at most 16 bytes. */
  readonly volumeName: Uint8Array;
  /** Where it was last mounted, at most 64 bytes. */
  readonly lastMounted: Uint8Array;
  /** s_algorithm_usage_bitmap, for compression, which was never implemented. */
  readonly algorithmUsageBitmap: number;
  /** s_prealloc_blocks. */
  readonly preallocBlocks: number;
  /** s_prealloc_dir_blocks. */
  readonly preallocDirectoryBlocks: number;
  /** Blocks reserved after the descriptors, for more of them. */
  readonly reservedGdtBlocks: number;
  /** UUID of an external journal, 16 bytes; zeros for an internal one. */
  readonly journalUuid: Uint8Array;
  /** The inode of the journal. */
  readonly journalInode: number;
  /** The device of an external journal. */
  readonly journalDevice: number;
  /** The first inode in the list of orphans. */
  readonly lastOrphan: number;
  /** 4 words. */
  readonly hashSeed: readonly number[];
  /** HASH_VERSION for new directories. */
  readonly defaultHashVersion: number;
  /** 1: journalBlocks holds a copy of the journal inode's map. */
  readonly journalBackupType: number;
  /** Size of a group descriptor; only with 64BIT. */
  readonly descriptorSizeBytes: number;
  /** s_default_mount_opts. */
  readonly defaultMountOptions: number;
  /** The first block of descriptors that META_BG places in its groups. */
  readonly firstMetaBlockGroup: number;
  /** Time of creation. */
  readonly mkfsTime: number;
  /** 17 words: the journal's i_block[15], then its size's high and low half. */
  readonly journalBlocks: readonly number[];
  /** Bytes beyond 128 in all inodes. */
  readonly minExtraInodeSize: number;
  /** Bytes beyond 128 wanted in new inodes. */
  readonly wantExtraInodeSize: number;
  /** SUPERBLOCK_FLAG bits. */
  readonly flags: number;
  /** Blocks on one disk before moving to the next; 0 if unknown. */
  readonly raidStride: number;
  /** Seconds between two writes of the MMP block. */
  readonly mmpInterval: number;
  /** The MMP block. */
  readonly mmpBlock: number;
  /** Blocks on all disks together; 0 if unknown. */
  readonly raidStripeWidth: number;
  /** A flex group has 2 ** this groups. */
  readonly logGroupsPerFlex: number;
  /** 1 is CRC-32C. */
  readonly checksumType: number;
  /** s_encryption_level. */
  readonly encryptionLevel: number;
  /** KiB written in its lifetime. */
  readonly kbytesWritten: number;
  /** s_snapshot_inum. */
  readonly snapshotInode: number;
  /** s_snapshot_id. */
  readonly snapshotId: number;
  /** s_snapshot_r_blocks_count. */
  readonly snapshotReservedBlocksCount: number;
  /** s_snapshot_list. */
  readonly snapshotList: number;
  /** Number of errors that the kernel has seen. */
  readonly errorCount: number;
  /** Time of the first error. */
  readonly firstErrorTime: number;
  /** The inode of the first error. */
  readonly firstErrorInode: number;
  /** The block of the first error. */
  readonly firstErrorBlock: number;
  /** Kernel function that saw the first error, at most 32 bytes. */
  readonly firstErrorFunction: Uint8Array;
  /** Kernel source line that saw the first error. */
  readonly firstErrorLine: number;
  /** Time of the last error. */
  readonly lastErrorTime: number;
  /** The inode of the last error. */
  readonly lastErrorInode: number;
  /** Kernel source line that saw the last error. */
  readonly lastErrorLine: number;
  /** The block of the last error. */
  readonly lastErrorBlock: number;
  /** Kernel function that saw the last error, at most 32 bytes. */
  readonly lastErrorFunction: Uint8Array;
  /** Default mount options as text, at most 64 bytes. */
  readonly mountOptions: Uint8Array;
  /** s_usr_quota_inum. */
  readonly userQuotaInode: number;
  /** s_grp_quota_inum. */
  readonly groupQuotaInode: number;
  /** Clusters of static metadata; 0 leaves counting to the reader. */
  readonly overheadBlocks: number;
  /** The 2 groups with backups under SPARSE_SUPER2. */
  readonly backupGroups: readonly number[];
  /** Encryption algorithms, 4 bytes. */
  readonly encryptAlgos: Uint8Array;
  /** Salt of the encryption password, 16 bytes. */
  readonly encryptPasswordSalt: Uint8Array;
  /** s_lpf_ino. */
  readonly lostFoundInode: number;
  /** s_prj_quota_inum. */
  readonly projectQuotaInode: number;
  /** The seed of all metadata checksums with INCOMPAT_CSUM_SEED. */
  readonly checksumSeed: number;
  /** The kind of the first error. */
  readonly firstErrorCode: number;
  /** The kind of the last error. */
  readonly lastErrorCode: number;
  /** How names are encoded with CASEFOLD. */
  readonly encoding: number;
  /** s_encoding_flags. */
  readonly encodingFlags: number;
  /** The inode of the orphan file. */
  readonly orphanFileInode: number;
}

const MAGIC_OFFSET = 0x38; // s_magic
const CHECKSUM_OFFSET = 0x3fc; // s_checksum

const FIELDS: FieldTable<Superblock> = {
  inodesCount: u32(0x000), // s_inodes_count
  blocksCount: u32WithHigh(0x004, 0x150, 4), // s_blocks_count_lo, s_blocks_count_hi
  reservedBlocksCount: u32WithHigh(0x008, 0x154, 4), // s_r_blocks_count_lo, s_r_blocks_count_hi
  freeBlocksCount: u32WithHigh(0x00c, 0x158, 4), // s_free_blocks_count_lo, s_free_blocks_count_hi
  freeInodesCount: u32(0x010), // s_free_inodes_count
  firstDataBlock: u32(0x014), // s_first_data_block
  logBlockSize: u32(0x018), // s_log_block_size
  logClusterSize: u32(0x01c), // s_log_cluster_size
  blocksPerGroup: u32(0x020), // s_blocks_per_group
  clustersPerGroup: u32(0x024), // s_clusters_per_group
  inodesPerGroup: u32(0x028), // s_inodes_per_group
  mountTime: u32WithHigh(0x02c, 0x275, 1), // s_mtime, s_mtime_hi
  writeTime: u32WithHigh(0x030, 0x274, 1), // s_wtime, s_wtime_hi
  mountCount: u16(0x034), // s_mnt_count
  maxMountCount: i16(0x036), // s_max_mnt_count
  // s_magic (0x038) is not a field: encode writes it and decode demands it.
  state: u16(0x03a), // s_state
  errorsBehaviour: u16(0x03c), // s_errors
  minorRevision: u16(0x03e), // s_minor_rev_level
  lastCheckTime: u32WithHigh(0x040, 0x277, 1), // s_lastcheck, s_lastcheck_hi
  checkIntervalSeconds: u32(0x044), // s_checkinterval
  creatorOs: u32(0x048), // s_creator_os
  revision: u32(0x04c), // s_rev_level
  reservedUid: u16WithHigh(0x050, 0x284), // s_def_resuid, s_def_resuid_hi
  reservedGid: u16WithHigh(0x052, 0x286), // s_def_resgid, s_def_resgid_hi
  firstInode: u32(0x054), // s_first_ino
  inodeSizeBytes: u16(0x058), // s_inode_size
  blockGroupNumber: u16(0x05a), // s_block_group_nr
  featureCompat: u32(0x05c), // s_feature_compat
  featureIncompat: u32(0x060), // s_feature_incompat
  featureRoCompat: u32(0x064), // s_feature_ro_compat
  uuid: bytes(0x068, 16), // s_uuid
  volumeName: paddedBytes(0x078, 16), // s_volume_name
  lastMounted: paddedBytes(0x088, 64), // s_last_mounted
  algorithmUsageBitmap: u32(0x0c8), // s_algorithm_usage_bitmap
  preallocBlocks: u8(0x0cc), // s_prealloc_blocks
  preallocDirectoryBlocks: u8(0x0cd), // s_prealloc_dir_blocks
  reservedGdtBlocks: u16(0x0ce), // s_reserved_gdt_blocks
  journalUuid: bytes(0x0d0, 16), // s_journal_uuid
  journalInode: u32(0x0e0), // s_journal_inum
  journalDevice: u32(0x0e4), // s_journal_dev
  lastOrphan: u32(0x0e8), // s_last_orphan
  hashSeed: u32Array(0x0ec, 4), // s_hash_seed
  defaultHashVersion: u8(0x0fc), // s_def_hash_version
  journalBackupType: u8(0x0fd), // s_jnl_backup_type
  descriptorSizeBytes: u16(0x0fe), // s_desc_size
  defaultMountOptions: u32(0x100), // s_default_mount_opts
  firstMetaBlockGroup: u32(0x104), // s_first_meta_bg
  mkfsTime: u32WithHigh(0x108, 0x276, 1), // s_mkfs_time, s_mkfs_time_hi
  journalBlocks: u32Array(0x10c, 17), // s_jnl_blocks
  minExtraInodeSize: u16(0x15c), // s_min_extra_isize
  wantExtraInodeSize: u16(0x15e), // s_want_extra_isize
  flags: u32(0x160), // s_flags
  raidStride: u16(0x164), // s_raid_stride
  mmpInterval: u16(0x166), // s_mmp_interval
  mmpBlock: u64(0x168), // s_mmp_block
  raidStripeWidth: u32(0x170), // s_raid_stripe_width
  logGroupsPerFlex: u8(0x174), // s_log_groups_per_flex
  checksumType: u8(0x175), // s_checksum_type
  encryptionLevel: u8(0x176), // s_encryption_level
  kbytesWritten: u64(0x178), // s_kbytes_written
  snapshotInode: u32(0x180), // s_snapshot_inum
  snapshotId: u32(0x184), // s_snapshot_id
  snapshotReservedBlocksCount: u64(0x188), // s_snapshot_r_blocks_count
  snapshotList: u32(0x190), // s_snapshot_list
  errorCount: u32(0x194), // s_error_count
  firstErrorTime: u32WithHigh(0x198, 0x278, 1), // s_first_error_time, s_first_error_time_hi
  firstErrorInode: u32(0x19c), // s_first_error_ino
  firstErrorBlock: u64(0x1a0), // s_first_error_block
  firstErrorFunction: paddedBytes(0x1a8, 32), // s_first_error_func
  firstErrorLine: u32(0x1c8), // s_first_error_line
  lastErrorTime: u32WithHigh(0x1cc, 0x279, 1), // s_last_error_time, s_last_error_time_hi
  lastErrorInode: u32(0x1d0), // s_last_error_ino
  lastErrorLine: u32(0x1d4), // s_last_error_line
  lastErrorBlock: u64(0x1d8), // s_last_error_block
  lastErrorFunction: paddedBytes(0x1e0, 32), // s_last_error_func
  mountOptions: paddedBytes(0x200, 64), // s_mount_opts
  userQuotaInode: u32(0x240), // s_usr_quota_inum
  groupQuotaInode: u32(0x244), // s_grp_quota_inum
  overheadBlocks: u32(0x248), // s_overhead_clusters
  backupGroups: u32Array(0x24c, 2), // s_backup_bgs
  encryptAlgos: bytes(0x254, 4), // s_encrypt_algos
  encryptPasswordSalt: bytes(0x258, 16), // s_encrypt_pw_salt
  lostFoundInode: u32(0x268), // s_lpf_ino
  projectQuotaInode: u32(0x26c), // s_prj_quota_inum
  checksumSeed: u32(0x270), // s_checksum_seed
  firstErrorCode: u8(0x27a), // s_first_error_errcode
  lastErrorCode: u8(0x27b), // s_last_error_errcode
  encoding: u16(0x27c), // s_encoding
  encodingFlags: u16(0x27e), // s_encoding_flags
  orphanFileInode: u32(0x280), // s_orphan_file_inum
  // 0x288 to 0x3fb is reserved and zero.
};

/** An all-zero superblock, to be spread and overridden. */
export function defaultSuperblock(): Superblock {
  return neutralFields(FIELDS);
}

/** Encodes the 1024 bytes; the checksum is filled in exactly if METADATA_CSUM is set. */
export function encodeSuperblock(superblock: Superblock): Uint8Array<ArrayBuffer> {
  const empty = new Uint8Array(SUPERBLOCK_SIZE_BYTES);
  viewOf(empty).setUint16(MAGIC_OFFSET, SUPERBLOCK_MAGIC, true);
  return editSuperblock(empty, superblock);
}

/**
 * Returns the superblock with some fields changed. Bytes that belong to no field are unchanged, except for the
 * checksum, which is filled in exactly if METADATA_CSUM is set.
 */
export function editSuperblock(
  encoded: Uint8Array,
  changes: Partial<Superblock>,
): Uint8Array<ArrayBuffer> {
  checkSize(encoded);
  const edited = new Uint8Array(encoded);
  const view = viewOf(edited);
  const superblock = { ...readFields(FIELDS, edited), ...changes };
  writeFields(FIELDS, edited, superblock);
  const isChecksummed = (superblock.featureRoCompat & RO_COMPAT.METADATA_CSUM) !== 0;
  view.setUint32(CHECKSUM_OFFSET, isChecksummed ? superblockChecksum(edited) : 0, true);
  return edited;
}

/**
 * Reads the 1024 bytes of a superblock. Throws InputError if the magic number is missing. It checks nothing else: the
 * caller compares the checksum (superblockChecksum(), storedSuperblockChecksum()).
 */
export function decodeSuperblock(encoded: Uint8Array): Superblock {
  checkSize(encoded);
  const magic = viewOf(encoded).getUint16(MAGIC_OFFSET, true);
  if (magic !== SUPERBLOCK_MAGIC) {
    throw new InputError(
      "superblock",
      `its magic number is 0x${magic.toString(16)}, not 0x${SUPERBLOCK_MAGIC.toString(16)}`,
      { hint: "this is not an ext2, ext3 or ext4 file system", data: { magic } },
    );
  }
  return readFields(FIELDS, encoded);
}

/** The correct s_checksum; not seeded by the UUID, so that tools can check it before they trust anything. */
export function superblockChecksum(encoded: Uint8Array): number {
  checkSize(encoded);
  return crc32c(CRC32C_START, encoded.subarray(0, CHECKSUM_OFFSET));
}

/** The stored s_checksum. */
export function storedSuperblockChecksum(encoded: Uint8Array): number {
  checkSize(encoded);
  return viewOf(encoded).getUint32(CHECKSUM_OFFSET, true);
}

/** The file system's seed: stored with INCOMPAT_CSUM_SEED, otherwise derived from the UUID. */
export function superblockSeed(superblock: Superblock): number {
  const isStored = (superblock.featureIncompat & INCOMPAT.CSUM_SEED) !== 0;
  return isStored ? superblock.checksumSeed : filesystemSeed(superblock.uuid);
}

/** The seed of the file system's metadata checksums; undefined if it has none. */
export function metadataSeed(superblock: Superblock): number | undefined {
  const isChecksummed = (superblock.featureRoCompat & RO_COMPAT.METADATA_CSUM) !== 0;
  return isChecksummed ? superblockSeed(superblock) : undefined;
}

function checkSize(encoded: Uint8Array): void {
  invariant(encoded.length === SUPERBLOCK_SIZE_BYTES, `a superblock of ${encoded.length} bytes`);
}
