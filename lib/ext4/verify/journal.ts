/**
 * The journal: its inode, its superblock, and the copy of its map in the file system's superblock.
 *
 * @module
 */
import { COMPAT, INCOMPAT, SUPERBLOCK_OFFSET_BYTES } from "../format/constants.ts";
import type { JournalSuperblock } from "../format/journal.ts";
import {
  decodeJournalSuperblock,
  JOURNAL_BLOCKS_MIN,
  JOURNAL_INCOMPAT,
  JOURNAL_SUPERBLOCK_SIZE_BYTES,
} from "../format/journal.ts";
import type { Context, KeptInode } from "./context.ts";
import { hex } from "../volume/judge.ts";

const SUPERBLOCK_LOCATION = { offset: SUPERBLOCK_OFFSET_BYTES };
/** s_jnl_backup_type: the superblock has a copy of the journal's i_block and size. */
const BACKUP_BLOCKS = 1;
const KNOWN_INCOMPAT = Object.values(JOURNAL_INCOMPAT).reduce((word, bit) => word | bit, 0);
/** JBD2_FEATURE_COMPAT_CHECKSUM, of the first scheme of checksums. */
const KNOWN_COMPAT = 0x1;
/** A journal with fast commits and no number of blocks for them has this many. */
const FAST_COMMIT_BLOCKS_DEFAULT = 256;
const TWO_32 = 2 ** 32;

/** Judges the journal, or that there is none. */
export function checkJournal(context: Context): void {
  const { volume, judge, special } = context;
  const { superblock } = volume;
  if (!volume.hasCompat(COMPAT.HAS_JOURNAL)) {
    if (superblock.journalInode !== 0 || superblock.journalDevice !== 0) {
      judge.report("superblock", SUPERBLOCK_LOCATION, "s_journal_inum without the feature", {
        found: superblock.journalInode || superblock.journalDevice,
        wanted: 0,
        severity: "note",
      });
    }
    if (superblock.journalUuid.some((byte) => byte !== 0)) {
      judge.report("superblock", SUPERBLOCK_LOCATION, "s_journal_uuid without the feature");
    }
    if (volume.hasIncompat(INCOMPAT.RECOVER)) {
      judge.report("superblock", SUPERBLOCK_LOCATION, "needs_recovery without a journal");
    }
    return;
  }
  if (superblock.journalInode === 0) {
    if (superblock.journalDevice === 0) {
      judge.report("superblock", SUPERBLOCK_LOCATION, "has_journal, but no journal is named");
    }
    // The journal is on another device, which nobody looked at.
    if (volume.hasIncompat(INCOMPAT.RECOVER)) {
      const problem = "it is on another device and holds changes that were not replayed";
      judge.report("journal", {}, problem);
    } else {
      judge.report("journal", {}, "it is on another device: it was not looked at", {
        severity: "note",
      });
    }
    return;
  }
  // A UUID names an external journal, and then fsck looks no further.
  if (superblock.journalUuid.some((byte) => byte !== 0)) {
    judge.report("superblock", SUPERBLOCK_LOCATION, "s_journal_uuid of an internal journal");
  }
  if (superblock.journalDevice !== 0) {
    judge.expect("superblock", SUPERBLOCK_LOCATION, "s_journal_dev", superblock.journalDevice, 0);
  }
  const inode = special.get(superblock.journalInode);
  if (inode === undefined) {
    judge.report("superblock", SUPERBLOCK_LOCATION, "s_journal_inum", {
      found: superblock.journalInode,
      wanted: "an inode in use",
    });
    return;
  }
  checkMap(context, inode);
  checkBackup(context, inode);
  const [first] = inode.runs;
  if (first !== undefined && first.logicalBlock === 0) {
    checkJournalBlock(context, inode, first.startBlock);
  }
}

/** Every block of the journal is there. */
function checkMap(context: Context, { view, runs }: KeptInode): void {
  const { judge, volume } = context;
  const location = { inode: view.number };
  let expected = 0;
  for (const run of runs) {
    if (run.logicalBlock !== expected || run.unwritten) {
      judge.report("journal", location, "hole at logical block", { found: expected });
    }
    expected = run.logicalBlock + run.blockCount;
  }
  // Journals of mke2fs before 2008 have one block more than their size says.
  const wantedBlocks = Math.floor(view.sizeBytes / volume.blockSizeBytes);
  if (expected < wantedBlocks || wantedBlocks < JOURNAL_BLOCKS_MIN) {
    judge.report("journal", location, "blocks", {
      found: Math.min(expected, wantedBlocks),
      wanted: `at least ${Math.max(wantedBlocks, JOURNAL_BLOCKS_MIN)}`,
    });
  }
}

/** s_jnl_blocks: the words of i_block, then the high and the low word of i_size. */
function checkBackup(context: Context, { view }: KeptInode): void {
  const { judge, volume } = context;
  const { journalBackupType, journalBlocks } = volume.superblock;
  if (journalBackupType !== BACKUP_BLOCKS) return;
  const words = Array.from({ length: 15 }, (_, i) => view.blockWord(i));
  words.push(Math.floor(view.sizeBytes / TWO_32), view.sizeBytes % TWO_32);
  for (const [i, word] of words.entries()) {
    const found = journalBlocks[i] ?? 0;
    if (found === word) continue;
    judge.report("superblock", SUPERBLOCK_LOCATION, `s_jnl_blocks[${i}]`, {
      found: hex(found),
      wanted: hex(word),
    });
  }
}

function checkJournalBlock(context: Context, inode: KeptInode, block: number): void {
  const { judge, volume } = context;
  const location = { inode: inode.view.number, block, offset: block * volume.blockSizeBytes };
  const bytes = volume.read(block);
  if (bytes === undefined) {
    judge.report("journal", location, "superblock is past the end");
    return;
  }
  const journal = judge.attempt(
    "journal",
    location,
    () => decodeJournalSuperblock(bytes.subarray(0, JOURNAL_SUPERBLOCK_SIZE_BYTES)),
  );
  if (journal !== undefined) checkJournalFields(context, inode, journal, location);
}

function checkJournalFields(
  context: Context,
  inode: KeptInode,
  journal: JournalSuperblock,
  location: { readonly inode: number; readonly block: number },
): void {
  const { judge, volume } = context;
  const bad = (problem: string, found: number | string, wanted: number | string) =>
    judge.report("journal", location, problem, { found, wanted });
  judge.expect(
    "journal",
    location,
    "s_blocksize",
    journal.blockSizeBytes,
    volume.blockSizeBytes,
  );
  const blocks = Math.floor(inode.view.sizeBytes / volume.blockSizeBytes);
  if (journal.blockCount > blocks) bad("s_maxlen", journal.blockCount, `at most ${blocks}`);
  const hasFastCommits = (journal.featureIncompat & JOURNAL_INCOMPAT.FAST_COMMIT) !== 0;
  const fastBlocks = journal.fastCommitBlocks || FAST_COMMIT_BLOCKS_DEFAULT;
  const end = journal.blockCount - (hasFastCommits ? fastBlocks : 0);
  if (journal.firstBlock < 1 || journal.firstBlock >= end) {
    bad("s_first", journal.firstBlock, `1 to ${end - 1}`);
  }
  if (journal.startBlock >= Math.max(end, 1)) bad("s_start", journal.startBlock, `below ${end}`);
  if (!volume.hasIncompat(INCOMPAT.RECOVER) && journal.startBlock !== 0) {
    bad("s_start without needs_recovery", journal.startBlock, 0);
  }
  const unknown = (journal.featureIncompat & ~KNOWN_INCOMPAT) >>> 0;
  if (unknown !== 0) bad("s_feature_incompat", hex(unknown), "known features");
  if ((journal.featureCompat & ~KNOWN_COMPAT) !== 0) {
    bad("s_feature_compat", hex(journal.featureCompat), "known features");
  }
  if (journal.featureRoCompat !== 0) {
    bad("s_feature_ro_compat", hex(journal.featureRoCompat), "known features");
  }
  const both = JOURNAL_INCOMPAT.CSUM_V2 | JOURNAL_INCOMPAT.CSUM_V3;
  if ((journal.featureIncompat & both) === both) bad("checksums", "of versions 2 and 3", "one");
  if (journal.userCount > 1) bad("s_nr_users", journal.userCount, 1);
  if (journal.errorNumber !== 0) {
    const found = journal.errorNumber | 0;
    judge.report("journal", location, "s_errno", { found, wanted: 0, severity: "note" });
  }
}
