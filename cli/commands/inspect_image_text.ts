/**
 * What `blessfs inspect IMAGE` prints for people.
 *
 * @module
 */
import { byteStringFromBytes, displayName } from "../../lib/bytes/byte_string.ts";
import type { Superblock } from "../../lib/ext4/format/superblock.ts";
import { formatUuid } from "../../lib/bytes/uuid.ts";
import type {
  ChecksumPair,
  GroupInspection,
  ImageInspection,
} from "../../lib/ext4/read/inspect_image.ts";
import { safeLine } from "../errors_output.ts";
import { formatSize } from "../sizes.ts";
import type { Style } from "../style.ts";
import { aligned } from "../text.ts";
import { timeText } from "./ls_entry.ts";

type Line = readonly [label: string, value: string];

const HASH_NAMES: Readonly<Record<number, string>> = {
  0: "legacy",
  1: "half_md4",
  2: "tea",
  6: "siphash",
};
const ERROR_NAMES: Readonly<Record<number, string>> = {
  1: "continue",
  2: "remount read-only",
  3: "panic",
};
const FLAG_NAMES: readonly (readonly [number, string])[] = [
  [1, "signed directory hash"],
  [2, "unsigned directory hash"],
  [4, "test file system"],
];
const OS_NAMES: readonly string[] = ["Linux", "Hurd", "Masix", "FreeBSD", "Lites"];

/** Everything but the groups. */
export function imageText(inspection: ImageInspection, style: Style): string {
  const { superblock, faults } = inspection;
  const lines: Line[] = [
    ...identity(inspection),
    ...counts(inspection),
    ...history(superblock),
    ...inodeLines(superblock),
    ...errorLines(superblock),
    ...rareLines(superblock),
    ...journalLines(inspection),
    ["checksum", checksumText(inspection.checksum, 8, style)],
    ...faults.map((fault): Line => ["fault", style.red(safeLine(fault))]),
  ];
  return aligned(lines.map(([label, value]) => [label, value === "" ? "none" : value]));
}

/** One group in a few lines. */
export function groupText(
  group: GroupInspection,
  { superblock }: ImageInspection,
  style: Style,
): string {
  const last = group.startBlock + group.blockCount - 1;
  const flags = group.flagNames.length === 0 ? "" : ` [${group.flagNames.join(", ")}]`;
  const table = group.inodeTableBlock;
  const start = group.group === 0 ? "superblock" : "backup superblock";
  const gdt = superblock.reservedGdtBlocks > 0 && group.hasSuperblock
    ? `, ${superblock.reservedGdtBlocks} blocks reserved for more`
    : "";
  return [
    "",
    `group ${group.group}: blocks ${group.startBlock} to ${last}${flags}`,
    `  descriptor in block ${group.descriptorBlock}, checksum ${
      checksumText(group.checksum, 4, style)
    }`,
    ...(group.hasSuperblock ? [`  ${start} in block ${group.startBlock}${gdt}`] : []),
    `  block bitmap ${group.blockBitmapBlock}, checksum ${
      checksumText(group.blockBitmap, 4, style)
    }`,
    `  inode bitmap ${group.inodeBitmapBlock}, checksum ${
      checksumText(group.inodeBitmap, 4, style)
    }`,
    `  inode table ${table} to ${table + group.inodeTableBlockCount - 1}`,
    `  free: ${group.freeBlocksCount} blocks, ${group.freeInodesCount} inodes ` +
    `(${group.itableUnusedCount} never used); ${group.usedDirectoriesCount} directories`,
    "",
  ].join("\n");
}

/** A stored checksum, and the one that it should be where that is another. */
export function checksumText(
  pair: ChecksumPair | undefined,
  digits: number,
  style: Style,
): string {
  if (pair === undefined) return "none";
  const hex = (value: number): string => `0x${value.toString(16).padStart(digits, "0")}`;
  if (pair.stored === pair.computed) return `${hex(pair.stored)} (right)`;
  return style.red(`${hex(pair.stored)}, should be ${hex(pair.computed)}`);
}

function identity({ name, superblock, features }: ImageInspection): Line[] {
  const { flags, state } = superblock;
  const states = [
    (state & 1) !== 0 ? "clean" : "not clean",
    ...((state & 2) !== 0 ? ["with errors"] : []),
    ...((state & 4) !== 0 ? ["orphans being recovered"] : []),
  ];
  return [
    ["image", safeLine(name)],
    ["label", bytesText(superblock.volumeName)],
    ["UUID", formatUuid(superblock.uuid)],
    ["last mounted on", bytesText(superblock.lastMounted)],
    ["revision", `${superblock.revision}.${superblock.minorRevision}`],
    ["features", features.join(" ") || "none"],
    ["flags", FLAG_NAMES.filter(([bit]) => (flags & bit) !== 0).map(([, n]) => n).join(", ")],
    ["default mount options", hex(superblock.defaultMountOptions)],
    ["mount options", bytesText(superblock.mountOptions)],
    ["state", states.join(", ")],
    ["on errors", ERROR_NAMES[superblock.errorsBehaviour] ?? `${superblock.errorsBehaviour}`],
    ["made by", OS_NAMES[superblock.creatorOs] ?? `${superblock.creatorOs}`],
  ];
}

function counts({ superblock, geometry, fileSizeBytes }: ImageInspection): Line[] {
  const sizeBytes = geometry.blocksCount * geometry.blockSizeBytes;
  return [
    ["size", `${formatSize(sizeBytes)} (${sizeBytes} bytes, the file has ${fileSizeBytes})`],
    ["block size", `${geometry.blockSizeBytes}`],
    ["blocks", `${superblock.blocksCount}, ${superblock.freeBlocksCount} free`],
    ["reserved blocks", `${superblock.reservedBlocksCount} for ${owner(superblock)}`],
    ["overhead blocks", `${superblock.overheadBlocks}`],
    ["inodes", `${superblock.inodesCount}, ${superblock.freeInodesCount} free`],
    ["first block", `${superblock.firstDataBlock}`],
    [
      "groups",
      `${geometry.groupCount} of ${superblock.blocksPerGroup} blocks and ` +
      `${superblock.inodesPerGroup} inodes`,
    ],
    ["groups in a flex group", `${2 ** (superblock.logGroupsPerFlex % 32)}`],
    ["descriptor size", `${geometry.descriptorSizeBytes}`],
    ["reserved descriptor blocks", `${superblock.reservedGdtBlocks}`],
    ["first meta group", `${superblock.firstMetaBlockGroup}`],
    ["groups with backups", superblock.backupGroups.join(", ")],
    ["RAID stride, stripe width", `${superblock.raidStride}, ${superblock.raidStripeWidth}`],
  ];
}

function history(superblock: Superblock): Line[] {
  const { mountCount, maxMountCount, checkIntervalSeconds } = superblock;
  return [
    ["created", moment(superblock.mkfsTime)],
    ["last mounted", moment(superblock.mountTime)],
    ["last written", moment(superblock.writeTime)],
    ["last checked", moment(superblock.lastCheckTime)],
    ["mounts", `${mountCount} since the last check, to be checked after ${maxMountCount}`],
    ["check interval", `${checkIntervalSeconds} s`],
    ["written in its life", `${superblock.kbytesWritten} KiB`],
  ];
}

function inodeLines(superblock: Superblock): Line[] {
  const { minExtraInodeSize, wantExtraInodeSize, hashSeed } = superblock;
  const seedBytes = new Uint8Array(new Uint32Array(hashSeed).buffer);
  return [
    ["first inode", `${superblock.firstInode}`],
    ["inode size", `${superblock.inodeSizeBytes}`],
    ["extra inode size", `${minExtraInodeSize} needed, ${wantExtraInodeSize} wanted`],
    [
      "directory hash",
      HASH_NAMES[superblock.defaultHashVersion] ?? `${superblock.defaultHashVersion}`,
    ],
    ["directory hash seed", formatUuid(seedBytes)],
    ["checksum type", superblock.checksumType === 1 ? "crc32c" : `${superblock.checksumType}`],
    ["checksum seed", hex(superblock.checksumSeed)],
  ];
}

function errorLines(superblock: Superblock): Line[] {
  if (superblock.errorCount === 0) return [["errors", "none"]];
  const error = (which: "first" | "last"): string =>
    `${moment(superblock[`${which}ErrorTime`])}, ` +
    `${bytesText(superblock[`${which}ErrorFunction`])}:${superblock[`${which}ErrorLine`]}, ` +
    `inode ${superblock[`${which}ErrorInode`]}, block ${superblock[`${which}ErrorBlock`]}, ` +
    `code ${superblock[`${which}ErrorCode`]}`;
  return [
    ["errors", `${superblock.errorCount}`],
    ["first error", error("first")],
    ["last error", error("last")],
  ];
}

/** Fields that are zero nearly everywhere are shown where they are not. */
function rareLines(superblock: Superblock): Line[] {
  const rare: readonly (readonly [string, number])[] = [
    ["journal inode", superblock.journalInode],
    ["journal device", superblock.journalDevice],
    ["journal backup type", superblock.journalBackupType],
    ["first orphan inode", superblock.lastOrphan],
    ["orphan file inode", superblock.orphanFileInode],
    ["user quota inode", superblock.userQuotaInode],
    ["group quota inode", superblock.groupQuotaInode],
    ["project quota inode", superblock.projectQuotaInode],
    ["lost+found inode", superblock.lostFoundInode],
    ["MMP block", superblock.mmpBlock],
    ["MMP interval", superblock.mmpInterval],
    ["snapshot inode", superblock.snapshotInode],
    ["snapshot number", superblock.snapshotId],
    ["snapshot reserved blocks", superblock.snapshotReservedBlocksCount],
    ["snapshot list", superblock.snapshotList],
    ["preallocated blocks", superblock.preallocBlocks],
    ["preallocated directory blocks", superblock.preallocDirectoryBlocks],
    ["algorithms", superblock.algorithmUsageBitmap],
    ["encryption level", superblock.encryptionLevel],
    ["name encoding", superblock.encoding],
    ["name encoding flags", superblock.encodingFlags],
    ["in the group", superblock.blockGroupNumber],
  ];
  return rare.filter(([, value]) => value !== 0).map(([label, value]) => [label, `${value}`]);
}

function journalLines({ journal }: ImageInspection): Line[] {
  if (journal === undefined) return [];
  const { blockCount, blockSizeBytes, startBlock } = journal;
  const bytes = formatSize(blockCount * blockSizeBytes);
  return [
    ["journal", `${blockCount} blocks of ${blockSizeBytes} (${bytes})`],
    ["journal log", startBlock === 0 ? "empty" : `starts at its block ${startBlock}`],
    ["journal sequence", `${journal.sequence}`],
    ["journal features", `${hex(journal.featureIncompat)}, error ${journal.errorNumber}`],
    ["journal UUID", formatUuid(journal.uuid)],
  ];
}

function owner(superblock: Superblock): string {
  return `user ${superblock.reservedUid}, group ${superblock.reservedGid}`;
}

function moment(seconds: number): string {
  return seconds === 0 ? "never" : timeText({ seconds });
}

function bytesText(bytes: Uint8Array): string {
  return displayName(byteStringFromBytes(bytes));
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
