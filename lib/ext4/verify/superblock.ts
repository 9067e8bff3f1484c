/**
 * Checks the primary superblock: whether it is one, whether its fields are possible, and whether the rest can be read
 * with it. Also checks the copies of superblock and descriptors: a mounted file system lets them fall behind in what
 * changes all the time, such as counts, but what describes the file system's shape must be equal.
 *
 * @module
 */
import { Buffer } from "node:buffer";
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
import { decodeGroupDescriptor } from "../format/group_descriptor.ts";
import type { Superblock } from "../format/superblock.ts";
import {
  decodeSuperblock,
  storedSuperblockChecksum,
  superblockChecksum,
} from "../format/superblock.ts";
import { Warnings } from "../../warnings.ts";
import {
  type FaultDetails,
  type Finding,
  hex,
  inputError,
  Judge,
  type Location,
} from "../volume/judge.ts";
import { INODE_BASE_SIZE_BYTES } from "../format/inode.ts";
import {
  checkFeatures,
  CREATOR_HURD,
  featureNames,
  imageGeometry,
  unknownFeatures,
} from "../volume/superblock.ts";
import { Volume } from "../volume/volume.ts";
import type { Context } from "./context.ts";

const MAGIC_AT = 0x38;
const CHECKSUM_TYPE_CRC32C = 1;
const LOCATION: Location = { offset: SUPERBLOCK_OFFSET_BYTES };
/** The most blocks for which a bit each is kept. */
const BLOCKS_MAX = 2 ** 32;
/** Where mke2fs puts the first backup: group 1 of file systems with blocks of 1, 2 and 4 KiB. */
const BACKUP_OFFSETS_BYTES = [8193 * 1024, 16384 * 2048, 32768 * 4096];

/**
 * Reads and checks the superblock. Returns undefined if nothing else can be read with it.
 *
 * @throws {InputError} if the image is not an ext2, ext3 or ext4 file system, or has unsupported features
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

/** Whether this is a superblock. One that only lost its magic number, or has backups, counts as damaged. */
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
  // A correct checksum is no coincidence: the feature was set when it was written.
  if (!isChecksummed && stored === computed) return true;
  if (!isChecksummed) return false;
  const { checksumType } = superblock;
  judge.expect("superblock", LOCATION, "checksum type", checksumType, CHECKSUM_TYPE_CRC32C);
  return judge.expectChecksum("superblock", LOCATION, stored, computed);
}

/** With unknown features, nothing may be where it is expected. */
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
    const unknown = featureNames(unknownFeatures(superblock));
    if (unknown.length === 0) return true;
    throw new InputError(
      reader.name,
      `the feature ${unknown.join(", ")} is not known, so nothing can be said about the image`,
      { code: "unsupported" },
    );
  } catch (error) {
    if (!mayBeDamaged) throw error;
    inputError(error);
    judge.report("superblock", LOCATION, "features", {
      found: featureNames(superblock).join(", "),
      wanted: "features that go together",
    });
    return false;
  }
}

/** Checks counts that must agree with the shape. */
function checkCounts(volume: Volume): void {
  const { superblock, reader, groupCount, blockSizeBytes, judge } = volume;
  const bad = (problem: string, found: number, wanted: string | number) =>
    judge.report("superblock", LOCATION, problem, { found, wanted });
  const { reservedBlocksCount, blocksCount, reservedGdtBlocks, firstMetaBlockGroup } = superblock;
  const wanted = blocksCount * blockSizeBytes;
  if (reader.sizeBytes < wanted) {
    const details = { found: reader.sizeBytes, wanted };
    judge.report("image", {}, "it is cut off: size in bytes", details);
  }
  if (reservedBlocksCount > blocksCount / 2) {
    bad("s_r_blocks_count", reservedBlocksCount, "at most half of all blocks");
  }
  if (reservedGdtBlocks > blockSizeBytes / 4) {
    bad("s_reserved_gdt_blocks", reservedGdtBlocks, `at most ${blockSizeBytes / 4}`);
  }
  if (reservedGdtBlocks > 0 && !volume.hasCompat(COMPAT.RESIZE_INODE)) {
    bad("s_reserved_gdt_blocks", reservedGdtBlocks, "0 without resize_inode");
  }
  if (volume.hasIncompat(INCOMPAT.META_BG) && firstMetaBlockGroup > volume.descriptorBlocks) {
    bad("s_first_meta_bg", firstMetaBlockGroup, `at most ${volume.descriptorBlocks}`);
  }
  for (const group of volume.hasCompat(COMPAT.SPARSE_SUPER2) ? superblock.backupGroups : []) {
    if (group >= groupCount) bad("s_backup_bgs", group, `below ${groupCount}`);
  }
  const headBlocks = 1 + volume.descriptorRoom(0).used + volume.descriptorRoom(0).reserved;
  if (headBlocks > superblock.blocksPerGroup) {
    bad("blocks of descriptors", headBlocks, `at most ${superblock.blocksPerGroup}`);
  }
}

/** Checks the remaining fields, which only have to be possible. */
function checkRest(superblock: Superblock, judge: Judge): void {
  const bad = (problem: string, found: number, wanted: string, details: FaultDetails = {}) =>
    judge.report("superblock", LOCATION, problem, { found, wanted, ...details });
  const { creatorOs, logGroupsPerFlex, defaultHashVersion, revision, inodeSizeBytes } = superblock;
  if (creatorOs > 4) bad("s_creator_os", creatorOs, "0 to 4");
  if (logGroupsPerFlex > 31) bad("s_log_groups_per_flex", logGroupsPerFlex, "at most 31");
  const isHashed = (superblock.featureCompat & COMPAT.DIR_INDEX) !== 0;
  if (defaultHashVersion > HASH_VERSION.SIPHASH && isHashed) {
    bad("s_def_hash_version", defaultHashVersion, "at most 6");
  }
  const extra = Math.max(superblock.minExtraInodeSize, superblock.wantExtraInodeSize);
  const room = inodeSizeBytes - INODE_BASE_SIZE_BYTES;
  if (revision > 0 && room > 0 && extra > room) {
    bad("s_want_extra_isize", extra, `at most ${room}`, { severity: "note" });
  }
}

/** Inodes named by the superblock need the corresponding feature; otherwise they belong to something else. */
function checkNamedInodes(volume: Volume): void {
  const { superblock, judge } = volume;
  const hasQuota = volume.hasRoCompat(RO_COMPAT.QUOTA);
  const hasProjects = hasQuota && volume.hasRoCompat(RO_COMPAT.PROJECT);
  const named: [field: string, inode: number, isNeeded: boolean][] = [
    ["s_usr_quota_inum", superblock.userQuotaInode, hasQuota],
    ["s_grp_quota_inum", superblock.groupQuotaInode, hasQuota],
    ["s_prj_quota_inum", superblock.projectQuotaInode, hasProjects],
    ["s_orphan_file_inum", superblock.orphanFileInode, volume.hasCompat(COMPAT.ORPHAN_FILE)],
  ];
  for (const [field, found, isNeeded] of named) {
    if (found === 0 || isNeeded) continue;
    judge.report("superblock", LOCATION, `${field} without the feature`, { found, wanted: 0 });
  }
}

const SHAPE = [
  "inodesCount",
  "blocksCount",
  "firstDataBlock",
  "logBlockSize",
  "logClusterSize",
  "blocksPerGroup",
  "clustersPerGroup",
  "inodesPerGroup",
  "revision",
  "firstInode",
  "inodeSizeBytes",
  "reservedGdtBlocks",
  "descriptorSizeBytes",
  "firstMetaBlockGroup",
  "logGroupsPerFlex",
  "checksumType",
  "defaultHashVersion",
] as const satisfies readonly (keyof Superblock)[];

/** Features that the kernel turns on or off only in the primary superblock, as they come into use. */
const CHANGING_FEATURES = {
  featureCompat: COMPAT.EXT_ATTR | COMPAT.HAS_JOURNAL | COMPAT.DIR_INDEX,
  featureIncompat: INCOMPAT.RECOVER | INCOMPAT.EXTENTS | INCOMPAT.ENCRYPT | INCOMPAT.CSUM_SEED,
  featureRoCompat: RO_COMPAT.LARGE_FILE | RO_COMPAT.HUGE_FILE | RO_COMPAT.DIR_NLINK |
    RO_COMPAT.EXTRA_ISIZE | RO_COMPAT.ORPHAN_PRESENT | RO_COMPAT.VERITY | RO_COMPAT.READONLY,
} as const;

/**
 * Compares every backup with the primary. Backups from other writers may be stale: nothing reads them while the primary
 * is intact, so their faults are notes.
 */
export function checkBackups(whole: Context, isBlessed: boolean): void {
  const context = isBlessed ? whole : withNotes(whole);
  const { volume } = context;
  const backups = volume.backupGroups();
  for (const group of backups) checkBackupSuperblock(context, group);
  // Unreadable descriptors cannot be compared.
  const tableBlocks = Math.ceil(context.groups.length / volume.descriptorsPerBlock);
  for (let index = 0; index < tableBlocks; index++) {
    const intact = readIntact(context, index);
    for (const copy of volume.descriptorBackups(index, backups)) {
      checkBackupDescriptors(context, index, copy, intact);
    }
  }
}

function withNotes(context: Context): Context {
  const volume = context.volume.withJudge(new NoteJudge(context.judge));
  return { ...context, volume, judge: volume.judge };
}

class NoteJudge extends Judge {
  readonly #judge: Judge;

  constructor(judge: Judge) {
    super();
    this.#judge = judge;
  }

  protected override judge(finding: Finding): void {
    const { structure, problem, ...rest } = finding;
    this.#judge.report(structure, rest, problem, { ...rest, severity: "note" });
  }
}

function checkBackupSuperblock(context: Context, group: number): void {
  const { volume, judge } = context;
  const offset = volume.superblockBlock(group) * volume.blockSizeBytes;
  const location = { group, offset };
  const encoded = new Uint8Array(SUPERBLOCK_SIZE_BYTES);
  if (volume.reader.readAt(encoded, offset) !== encoded.length) {
    judge.report("backup superblock", location, "it is past the end");
    return;
  }
  const backup = judge.attempt("backup superblock", location, () => decodeSuperblock(encoded));
  if (backup === undefined) return;
  if (volume.hasRoCompat(RO_COMPAT.METADATA_CSUM)) {
    const [found, wanted] = [storedSuperblockChecksum(encoded), superblockChecksum(encoded)];
    judge.expectChecksum("backup superblock", location, found, wanted);
  }
  const primary = volume.superblock;
  for (const field of SHAPE) {
    judge.expect("backup superblock", location, field, backup[field], primary[field]);
  }
  for (const name of ["featureCompat", "featureIncompat", "featureRoCompat"] as const) {
    const [found, wanted] = [backup[name], primary[name]];
    if (((found ^ wanted) & ~CHANGING_FEATURES[name]) === 0) continue;
    judge.report("backup superblock", location, name, { found: hex(found), wanted: hex(wanted) });
  }
  const text = (values: ArrayLike<number>) =>
    Array.from(values, (value) => value.toString(16)).join(" ");
  for (const name of ["uuid", "hashSeed", "backupGroups"] as const) {
    const [found, wanted] = [text(backup[name]), text(primary[name])];
    if (found !== wanted) judge.report("backup superblock", location, name, { found, wanted });
  }
}

/** A block of the descriptor table if every checksum in it is right: an equal copy is then right, too. */
function readIntact({ volume, groups }: Context, index: number): Uint8Array | undefined {
  const first = index * volume.descriptorsPerBlock;
  const end = Math.min(first + volume.descriptorsPerBlock, groups.length);
  for (let group = first; group < end; group++) if (!groups[group]!.isIntact) return undefined;
  return volume.read(volume.descriptorBlock(index));
}

function checkBackupDescriptors(
  context: Context,
  index: number,
  copy: { readonly group: number; readonly block: number },
  intact: Uint8Array | undefined,
): void {
  const { volume, judge, groups } = context;
  const { descriptorsPerBlock, geometry: { descriptorSizeBytes } } = volume;
  const { block } = copy;
  const bytes = volume.read(block);
  if (bytes === undefined) {
    judge.report("backup group descriptor", copy, "it is past the end");
    return;
  }
  if (intact !== undefined && Buffer.compare(bytes, intact) === 0) return;
  for (let i = 0; i < descriptorsPerBlock; i++) {
    const group = index * descriptorsPerBlock + i;
    const primary = groups[group]?.descriptor;
    if (primary === undefined) continue;
    const at = i * descriptorSizeBytes;
    const encoded = bytes.subarray(at, at + descriptorSizeBytes);
    const location = { group, offset: block * volume.blockSizeBytes + at };
    const structure = "backup group descriptor";
    const backup = judge.attempt(structure, location, () => decodeGroupDescriptor(encoded));
    if (backup === undefined) continue;
    volume.judgeDescriptorChecksum(structure, location, encoded, group);
    for (const field of ["blockBitmapBlock", "inodeBitmapBlock", "inodeTableBlock"] as const) {
      judge.expect(structure, location, field, backup[field], primary[field]);
    }
  }
}
