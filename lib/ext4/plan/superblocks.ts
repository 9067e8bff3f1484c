/**
 * The superblock that a plan asks for, and its backups.
 *
 * @module
 */
import { optionError } from "../../errors.ts";
import {
  COMPAT,
  HASH_VERSION,
  INCOMPAT,
  INODE_NUMBER,
  RO_COMPAT,
  SUPERBLOCK_FLAG,
} from "../format/constants.ts";
import { INODE_EXTRA_SIZE_BYTES } from "../format/inode.ts";
import type { Superblock } from "../format/superblock.ts";
import { defaultSuperblock } from "../format/superblock.ts";
import { BLOCK_SIZE_BYTES } from "../../model/payload.ts";
import { HASH_SEED } from "./directories.ts";
import { BLOCKS_PER_GROUP, INODE_SIZE_BYTES } from "./geometry.ts";
import type { GroupTables } from "./group_tables.ts";
import type { Layout } from "./layout.ts";
import { countBlocks } from "./range_list.ts";
import type { Settings } from "./settings.ts";

/** s_checksum_seed of every image: equal metadata is then equal whatever the UUID. The digits of e. */
export const CHECKSUM_SEED = 0x2b7e1516;

const STATE_CLEAN = 1;
const ERRORS_CONTINUE = 1;
const CHECKSUM_CRC32C = 1;
const JOURNAL_BACKUP_BLOCKS = 1;
/** EXT4_DEFM_XATTR_USER and EXT4_DEFM_ACL, as mke2fs sets them. */
const DEFAULT_MOUNT_OPTIONS = 0xc;
/** 16 groups, as mke2fs sets it; it guides where a mounted file system allocates. */
const LOG_GROUPS_PER_FLEX = 4;
const LOG_BLOCK_SIZE = Math.log2(BLOCK_SIZE_BYTES) - 10;

/** Features that depend on what the tree holds. */
export interface UsedFeatures {
  readonly valueInodes: boolean;
}

/** The superblock of group 0; a backup differs in blockGroupNumber alone. */
export function primarySuperblock(
  layout: Layout,
  tables: GroupTables,
  options: {
    readonly settings: Settings;
    readonly used: UsedFeatures;
    /** i_block of the journal's inode. */
    readonly journalMap: Uint8Array | undefined;
  },
): Superblock {
  const { settings } = options;
  const { geometry, totalBlocks } = layout;
  return {
    ...defaultSuperblock(),
    ...featureWords(settings, options.used),
    inodesCount: geometry.inodesPerGroup * geometry.groupCount,
    blocksCount: totalBlocks,
    reservedBlocksCount: reservedBlocks(settings, totalBlocks),
    freeBlocksCount: tables.freeBlocksCount,
    freeInodesCount: tables.freeInodesCount,
    firstDataBlock: 0,
    logBlockSize: LOG_BLOCK_SIZE,
    logClusterSize: LOG_BLOCK_SIZE,
    blocksPerGroup: BLOCKS_PER_GROUP,
    clustersPerGroup: BLOCKS_PER_GROUP,
    inodesPerGroup: geometry.inodesPerGroup,
    writeTime: settings.timestamp,
    maxMountCount: -1,
    state: STATE_CLEAN,
    errorsBehaviour: ERRORS_CONTINUE,
    lastCheckTime: settings.timestamp,
    revision: 1,
    firstInode: INODE_NUMBER.FIRST_USABLE,
    inodeSizeBytes: INODE_SIZE_BYTES,
    uuid: settings.uuid,
    volumeName: settings.label,
    hashSeed: HASH_SEED,
    defaultHashVersion: HASH_VERSION.HALF_MD4,
    descriptorSizeBytes: settings.wide ? 64 : 0,
    defaultMountOptions: DEFAULT_MOUNT_OPTIONS,
    mkfsTime: settings.timestamp,
    minExtraInodeSize: INODE_EXTRA_SIZE_BYTES,
    wantExtraInodeSize: INODE_EXTRA_SIZE_BYTES,
    flags: SUPERBLOCK_FLAG.UNSIGNED_HASH,
    logGroupsPerFlex: LOG_GROUPS_PER_FLEX,
    checksumType: settings.metadataChecksums ? CHECKSUM_CRC32C : 0,
    checksumSeed: settings.constantSeed ? CHECKSUM_SEED : 0,
    overheadBlocks: overheadBlocks(layout, settings),
    ...journalFields(settings, options.journalMap),
  };
}

/** What is not counted as space by statfs(2): must equal ext4_calculate_overhead(), or a mount rewrites it. */
function overheadBlocks(layout: Layout, settings: Settings): number {
  const { groupCount, inodeTableBlocks, reserved } = layout.geometry;
  return countBlocks(reserved) + groupCount * (2 + inodeTableBlocks) + settings.journalBlocks;
}

function reservedBlocks(settings: Settings, totalBlocks: number): number {
  const { reservedBlocks: reserved } = settings;
  const wanted = reserved.kind === "bytes"
    ? Math.floor(reserved.bytes / BLOCK_SIZE_BYTES)
    : Math.floor((totalBlocks * reserved.percent) / 100);
  const most = Math.floor(totalBlocks / 2);
  if (wanted > most) {
    throw optionError(
      "reservedBlocks",
      `${wanted * BLOCK_SIZE_BYTES} bytes are more than half of the image, ` +
        `${most * BLOCK_SIZE_BYTES}: e2fsck takes no more`,
    );
  }
  return wanted;
}

function journalFields(
  settings: Settings,
  journalMap: Uint8Array | undefined,
): Partial<Superblock> {
  if (journalMap === undefined) return {};
  const view = new DataView(journalMap.buffer, journalMap.byteOffset, journalMap.byteLength);
  const words: number[] = [];
  for (let at = 0; at < journalMap.length; at += 4) words.push(view.getUint32(at, true));
  const sizeBytes = settings.journalBlocks * BLOCK_SIZE_BYTES;
  return {
    journalInode: INODE_NUMBER.JOURNAL,
    journalBackupType: JOURNAL_BACKUP_BLOCKS,
    journalBlocks: [...words, Math.floor(sizeBytes / 2 ** 32), sizeBytes % 2 ** 32],
  };
}

function featureWords(
  settings: Settings,
  used: UsedFeatures,
): Pick<Superblock, "featureCompat" | "featureIncompat" | "featureRoCompat"> {
  let featureCompat: number = COMPAT.EXT_ATTR | COMPAT.DIR_INDEX;
  if (settings.journalBlocks > 0) featureCompat |= COMPAT.HAS_JOURNAL;
  let featureIncompat: number = INCOMPAT.FILETYPE | INCOMPAT.EXTENTS | INCOMPAT.FLEX_BG;
  if (settings.wide) featureIncompat |= INCOMPAT.BIT64;
  if (settings.constantSeed) featureIncompat |= INCOMPAT.CSUM_SEED;
  if (settings.inlineData) featureIncompat |= INCOMPAT.INLINE_DATA;
  if (used.valueInodes) featureIncompat |= INCOMPAT.EA_INODE;
  let featureRoCompat: number = RO_COMPAT.LARGE_FILE | RO_COMPAT.HUGE_FILE |
    RO_COMPAT.DIR_NLINK | RO_COMPAT.EXTRA_ISIZE;
  if (settings.metadataChecksums) featureRoCompat |= RO_COMPAT.METADATA_CSUM;
  if (settings.backups === "sparse") featureRoCompat |= RO_COMPAT.SPARSE_SUPER;
  else featureCompat |= COMPAT.SPARSE_SUPER2;
  return { featureCompat, featureIncompat, featureRoCompat };
}
