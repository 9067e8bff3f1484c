/**
 * Shows the fields of an image and its inodes, damaged or not: checksums are shown but not enforced, and unreadable
 * parts are listed.
 *
 * @module
 */
import type { ByteString } from "../../bytes/byte_string.ts";
import { InputError } from "../../errors.ts";
import type { RandomReader } from "../../io/random_reader.ts";
import { Warnings } from "../../warnings.ts";
import { bitmapChecksum, type GroupDescriptor } from "../format/group_descriptor.ts";
import { COMPAT, GROUP_FLAG, INODE_FLAG } from "../format/constants.ts";
import { inodeChecksum, type InodeRecord, storedInodeChecksum } from "../format/inode.ts";
import {
  decodeJournalSuperblock,
  JOURNAL_SUPERBLOCK_SIZE_BYTES,
  type JournalSuperblock,
} from "../format/journal.ts";
import type { Superblock } from "../format/superblock.ts";
import { physicalBlock } from "../volume/block_map.ts";
import { isFastSymlink } from "../volume/content.ts";
import {
  checkFeatures,
  type ChecksumPair,
  featureNames,
  type ImageGeometry,
  imageGeometry,
  readSuperblock,
} from "../volume/superblock.ts";
import { kindOfMode, type NodeKind } from "../volume/inode.ts";
import { MessageJudge } from "../volume/judge.ts";
import { type BlockOffset, Volume } from "../volume/volume.ts";
import {
  blockRuns,
  inlineData,
  type MapBlock,
  type MappedRun,
  readSymlink,
  type StoredXattr,
  XattrReader,
} from "./content.ts";
import { readDirectory } from "./directory.ts";
import {
  type Ext4Image,
  hasFlag,
  type ImageInode,
  openExt4Image,
  uncheckedInode,
} from "./image.ts";
import { deviceNumbers, FLAG_NAMES } from "./tree.ts";

export type { ChecksumPair } from "../volume/superblock.ts";

/** One group. */
export interface GroupInspection extends GroupDescriptor {
  /** Its number, from 0. */
  readonly group: number;
  /** Its first block. */
  readonly startBlock: number;
  /** Number of blocks; the last group may have fewer than the others. */
  readonly blockCount: number;
  /** Whether it begins with the superblock or a copy of it. */
  readonly hasSuperblock: boolean;
  /** Where its descriptor is. */
  readonly descriptorBlock: number;
  /** Blocks of the inode table. */
  readonly inodeTableBlockCount: number;
  /** Names of the bits of `flags`. */
  readonly flagNames: readonly string[];
  /** Checksum of the descriptor; undefined for a file system without checksums. */
  readonly checksum: ChecksumPair | undefined;
  /** Checksum of the block bitmap; undefined without metadata_csum, and if the bitmap was never written. */
  readonly blockBitmap: ChecksumPair | undefined;
  /** Checksum of the inode bitmap; undefined in the same cases. */
  readonly inodeBitmap: ChecksumPair | undefined;
}

/** The result of inspecting an image. */
export interface ImageInspection {
  /** The image's name. */
  readonly name: string;
  /** Size of the file or device. */
  readonly fileSizeBytes: number;
  /** All fields of the primary superblock. */
  readonly superblock: Superblock;
  /** The geometry that follows from it. */
  readonly geometry: ImageGeometry;
  /** Names as in dumpe2fs. */
  readonly features: readonly string[];
  /** Checksum of the superblock; undefined without metadata_csum. */
  readonly checksum: ChecksumPair | undefined;
  /** The journal's superblock; undefined without a readable journal. */
  readonly journal: JournalSuperblock | undefined;
  /** What could not be read, and why. */
  readonly faults: readonly string[];
  /** Yields the groups, reading them one by one. */
  groups(): Generator<GroupInspection>;
}

/**
 * Inspects an image. The superblock must have plausible numbers; nothing else is required, and checksums are shown but
 * not enforced.
 *
 * @throws {InputError} for anything but an ext2, ext3 or ext4 file system
 */
export function inspectImage(reader: RandomReader): ImageInspection {
  const { superblock, checksum } = readSuperblock(reader);
  const geometry = imageGeometry(superblock);
  const faults = new MessageJudge();
  faults.look(() => checkFeatures(superblock, new Warnings()));
  const hasJournal = (superblock.featureCompat & COMPAT.HAS_JOURNAL) !== 0;
  const volume = new Volume(reader, { superblock, geometry, judge: faults });
  return {
    name: reader.name,
    fileSizeBytes: reader.sizeBytes,
    superblock,
    geometry,
    features: featureNames(superblock),
    checksum,
    journal: hasJournal && superblock.journalInode !== 0
      ? faults.look(() => readJournal(reader))
      : undefined,
    faults: faults.messages,
    *groups() {
      for (let group = 0; group < volume.groupCount; group++) yield inspectGroup(volume, group);
    },
  };
}

function readJournal(reader: RandomReader): JournalSuperblock {
  const image = openExt4Image(reader, { warnings: new Warnings() });
  const inode = image.inode(image.superblock.journalInode);
  const first = physicalBlock(blockRuns(image, inode), 0);
  const block = first === undefined ? undefined : image.block(first);
  if (block === undefined) throw new InputError(inode.what, "the journal has no first block");
  return decodeJournalSuperblock(block.subarray(0, JOURNAL_SUPERBLOCK_SIZE_BYTES));
}

function inspectGroup(volume: Volume, group: number): GroupInspection {
  const { geometry, seed } = volume;
  const found = volume.findDescriptor(group);
  const descriptorBlock = volume.descriptorBlock(Math.floor(group / volume.descriptorsPerBlock));
  if (found === undefined) {
    const why = `its block ${descriptorBlock} is past the end of the image`;
    throw new InputError(`descriptor of group ${group}`, why);
  }
  const { descriptor, checksum } = found;
  const hasGroupFlag = (flag: number): boolean => (descriptor.flags & flag) !== 0;
  const bitmap = (block: number, uninitialised: number, stored: number, bits: number) => {
    if (seed === undefined || hasGroupFlag(uninitialised)) return undefined;
    const bytes = volume.block(block);
    if (bytes === undefined) return undefined;
    const computed = bitmapChecksum(seed, bytes, bits / 8);
    return { stored, computed: (computed & volume.bitmapChecksumMask) >>> 0 };
  };
  return {
    ...descriptor,
    group,
    startBlock: volume.groupStart(group),
    blockCount: volume.groupBlocks(group),
    hasSuperblock: volume.hasSuperblock(group),
    descriptorBlock,
    inodeTableBlockCount: volume.inodeTableBlocks,
    flagNames: Object.entries(GROUP_FLAG)
      .filter(([, flag]) => hasGroupFlag(flag))
      .map(([name]) => name),
    checksum,
    blockBitmap: bitmap(
      descriptor.blockBitmapBlock,
      GROUP_FLAG.BLOCK_UNINIT,
      descriptor.blockBitmapChecksum,
      geometry.clustersPerGroup,
    ),
    inodeBitmap: bitmap(
      descriptor.inodeBitmapBlock,
      GROUP_FLAG.INODE_UNINIT,
      descriptor.inodeBitmapChecksum,
      geometry.inodesPerGroup,
    ),
  };
}

/** Where an inode keeps its content. */
export type ContentPlace = "extents" | "block pointers" | "inode" | "none";

/** The result of inspecting an inode. */
export interface InodeInspection {
  /** Its number. */
  readonly inodeNumber: number;
  /** Where its slot is. */
  readonly slot: BlockOffset;
  /** Undefined for an invalid mode, and an inode that was never used. */
  readonly kind: NodeKind | undefined;
  /** Its fields. */
  readonly record: InodeRecord;
  /** Names of the flag bits, as in lsattr -l. */
  readonly flagNames: readonly string[];
  /** Undefined without metadata_csum. */
  readonly checksum: ChecksumPair | undefined;
  /** Where its content is. */
  readonly contentPlace: ContentPlace;
  /** The first runs, up to the requested number. */
  readonly runs: readonly MappedRun[];
  /** The first blocks of the map, up to the same number. */
  readonly mapBlocks: readonly MapBlock[];
  /** Total number of runs. */
  readonly runCount: number;
  /** Total number of map blocks. */
  readonly mapBlockCount: number;
  /** Bytes stored in the inode. */
  readonly inlineSizeBytes: number | undefined;
  /** Attributes as stored. */
  readonly xattrs: readonly StoredXattr[];
  /** Target of a symlink. */
  readonly target: ByteString | undefined;
  /** Numbers of a device. */
  readonly device: { readonly deviceMajor: number; readonly deviceMinor: number } | undefined;
  /** Parent and number of names of a directory. */
  readonly directory:
    | { readonly parentInodeNumber: number; readonly nameCount: number }
    | undefined;
  /** What is damaged. */
  readonly faults: readonly string[];
}

const NOT_MAPPED = { runs: [], mapBlocks: [], runCount: 0, mapBlockCount: 0 } as const;

/**
 * Inspects an inode, in use or not.
 *
 * @param options.maxRunCount how many runs and map blocks are listed; all are counted
 * @throws {InputError} for a number outside the file system
 */
export function inspectInode(
  image: Ext4Image,
  inodeNumber: number,
  options: { readonly maxRunCount: number },
): InodeInspection {
  const slot = image.inodeSlot(inodeNumber);
  const { seed } = image;
  const checksum = seed === undefined ? undefined : {
    stored: storedInodeChecksum(slot),
    computed: inodeChecksum(slot, { inodeNumber, seed }),
  };
  const faults = new MessageJudge();
  const inode = uncheckedInode(image, inodeNumber, slot, faults);
  const { record, kind } = inode;
  const isUsed = record.linkCount > 0;
  if (isUsed) faults.look(() => image.inode(inodeNumber));
  const contentPlace = isUsed ? placeOfContent(inode) : "none";
  const isMapped = contentPlace === "extents" || contentPlace === "block pointers";
  const isInline = contentPlace === "inode" && hasFlag(inode, INODE_FLAG.INLINE_DATA);
  const isDevice = kind === "characterDevice" || kind === "blockDevice";
  const look = <T>(isWanted: boolean, work: () => T): T | undefined =>
    isWanted ? faults.look(work) : undefined;
  return {
    inodeNumber,
    slot: image.locateInode(inodeNumber),
    kind: kindOfMode(record.mode),
    record,
    flagNames: FLAG_NAMES.filter(([flag]) => hasFlag(inode, flag)).map(([, name]) => name),
    checksum,
    contentPlace,
    ...isMapped ? inspectMap(image, inode, options.maxRunCount, faults) : NOT_MAPPED,
    inlineSizeBytes: look(isInline, () => inlineData(image, inode).bytes.length),
    xattrs: look(isUsed, () => new XattrReader(image).stored(inode)) ?? [],
    target: look(isUsed && kind === "symlink", () => readSymlink(image, inode)),
    device: isUsed && isDevice ? deviceNumbers(inode) : undefined,
    directory: look(isUsed && kind === "directory", () => inspectDirectory(image, inode)),
    faults: faults.messages,
  };
}

/** The first runs and map blocks of an inode, and the totals. */
function inspectMap(
  image: Ext4Image,
  inode: ImageInode,
  maxCount: number,
  faults: MessageJudge,
): Pick<InodeInspection, "runs" | "mapBlocks" | "runCount" | "mapBlockCount"> {
  const mapBlocks: MapBlock[] = [];
  let mapBlockCount = 0;
  const onMapBlock = (block: MapBlock): void => {
    if (++mapBlockCount <= maxCount) mapBlocks.push(block);
  };
  const all = faults.look(() => blockRuns(image, inode, { onMapBlock })) ?? [];
  return { runs: all.slice(0, maxCount), mapBlocks, runCount: all.length, mapBlockCount };
}

function placeOfContent(inode: ImageInode): ContentPlace {
  if (hasFlag(inode, INODE_FLAG.INLINE_DATA)) return "inode";
  const mapsBlocks = inode.kind === "file" || inode.kind === "directory";
  if (inode.kind === "symlink" && isFastSymlink(inode.view)) return "inode";
  if (!mapsBlocks && inode.kind !== "symlink") return "none";
  return hasFlag(inode, INODE_FLAG.EXTENTS) ? "extents" : "block pointers";
}

function inspectDirectory(image: Ext4Image, inode: ImageInode): InodeInspection["directory"] {
  const { parentInodeNumber, names } = readDirectory(image, inode);
  return { parentInodeNumber, nameCount: names.length };
}
