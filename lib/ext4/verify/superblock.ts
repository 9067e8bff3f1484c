/**
 * The primary superblock: whether it is one, whether its fields can be true, and whether the rest can be read by it.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import type { RandomReader } from "../../io/random_reader.ts";
import {
  COMPAT,
  HASH_VERSION,
  INCOMPAT,
  RO_COMPAT,
  SUPERBLOCK_MAGIC,
  SUPERBLOCK_OFFSET_BYTES,
  SUPERBLOCK_SIZE_BYTES,
} from "../format/constants.ts";
import { viewOf } from "../format/fields.ts";
import type { Superblock } from "../format/superblock.ts";
import {
  decodeSuperblock,
  storedSuperblockChecksum,
  superblockChecksum,
} from "../format/superblock.ts";
import { Warnings } from "../../warnings.ts";
import { hex, type Judge, type Location } from "../volume/judge.ts";
import { checkFeatures, CREATOR_HURD, featureNames, imageGeometry } from "../volume/superblock.ts";
import { Volume } from "../volume/volume.ts";

const MAGIC_AT = 0x38;
const CHECKSUM_TYPE_CRC32C = 1;
const LOCATION: Location = { offset: SUPERBLOCK_OFFSET_BYTES };
/** Blocks that one bit each is kept for. */
const BLOCKS_MAX = 2 ** 32;
/** Where mke2fs puts the first backup: group 1 of file systems with blocks of 1, 2 and 4 KiB. */
const BACKUP_OFFSETS_BYTES = [8193 * 1024, 16384 * 2048, 32768 * 4096];

/** COMPAT bits with no meaning for what is checked: dir_prealloc, imagic_inodes, fast_commit, stable_inodes. */
const HARMLESS_COMPAT = 0x1 | 0x2 | 0x400 | 0x800;
const KNOWN_COMPAT = sum(COMPAT) | HARMLESS_COMPAT;
const KNOWN_RO_COMPAT = sum(RO_COMPAT);

/**
 * Reads and judges the superblock. Returns undefined when nothing else can be read by it.
 *
 * @throws {InputError} when the image is not an ext2, ext3 or ext4 file system, or has features that are not supported
 */
export function checkSuperblock(reader: RandomReader, judge: Judge): Volume | undefined {
  const encoded = new Uint8Array(SUPERBLOCK_SIZE_BYTES);
  if (reader.readAt(encoded, SUPERBLOCK_OFFSET_BYTES) !== encoded.length) {
    throw new InputError(reader.name, `not an ext4 image: it has only ${reader.sizeBytes} bytes`, {
      code: "wrongKind",
    });
  }
  if (!checkMagic(reader, encoded, judge)) return undefined;
  const superblock = judge.attempt("superblock", LOCATION, () => decodeSuperblock(encoded));
  if (superblock === undefined) return undefined;
  const isIntact = checkOwnChecksum(superblock, encoded, judge);
  if (!areFeaturesKnown(reader, superblock, isIntact, judge)) return undefined;
  const geometry = judge.attempt("superblock", LOCATION, () => imageGeometry(superblock));
  if (geometry === undefined) return undefined;
  const volume = new Volume(reader, { superblock, geometry, judge });
  if (volume.endBlock > BLOCKS_MAX) {
    throw new InputError(reader.name, `has ${volume.endBlock} blocks, over ${BLOCKS_MAX}`);
  }
  checkCounts(volume);
  checkRest(superblock, judge);
  checkNamedInodes(volume);
  return volume;
}

/** Whether this is a superblock. One that only lost its magic number, or has backups, is damaged. */
function checkMagic(reader: RandomReader, encoded: Uint8Array, judge: Judge): boolean {
  const view = viewOf(encoded);
  const magic = view.getUint16(MAGIC_AT, true);
  if (magic === SUPERBLOCK_MAGIC) return true;
  const restored = encoded.slice();
  viewOf(restored).setUint16(MAGIC_AT, SUPERBLOCK_MAGIC, true);
  const isOne = storedSuperblockChecksum(restored) === superblockChecksum(restored);
  if (!isOne && !BACKUP_OFFSETS_BYTES.some((offset) => hasMagic(reader, offset))) {
    throw new InputError(
      reader.name,
      `not an ext2, ext3 or ext4 file system: its magic number is ${hex(magic)}, not 0xef53`,
      { code: "wrongKind", data: { offset: SUPERBLOCK_OFFSET_BYTES + MAGIC_AT, actual: magic } },
    );
  }
  judge.report("superblock", LOCATION, "magic number", { found: hex(magic), wanted: "0xef53" });
  return false;
}

function hasMagic(reader: RandomReader, offset: number): boolean {
  const encoded = new Uint8Array(SUPERBLOCK_SIZE_BYTES);
  return reader.readAt(encoded, offset) === encoded.length &&
    viewOf(encoded).getUint16(MAGIC_AT, true) === SUPERBLOCK_MAGIC;
}

function checkOwnChecksum(
  superblock: Superblock,
  encoded: Uint8Array,
  judge: Judge,
): boolean {
  const stored = storedSuperblockChecksum(encoded);
  const computed = superblockChecksum(encoded);
  const isChecksummed = (superblock.featureRoCompat & RO_COMPAT.METADATA_CSUM) !== 0;
  // A right checksum cannot be chance: the feature was there when it was written.
  if (!isChecksummed && stored === computed) return true;
  if (!isChecksummed) return false;
  judge.expect(
    "superblock",
    LOCATION,
    "checksum type",
    superblock.checksumType,
    CHECKSUM_TYPE_CRC32C,
  );
  return judge.expectChecksum("superblock", LOCATION, stored, computed);
}

/** Features that are not known may mean that nothing is where it is looked for. */
function areFeaturesKnown(
  reader: RandomReader,
  superblock: Superblock,
  isIntact: boolean,
  judge: Judge,
): boolean {
  const mayBeDamaged = !isIntact && (superblock.featureRoCompat & RO_COMPAT.METADATA_CSUM) !== 0;
  try {
    checkFeatures(superblock, new Warnings());
    if (superblock.creatorOs === CREATOR_HURD && (superblock.featureIncompat & INCOMPAT.FILETYPE)) {
      const problem = "the feature filetype, which the Hurd does not know";
      judge.report("superblock", LOCATION, problem, { severity: "note" });
    }
    const unknown = featureNames({
      featureCompat: (superblock.featureCompat & ~KNOWN_COMPAT) >>> 0,
      featureIncompat: 0,
      featureRoCompat: (superblock.featureRoCompat & ~KNOWN_RO_COMPAT) >>> 0,
    });
    if (unknown.length === 0) return true;
    throw new InputError(
      reader.name,
      `the feature ${unknown.join(", ")} is not known, so nothing can be said about the image`,
      { code: "unsupported" },
    );
  } catch (error) {
    if (!mayBeDamaged || !(error instanceof InputError)) throw error;
    judge.report("superblock", LOCATION, "features", {
      found: featureNames(superblock).join(", "),
      wanted: "features that go together",
    });
    return false;
  }
}

/** Counts that must agree with the shape. */
function checkCounts(volume: Volume): void {
  const { superblock, reader, groupCount, blockSizeBytes, judge } = volume;
  const bad = (problem: string, found: number, wanted: string | number) =>
    judge.report("superblock", LOCATION, problem, { found, wanted });
  const wantedBytes = superblock.blocksCount * blockSizeBytes;
  if (reader.sizeBytes < wantedBytes) {
    judge.report("image", {}, "it is cut off: size in bytes", {
      found: reader.sizeBytes,
      wanted: wantedBytes,
    });
  }
  if (superblock.reservedBlocksCount > superblock.blocksCount / 2) {
    bad("s_r_blocks_count", superblock.reservedBlocksCount, "at most half of all blocks");
  }
  if (superblock.reservedGdtBlocks > blockSizeBytes / 4) {
    bad("s_reserved_gdt_blocks", superblock.reservedGdtBlocks, `at most ${blockSizeBytes / 4}`);
  }
  if (superblock.reservedGdtBlocks > 0 && !volume.hasCompat(COMPAT.RESIZE_INODE)) {
    bad("s_reserved_gdt_blocks", superblock.reservedGdtBlocks, "0 without resize_inode");
  }
  if (
    volume.hasIncompat(INCOMPAT.META_BG) && superblock.firstMetaBlockGroup > volume.descriptorBlocks
  ) {
    bad("s_first_meta_bg", superblock.firstMetaBlockGroup, `at most ${volume.descriptorBlocks}`);
  }
  for (const group of superblock.backupGroups) {
    if (volume.hasCompat(COMPAT.SPARSE_SUPER2) && group >= groupCount) {
      bad("s_backup_bgs", group, `below ${groupCount}`);
    }
  }
  const headBlocks = 1 + volume.descriptorRoom(0).used + volume.descriptorRoom(0).reserved;
  if (headBlocks > superblock.blocksPerGroup) {
    bad("blocks of descriptors", headBlocks, `at most ${superblock.blocksPerGroup}`);
  }
}

/** What is left: fields that only have to be possible. */
function checkRest(superblock: Superblock, judge: Judge): void {
  const bad = (problem: string, found: string | number, wanted: string | number) =>
    judge.report("superblock", LOCATION, problem, { found, wanted });
  const { featureCompat, revision } = superblock;
  if (superblock.creatorOs > 4) bad("s_creator_os", superblock.creatorOs, "0 to 4");
  if (superblock.logGroupsPerFlex > 31) {
    bad("s_log_groups_per_flex", superblock.logGroupsPerFlex, "at most 31");
  }
  if (
    superblock.defaultHashVersion > HASH_VERSION.SIPHASH && (featureCompat & COMPAT.DIR_INDEX) !== 0
  ) {
    bad("s_def_hash_version", superblock.defaultHashVersion, "at most 6");
  }
  const extra = Math.max(superblock.minExtraInodeSize, superblock.wantExtraInodeSize);
  if (revision > 0 && superblock.inodeSizeBytes > 128 && extra > superblock.inodeSizeBytes - 128) {
    judge.report("superblock", LOCATION, "s_want_extra_isize", {
      found: extra,
      wanted: `at most ${superblock.inodeSizeBytes - 128}`,
      severity: "note",
    });
  }
}

/** Inodes that the superblock names need the feature that they are for; otherwise they belong to somebody else. */
function checkNamedInodes(volume: Volume): void {
  const { superblock, judge } = volume;
  const hasQuota = volume.hasRoCompat(RO_COMPAT.QUOTA);
  const named: [field: string, inode: number, isNeeded: boolean][] = [
    ["s_usr_quota_inum", superblock.userQuotaInode, hasQuota],
    ["s_grp_quota_inum", superblock.groupQuotaInode, hasQuota],
    [
      "s_prj_quota_inum",
      superblock.projectQuotaInode,
      hasQuota && volume.hasRoCompat(RO_COMPAT.PROJECT),
    ],
    [
      "s_orphan_file_inum",
      superblock.orphanFileInode,
      volume.hasCompat(COMPAT.ORPHAN_FILE),
    ],
  ];
  for (const [field, inode, isNeeded] of named) {
    if (inode !== 0 && !isNeeded) {
      judge.report("superblock", LOCATION, `${field} without the feature`, {
        found: inode,
        wanted: 0,
      });
    }
  }
}

function sum(features: Readonly<Record<string, number>>): number {
  return Object.values(features).reduce((all, feature) => all | feature, 0);
}
