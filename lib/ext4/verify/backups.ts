/**
 * The copies of the superblock and of the descriptors. A mounted file system lets them fall behind in what changes all
 * the time, such as counts; what describes its shape must be equal.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { COMPAT, INCOMPAT, RO_COMPAT, SUPERBLOCK_SIZE_BYTES } from "../format/constants.ts";
import { decodeGroupDescriptor } from "../format/group_descriptor.ts";
import type { Superblock } from "../format/superblock.ts";
import {
  decodeSuperblock,
  storedSuperblockChecksum,
  superblockChecksum,
} from "../format/superblock.ts";
import type { Context } from "./context.ts";
import { type Finding, hex, Judge } from "../volume/judge.ts";

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

/**
 * Compares every backup with the primary. Those of other writers than this program may be stale: nobody reads them as long
 * as the primary is whole, and their faults are notes.
 */
export function checkBackups(whole: Context, isBlessed: boolean): void {
  const context = isBlessed ? whole : withNotes(whole);
  const { volume } = context;
  const backups = volume.backupGroups();
  for (const group of backups) checkBackupSuperblock(context, group);
  // Descriptors that could not be read have nothing to be compared with.
  const tableBlocks = Math.ceil(context.groups.length / volume.descriptorsPerBlock);
  for (let index = 0; index < tableBlocks; index++) {
    const intact = readIntact(context, index);
    for (const copy of volume.descriptorBackups(index, backups)) {
      checkBackupDescriptors(context, index, copy, intact);
    }
  }
}

/** The same context, in which every fault is a note. */
function withNotes(context: Context): Context {
  const volume = context.volume.withJudge(new NoteJudge(context.judge));
  return { ...context, volume, judge: volume.judge };
}

/** Hands faults on as notes. */
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
  const sameFeatures = (name: string, found: number, wanted: number, changing: number) => {
    if (((found ^ wanted) & ~changing) === 0) return;
    judge.report("backup superblock", location, name, { found: hex(found), wanted: hex(wanted) });
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
    judge.report("backup superblock", location, name, { found: text(a), wanted: text(b) });
  };
  same("uuid", backup.uuid, primary.uuid);
  same("hashSeed", backup.hashSeed, primary.hashSeed);
  same("backupGroups", backup.backupGroups, primary.backupGroups);
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
