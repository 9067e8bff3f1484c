/**
 * The log of a journal: its superblock, judged as the kernel judges it before a mount (fs/jbd2/journal.c), and its
 * blocks by number.
 *
 * @module
 */
import { firstIndex } from "../../bytes/arithmetic.ts";
import { InputError } from "../../errors.ts";
import { type RandomReader, readExactly } from "../../io/random_reader.ts";
import {
  decodeJournalSuperblock,
  JOURNAL_BLOCKS_MIN,
  JOURNAL_INCOMPAT,
  JOURNAL_SUPERBLOCK_SIZE_BYTES,
  type JournalSuperblock,
} from "../format/journal.ts";
import { JOURNAL_COMPAT_CHECKSUM, type LogFormat, logFormat } from "./log_block.ts";

/** Blocks of the journal that lie in one run of blocks of what holds it. */
interface JournalRun {
  /** The first, counted within the journal. */
  readonly logicalBlock: number;
  readonly blockCount: number;
  /** The first, counted within the image or device that holds the journal. */
  readonly startBlock: number;
}

/** Where a journal is. */
export interface JournalPlace {
  /** What holds it: the image itself, or an external journal. */
  readonly reader: RandomReader;
  readonly blockSizeBytes: number;
  /** All blocks of the journal: the size of its inode, or of its device. */
  readonly blockCount: number;
  /** What the inode of the journal maps, in order. An external journal is one run from block 0 on. */
  readonly runs: readonly JournalRun[];
  /** The block that holds its superblock, counted within the journal: 0, or 1 or 2 of an external one. */
  readonly superblockBlock: number;
}

/** Blocks at the end of a journal for fast commits, when its superblock does not say (JBD2_DEFAULT_FAST_COMMIT_BLOCKS). */
const FAST_COMMIT_BLOCKS_DEFAULT = 256;
const READ_AHEAD_BYTES = 256 * 1024;

const KNOWN_INCOMPAT = Object.values(JOURNAL_INCOMPAT).reduce((all, bit) => all | bit, 0);

/** The log of a journal whose superblock makes sense. */
export class JournalLog {
  readonly superblock: JournalSuperblock;
  readonly format: LogFormat;
  /** The block behind the last of the log; it goes on at `superblock.firstBlock`. */
  readonly endBlock: number;
  /** The blocks for fast commits, counted within the journal; empty without the feature. */
  readonly fastCommits: { readonly startBlock: number; readonly endBlock: number };
  readonly #place: JournalPlace;
  readonly #buffer: Uint8Array;
  #bufferedStart = 0;
  #bufferedCount = 0;

  /**
   * Reads the superblock.
   *
   * @throws {InputError} for a journal that the kernel would not load
   */
  constructor(place: JournalPlace) {
    this.#place = place;
    this.#buffer = new Uint8Array(Math.max(READ_AHEAD_BYTES, place.blockSizeBytes));
    const encoded = this.read(place.superblockBlock).slice(0, JOURNAL_SUPERBLOCK_SIZE_BYTES);
    this.superblock = decodeJournalSuperblock(encoded);
    checkSuperblock(this.superblock, place);
    this.format = logFormat(this.superblock);
    const { blockCount } = this.superblock;
    const fastCommitBlocks = fastCommitBlocksOf(this.superblock);
    this.endBlock = blockCount - fastCommitBlocks;
    // The kernel leaves one block unused: j_fc_first is j_last + 1.
    const startBlock = fastCommitBlocks === 0 ? blockCount : this.endBlock + 1;
    this.fastCommits = { startBlock, endBlock: blockCount };
  }

  /** The block that follows another one in the log. */
  next(block: number, count = 1): number {
    const { firstBlock } = this.superblock;
    const next = block + count;
    return next >= this.endBlock ? next - (this.endBlock - firstBlock) : next;
  }

  /** How many blocks the log has before it begins again. */
  get lengthBlocks(): number {
    return this.endBlock - this.superblock.firstBlock;
  }

  /** Where a block of the journal is in what holds it, in bytes. Throws InputError for a hole. */
  positionOf(block: number): number {
    const run = this.#runOf(block);
    return (run.startBlock + block - run.logicalBlock) * this.#place.blockSizeBytes;
  }

  /** A block of the journal. It is good until the next one is read. */
  read(block: number): Uint8Array {
    const { blockSizeBytes, reader } = this.#place;
    const offset = (block - this.#bufferedStart) * blockSizeBytes;
    if (block >= this.#bufferedStart && block < this.#bufferedStart + this.#bufferedCount) {
      return this.#buffer.subarray(offset, offset + blockSizeBytes);
    }
    const run = this.#runOf(block);
    const left = run.logicalBlock + run.blockCount - block;
    const count = Math.min(left, Math.floor(this.#buffer.length / blockSizeBytes));
    const target = this.#buffer.subarray(0, count * blockSizeBytes);
    this.#bufferedCount = 0;
    readExactly(reader, target, this.positionOf(block));
    this.#bufferedStart = block;
    this.#bufferedCount = count;
    return target.subarray(0, blockSizeBytes);
  }

  #runOf(block: number): JournalRun {
    const { runs, blockCount } = this.#place;
    const endOf = ({ logicalBlock, blockCount }: JournalRun) => logicalBlock + blockCount;
    const run = runs[firstIndex(runs.length, (i) => endOf(runs[i]!) > block)];
    if (run !== undefined && run.logicalBlock <= block) return run;
    const why = block < blockCount ? "is a hole" : `does not exist: it has ${blockCount}`;
    throw new InputError("journal", `its block ${block} ${why}`, { data: { block } });
  }
}

/** The order and the limits of the kernel's journal_load_superblock() and of what it checks then. */
function checkSuperblock(superblock: JournalSuperblock, place: JournalPlace): void {
  const { featureCompat, featureIncompat, featureRoCompat, userCount } = superblock;
  const { blockSizeBytes, blockCount, firstBlock, startBlock } = superblock;
  const fail = (why: string): never => {
    throw new InputError("journal superblock", why);
  };
  if (blockSizeBytes !== place.blockSizeBytes) {
    fail(`s_blocksize is ${blockSizeBytes}, not ${place.blockSizeBytes}`);
  }
  if (blockCount > place.blockCount) {
    fail(`s_maxlen is ${blockCount}, but the journal has ${place.blockCount} blocks`);
  }
  if (firstBlock === 0 || firstBlock >= blockCount) {
    fail(`s_first is ${firstBlock}, not 1 to ${blockCount - 1}`);
  }
  const unknown = (featureIncompat & ~KNOWN_INCOMPAT) >>> 0;
  if (unknown !== 0) fail(`s_feature_incompat has unknown bits 0x${unknown.toString(16)}`);
  if (featureRoCompat !== 0) {
    fail(`s_feature_ro_compat has unknown bits 0x${featureRoCompat.toString(16)}`);
  }
  const versions = [
    ...((featureCompat & JOURNAL_COMPAT_CHECKSUM) !== 0 ? ["1"] : []),
    ...((featureIncompat & JOURNAL_INCOMPAT.CSUM_V2) !== 0 ? ["2"] : []),
    ...((featureIncompat & JOURNAL_INCOMPAT.CSUM_V3) !== 0 ? ["3"] : []),
  ];
  if (versions.length > 1) fail(`it has checksums of versions ${versions.join(" and ")} at once`);
  if (userCount > 1) fail(`${userCount} file systems share it; one is supported`);
  const fastCommitBlocks = fastCommitBlocksOf(superblock);
  if (fastCommitBlocks > 0 && blockCount - fastCommitBlocks < JOURNAL_BLOCKS_MIN) {
    fail(`s_num_fc_blks is ${fastCommitBlocks}, too many for ${blockCount} blocks`);
  }
  const endBlock = blockCount - fastCommitBlocks;
  if (firstBlock >= endBlock) fail(`s_first is ${firstBlock}, not 1 to ${endBlock - 1}`);
  if (startBlock >= endBlock) fail(`s_start is ${startBlock}, not below ${endBlock}`);
}

function fastCommitBlocksOf(superblock: JournalSuperblock): number {
  if ((superblock.featureIncompat & JOURNAL_INCOMPAT.FAST_COMMIT) === 0) return 0;
  return superblock.fastCommitBlocks || FAST_COMMIT_BLOCKS_DEFAULT;
}
