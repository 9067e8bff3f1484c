/**
 * What an image and its inodes say about themselves, damaged or not: checksums are shown, not enforced, and what cannot be
 * read is listed.
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
import { checkFeatures, featureNames } from "../volume/superblock.ts";
import type { ChecksumPair, ImageGeometry } from "../volume/superblock.ts";
import { imageGeometry, readSuperblock } from "../volume/superblock.ts";
import { kindOfMode, type NodeKind } from "../volume/inode.ts";
import { MessageJudge } from "../volume/judge.ts";
import { type BlockOffset, Volume } from "../volume/volume.ts";
import { blockRuns, inlineData, type MapBlock, type MappedRun, readSymlink } from "./content.ts";
import { readDirectory } from "./directory.ts";
import type { Ext4Image, ImageInode } from "./image.ts";
import { hasFlag, openExt4Image, uncheckedInode } from "./image.ts";
import { deviceNumbers } from "./tree.ts";
import { type StoredXattr, XattrReader } from "./xattrs.ts";

export type { ChecksumPair } from "../volume/superblock.ts";

/** One group. */
export interface GroupInspection extends GroupDescriptor {
  /** Its number, from 0 on. */
  readonly group: number;
  /** Its first block. */
  readonly startBlock: number;
  /** Its blocks; the last group may have fewer than the others. */
  readonly blockCount: number;
  /** Whether it begins with the superblock or a copy of it. */
  readonly hasSuperblock: boolean;
  /** Where its descriptor is. */
  readonly descriptorBlock: number;
  /** Blocks of the inode table. */
  readonly inodeTableBlockCount: number;
  /** Names of the bits of `flags`. */
  readonly flagNames: readonly string[];
  /** Of the descriptor; undefined for a file system without checksums. */
  readonly checksum: ChecksumPair | undefined;
  /** Of the bitmaps; undefined without metadata_csum, and where a bitmap was never written. */
  readonly blockBitmap: ChecksumPair | undefined;
  /** Of the inode bitmap; the same. */
  readonly inodeBitmap: ChecksumPair | undefined;
}

/** What a look at an image shows. */
export interface ImageInspection {
  /** What the image is called. */
  readonly name: string;
  /** Length of the file or device. */
  readonly fileSizeBytes: number;
  /** All fields of the primary superblock. */
  readonly superblock: Superblock;
  /** The measures that follow from it. */
  readonly geometry: ImageGeometry;
  /** By dumpe2fs's names. */
  readonly features: readonly string[];
  /** Of the superblock; undefined without metadata_csum. */
  readonly checksum: ChecksumPair | undefined;
  /** The journal's superblock; undefined where there is no journal, or none that can be read. */
  readonly journal: JournalSuperblock | undefined;
  /** What could not be looked at, and why. */
  readonly faults: readonly string[];
  /** The groups, read one by one. */
  groups(): Generator<GroupInspection>;
}

/**
 * Looks at an image. The superblock has to have numbers that make sense; nothing else is demanded, and checksums are
 * shown, not enforced.
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

/** The superblock of the internal journal. */
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
    throw new InputError(
      `descriptor of group ${group}`,
      `its block ${descriptorBlock} is past the end of the image`,
    );
  }
  const { descriptor, checksum } = found;
  const bitmap = (
    blockNumber: number,
    isUninitialised: boolean,
    stored: number,
    coveredBytes: number,
  ): ChecksumPair | undefined => {
    if (seed === undefined || isUninitialised) return undefined;
    const bytes = volume.block(blockNumber);
    if (bytes === undefined) return undefined;
    const computed = bitmapChecksum(seed, bytes, coveredBytes);
    return { stored, computed: (computed & volume.bitmapChecksumMask) >>> 0 };
  };
  const hasGroupFlag = (flag: number): boolean => (descriptor.flags & flag) !== 0;
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
      hasGroupFlag(GROUP_FLAG.BLOCK_UNINIT),
      descriptor.blockBitmapChecksum,
      geometry.clustersPerGroup / 8,
    ),
    inodeBitmap: bitmap(
      descriptor.inodeBitmapBlock,
      hasGroupFlag(GROUP_FLAG.INODE_UNINIT),
      descriptor.inodeBitmapChecksum,
      geometry.inodesPerGroup / 8,
    ),
  };
}

/** How an inode keeps its content. */
export type ContentPlace = "extents" | "block pointers" | "inode" | "none";

/** What a look at an inode shows. */
export interface InodeInspection {
  /** Its number. */
  readonly inodeNumber: number;
  /** Where its slot is. */
  readonly slot: BlockOffset;
  /** Undefined for a mode that no file has, and an inode that was never used. */
  readonly kind: NodeKind | undefined;
  /** Its fields. */
  readonly record: InodeRecord;
  /** Names of the bits of its flags, as lsattr -l has them. */
  readonly flagNames: readonly string[];
  /** Undefined without metadata_csum. */
  readonly checksum: ChecksumPair | undefined;
  /** How it keeps its content. */
  readonly contentPlace: ContentPlace;
  /** The first of them, up to the number asked for. */
  readonly runs: readonly MappedRun[];
  /** The first blocks of the map, up to the same number. */
  readonly mapBlocks: readonly MapBlock[];
  /** How many runs and blocks of the map there are in all. */
  readonly runCount: number;
  /** Blocks of the map in all. */
  readonly mapBlockCount: number;
  /** Bytes kept in the inode. */
  readonly inlineSizeBytes: number | undefined;
  /** Attributes as they are stored. */
  readonly xattrs: readonly StoredXattr[];
  /** Of a symlink. */
  readonly target: ByteString | undefined;
  /** Of a device. */
  readonly device: { readonly deviceMajor: number; readonly deviceMinor: number } | undefined;
  /** Of a directory. */
  readonly directory:
    | { readonly parentInodeNumber: number; readonly nameCount: number }
    | undefined;
  /** What is damaged. */
  readonly faults: readonly string[];
}

/** i_flags by the names of lsattr -l. */
const FLAG_NAMES: readonly (readonly [number, string])[] = [
  [0x1, "Secure_Deletion"],
  [0x2, "Undelete"],
  [0x4, "Compression_Requested"],
  [0x8, "Synchronous_Updates"],
  [INODE_FLAG.IMMUTABLE, "Immutable"],
  [INODE_FLAG.APPEND, "Append_Only"],
  [0x40, "No_Dump"],
  [0x80, "No_Atime"],
  [INODE_FLAG.ENCRYPT, "Encrypted"],
  [INODE_FLAG.INDEX, "Indexed_directory"],
  [0x4000, "Journaled_Data"],
  [0x8000, "No_Tailmerging"],
  [0x10000, "Synchronous_Directory_Updates"],
  [0x20000, "Top_of_Directory_Hierarchies"],
  [INODE_FLAG.HUGE_FILE, "Huge_file"],
  [INODE_FLAG.EXTENTS, "Extents"],
  [INODE_FLAG.VERITY, "Verity"],
  [INODE_FLAG.EA_INODE, "EA_inode"],
  [0x2000000, "DAX"],
  [INODE_FLAG.INLINE_DATA, "Inline_Data"],
  [INODE_FLAG.PROJINHERIT, "Project_Hierarchy"],
  [INODE_FLAG.CASEFOLD, "Casefold"],
];

/**
 * Looks at an inode, in use or not.
 *
 * @param options.maxRunCount how many runs and map blocks are listed; all are counted
 * @throws {InputError} for a number that the file system does not have
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
  const { record } = inode;
  const isUsed = record.linkCount > 0;
  if (isUsed) faults.look(() => image.inode(inodeNumber));
  return {
    inodeNumber,
    slot: image.locateInode(inodeNumber),
    kind: kindOfMode(record.mode),
    record,
    flagNames: FLAG_NAMES.filter(([flag]) => hasFlag(inode, flag)).map(([, name]) => name),
    checksum,
    ...content(image, inode, isUsed, options.maxRunCount, faults),
    xattrs: isUsed ? faults.look(() => new XattrReader(image).stored(inode)) ?? [] : [],
    ...details(image, inode, isUsed, faults),
    faults: faults.messages,
  };
}

type ContentInspection = Pick<
  InodeInspection,
  "contentPlace" | "runs" | "mapBlocks" | "runCount" | "mapBlockCount" | "inlineSizeBytes"
>;

function content(
  image: Ext4Image,
  inode: ImageInode,
  isUsed: boolean,
  maxCount: number,
  faults: MessageJudge,
): ContentInspection {
  const contentPlace = isUsed ? placeOfContent(inode) : "none";
  const runs: MappedRun[] = [];
  const mapBlocks: MapBlock[] = [];
  let [runCount, mapBlockCount] = [0, 0];
  const onMapBlock = (block: MapBlock): void => {
    if (++mapBlockCount <= maxCount) mapBlocks.push(block);
  };
  if (contentPlace === "extents" || contentPlace === "block pointers") {
    faults.look(() => {
      const all = blockRuns(image, inode, { onMapBlock });
      runCount = all.length;
      runs.push(...all.slice(0, maxCount));
    });
  }
  const inlineSizeBytes = contentPlace === "inode" && hasFlag(inode, INODE_FLAG.INLINE_DATA)
    ? faults.look(() => inlineData(image, inode).bytes.length)
    : undefined;
  return { contentPlace, runs, mapBlocks, runCount, mapBlockCount, inlineSizeBytes };
}

function placeOfContent(inode: ImageInode): ContentPlace {
  if (hasFlag(inode, INODE_FLAG.INLINE_DATA)) return "inode";
  const mapsBlocks = inode.kind === "file" || inode.kind === "directory";
  if (inode.kind === "symlink" && isFastSymlink(inode.view)) return "inode";
  if (!mapsBlocks && inode.kind !== "symlink") return "none";
  return hasFlag(inode, INODE_FLAG.EXTENTS) ? "extents" : "block pointers";
}

function details(
  image: Ext4Image,
  inode: ImageInode,
  isUsed: boolean,
  faults: MessageJudge,
): Pick<InodeInspection, "target" | "device" | "directory"> {
  const { kind } = inode;
  const isDevice = kind === "characterDevice" || kind === "blockDevice";
  return {
    target: isUsed && kind === "symlink" ? faults.look(() => readSymlink(image, inode)) : undefined,
    device: isUsed && isDevice ? deviceNumbers(inode) : undefined,
    directory: isUsed && kind === "directory"
      ? faults.look(() => {
        const { parentInodeNumber, names } = readDirectory(image, inode);
        return { parentInodeNumber, nameCount: names.length };
      })
      : undefined,
  };
}
