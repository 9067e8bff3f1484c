/**
 * Recovers an image that was not unmounted, as the kernel sees it after mounting: the journal is replayed, and the
 * superblock and the journal's superblock are updated (fs/ext4/super.c, ext4_load_journal()). Everything happens in
 * memory; nothing is written.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import type { RandomReader } from "../../io/random_reader.ts";
import { formatUuid } from "../../bytes/digest.ts";
import { checkChecksum } from "../format/checksum.ts";
import { Warnings } from "../../warnings.ts";
import { INCOMPAT, RO_COMPAT, SUPERBLOCK_OFFSET_BYTES } from "../format/constants.ts";
import { viewOf } from "../format/fields.ts";
import { type FastCommits, readFastCommits } from "../journal/fast_commit.ts";
import { patchJournalSuperblock } from "../format/journal.ts";
import type { JournalPlace } from "../journal/log.ts";
import { BlockEditor } from "../journal/overlay.ts";
import { type Replayed, replayJournal, type ReplayReport } from "../journal/replay.ts";
import { decodeSuperblock, editSuperblock, type Superblock } from "../format/superblock.ts";
import { blockRuns } from "../read/content.ts";
import { openExt4Image } from "../read/image.ts";
import { inputError } from "../volume/judge.ts";
import { needsRecovery, readSuperblock, STATE } from "../volume/superblock.ts";
import { replayFastCommits } from "./fast_commits.ts";
import { cleanUpOrphans, type OrphanReport } from "./orphans.ts";
import { editableSuperblock, VolumeEditor } from "./volume_editor.ts";

/** Options for recovery. */
export interface RecoverOptions {
  /** The external journal, if the image has one. It stays open. */
  readonly journal?: RandomReader | undefined;
}

/** What recovery did. */
export interface RecoveryReport extends ReplayReport {
  /** Inodes that were deleted or truncated. */
  readonly orphans: OrphanReport;
}

/** An image that can be read. */
export interface RecoveredImage {
  /** Reads the recovered image. Closing it closes the image. */
  readonly reader: RandomReader;
  /** What was done; undefined if the image needed no recovery, in which case `reader` is the image itself. */
  readonly replay: RecoveryReport | undefined;
}

/** The fields from s_error_count up to s_mount_opts, which a mount keeps as they were before the replay. */
const ERROR_FIELDS = { start: 0x194, end: 0x200 } as const;
const S_STATE_AT = 0x3a;

/**
 * Replays the journal of an image that needs it.
 *
 * @param image an image; returned unchanged if it needs no recovery or is not ext4
 * @throws {InputError} if its journal cannot be replayed: the kernel would not mount it either
 */
export function recoverImage(image: RandomReader, options: RecoverOptions = {}): RecoveredImage {
  if (!needsRecovery(image)) return { reader: image, replay: undefined };
  try {
    return recovered(image, options);
  } catch (error) {
    const { message, hint, data, remedies } = inputError(error);
    throw new InputError(image.name, `its journal cannot be replayed: ${message}`, {
      ...hint === undefined ? {} : { hint },
      data,
      remedies: [...remedies, {
        option: "replay",
        change: "set",
        to: "read the image as it lies, without what only its journal holds",
      }],
      cause: error,
    });
  }
}

function recovered(image: RandomReader, options: RecoverOptions): RecoveredImage {
  const before = readSuperblock(image).encoded;
  const place = journalPlace(image, options);
  const replayed = replayJournal(image, place);
  const fastCommits = readFastCommits(replayed.log, replayed.endSequence);
  const editor = new BlockEditor(replayed.reader, place.blockSizeBytes);
  finishSuperblock(editor, place.blockSizeBytes, before, replayed);
  if (place.reader === image) finishJournal(editor, replayed);
  const reader = withFastCommits(editor.reader(), fastCommits);
  return mended(reader, { ...replayed.report, fastCommitBlocks: fastCommits.blocks });
}

function withFastCommits(reader: RandomReader, { records }: FastCommits): RandomReader {
  if (records.length === 0) return reader;
  const editor = new VolumeEditor(openExt4Image(reader, { warnings: new Warnings() }));
  replayFastCommits(editor, records);
  return editor.finish({});
}

/** Finishes interrupted work and counts free blocks and inodes, as a mount does. */
function mended(reader: RandomReader, replay: ReplayReport): RecoveredImage {
  try {
    const editor = new VolumeEditor(openExt4Image(reader, { warnings: new Warnings() }));
    const orphans = cleanUpOrphans(editor);
    const { featureRoCompat } = editor.image.superblock;
    return {
      reader: editor.finish({
        lastOrphan: 0,
        featureRoCompat: (featureRoCompat & ~RO_COMPAT.ORPHAN_PRESENT) >>> 0,
      }),
      replay: { ...replay, orphans },
    };
  } catch (error) {
    // The damage goes beyond the journal: opening the image reports where.
    inputError(error);
    return { reader, replay: { ...replay, orphans: { deleted: 0, truncated: 0 } } };
  }
}

/**
 * Locates the journal of an image. As in the kernel, an internal journal's inode is read as it was before the replay.
 */
function journalPlace(image: RandomReader, { journal }: RecoverOptions): JournalPlace {
  const opened = openExt4Image(image, { warnings: new Warnings() });
  const { superblock, geometry: { blockSizeBytes } } = opened;
  if (superblock.journalUuid.some((byte) => byte !== 0)) {
    return externalJournal(superblock, blockSizeBytes, journal);
  }
  const inode = opened.inode(superblock.journalInode);
  if (inode.kind !== "file") {
    throw new InputError(inode.what, "the journal is not a regular file", { code: "wrongKind" });
  }
  return {
    reader: image,
    blockSizeBytes,
    blockCount: Math.floor(inode.record.sizeBytes / blockSizeBytes),
    runs: blockRuns(opened, inode),
    superblockBlock: 0,
  };
}

/**
 * Locates the log of an external journal.
 *
 * @param superblock of the file system
 * @throws {InputError} if there is no journal, or it belongs to another file system
 */
function externalJournal(
  superblock: Superblock,
  blockSizeBytes: number,
  journal: RandomReader | undefined,
): JournalPlace {
  if (journal === undefined) {
    const uuid = formatUuid(superblock.journalUuid);
    throw new InputError("journal", `it is on another device, which has the UUID ${uuid}`, {
      remedies: [{ option: "externalJournal", change: "set", to: "name it" }],
    });
  }
  const found = readSuperblock(journal);
  if (found.checksum !== undefined) {
    checkChecksum("superblock", found.checksum.stored, found.checksum.computed);
  }
  const { featureIncompat, uuid, blocksCount, logBlockSize } = found.superblock;
  const fault = (why: string) => new InputError(journal.name, why);
  if ((featureIncompat & INCOMPAT.JOURNAL_DEV) === 0) throw fault("it is not an external journal");
  const [has, wants] = [formatUuid(uuid), formatUuid(superblock.journalUuid)];
  if (has !== wants) throw fault(`its UUID is ${has}, but the image expects ${wants}`);
  const foundBytes = 2 ** (10 + logBlockSize);
  if (foundBytes !== blockSizeBytes) {
    throw fault(`its blocks have ${foundBytes} bytes, those of the file system ${blockSizeBytes}`);
  }
  return {
    reader: journal,
    blockSizeBytes,
    blockCount: Math.min(blocksCount, 2 ** 32 - 1),
    runs: [{ logicalBlock: 0, blockCount: blocksCount, startBlock: 0 }],
    // The block after the one that holds the ext4 superblock.
    superblockBlock: Math.floor(SUPERBLOCK_OFFSET_BYTES / blockSizeBytes) + 1,
  };
}

/** Updates the superblock as a mount does: recovery is no longer needed, and recorded errors are kept. */
function finishSuperblock(
  editor: BlockEditor,
  blockSizeBytes: number,
  before: Uint8Array,
  { log }: Replayed,
): void {
  const encoded = editableSuperblock(editor, blockSizeBytes);
  const { start, end } = ERROR_FIELDS;
  encoded.set(before.subarray(start, end), start);
  const superblock = decodeSuperblock(encoded);
  const hadErrors = log.superblock.errorNumber !== 0 ||
    (viewOf(before).getUint16(S_STATE_AT, true) & STATE.ERRORS) !== 0;
  encoded.set(editSuperblock(encoded, {
    featureIncompat: (superblock.featureIncompat & ~INCOMPAT.RECOVER) >>> 0,
    state: superblock.state | (hadErrors ? STATE.ERRORS : 0),
  }));
}

/** Marks the log as empty, to continue after its last transaction. */
function finishJournal(editor: BlockEditor, { log, endSequence, report }: Replayed): void {
  const block = editor.edit(log.positionOf(0) / log.format.blockSizeBytes);
  patchJournalSuperblock(block, {
    sequence: report.transactions === 0 ? endSequence : (endSequence + 1) >>> 0,
    startBlock: 0,
    errorNumber: 0,
  });
}
