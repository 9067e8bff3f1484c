/**
 * The copies of the superblock and of the descriptors. A mounted file system lets them fall behind in what changes all
 * the time, such as counts; what describes its shape must be equal.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { COMPAT, INCOMPAT, RO_COMPAT, SUPERBLOCK_SIZE_BYTES } from "../../format/constants.ts";
import type { GroupDescriptor } from "../../format/group_descriptor.ts";
import {
  decodeGroupDescriptor,
  groupDescriptorChecksum,
  groupDescriptorCrc16,
  storedGroupDescriptorChecksum,
} from "../../format/group_descriptor.ts";
import type { Superblock } from "../../format/superblock.ts";
import {
  decodeSuperblock,
  storedSuperblockChecksum,
  superblockChecksum,
} from "../../format/superblock.ts";
import type { Context } from "./context.ts";
import { hex } from "./findings.ts";

/** Fields of the shape. */
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

/** Features that the kernel turns on or off in the primary alone, as they come into use. */
const CHANGING_COMPAT = COMPAT.EXT_ATTR | COMPAT.HAS_JOURNAL | COMPAT.DIR_INDEX;
const CHANGING_INCOMPAT = INCOMPAT.RECOVER | INCOMPAT.EXTENTS | INCOMPAT.ENCRYPT |
  INCOMPAT.CSUM_SEED;
const CHANGING_RO_COMPAT = RO_COMPAT.LARGE_FILE | RO_COMPAT.HUGE_FILE | RO_COMPAT.DIR_NLINK |
  RO_COMPAT.EXTRA_ISIZE | RO_COMPAT.ORPHAN_PRESENT | RO_COMPAT.VERITY | RO_COMPAT.READONLY;

/** Compares every backup with the primary. */
export function checkBackups(context: Context): void {
  const { volume } = context;
  const backups = volume.backupGroups();
  for (const group of backups) checkBackupSuperblock(context, group);
  // Descriptors that could not be read have nothing to be compared with.
  const tableBlocks = Math.ceil(context.groups.length / volume.descriptorsPerBlock);
  for (let index = 0; index < tableBlocks; index++) {
    const intact = readIntact(context, index);
    for (const group of copyGroups(context, index, backups)) {
      checkBackupDescriptors(context, index, group, intact);
    }
  }
}

function checkBackupSuperblock(context: Context, group: number): void {
  const { volume, findings } = context;
  const offset = volume.groupStart(group) * volume.blockSizeBytes;
  const place = { group, offset };
  const encoded = new Uint8Array(SUPERBLOCK_SIZE_BYTES);
  if (volume.reader.readAt(encoded, offset) !== encoded.length) {
    findings.add("backup superblock", place, "it is past the end");
    return;
  }
  const backup = findings.attempt("backup superblock", place, () => decodeSuperblock(encoded));
  if (backup === undefined) return;
  if (volume.hasRoCompat(RO_COMPAT.METADATA_CSUM)) {
    const [found, wanted] = [storedSuperblockChecksum(encoded), superblockChecksum(encoded)];
    findings.expectChecksum("backup superblock", place, found, wanted);
  }
  const primary = volume.superblock;
  for (const field of SHAPE) {
    findings.expect("backup superblock", place, field, backup[field], primary[field]);
  }
  const sameFeatures = (name: string, found: number, wanted: number, changing: number) => {
    if (((found ^ wanted) & ~changing) === 0) return;
    findings.add("backup superblock", place, name, { found: hex(found), wanted: hex(wanted) });
  };
  sameFeatures("featureCompat", backup.featureCompat, primary.featureCompat, CHANGING_COMPAT);
  sameFeatures(
    "featureIncompat",
    backup.featureIncompat,
    primary.featureIncompat,
    CHANGING_INCOMPAT,
  );
  sameFeatures(
    "featureRoCompat",
    backup.featureRoCompat,
    primary.featureRoCompat,
    CHANGING_RO_COMPAT,
  );
  const same = (name: string, found: ArrayLike<number>, wanted: ArrayLike<number>) => {
    const [a, b] = [Array.from(found), Array.from(wanted)];
    if (a.join() === b.join()) return;
    const text = (values: number[]) => values.map((value) => value.toString(16)).join(" ");
    findings.add("backup superblock", place, name, { found: text(a), wanted: text(b) });
  };
  same("uuid", backup.uuid, primary.uuid);
  same("hashSeed", backup.hashSeed, primary.hashSeed);
  same("backupGroups", backup.backupGroups, primary.backupGroups);
}

/** The groups that hold a copy of a block of the descriptor table. */
function copyGroups(context: Context, index: number, backups: readonly number[]): number[] {
  const { volume } = context;
  const { descriptorsPerBlock } = volume;
  const { firstMetaBlockGroup } = volume.superblock;
  const hasMetaGroups = volume.hasIncompat(INCOMPAT.META_BG);
  if (hasMetaGroups && index >= firstMetaBlockGroup) {
    const first = index * descriptorsPerBlock;
    return [first + 1, first + descriptorsPerBlock - 1].filter((group) =>
      group < volume.groupCount && volume.groupStart(group) < volume.endBlock
    );
  }
  return backups.filter((group) =>
    !hasMetaGroups || Math.floor(group / descriptorsPerBlock) < firstMetaBlockGroup
  );
}

/** A block of the descriptor table when every checksum in it is right: an equal copy is right, too. */
function readIntact({ volume, groups }: Context, index: number): Uint8Array | undefined {
  const first = index * volume.descriptorsPerBlock;
  const end = Math.min(first + volume.descriptorsPerBlock, groups.length);
  for (let group = first; group < end; group++) if (!groups[group]!.isIntact) return undefined;
  return volume.read(volume.descriptorBlock(index));
}

function checkBackupDescriptors(
  context: Context,
  index: number,
  copyGroup: number,
  intact: Uint8Array | undefined,
): void {
  const { volume, findings, groups } = context;
  const { descriptorsPerBlock, descriptorSizeBytes, superblock } = volume;
  const isMeta = volume.hasIncompat(INCOMPAT.META_BG) && index >= superblock.firstMetaBlockGroup;
  const head = volume.groupStart(copyGroup) + (volume.hasSuperblock(copyGroup) ? 1 : 0);
  const block = isMeta ? head : head + index;
  const bytes = volume.read(block);
  if (bytes === undefined) {
    findings.add("backup group descriptor", { group: copyGroup, block }, "it is past the end");
    return;
  }
  if (intact !== undefined && Buffer.compare(bytes, intact) === 0) return;
  for (let i = 0; i < descriptorsPerBlock; i++) {
    const group = index * descriptorsPerBlock + i;
    const primary = groups[group]?.descriptor;
    if (primary === undefined) continue;
    const at = i * descriptorSizeBytes;
    const encoded = bytes.subarray(at, at + descriptorSizeBytes);
    const place = { group, offset: block * volume.blockSizeBytes + at };
    compareDescriptor(context, { encoded, place, group, primary });
  }
}

function compareDescriptor(
  context: Context,
  copy: {
    readonly encoded: Uint8Array;
    readonly place: { readonly group: number; readonly offset: number };
    readonly group: number;
    readonly primary: GroupDescriptor;
  },
): void {
  const { volume, findings } = context;
  const { encoded, place, group, primary } = copy;
  const structure = "backup group descriptor";
  const backup = findings.attempt(structure, place, () => decodeGroupDescriptor(encoded));
  if (backup === undefined) return;
  const stored = storedGroupDescriptorChecksum(encoded);
  const { uuid } = volume.superblock;
  if (volume.seed !== undefined) {
    const wanted = groupDescriptorChecksum(encoded, { groupIndex: group, seed: volume.seed });
    findings.expectChecksum(structure, place, stored, wanted);
  } else if (volume.hasGroupChecksums) {
    const wanted = groupDescriptorCrc16(encoded, { groupIndex: group, uuid });
    findings.expectChecksum(structure, place, stored, wanted);
  }
  for (const field of ["blockBitmapBlock", "inodeBitmapBlock", "inodeTableBlock"] as const) {
    findings.expect(structure, place, field, backup[field], primary[field]);
  }
}
