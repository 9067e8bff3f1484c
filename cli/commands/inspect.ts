/**
 * `blessfs inspect`: the structures of an image, or of one inode, for people and for scripts.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { existsSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import {
  type ByteString,
  byteStringFromBytes,
  byteStringFromText,
  displayName,
} from "../../lib/bytes/byte_string.ts";
import { formatUuid } from "../../lib/bytes/digest.ts";
import { throwIfAborted, UsageError } from "../../lib/errors.ts";
import type { Superblock } from "../../lib/ext4/format/superblock.ts";
import { joinXattrName } from "../../lib/ext4/format/xattr.ts";
import { openExt4Image } from "../../lib/ext4/read/image.ts";
import {
  type ChecksumPair,
  type GroupInspection,
  type ImageInspection,
  type InodeInspection,
  inspectImage,
  inspectInode,
} from "../../lib/ext4/read/inspect.ts";
import { findInode } from "../../lib/ext4/read/directory.ts";
import type { StoredXattr } from "../../lib/ext4/read/content.ts";
import { statIfThere } from "../../lib/io/paths.ts";
import type { RandomReader } from "../../lib/io/random_reader.ts";
import { holdsTar } from "../../lib/source/source.ts";
import { parseSourceName } from "../../lib/source/source_name.ts";
import { Warnings } from "../../lib/warnings.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { safeLine } from "../errors.ts";
import { INSPECTED_SOURCE_OPTIONS } from "../table/options.ts";
import { aligned, type Rows, type Style } from "../text.ts";
import { formatSize, parseCount } from "../values.ts";
import { inodeNumberOf, parseImageAccess, withImageReader } from "./image.ts";
import { modeText, shownBytes, timeText } from "./ls.ts";

/** More groups than this (8 TiB) are not put into one JSON document. */
const JSON_GROUPS_MAX = 65_536;
const YIELD_AFTER_GROUPS = 256;

export async function run(args: ParsedArguments, io: CommandIo): Promise<void> {
  if (await isSource(args.positional("IMAGE"), io)) {
    const { runSource } = await import("./inspect_source.ts");
    return await runSource(args, io);
  }
  const unused = args.firstGiven(INSPECTED_SOURCE_OPTIONS.map(({ name }) => name));
  if (unused !== undefined) {
    throw new UsageError(`--${unused}`, "has no effect on ext4 images", { hint: "leave it out" });
  }
  const maxRunCount = args.read("max-extents", (text, what) => {
    return parseCount(text, what, 0, 100_000_000);
  });
  const [operand] = args.positionals("PATH");
  const warnings = new Warnings(args.flag("strict"));
  await withImageReader(args.positional("IMAGE"), parseImageAccess(args, io), async (reader) => {
    if (operand === undefined) await showImage(reader, warnings, io);
    else await showInode(reader, operand, { warnings, maxRunCount }, io);
  });
}

/** Whether the operand names a source other than an ext4 image. */
async function isSource(operand: string, io: CommandIo): Promise<boolean> {
  if (operand === "-") return false;
  const name = parseSourceName(operand, existsSync);
  if (name.kind !== "path") return name.kind !== "ext4";
  const found = statIfThere(name.path);
  if (found?.isDirectory()) return true;
  if (!found?.isFile()) return false;
  const { progress, signal } = io;
  return await holdsTar(name.path, { progress, signal, warnings: new Warnings() });
}

async function showImage(reader: RandomReader, warnings: Warnings, io: CommandIo): Promise<void> {
  const inspection = inspectImage(reader);
  if (warnings.strict) openExt4Image(reader, { warnings });
  const groups: GroupInspection[] = [];
  if (!io.json) await io.stdout.write(imageText(inspection, io.style));
  let count = 0;
  for (const group of inspection.groups()) {
    if (!io.json) await io.stdout.write(groupText(group, inspection, io.style));
    else if (count < JSON_GROUPS_MAX) groups.push(group);
    else break;
    if (++count % YIELD_AFTER_GROUPS !== 0) continue;
    await setImmediate();
    throwIfAborted(io.signal);
  }
  if (!io.json) return;
  await io.writeJson({ ...imageJson(inspection), groups: groups.map(groupJson) });
}

async function showInode(
  reader: RandomReader,
  operand: string,
  options: { readonly warnings: Warnings; readonly maxRunCount: number },
  io: CommandIo,
): Promise<void> {
  const image = openExt4Image(reader, { warnings: options.warnings });
  io.warn(options.warnings.list());
  const byNumber = inodeNumberOf(operand);
  const found = byNumber === undefined
    ? findInode(image, byteStringFromText(operand), { followsLast: false })
    : undefined;
  const inspection = inspectInode(image, byNumber ?? found!.inode.number, options);
  if (io.json) await io.writeJson(inodeJson(image.name, found?.path, inspection));
  else await io.stdout.write(inodeText(found?.path, inspection, io.style));
}

const UUID_FIELDS: ReadonlySet<string> = new Set(["uuid", "journalUuid", "encryptPasswordSalt"]);
const TEXT_FIELDS: ReadonlySet<string> = new Set([
  "volumeName",
  "lastMounted",
  "firstErrorFunction",
  "lastErrorFunction",
  "mountOptions",
]);

/** The document without the groups. */
function imageJson(inspection: ImageInspection): Record<string, unknown> {
  const { name, fileSizeBytes, superblock, geometry, features, checksum, journal, faults } =
    inspection;
  return {
    image: name,
    fileSizeBytes,
    sizeBytes: geometry.blocksCount * geometry.blockSizeBytes,
    blockSizeBytes: geometry.blockSizeBytes,
    groupCount: geometry.groupCount,
    features,
    superblock: superblockJson(superblock),
    superblockChecksum: checksum ?? null,
    journal: journal === undefined ? null : { ...journal, uuid: formatUuid(journal.uuid) },
    faults,
  };
}

/** One group; checksums that the file system does not have are null. */
function groupJson(group: GroupInspection): Record<string, unknown> {
  const { checksum, blockBitmap, inodeBitmap, flagNames, ...rest } = group;
  const { blockBitmapChecksum: _block, inodeBitmapChecksum: _inode, ...numbers } = rest;
  return {
    ...numbers,
    flagNames,
    checksum: checksum ?? null,
    blockBitmapChecksum: blockBitmap ?? null,
    inodeBitmapChecksum: inodeBitmap ?? null,
  };
}

/** Every field by name; bytes as a UUID, text or hex. */
function superblockJson(superblock: Superblock): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(superblock).map(([name, value]) => [
      name,
      value instanceof Uint8Array ? bytesJson(name, value) : value,
    ]),
  );
}

function bytesJson(name: string, bytes: Uint8Array): string {
  if (UUID_FIELDS.has(name)) return formatUuid(bytes);
  if (TEXT_FIELDS.has(name)) return displayName(byteStringFromBytes(bytes));
  return Buffer.from(bytes).toString("hex");
}

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

/** Everything but the groups. Empty text is shown as `none`. */
function imageText(inspection: ImageInspection, style: Style): string {
  const { superblock, faults } = inspection;
  const rows: Rows = [
    ...identityRows(inspection),
    ...countRows(inspection),
    ...stateRows(superblock),
    ...rareRows(superblock),
    ...journalRows(inspection),
    ["checksum", checksumText(inspection.checksum, 8, style)],
    ...faults.map((fault) => ["fault", style.red(safeLine(fault))] as const),
  ];
  return aligned(rows.map(([label, value]) => [label, value === "" ? "none" : value]));
}

function groupText(
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

/** A stored checksum, and the expected one if it differs. */
function checksumText(
  pair: ChecksumPair | undefined,
  digits: number,
  style: Style,
): string {
  if (pair === undefined) return "none";
  const hex = (value: number): string => `0x${value.toString(16).padStart(digits, "0")}`;
  if (pair.stored === pair.computed) return `${hex(pair.stored)} (right)`;
  return style.red(`${hex(pair.stored)}, should be ${hex(pair.computed)}`);
}

function identityRows({ name, superblock, features }: ImageInspection): Rows {
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
    ["features", features.join(" ")],
    ["flags", FLAG_NAMES.filter(([bit]) => (flags & bit) !== 0).map(([, n]) => n).join(", ")],
    ["default mount options", hex(superblock.defaultMountOptions)],
    ["mount options", bytesText(superblock.mountOptions)],
    ["state", states.join(", ")],
    ["on errors", ERROR_NAMES[superblock.errorsBehaviour] ?? `${superblock.errorsBehaviour}`],
    ["made by", OS_NAMES[superblock.creatorOs] ?? `${superblock.creatorOs}`],
  ];
}

function countRows({ superblock, geometry, fileSizeBytes }: ImageInspection): Rows {
  const sizeBytes = geometry.blocksCount * geometry.blockSizeBytes;
  const { blocksPerGroup, inodesPerGroup, reservedUid, reservedGid } = superblock;
  const owner = `user ${reservedUid}, group ${reservedGid}`;
  return [
    ["size", `${formatSize(sizeBytes)} (${sizeBytes} bytes, the file has ${fileSizeBytes})`],
    ["block size", `${geometry.blockSizeBytes}`],
    ["blocks", `${superblock.blocksCount}, ${superblock.freeBlocksCount} free`],
    ["reserved blocks", `${superblock.reservedBlocksCount} for ${owner}`],
    ["overhead blocks", `${superblock.overheadBlocks}`],
    ["inodes", `${superblock.inodesCount}, ${superblock.freeInodesCount} free`],
    ["first block", `${superblock.firstDataBlock}`],
    [
      "groups",
      `${geometry.groupCount} of ${blocksPerGroup} blocks and ${inodesPerGroup} inodes`,
    ],
    ["groups in a flex group", `${2 ** (superblock.logGroupsPerFlex % 32)}`],
    ["descriptor size", `${geometry.descriptorSizeBytes}`],
    ["reserved descriptor blocks", `${superblock.reservedGdtBlocks}`],
    ["first meta group", `${superblock.firstMetaBlockGroup}`],
    ["groups with backups", superblock.backupGroups.join(", ")],
    ["RAID stride, stripe width", `${superblock.raidStride}, ${superblock.raidStripeWidth}`],
  ];
}

function stateRows(superblock: Superblock): Rows {
  const { mountCount, maxMountCount, minExtraInodeSize, wantExtraInodeSize } = superblock;
  const { errorCount, checksumType, defaultHashVersion } = superblock;
  const seedBytes = new Uint8Array(new Uint32Array(superblock.hashSeed).buffer);
  const error = (which: "first" | "last") =>
    errorCount === 0 ? undefined : `${moment(superblock[`${which}ErrorTime`])}, ` +
      `${bytesText(superblock[`${which}ErrorFunction`])}:${superblock[`${which}ErrorLine`]}, ` +
      `inode ${superblock[`${which}ErrorInode`]}, block ${superblock[`${which}ErrorBlock`]}, ` +
      `code ${superblock[`${which}ErrorCode`]}`;
  return [
    ["created", moment(superblock.mkfsTime)],
    ["last mounted", moment(superblock.mountTime)],
    ["last written", moment(superblock.writeTime)],
    ["last checked", moment(superblock.lastCheckTime)],
    ["mounts", `${mountCount} since the last check, to be checked after ${maxMountCount}`],
    ["check interval", `${superblock.checkIntervalSeconds} s`],
    ["written in its life", `${superblock.kbytesWritten} KiB`],
    ["first inode", `${superblock.firstInode}`],
    ["inode size", `${superblock.inodeSizeBytes}`],
    ["extra inode size", `${minExtraInodeSize} needed, ${wantExtraInodeSize} wanted`],
    ["directory hash", HASH_NAMES[defaultHashVersion] ?? `${defaultHashVersion}`],
    ["directory hash seed", formatUuid(seedBytes)],
    ["checksum type", checksumType === 1 ? "crc32c" : `${checksumType}`],
    ["checksum seed", hex(superblock.checksumSeed)],
    ["errors", errorCount === 0 ? "" : `${errorCount}`],
    ["first error", error("first")],
    ["last error", error("last")],
  ];
}

/** Fields that are nearly always zero are shown only when they are not. */
function rareRows(superblock: Superblock): Rows {
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
  return rare.map(([label, value]) => [label, value === 0 ? undefined : `${value}`]);
}

function journalRows({ journal }: ImageInspection): Rows {
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

function moment(seconds: number): string {
  return seconds === 0 ? "never" : timeText({ seconds });
}

function bytesText(bytes: Uint8Array): string {
  return displayName(byteStringFromBytes(bytes));
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

const TIMES = ["atime", "ctime", "mtime", "crtime"] as const;
/** Longer values are cut in text; JSON contains them whole. */
const SHOWN_VALUE_BYTES = 64;

function inodeJson(
  image: string,
  path: ByteString | undefined,
  inspection: InodeInspection,
): Record<string, unknown> {
  const { record, target, xattrs, runs, slot, ...rest } = inspection;
  const { blockNumber, offsetBytes } = slot;
  const { blockField, xattrArea: _area, ...fields } = record;
  return {
    image,
    ...(path === undefined ? {} : shownBytes("path", path || "/")),
    ...rest,
    place: { blockNumber, offsetBytes },
    checksum: rest.checksum ?? null,
    record: { ...fields, blockField: Buffer.from(blockField).toString("hex") },
    ...(target === undefined ? {} : shownBytes("target", target)),
    extents: runs,
    xattrs: xattrs.map(({ nameIndex, suffix, value, location, valueInode, entryHash }) => ({
      ...shownBytes("name", nameOf({ nameIndex, suffix })),
      nameIndex,
      place: location,
      valueInode: valueInode ?? null,
      entryHash,
      valueBase64: Buffer.from(value).toString("base64"),
    })),
  };
}

function inodeText(
  path: ByteString | undefined,
  inspection: InodeInspection,
  style: Style,
): string {
  const { record, kind, slot, faults } = inspection;
  const shownMode = kind === undefined ? "" : ` (${modeText({ kind, record })})`;
  const { target, device, directory, inlineSizeBytes } = inspection;
  const unit = inspection.flagNames.includes("Huge_file") ? "the file system" : "512 bytes";
  const rows: Rows = [
    ["path", path === undefined ? undefined : displayName(path || "/")],
    ["inode", `${inspection.inodeNumber}, in block ${slot.blockNumber} at ${slot.offsetBytes}`],
    ["kind", kind ?? "none: the inode was never used"],
    ["mode", `0${record.mode.toString(8)}${shownMode}`],
    ["owner", `user ${record.uid}, group ${record.gid}, project ${record.projectId}`],
    ["size", `${record.sizeBytes}`],
    ["links", `${record.linkCount}`],
    ["blocks", `${record.sectorCount} of ${unit}`],
    ["flags", [`0x${record.flags.toString(16)}`, ...inspection.flagNames].join(" ")],
    ["generation", `${record.generation}`],
    ["version", `${record.versionHigh}:${record.versionLow}`],
    ...TIMES.map((name) => [name, nanosecondTime(record[name])] as const),
    ["dtime", record.dtime === 0 ? undefined : `${record.dtime}`],
    ["extra size", `${record.extraSizeBytes}`],
    ["attribute block", record.xattrBlock === 0 ? "none" : `${record.xattrBlock}`],
    ["checksum", checksumText(inspection.checksum, 8, style)],
    ["content in", inspection.contentPlace],
    ["room in the inode", inlineSizeBytes === undefined ? undefined : `${inlineSizeBytes} bytes`],
    ["target", target === undefined ? undefined : displayName(target)],
    ["device", device && `${device.deviceMajor}, ${device.deviceMinor}`],
    ["names", directory && `${directory.nameCount}`],
    ["parent", directory && `${directory.parentInodeNumber}`],
    ...faults.map((fault) => ["fault", style.red(safeLine(fault))] as const),
  ];
  return aligned(rows) + mapText(inspection) + xattrText(inspection.xattrs);
}

function mapText(inspection: InodeInspection): string {
  const { runs, runCount, mapBlocks, mapBlockCount, contentPlace } = inspection;
  if (runCount + mapBlockCount === 0) return "";
  const lines = [`${contentPlace} (${runCount} in ${mapBlockCount} blocks):`];
  for (const { blockNumber, depth, logicalBlock } of mapBlocks) {
    lines.push(
      `  map block ${blockNumber}, ${depth} levels above its end, from ${logicalBlock} on`,
    );
  }
  for (const { logicalBlock, blockCount, startBlock, unwritten } of runs) {
    const span = (start: number): string =>
      blockCount === 1 ? `${start}` : `${start}-${start + blockCount - 1}`;
    lines.push(`  ${span(logicalBlock)}: ${span(startBlock)}${unwritten ? " (unwritten)" : ""}`);
  }
  const left = runCount - runs.length;
  if (left > 0) lines.push(`  and ${left} more (--max-extents)`);
  return `${lines.join("\n")}\n`;
}

function xattrText(xattrs: readonly StoredXattr[]): string {
  if (xattrs.length === 0) return "";
  const lines = xattrs.map((xattr) => {
    const where = xattr.valueInode === undefined
      ? xattr.location
      : `${xattr.location}, value in inode ${xattr.valueInode}`;
    const shown = displayName(byteStringFromBytes(xattr.value.subarray(0, SHOWN_VALUE_BYTES)));
    const more = xattr.value.length > SHOWN_VALUE_BYTES ? "..." : "";
    const name = displayName(nameOf(xattr));
    return `  ${name} (${xattr.value.length} bytes, in the ${where}) = "${shown}"${more}`;
  });
  return `attributes:\n${lines.join("\n")}\n`;
}

/** The whole name, or its two parts if the prefix number is unknown. */
function nameOf(xattr: Pick<StoredXattr, "nameIndex" | "suffix">): ByteString {
  return joinXattrName(xattr.nameIndex, xattr.suffix) ?? `${xattr.nameIndex}:${xattr.suffix}`;
}

function nanosecondTime(time: { readonly seconds: number; readonly nanoseconds: number }): string {
  const fraction = `${time.nanoseconds}`.padStart(9, "0");
  return timeText(time).replace("Z", `.${fraction}Z`);
}
