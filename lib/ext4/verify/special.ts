/**
 * Checks what only some file systems have: the journal, lists of orphans, the MMP block, the inode that reserves room
 * to grow, and quota files.
 *
 * @module
 */
import {
  COMPAT,
  INCOMPAT,
  INODE_NUMBER,
  RO_COMPAT,
  SUPERBLOCK_OFFSET_BYTES,
} from "../format/constants.ts";
import { viewOf } from "../format/fields.ts";
import {
  decodeJournalSuperblock,
  JOURNAL_BLOCKS_MIN,
  JOURNAL_INCOMPAT,
  JOURNAL_SUPERBLOCK_SIZE_BYTES,
} from "../format/journal.ts";
import {
  decodeMmpBlock,
  decodeOrphanBlock,
  MMP_SIZE_BYTES,
  storedOrphanBlockChecksum,
  verifyMmpBlock,
  verifyOrphanBlock,
} from "../format/special_blocks.ts";
import { readRuns } from "../volume/block_map.ts";
import { SECTOR_SIZE_BYTES, seedOf } from "../volume/inode.ts";
import { type FaultDetails, HERE, hex } from "../volume/judge.ts";
import type { Context, KeptInode, QuotaUsage } from "./context.ts";

const SUPERBLOCK_LOCATION = { offset: SUPERBLOCK_OFFSET_BYTES };
/** s_jnl_backup_type: the superblock has a copy of the journal's i_block and size. */
const BACKUP_BLOCKS = 1;
const KNOWN_INCOMPAT = Object.values(JOURNAL_INCOMPAT).reduce((word, bit) => word | bit, 0);
/** JBD2_FEATURE_COMPAT_CHECKSUM, from the first checksum scheme. */
const KNOWN_COMPAT = 0x1;
/** The number of fast commit blocks in a journal that has the feature but does not give a number. */
const FAST_COMMIT_BLOCKS_DEFAULT = 256;
const TWO_32 = 2 ** 32;

/** Checks the journal, or its absence. */
export function checkJournal(context: Context): void {
  const { volume, judge, special } = context;
  const { journalInode, journalDevice, journalUuid } = volume.superblock;
  const bad = (problem: string, details?: FaultDetails) =>
    judge.report("superblock", SUPERBLOCK_LOCATION, problem, details);
  const hasUuid = journalUuid.some((byte) => byte !== 0);
  const isDirty = volume.hasIncompat(INCOMPAT.RECOVER);
  if (!volume.hasCompat(COMPAT.HAS_JOURNAL)) {
    if (journalInode !== 0 || journalDevice !== 0) {
      const details = {
        found: journalInode || journalDevice,
        wanted: 0,
        severity: "note",
      } as const;
      bad("s_journal_inum without the feature", details);
    }
    if (hasUuid) bad("s_journal_uuid without the feature");
    if (isDirty) bad("needs_recovery without a journal");
    return;
  }
  if (journalInode === 0) {
    if (journalDevice === 0) bad("has_journal, but no journal is named");
    // The journal is on another device, which is not checked.
    const problem = isDirty
      ? "it is on another device and holds changes that were not replayed"
      : "it is on another device: it was not looked at";
    return judge.report("journal", {}, problem, isDirty ? {} : { severity: "note" });
  }
  // A UUID names an external journal, and fsck then checks nothing else.
  if (hasUuid) bad("s_journal_uuid of an internal journal");
  if (journalDevice !== 0) bad("s_journal_dev", { found: journalDevice, wanted: 0 });
  const inode = special.get(journalInode);
  if (inode === undefined) {
    return bad("s_journal_inum", { found: journalInode, wanted: "an inode in use" });
  }
  checkJournalMap(context, inode);
  checkJournalBackup(context, inode);
  const [first] = inode.runs;
  if (first !== undefined && first.logicalBlock === 0) {
    checkJournalBlock(context, inode, first.startBlock);
  }
}

function checkJournalMap({ judge, volume }: Context, { view, runs }: KeptInode): void {
  const location = { inode: view.number };
  let expected = 0;
  for (const run of runs) {
    if (run.logicalBlock !== expected || run.unwritten) {
      judge.report("journal", location, "hole at logical block", { found: expected });
    }
    expected = run.logicalBlock + run.blockCount;
  }
  // Journals made by mke2fs before 2008 have one block more than their size says.
  const wantedBlocks = Math.floor(view.sizeBytes / volume.blockSizeBytes);
  if (expected < wantedBlocks || wantedBlocks < JOURNAL_BLOCKS_MIN) {
    const wanted = `at least ${Math.max(wantedBlocks, JOURNAL_BLOCKS_MIN)}`;
    judge.report("journal", location, "blocks", {
      found: Math.min(expected, wantedBlocks),
      wanted,
    });
  }
}

/** s_jnl_blocks: the words of i_block, then the high and the low word of i_size. */
function checkJournalBackup({ judge, volume }: Context, { view }: KeptInode): void {
  const { journalBackupType, journalBlocks } = volume.superblock;
  if (journalBackupType !== BACKUP_BLOCKS) return;
  const words = Array.from({ length: 15 }, (_, i) => view.blockWord(i));
  words.push(Math.floor(view.sizeBytes / TWO_32), view.sizeBytes % TWO_32);
  for (const [i, word] of words.entries()) {
    const found = journalBlocks[i] ?? 0;
    if (found === word) continue;
    const details = { found: hex(found), wanted: hex(word) };
    judge.report("superblock", SUPERBLOCK_LOCATION, `s_jnl_blocks[${i}]`, details);
  }
}

function checkJournalBlock(context: Context, { view }: KeptInode, block: number): void {
  const { judge, volume } = context;
  const location = { inode: view.number, block, offset: block * volume.blockSizeBytes };
  const bytes = volume.read(block);
  if (bytes === undefined) return judge.report("journal", location, "superblock is past the end");
  const encoded = bytes.subarray(0, JOURNAL_SUPERBLOCK_SIZE_BYTES);
  const journal = judge.attempt("journal", location, () => decodeJournalSuperblock(encoded));
  if (journal === undefined) return;
  const bad = (problem: string, found: number | string, wanted: number | string) =>
    judge.report("journal", location, problem, { found, wanted });
  const { blockSizeBytes, blockCount, firstBlock, startBlock, userCount } = journal;
  const { featureCompat, featureIncompat, featureRoCompat } = journal;
  judge.expect("journal", location, "s_blocksize", blockSizeBytes, volume.blockSizeBytes);
  const blocks = Math.floor(view.sizeBytes / volume.blockSizeBytes);
  if (blockCount > blocks) bad("s_maxlen", blockCount, `at most ${blocks}`);
  const hasFastCommits = (featureIncompat & JOURNAL_INCOMPAT.FAST_COMMIT) !== 0;
  const fastBlocks = journal.fastCommitBlocks || FAST_COMMIT_BLOCKS_DEFAULT;
  const end = blockCount - (hasFastCommits ? fastBlocks : 0);
  if (firstBlock < 1 || firstBlock >= end) bad("s_first", firstBlock, `1 to ${end - 1}`);
  if (startBlock >= Math.max(end, 1)) bad("s_start", startBlock, `below ${end}`);
  if (!volume.hasIncompat(INCOMPAT.RECOVER) && startBlock !== 0) {
    bad("s_start without needs_recovery", startBlock, 0);
  }
  const unknown = (featureIncompat & ~KNOWN_INCOMPAT) >>> 0;
  if (unknown !== 0) bad("s_feature_incompat", hex(unknown), "known features");
  if ((featureCompat & ~KNOWN_COMPAT) !== 0) {
    bad("s_feature_compat", hex(featureCompat), "known features");
  }
  if (featureRoCompat !== 0) bad("s_feature_ro_compat", hex(featureRoCompat), "known features");
  const both = JOURNAL_INCOMPAT.CSUM_V2 | JOURNAL_INCOMPAT.CSUM_V3;
  if ((featureIncompat & both) === both) bad("checksums", "of versions 2 and 3", "one");
  if (userCount > 1) bad("s_nr_users", userCount, 1);
  if (journal.errorNumber !== 0) {
    const found = journal.errorNumber | 0;
    judge.report("journal", location, "s_errno", { found, wanted: 0, severity: "note" });
  }
}

/**
 * Checks the list that begins in the superblock, and the file that replaces it. Both are empty in an unmounted file
 * system.
 */
export function checkOrphans(context: Context): void {
  const { volume, judge } = context;
  const { lastOrphan, inodesCount, orphanFileInode } = volume.superblock;
  judge.expect("orphan list", SUPERBLOCK_LOCATION, "s_last_orphan", lastOrphan, 0);
  if (lastOrphan > inodesCount) {
    const details = { found: lastOrphan, wanted: `at most ${inodesCount}` };
    judge.report("orphan list", SUPERBLOCK_LOCATION, "s_last_orphan", details);
  }
  const bad = (problem: string, details?: FaultDetails) =>
    judge.report("superblock", SUPERBLOCK_LOCATION, problem, details);
  if (volume.hasRoCompat(RO_COMPAT.ORPHAN_PRESENT)) bad("orphan_present");
  if (!volume.hasCompat(COMPAT.ORPHAN_FILE)) return;
  if (!volume.hasCompat(COMPAT.HAS_JOURNAL)) bad("orphan_file without has_journal");
  const file = context.special.get(orphanFileInode);
  if (file !== undefined) checkOrphanFile(context, file);
  else bad("s_orphan_file_inum", { found: orphanFileInode, wanted: "an inode in use" });
}

function checkOrphanFile(context: Context, { view, runs }: KeptInode): void {
  const { volume, judge } = context;
  const location = { inode: view.number };
  const seed = seedOf(volume, view);
  let blocks = 0;
  for (const { startBlock, blockCount } of runs) {
    blocks += blockCount;
    for (let block = startBlock; block < startBlock + blockCount; block++) {
      checkOrphanBlock(context, { ...location, block }, seed);
    }
  }
  const wanted = view.sizeBytes / volume.blockSizeBytes;
  judge.expect("orphan file", location, "blocks", blocks, wanted);
}

function checkOrphanBlock(
  { volume, judge }: Context,
  location: { readonly inode: number; readonly block: number },
  seed: number | undefined,
): void {
  const bytes = volume.read(location.block);
  if (bytes === undefined) return judge.report("orphan file", location, "block is past the end");
  if (seed !== undefined) {
    const options = { blockNumber: location.block, inodeSeed: seed, what: HERE };
    judge.attempt("orphan file", location, () => verifyOrphanBlock(bytes, options));
  } else {
    judge.expect("orphan file", location, "ob_checksum", storedOrphanBlockChecksum(bytes), 0);
  }
  const orphans = judge.attempt("orphan file", location, () => decodeOrphanBlock(bytes, HERE));
  if (orphans === undefined || orphans.length === 0) return;
  const details = { found: orphans.join(", "), wanted: "none" };
  judge.report("orphan file", location, "inodes in it", details);
}

/** Checks the block that keeps two machines from mounting the file system at once. */
export function checkMmp({ volume, judge }: Context): void {
  if (!volume.hasIncompat(INCOMPAT.MMP)) return;
  const block = volume.superblock.mmpBlock;
  const location = { block, offset: block * volume.blockSizeBytes };
  const bytes = volume.contains(block) ? volume.read(block) : undefined;
  if (bytes === undefined) {
    const details = { found: block, wanted: "a block of the file system" };
    return judge.report("superblock", SUPERBLOCK_LOCATION, "s_mmp_block", details);
  }
  const encoded = bytes.subarray(0, MMP_SIZE_BYTES);
  const { seed } = volume;
  if (seed !== undefined) {
    judge.attempt("mmp block", location, () => verifyMmpBlock(encoded, seed, HERE));
  }
  judge.attempt("mmp block", location, () => decodeMmpBlock(encoded, HERE));
}

/** The word of i_block that points to a tree of two levels. */
const DOUBLE_INDIRECT = 13;

/**
 * Checks the inode that owns the room after the descriptors: its double indirect block points to the blocks of group
 * 0's room, and each of these lists the blocks at the same position in the backups (resize2fs, lib/ext2fs/res_gdt.c).
 */
export function checkResizeInode(context: Context): void {
  const { volume, judge, special, usage } = context;
  if (!volume.hasCompat(COMPAT.RESIZE_INODE)) return;
  const inode = INODE_NUMBER.RESIZE;
  const view = special.get(inode)?.view;
  if (view === undefined) return judge.report("resize inode", { inode }, "it is not in use");
  for (let i = 0; i < 15; i++) {
    if (i === DOUBLE_INDIRECT) continue;
    judge.expect("resize inode", { inode }, `i_block[${i}]`, view.blockWord(i), 0);
  }
  const block = view.blockWord(DOUBLE_INDIRECT);
  const backups = volume.backupGroups();
  const blockCount = 1 + volume.superblock.reservedGdtBlocks * (1 + backups.length);
  const clusterBytes = volume.geometry.clusterBlocks * volume.blockSizeBytes;
  const sectors = blockCount * (clusterBytes / SECTOR_SIZE_BYTES);
  judge.expect("resize inode", { inode }, "i_blocks", view.sectorCount, sectors);
  if (!volume.contains(block)) {
    const details = { found: block, wanted: "a block of the file system" };
    return judge.report("resize inode", { inode }, "double indirect block", details);
  }
  usage.mark(block, 1, inode);
  checkReservedBlocks(context, block, backups);
}

function checkReservedBlocks(context: Context, block: number, backups: readonly number[]): void {
  const { volume, judge } = context;
  const inode = INODE_NUMBER.RESIZE;
  const bytes = volume.read(block);
  if (bytes === undefined) {
    return judge.report("resize inode", { inode, block }, "block is past the end");
  }
  const { descriptorBlocks } = volume;
  const perBlock = volume.blockSizeBytes / 4;
  const firstRoom = volume.descriptorBlock(0) + descriptorBlocks;
  const { reservedGdtBlocks, blocksPerGroup } = volume.superblock;
  const wantedPointers = new Uint32Array(perBlock);
  for (let i = 0; i < reservedGdtBlocks; i++) {
    wantedPointers[(descriptorBlocks + i) % perBlock] = firstRoom + i;
  }
  checkPointers(context, block, bytes, wantedPointers);
  for (let room = firstRoom; room < firstRoom + reservedGdtBlocks; room++) {
    const list = volume.read(room);
    if (list === undefined) return;
    const wanted = new Uint32Array(perBlock);
    backups.slice(0, perBlock).forEach((group, i) => wanted[i] = room + group * blocksPerGroup);
    checkPointers(context, room, list, wanted);
  }
}

function checkPointers(
  { judge }: Context,
  block: number,
  bytes: Uint8Array,
  wanted: Uint32Array,
): void {
  const location = { inode: INODE_NUMBER.RESIZE, block };
  const view = viewOf(bytes);
  for (const [i, pointer] of wanted.entries()) {
    const found = view.getUint32(4 * i, true);
    if (found !== pointer) judge.expect("resize inode", location, `pointer ${i}`, found, pointer);
  }
}

const QUOTA_MAGICS = [0xd9c01f11, 0xd9c01927, 0xd9c03f14] as const;
const QUOTA_TYPES = ["user", "group", "project"] as const;
const QUOTA_VERSION = 1;
const QUOTA_BLOCK_BYTES = 1024;
const POINTERS_PER_BLOCK = QUOTA_BLOCK_BYTES / 4;
const ROOT_BLOCK = 1;
const TREE_DEPTH = 4;
const LEAF_HEADER_BYTES = 16;
/** struct v2r1_disk_dqblk. */
const ENTRY_BYTES = 72;
const ENTRY_AT = { id: 0, inodes: 24, bytes: 48 } as const;
/** No tool makes larger quota files. */
const QUOTA_FILE_BYTES_MAX = 256 * 1024 * 1024;
const NO_USAGE: QuotaUsage = { bytes: 0, inodes: 0 };

/**
 * Checks the quota files named by the superblock: their usage of users, groups and projects against the counts. The
 * format is the quota tools' second one (vfsv1), a tree of 1 KiB blocks (linux/fs/quota/quota_v2.c, quota_tree.c).
 */
export function checkQuotas(context: Context): void {
  const { volume, special } = context;
  if (!volume.hasRoCompat(RO_COMPAT.QUOTA)) return;
  const { userQuotaInode, groupQuotaInode, projectQuotaInode } = volume.superblock;
  const inodes = [userQuotaInode, groupQuotaInode];
  if (volume.hasRoCompat(RO_COMPAT.PROJECT)) inodes.push(projectQuotaInode);
  for (const [type, number] of inodes.entries()) {
    if (number === 0) continue;
    const bad = (problem: string, details?: FaultDetails) =>
      context.judge.report("quota file", { inode: number }, problem, details);
    const file = special.get(number);
    if (file === undefined) bad("it is not in use");
    else checkQuotaFile(context, file, type, bad);
  }
}

type Report = (problem: string, details?: FaultDetails) => void;

function checkQuotaFile(context: Context, file: KeptInode, type: number, bad: Report): void {
  const { volume } = context;
  const { sizeBytes } = file.view;
  const most = Math.min(QUOTA_FILE_BYTES_MAX, volume.endBlock * volume.blockSizeBytes);
  if (sizeBytes > most || sizeBytes < 2 * QUOTA_BLOCK_BYTES) {
    return bad("i_size", { found: sizeBytes, wanted: `${2 * QUOTA_BLOCK_BYTES} to ${most}` });
  }
  const bytes = readRuns(volume, file.runs, sizeBytes);
  if (bytes === undefined) return bad("its blocks are past the end");
  const view = viewOf(bytes);
  const [magic, version] = [view.getUint32(0, true), view.getUint32(4, true)];
  if (magic !== QUOTA_MAGICS[type]) {
    return bad("magic number", { found: hex(magic), wanted: hex(QUOTA_MAGICS[type]!) });
  }
  if (version !== QUOTA_VERSION) bad("version", { found: version, wanted: QUOTA_VERSION });
  const tree = new QuotaTree(view, bad);
  tree.walk(ROOT_BLOCK, 0, 0);
  tree.reportUnreached();
  const { stored } = tree;
  const counted = context.quotas[type] ?? new Map<number, QuotaUsage>();
  const ids = [...new Set([...stored.keys(), ...counted.keys()])].sort((a, b) => a - b);
  for (const id of ids) {
    const found = stored.get(id) ?? NO_USAGE;
    const wanted = counted.get(id) ?? NO_USAGE;
    for (const what of ["inodes", "bytes"] as const) {
      if (found[what] === wanted[what]) continue;
      const details = { found: found[what], wanted: wanted[what] };
      bad(`${what} of ${QUOTA_TYPES[type]} ${id}`, details);
    }
  }
}

class QuotaTree {
  readonly stored = new Map<number, QuotaUsage>();
  readonly #view: DataView<ArrayBufferLike>;
  readonly #bad: Report;
  /** Tree blocks already walked; leaves are reached once for each of their entries. */
  readonly #seen = new Set<number>();
  /** Entries that no pointer has led to yet, by block. */
  readonly #leaves = new Map<number, Map<number, QuotaUsage>>();

  constructor(view: DataView<ArrayBufferLike>, bad: Report) {
    this.#view = view;
    this.#bad = bad;
  }

  /** @param prefix the high bytes of the ids below this block */
  walk(block: number, depth: number, prefix: number): void {
    if (this.#seen.has(block)) return this.#bad("second pointer to block", { found: block });
    this.#seen.add(block);
    const start = block * QUOTA_BLOCK_BYTES;
    const end = Math.floor(this.#view.byteLength / QUOTA_BLOCK_BYTES);
    for (let i = 0; i < POINTERS_PER_BLOCK; i++) {
      const child = this.#view.getUint32(start + 4 * i, true);
      if (child === 0) continue;
      const id = prefix * POINTERS_PER_BLOCK + i;
      if (child <= ROOT_BLOCK || child >= end) {
        const details = { found: child, wanted: `2 to ${end - 1}` };
        this.#bad(`pointer ${i} of block ${block}`, details);
      } else if (depth < TREE_DEPTH - 1) this.walk(child, depth + 1, id);
      else this.#readEntry(child, id);
    }
  }

  reportUnreached(): void {
    for (const [block, entries] of this.#leaves) {
      for (const id of entries.keys()) {
        this.#bad(`no pointer leads to the entry in block ${block} of`, { found: id });
      }
    }
  }

  /** A pointer refers to a block of entries, one of which must have its id. */
  #readEntry(block: number, id: number): void {
    let entries = this.#leaves.get(block);
    if (entries === undefined) this.#leaves.set(block, entries = this.#readLeaf(block));
    const usage = entries.get(id);
    if (usage === undefined) return this.#bad(`block ${block} has no entry of`, { found: id });
    this.stored.set(id, usage);
    entries.delete(id);
  }

  #readLeaf(block: number): Map<number, QuotaUsage> {
    const entries = new Map<number, QuotaUsage>();
    const end = (block + 1) * QUOTA_BLOCK_BYTES;
    const start = block * QUOTA_BLOCK_BYTES + LEAF_HEADER_BYTES;
    const u64 = (at: number) =>
      this.#view.getUint32(at + 4, true) * TWO_32 + this.#view.getUint32(at, true);
    for (let at = start; at + ENTRY_BYTES <= end; at += ENTRY_BYTES) {
      if (this.#isBlank(at)) continue;
      const id = this.#view.getUint32(at + ENTRY_AT.id, true);
      if (entries.has(id)) this.#bad("second entry of", { found: id });
      entries.set(id, { inodes: u64(at + ENTRY_AT.inodes), bytes: u64(at + ENTRY_AT.bytes) });
    }
    return entries;
  }

  /** Unlike an empty slot, an entry of id 0 without use or limit has a grace time. */
  #isBlank(at: number): boolean {
    for (let i = 0; i < ENTRY_BYTES; i += 4) {
      if (this.#view.getUint32(at + i, true) !== 0) return false;
    }
    return true;
  }
}
