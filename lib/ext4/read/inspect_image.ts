/**
 * What an image says about itself, without judging it: for a look at a damaged one as well.
 *
 * @module
 */
import { divCeil } from "../../bytes/arithmetic.ts";
import { InputError } from "../../errors.ts";
import { type RandomReader, readExactly } from "../../io/random_reader.ts";
import { Warnings } from "../../warnings.ts";
import { groupHasSuperblock } from "../format/backup_groups.ts";
import { bitmapChecksum } from "../format/bitmap.ts";
import { COMPAT, GROUP_FLAG } from "../format/constants.ts";
import type { GroupDescriptor } from "../format/group_descriptor.ts";
import {
  decodeJournalSuperblock,
  JOURNAL_SUPERBLOCK_SIZE_BYTES,
  type JournalSuperblock,
} from "../format/journal.ts";
import { metadataSeed, type Superblock } from "../format/superblock.ts";
import { blockRuns } from "./block_map.ts";
import { FaultCollector } from "./fault_collector.ts";
import { checkFeatures, featureNames } from "./features.ts";
import { descriptorPlace, groupBlocks, type ImageGeometry, imageGeometry } from "./geometry.ts";
import { type FoundDescriptor, readGroupDescriptor } from "./group_table.ts";
import { openExt4Image } from "./image.ts";
import { readSuperblock } from "./superblock.ts";

/** A checksum as it is, and as it should be. */
export interface ChecksumPair {
  /** As it is. */
  readonly stored: number;
  /** As it should be. */
  readonly computed: number;
}

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
 * @throws {InputError} for what is no ext2, ext3 or ext4 file system
 */
export function inspectImage(reader: RandomReader): ImageInspection {
  const { superblock, checksum } = readSuperblock(reader);
  const geometry = imageGeometry(superblock);
  const collector = new FaultCollector();
  collector.attempt(() => checkFeatures(superblock, new Warnings()));
  const hasJournal = (superblock.featureCompat & COMPAT.HAS_JOURNAL) !== 0;
  return {
    name: reader.name,
    fileSizeBytes: reader.sizeBytes,
    superblock,
    geometry,
    features: featureNames(superblock),
    checksum,
    journal: hasJournal && superblock.journalInode !== 0
      ? collector.attempt(() => readJournal(reader))
      : undefined,
    faults: collector.faults,
    groups: () => inspectGroups(reader, superblock, geometry),
  };
}

/** The superblock of the internal journal. */
function readJournal(reader: RandomReader): JournalSuperblock {
  const image = openExt4Image(reader, { warnings: new Warnings() });
  const inode = image.inode(image.superblock.journalInode);
  for (const { logicalBlock, startBlock } of blockRuns(image, inode)) {
    if (logicalBlock !== 0) break;
    const block = image.readBlock(startBlock, `journal in ${inode.what}`);
    return decodeJournalSuperblock(block.subarray(0, JOURNAL_SUPERBLOCK_SIZE_BYTES));
  }
  throw new InputError(inode.what, "the journal has no first block");
}

function* inspectGroups(
  reader: RandomReader,
  superblock: Superblock,
  geometry: ImageGeometry,
): Generator<GroupInspection> {
  const { blockSizeBytes } = geometry;
  const readBlock = (blockNumber: number): Uint8Array => {
    const block = new Uint8Array(blockSizeBytes);
    readExactly(reader, block, blockNumber * blockSizeBytes);
    return block;
  };
  for (let group = 0; group < geometry.groupCount; group++) {
    const found = readGroupDescriptor({ superblock, geometry, readBlock }, group);
    yield inspectGroup(group, found, { superblock, geometry, readBlock });
  }
}

function inspectGroup(
  group: number,
  found: FoundDescriptor,
  image: {
    readonly superblock: Superblock;
    readonly geometry: ImageGeometry;
    readBlock(blockNumber: number): Uint8Array;
  },
): GroupInspection {
  const { superblock, geometry } = image;
  const { descriptor, checksum } = found;
  const { blocksCount, blocksPerGroup, inodesPerGroup, inodeSizeBytes, blockSizeBytes } = geometry;
  const seed = metadataSeed(superblock);
  const mask = geometry.descriptorSizeBytes === 64 ? 0xffffffff : 0xffff;
  const bitmap = (
    blockNumber: number,
    isUninitialised: boolean,
    stored: number,
    coveredBytes: number,
  ): ChecksumPair | undefined => {
    if (seed === undefined || isUninitialised || blockNumber >= blocksCount) return undefined;
    const computed = bitmapChecksum(seed, image.readBlock(blockNumber), coveredBytes);
    return { stored, computed: (computed & mask) >>> 0 };
  };
  const hasFlag = (flag: number): boolean => (descriptor.flags & flag) !== 0;
  return {
    ...descriptor,
    group,
    ...groupBlocks(geometry, group),
    hasSuperblock: groupHasSuperblock(superblock, group),
    descriptorBlock: descriptorPlace(superblock, geometry, group).blockNumber,
    inodeTableBlockCount: divCeil(inodesPerGroup * inodeSizeBytes, blockSizeBytes),
    flagNames: Object.entries(GROUP_FLAG).filter(([, flag]) => hasFlag(flag)).map(([name]) => name),
    checksum,
    blockBitmap: bitmap(
      descriptor.blockBitmapBlock,
      hasFlag(GROUP_FLAG.BLOCK_UNINIT),
      descriptor.blockBitmapChecksum,
      blocksPerGroup / 8,
    ),
    inodeBitmap: bitmap(
      descriptor.inodeBitmapBlock,
      hasFlag(GROUP_FLAG.INODE_UNINIT),
      descriptor.inodeBitmapChecksum,
      inodesPerGroup / 8,
    ),
  };
}
