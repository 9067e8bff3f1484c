import { assert, assertEquals, assertThrows } from "@std/assert";
import { readFileSync } from "node:fs";
import { InputError } from "../../../lib/errors.ts";
import {
  bytes,
  type FieldTable,
  neutralFields,
  paddedBytes,
  readFields,
  u16WithHigh,
  u32,
  u64,
  writeFields,
} from "../../../lib/ext4/format/fields.ts";
import {
  decodeGroupDescriptor,
  type GroupDescriptor,
} from "../../../lib/ext4/format/group_descriptor.ts";
import { decodeInode, type InodeRecord } from "../../../lib/ext4/format/inode.ts";
import { decodeSuperblock, type Superblock } from "../../../lib/ext4/format/superblock.ts";
import { timestampFromWords } from "../../../lib/ext4/format/inode.ts";
import { unpackFixture } from "./fixture_image.ts";

/** What debugfs calls a field of the superblock, and what it is here. */
const SUPERBLOCK_NAMES: Readonly<Record<string, (superblock: Superblock) => unknown>> = {
  free_inodes_count: (sb) => sb.freeInodesCount,
  mnt_count: (sb) => sb.mountCount,
  errors: (sb) => sb.errorsBehaviour,
  minor_rev_level: (sb) => sb.minorRevision,
  checkinterval: (sb) => sb.checkIntervalSeconds,
  creator_os: (sb) => sb.creatorOs,
  def_resuid: (sb) => sb.reservedUid,
  def_resgid: (sb) => sb.reservedGid,
  first_ino: (sb) => sb.firstInode,
  algorithm_usage_bitmap: (sb) => sb.algorithmUsageBitmap,
  prealloc_blocks: (sb) => sb.preallocBlocks,
  prealloc_dir_blocks: (sb) => sb.preallocDirectoryBlocks,
  reserved_gdt_blocks: (sb) => sb.reservedGdtBlocks,
  journal_inum: (sb) => sb.journalInode,
  journal_dev: (sb) => sb.journalDevice,
  last_orphan: (sb) => sb.lastOrphan,
  default_mount_opts: (sb) => sb.defaultMountOptions,
  first_meta_bg: (sb) => sb.firstMetaBlockGroup,
  "jnl_blocks[0]": (sb) => sb.journalBlocks[0],
  "jnl_blocks[16]": (sb) => sb.journalBlocks[16],
  min_extra_isize: (sb) => sb.minExtraInodeSize,
  want_extra_isize: (sb) => sb.wantExtraInodeSize,
  flags: (sb) => sb.flags,
  raid_stride: (sb) => sb.raidStride,
  mmp_interval: (sb) => sb.mmpInterval,
  mmp_block: (sb) => sb.mmpBlock,
  raid_stripe_width: (sb) => sb.raidStripeWidth,
  log_groups_per_flex: (sb) => sb.logGroupsPerFlex,
  kbytes_written: (sb) => sb.kbytesWritten,
  snapshot_inum: (sb) => sb.snapshotInode,
  snapshot_id: (sb) => sb.snapshotId,
  snapshot_r_blocks_count: (sb) => sb.snapshotReservedBlocksCount,
  snapshot_list: (sb) => sb.snapshotList,
  usr_quota_inum: (sb) => sb.userQuotaInode,
  grp_quota_inum: (sb) => sb.groupQuotaInode,
  prj_quota_inum: (sb) => sb.projectQuotaInode,
  overhead_clusters: (sb) => sb.overheadBlocks,
  "backup_bgs[0]": (sb) => sb.backupGroups[0],
  "backup_bgs[1]": (sb) => sb.backupGroups[1],
  encryption_level: (sb) => sb.encryptionLevel,
  error_count: (sb) => sb.errorCount,
  first_error_ino: (sb) => sb.firstErrorInode,
  first_error_block: (sb) => sb.firstErrorBlock,
  first_error_line: (sb) => sb.firstErrorLine,
  last_error_ino: (sb) => sb.lastErrorInode,
  last_error_block: (sb) => sb.lastErrorBlock,
  last_error_line: (sb) => sb.lastErrorLine,
  "encrypt_algos[3]": (sb) => sb.encryptAlgos[3],
  lpf_ino: (sb) => sb.lostFoundInode,
  checksum_seed: (sb) => sb.checksumSeed,
  orphan_file_inum: (sb) => sb.orphanFileInode,
  free_blocks_count: (sb) => sb.freeBlocksCount,
  r_blocks_count: (sb) => sb.reservedBlocksCount,
  mtime: (sb) => sb.mountTime,
  lastcheck: (sb) => sb.lastCheckTime,
  mkfs_time: (sb) => sb.mkfsTime,
  first_error_time: (sb) => sb.firstErrorTime,
  last_error_time: (sb) => sb.lastErrorTime,
  volume_name: (sb) => text(sb.volumeName),
  last_mounted: (sb) => text(sb.lastMounted),
  first_error_func: (sb) => text(sb.firstErrorFunction),
  last_error_func: (sb) => text(sb.lastErrorFunction),
  mount_opts: (sb) => text(sb.mountOptions),
  journal_uuid: (sb) => uuid(sb.journalUuid),
  encrypt_pw_salt: (sb) => uuid(sb.encryptPasswordSalt),
  hash_seed: (sb) => uuid(new Uint8Array(Uint32Array.from(sb.hashSeed).buffer)),
  max_mnt_count: (sb) => sb.maxMountCount,
  jnl_backup_type: (sb) => sb.journalBackupType,
  state: (sb) => sb.state,
};

const DESCRIPTOR_NAMES: Readonly<Record<string, (descriptor: GroupDescriptor) => unknown>> = {
  block_bitmap: (descriptor) => descriptor.blockBitmapBlock,
  inode_bitmap: (descriptor) => descriptor.inodeBitmapBlock,
  inode_table: (descriptor) => descriptor.inodeTableBlock,
  free_blocks_count: (descriptor) => descriptor.freeBlocksCount,
  free_inodes_count: (descriptor) => descriptor.freeInodesCount,
  used_dirs_count: (descriptor) => descriptor.usedDirectoriesCount,
  flags: (descriptor) => descriptor.flags,
  itable_unused: (descriptor) => descriptor.itableUnusedCount,
};

const INODE_NAMES: Readonly<Record<string, (inode: InodeRecord) => unknown>> = {
  mode: (inode) => inode.mode,
  uid: (inode) => inode.uid,
  gid: (inode) => inode.gid,
  size: (inode) => inode.sizeBytes,
  links_count: (inode) => inode.linkCount,
  dtime: (inode) => inode.dtime,
  blocks: (inode) => inode.sectorCount,
  flags: (inode) => inode.flags,
  version: (inode) => inode.versionHigh * 2 ** 32 + inode.versionLow,
  generation: (inode) => inode.generation,
  file_acl: (inode) => inode.xattrBlock,
  projid: (inode) => inode.projectId,
};

function text(value: Uint8Array): string {
  return new TextDecoder().decode(value);
}

function uuid(value: Uint8Array): string {
  const hex = [...value].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** What the debugfs commands behind the fixture set: `value` is a number where it is one. */
function commands(name: string): Map<string, number | string> {
  const file = new URL("../../../fixtures/ext4/fields.txt", import.meta.url);
  const values = new Map<string, number | string>();
  for (const line of readFileSync(file, "utf8").split("\n")) {
    const [command, ...words] = line.split(" ");
    if (command !== name) continue;
    const [field = "", value = ""] = words.slice(-2);
    const number = Number(value.replace("@", ""));
    values.set(field, Number.isNaN(number) ? value : number);
  }
  return values;
}

/** Compares every field that the fixture set and that has a name here. Returns how many. */
function compareFields<T>(
  decoded: T,
  names: Readonly<Record<string, (structure: T) => unknown>>,
  values: ReadonlyMap<string, number | string>,
): number {
  for (const [name, valueOf] of Object.entries(names)) {
    const expected = values.get(name);
    assert(expected !== undefined, name);
    assertEquals(valueOf(decoded), expected, name);
  }
  return Object.keys(names).length;
}

Deno.test("every field of the superblock is where debugfs puts it", () => {
  const superblock = decodeSuperblock(unpackFixture("fields").subarray(1024, 2048));
  const values = commands("ssv");
  compareFields(superblock, SUPERBLOCK_NAMES, values);
  assertEquals(superblock.defaultHashVersion, 2);
  // debugfs sets the time of its own writing, and names the hash.
  assertEquals(superblock.writeTime, 1700000000);
  const others = ["wtime", "def_hash_version"];
  assertEquals([...values.keys()].filter((name) => !(name in SUPERBLOCK_NAMES)), others);
});

Deno.test("every field of a group descriptor is where debugfs puts it", () => {
  const values = commands("set_bg");
  const descriptor = decodeGroupDescriptor(
    unpackFixture("fields").subarray(2048 + 3 * 64, 2048 + 4 * 64),
  );
  assertEquals(compareFields(descriptor, DESCRIPTOR_NAMES, values), values.size);
});

Deno.test("every field of an inode is where debugfs puts it", () => {
  const image = unpackFixture("fields");
  const { inodeTableBlock } = decodeGroupDescriptor(image.subarray(2048, 2048 + 64));
  const start = inodeTableBlock * 1024 + 11 * 256;
  const inode = decodeInode(image.subarray(start, start + 256));
  const values = commands("sif");
  let count = compareFields(inode, INODE_NAMES, values);
  for (const name of ["atime", "ctime", "mtime", "crtime"] as const) {
    const [low, extra] = [values.get(`${name}_lo`), values.get(`${name}_extra`)];
    assert(typeof low === "number" && typeof extra === "number");
    assertEquals(inode[name], timestampFromWords(low, extra), name);
    count += 2;
  }
  assertEquals(count, values.size);
});

interface Sample {
  readonly word: number;
  readonly long: number;
  readonly halves: number;
  readonly fixed: Uint8Array;
  readonly padded: Uint8Array;
}

const SAMPLE: FieldTable<Sample> = {
  word: u32(0),
  long: u64(4),
  halves: u16WithHigh(12, 30),
  fixed: bytes(14, 4),
  padded: paddedBytes(18, 4),
};

Deno.test("a field table reads what it wrote, and leaves other bytes alone", () => {
  const structure = new Uint8Array(32).fill(0xaa);
  const sample = {
    word: 0xfffffffe,
    long: Number.MAX_SAFE_INTEGER,
    halves: 0x12345678,
    fixed: Uint8Array.of(1, 2, 3, 0),
    padded: Uint8Array.of(0, 5),
  };
  writeFields(SAMPLE, structure, sample);
  assertEquals(readFields(SAMPLE, structure), sample);
  assertEquals(structure.slice(18, 24), Uint8Array.of(0, 5, 0, 0, 0xaa, 0xaa));
  const neutral = neutralFields(SAMPLE);
  assertEquals([neutral.word, neutral.fixed.length, neutral.padded.length], [0, 4, 0]);
});

Deno.test("a structure without room for high halves has only the low ones", () => {
  const structure = new Uint8Array(30);
  const neutral = neutralFields(SAMPLE);
  writeFields(SAMPLE, structure, { ...neutral, halves: 0xffff });
  assertEquals(readFields(SAMPLE, structure).halves, 0xffff);
  const wide = { ...neutral, halves: 0x10000 };
  assertThrows(() => writeFields(SAMPLE, structure, wide), Error, "halves = 65536");
});

Deno.test("a number over 2^53 is refused, not rounded", () => {
  const structure = new Uint8Array(32);
  structure.set([1, 0, 0x20, 0], 8);
  assertThrows(() => readFields(SAMPLE, structure), InputError, "offset 4 of the structure");
});
