/**
 * Turns metadata checksums on or off, in place, in existing images. Refuses images that are in use, have changes that
 * were not written back, or have unknown structures.
 *
 * @module
 */
import { realpathSync, statSync } from "node:fs";
import { type ErrorDetails, InputError, IoError, throwIfAborted } from "../../errors.ts";
import { createFileSink } from "../../io/file_sink.ts";
import { loopDeviceOf } from "../../io/paths.ts";
import type { RandomReader } from "../../io/random_reader.ts";
import { openFault, openFileReader, readExactly } from "../../io/random_reader.ts";
import { displayPath } from "../../io/system_error.ts";
import { NO_PROGRESS, type Progress } from "../../progress.ts";
import { checkChecksum, filesystemSeed } from "../format/checksum.ts";
import {
  COMPAT,
  HALF_SWITCHED_FEATURE,
  INCOMPAT,
  RO_COMPAT,
  SUPERBLOCK_SIZE_BYTES,
} from "../format/constants.ts";
import { decodeMmpBlock, MMP_SEQUENCE_CLEAN, MMP_SIZE_BYTES } from "../format/special_blocks.ts";
import type { Superblock } from "../format/superblock.ts";
import {
  decodeSuperblock,
  editSuperblock,
  storedSuperblockChecksum,
  superblockChecksum,
  superblockSeed,
} from "../format/superblock.ts";
import { imageGeometry, readSuperblock, STATE, unknownFeatures } from "../volume/superblock.ts";
import { faultInImage, hex, StrictJudge } from "../volume/judge.ts";
import { Volume } from "../volume/volume.ts";
import type { ImageFiles } from "./change_journal.ts";
import {
  applyJournal,
  ChangeJournalWriter,
  journalState,
  lostJournal,
  NODE_IMAGE_FILES,
  openJournal,
  readChangeJournalHeader,
  readPrimarySuperblock,
  removeJournal,
} from "./change_journal.ts";
import type { LackingRoom, SwitchContext, SwitchCounts } from "./switch_structures.ts";
import { fullJournal, readBlock, switchGroups } from "./switch_structures.ts";

/** Options of a switch. */
export interface SwitchOptions {
  /** True adds checksums, false removes them. */
  readonly enable: boolean;
  /** Progress reporter; default: none. */
  readonly progress?: Progress | undefined;
  /** Can cancel until the changes are decided; after that they are carried out. */
  readonly signal?: AbortSignal | undefined;
  /** Replaces the file system, for tests. */
  readonly files?: ImageFiles | undefined;
}

/** What a switch did. */
export interface SwitchReport extends Readonly<SwitchCounts> {
  /** Whether the image has metadata checksums now. */
  readonly metadataChecksums: boolean;
  /** False if the image was already in the requested state. */
  readonly changed: boolean;
  /** Whether an interrupted switch was finished first. */
  readonly resumed: boolean;
  /** Bytes rewritten in the image, including superblocks. */
  readonly writtenBytes: number;
}

const CHECKSUM_CRC32C = 1;

interface OpenedVolume {
  /** The image's name in messages. */
  readonly name: string;
  readonly volume: Volume;
  /** The current superblock. */
  readonly encoded: Uint8Array;
}

/** The file beside an image that holds the changes while they are applied. */
export function changeJournalPath(imagePath: string): string {
  return `${imagePath}.checksum-changes`;
}

/**
 * Adds metadata checksums to an image or removes them, as `tune2fs -O metadata_csum` does. All new bytes are on disk,
 * in a file beside the image, before the first of them is written, so the next run finishes an interrupted one. Before
 * checksums are removed, each of them is checked. `uninit_bg` replaces metadata_csum when checksums are removed, and
 * is removed when they are added: it gives group descriptors their checksums in the absence of metadata_csum. Removing
 * checksums and adding them again gives the same image.
 *
 * @throws InputError if the image is in use, was changed meanwhile, is not clean, is damaged, has unknown features, or
 * has directory or extent blocks without room for a checksum
 * @throws IoError if reading or writing fails; run it again to continue
 */
export async function switchMetadataChecksums(
  path: string,
  options: SwitchOptions,
): Promise<SwitchReport> {
  const imagePath = checkedImage(path);
  const files = options.files ?? NODE_IMAGE_FILES;
  const resumed = await finishInterrupted(imagePath, files);
  const reader = openFileReader(imagePath);
  try {
    return { ...await switchImage(imagePath, reader, options, files), resumed };
  } finally {
    reader.close();
  }
}

function checkedImage(path: string): string {
  const name = displayPath(path);
  let imagePath: string;
  try {
    imagePath = realpathSync(path);
    if (!statSync(imagePath).isFile()) {
      throw new InputError(name, "is not a regular file: wanted an ext4 image", {
        code: "wrongKind",
        hint: "for a device use tune2fs -O metadata_csum",
      });
    }
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    throw openFault(path, "an ext4 image", cause);
  }
  const device = loopDeviceOf(imagePath);
  if (device !== undefined) {
    throw new InputError(name, `is in use as ${device}`, {
      code: "inUse",
      hint: "unmount it and detach it first",
    });
  }
  return imagePath;
}

/** Returns whether there was a switch to finish. */
async function finishInterrupted(imagePath: string, files: ImageFiles): Promise<boolean> {
  const journalPath = changeJournalPath(imagePath);
  const image = openFileReader(imagePath);
  const journal = openJournal(journalPath, files);
  try {
    const { featureIncompat } = decodeSuperblock(readPrimarySuperblock(image));
    const isHalf = (featureIncompat & HALF_SWITCHED_FEATURE) !== 0;
    if (!journal) {
      if (isHalf) throw lostJournal(displayPath(imagePath), displayPath(journalPath));
      return false;
    }
    const state = journalState(image, readChangeJournalHeader(journal));
    if (state === "half") {
      await applyJournal(imagePath, journal, journalPath, files);
      return true;
    }
    if (isHalf) throw lostJournal(displayPath(imagePath), displayPath(journalPath));
    removeJournal(journalPath, files);
    return state === "applied";
  } finally {
    journal?.close();
    image.close();
  }
}

async function switchImage(
  imagePath: string,
  reader: RandomReader,
  options: SwitchOptions,
  files: ImageFiles,
): Promise<Omit<SwitchReport, "resumed">> {
  const { enable } = options;
  const name = displayPath(imagePath);
  const opened = openVolume(reader, name);
  const { volume, encoded } = opened;
  const { superblock } = volume;
  const hasChecksums = (superblock.featureRoCompat & RO_COMPAT.METADATA_CSUM) !== 0;
  if (hasChecksums === enable) {
    return { ...noCounts(), metadataChecksums: enable, changed: false, writtenBytes: 0 };
  }
  if (hasChecksums) {
    const [stored, computed] = [storedSuperblockChecksum(encoded), superblockChecksum(encoded)];
    checkChecksum(`${name}: superblock`, stored, computed);
  }
  refuseUnfit(volume);
  const isSeeded = (superblock.featureIncompat & INCOMPAT.CSUM_SEED) !== 0;
  if (!enable && isSeeded && !mayChangeSeed(superblock)) {
    const why =
      "it has attributes in inodes of their own (ea_inode), whose hashes need the seed of the checksums";
    const hint = "make the image again without checksums";
    throw new InputError(name, why, { code: "unsupported", hint });
  }
  const decided = await decideChanges(opened, options, files);
  const journalPath = changeJournalPath(imagePath);
  const journal = openJournal(journalPath, files);
  if (!journal) throw lostJournal(name, displayPath(journalPath));
  try {
    // No runtime can lock a file. Only one run at a time can create the journal's name, and from here on the superblock
    // shows whether another run, or a mount, intervened.
    if (journalState(reader, readChangeJournalHeader(journal)) !== "unapplied") {
      removeJournal(journalPath, files);
      throw changedMeanwhile(name);
    }
    await applyJournal(imagePath, journal, journalPath, files);
  } finally {
    journal.close();
  }
  return { ...decided, metadataChecksums: enable, changed: true };
}

/** Opens the image and its superblock. Its size must be that of a whole file system. */
function openVolume(reader: RandomReader, name: string): OpenedVolume {
  try {
    const { superblock, encoded } = readSuperblock(reader);
    if (superblock.revision === 0) {
      throw new InputError(name, "revision 0 has no features", { code: "unsupported" });
    }
    const geometry = imageGeometry(superblock);
    const wanted = geometry.blocksCount * geometry.blockSizeBytes;
    if (reader.sizeBytes < wanted) {
      const why = `it is ${reader.sizeBytes} bytes long, and its file system ${wanted}`;
      throw new InputError(name, why);
    }
    const judge = new StrictJudge(`${name}: `);
    return { name, encoded, volume: new Volume(reader, { superblock, geometry, judge }) };
  } catch (error) {
    throw faultInImage(name, error);
  }
}

/** Writes all new bytes to the file beside the image, which stays untouched. */
async function decideChanges(
  { volume, encoded, name }: OpenedVolume,
  { enable, signal, progress = NO_PROGRESS }: SwitchOptions,
  files: ImageFiles,
): Promise<SwitchCounts & { writtenBytes: number }> {
  const { superblock, reader } = volume;
  const newSuperblock = switchedSuperblock(encoded, enable);
  const sink = createFileSink(changeJournalPath(reader.name), {
    files,
    // The file holds parts of the image, so it gets the same permissions.
    mode: statSync(reader.name).mode,
    ...signal === undefined ? {} : { signal },
  });
  const bar = progress.begin("inodes", superblock.inodesCount * superblock.inodeSizeBytes);
  try {
    const journal = await ChangeJournalWriter.begin(sink, {
      imageSizeBytes: reader.sizeBytes,
      enable,
      oldSuperblock: encoded,
      halfSuperblock: editSuperblock(encoded, {
        featureIncompat: (superblock.featureIncompat | HALF_SWITCHED_FEATURE) >>> 0,
      }),
      newSuperblock,
    });
    const context: SwitchContext = {
      volume,
      name,
      enable,
      seed: superblockSeed(enable ? decodeSuperblock(newSuperblock) : superblock),
      counts: noCounts(),
      lacking: { leaves: 0, indexBlocks: 0, first: undefined },
      change: (offsetBytes, bytes) => journal.add(offsetBytes, bytes),
    };
    await switchGroups(context, (bytes) => bar.advance(bytes));
    await switchBackups(context);
    refuseLacking(name, context.lacking);
    throwIfAborted(signal);
    await journal.commit();
    return { ...context.counts, writtenBytes: journal.changedBytes + SUPERBLOCK_SIZE_BYTES };
  } catch (error) {
    await sink.abort();
    const isTaken = error instanceof IoError && error.data["code"] === "EEXIST";
    throw isTaken ? changedMeanwhile(name) : error;
  } finally {
    bar.end();
  }
}

function changedMeanwhile(name: string): InputError {
  return new InputError(name, "was changed meanwhile, by another run or another program", {
    code: "changed",
    hint: "run it again when nothing else writes to the image",
  });
}

function noCounts(): SwitchCounts {
  return { groups: 0, inodes: 0, directoryBlocks: 0, extentBlocks: 0, xattrBlocks: 0 };
}

/**
 * metadata_csum_seed comes and goes with the checksums, as e2fsck requires. The seed stays in its field, which is
 * ignored without the feature, and is valid again when the checksums return.
 */
function switchedSuperblock(encoded: Uint8Array, enable: boolean): Uint8Array<ArrayBuffer> {
  const superblock = decodeSuperblock(encoded);
  const [comes, goes] = enable
    ? [RO_COMPAT.METADATA_CSUM, RO_COMPAT.GDT_CSUM]
    : [RO_COMPAT.GDT_CSUM, RO_COMPAT.METADATA_CSUM];
  const hasSeed = enable && (superblock.featureIncompat & INCOMPAT.CSUM_SEED) === 0 &&
    superblock.checksumSeed !== 0 && mayChangeSeed(superblock);
  const kept = enable
    ? superblock.featureIncompat
    : superblock.featureIncompat & ~INCOMPAT.CSUM_SEED;
  return editSuperblock(encoded, {
    featureRoCompat: ((superblock.featureRoCompat | comes) & ~goes) >>> 0,
    featureIncompat: (kept | (hasSeed ? INCOMPAT.CSUM_SEED : 0)) >>> 0,
    checksumType: enable ? CHECKSUM_CRC32C : 0,
  });
}

/** Hashes of attribute values in inodes start with the seed, with or without checksums. */
function mayChangeSeed(superblock: Superblock): boolean {
  return (superblock.featureIncompat & INCOMPAT.EA_INODE) === 0 ||
    superblock.checksumSeed === filesystemSeed(superblock.uuid);
}

/** Each backup keeps its own fields, except for the features. */
async function switchBackups(context: SwitchContext): Promise<void> {
  const { volume, enable } = context;
  for (const group of volume.backupGroups()) {
    const offsetBytes = volume.superblockBlock(group) * volume.blockSizeBytes;
    const encoded = new Uint8Array(SUPERBLOCK_SIZE_BYTES);
    readExactly(volume.reader, encoded, offsetBytes);
    try {
      decodeSuperblock(encoded);
    } catch (cause) {
      const what = `${context.name}: backup superblock of group ${group}`;
      const hint = "check the image first: e2fsck -f";
      throw new InputError(what, "it is not a superblock", { hint, cause });
    }
    await context.change(offsetBytes, switchedSuperblock(encoded, enable));
  }
}

function refuseLacking(name: string, lacking: LackingRoom): void {
  const { leaves, indexBlocks, first } = lacking;
  if (first === undefined) return;
  throw new InputError(
    name,
    `there is no room for checksums in ${leaves} directory blocks and ${indexBlocks} directory ` +
      `index blocks; the first is ${first}`,
    {
      code: "doesNotFit",
      hint: "e2fsck -fD makes room in directories",
      data: { directoryBlocks: leaves, indexBlocks },
    },
  );
}

/** @throws InputError that says why the image cannot be switched, and what to do about it */
export function refuseUnfit(volume: Volume): void {
  const { superblock, reader } = volume;
  refuseUnknown(superblock, reader.name);
  refuseUnclean(superblock, reader.name);
  if ((superblock.featureIncompat & INCOMPAT.MMP) !== 0) refuseMounted(volume);
}

function refuseUnknown(superblock: Superblock, name: string): void {
  const { featureCompat, featureIncompat, featureRoCompat } = unknownFeatures(superblock);
  const unknown = { compat: featureCompat, incompat: featureIncompat, ro_compat: featureRoCompat };
  for (const [word, bits] of Object.entries(unknown)) {
    if (bits === 0) continue;
    const why = `it has the ${word} feature ${hex(bits)}, whose structures are not known`;
    throw new InputError(name, why, { code: "unsupported" });
  }
  const hashed = INCOMPAT.ENCRYPT | INCOMPAT.CASEFOLD;
  if ((superblock.featureIncompat & hashed) === hashed) {
    const why = "its directories may be both encrypted and casefolded";
    throw new InputError(name, why, { code: "unsupported" });
  }
  const both = RO_COMPAT.GDT_CSUM | RO_COMPAT.METADATA_CSUM;
  if ((superblock.featureRoCompat & both) === both) {
    throw new InputError(name, "it has both uninit_bg and metadata_csum, which is damage");
  }
}

function refuseUnclean(superblock: Superblock, name: string): void {
  const fsck: ErrorDetails = { code: "inUse", hint: "check it first: e2fsck -f" };
  const { state } = superblock;
  if ((superblock.featureIncompat & INCOMPAT.RECOVER) !== 0) throw fullJournal(name);
  if ((state & STATE.CLEAN) === 0 || (state & STATE.ERRORS) !== 0) {
    throw new InputError(name, `its state is ${state}: it is mounted, or was not unmounted`, fsck);
  }
  if (superblock.lastOrphan !== 0) {
    throw new InputError(name, `inode ${superblock.lastOrphan} waits to be deleted`, fsck);
  }
  const hasOrphanFile = (superblock.featureCompat & COMPAT.ORPHAN_FILE) !== 0;
  if (hasOrphanFile && (superblock.featureRoCompat & RO_COMPAT.ORPHAN_PRESENT) !== 0) {
    throw new InputError(name, "inodes in its orphan file wait to be deleted", fsck);
  }
}

function refuseMounted(volume: Volume): void {
  const { mmpBlock } = volume.superblock;
  const what = `${volume.reader.name}: MMP block ${mmpBlock}`;
  const block = readBlock(volume, mmpBlock, what);
  const { sequence } = decodeMmpBlock(block.subarray(0, MMP_SIZE_BYTES), what);
  if (sequence === MMP_SEQUENCE_CLEAN) return;
  throw new InputError(
    what,
    `its sequence is ${hex(sequence)}, not ${hex(MMP_SEQUENCE_CLEAN)}: ` +
      "a machine uses the file system",
    { code: "inUse", hint: "unmount it everywhere, or clear the mark with tune2fs -E clear_mmp" },
  );
}
