/**
 * Finding out which transactions of a log are whole (fs/jbd2/recovery.c, the scan pass): from the first one on, as long
 * as their blocks follow one another with the numbers that are due.
 *
 * @module
 */
import { InputError, limitError } from "../../errors.ts";
import { JOURNAL_INCOMPAT } from "../format/journal.ts";
import type { JournalLog } from "./log.ts";
import {
  type BlockTag,
  crc32BigEndian,
  decodeCommit,
  decodeLogHeader,
  decodeRevokedBlocks,
  decodeTags,
  hasRightCommitChecksum,
  hasRightTail,
  LOG_BLOCK_TYPE,
} from "./log_block.ts";

/** The copies of blocks that a log holds, in the order of the log. */
export interface LoggedBlocks {
  readonly count: number;
  /** Where each belongs in the file system. */
  readonly targets: Float64Array;
  /** Where its copy is, counted within the journal. */
  readonly copies: Uint32Array;
  /** The transaction that it is part of, counted from the first on. */
  readonly transactions: Uint32Array;
  /** The checksum of its tag. */
  readonly checksums: Uint32Array;
  /** 1 for a copy whose magic number was replaced. */
  readonly escaped: Uint8Array;
}

/** The whole transactions of a log. */
export interface ScannedLog {
  /** How many transactions are to be replayed. */
  readonly transactionCount: number;
  /** The number of the first transaction behind them. */
  readonly endSequence: number;
  /** Their blocks. */
  readonly blocks: LoggedBlocks;
  /** Their blocks of revocations, with the transaction that each is part of. */
  readonly revocations: readonly { readonly block: number; readonly transaction: number }[];
}

/** Most copies of blocks that are kept: a log of 64 GiB with blocks of 4 KiB. */
export const JOURNAL_BLOCKS_LIMIT = 2 ** 24;
const CRC32_START = 0xffffffff;
/** JBD2_CRC32_CHKSUM and its size. */
const COMMIT_CHECKSUM = { CRC32: 1, SIZE_BYTES: 4 } as const;

/**
 * Walks the log from `s_start` on.
 *
 * @throws {InputError} for a transaction that was committed but is damaged: the kernel does not mount such an image
 */
export function scanLog(log: JournalLog): ScannedLog {
  return new Scan(log).run();
}

class Scan {
  readonly #log: JournalLog;
  readonly #blocks = new BlockList();
  readonly #revocations: { block: number; transaction: number }[] = [];
  readonly #isAsynchronous: boolean;
  #block: number;
  #sequence: number;
  /** Transactions passed so far. */
  #transaction = 0;
  /** How many of them count, once one was found that does not. */
  #end: number | undefined;
  /** A block had a wrong checksum: it is damaged, or left over from an older log. */
  #hasSuspect = false;
  #lastCommitSeconds = 0n;
  #crc32 = CRC32_START;

  constructor(log: JournalLog) {
    this.#log = log;
    this.#block = log.superblock.startBlock;
    this.#sequence = log.superblock.sequence;
    this.#isAsynchronous = (log.superblock.featureIncompat & JOURNAL_INCOMPAT.ASYNC_COMMIT) !== 0;
  }

  run(): ScannedLog {
    let passedBlocks = 0;
    for (;;) {
      const at = this.#block;
      const block = this.#log.read(at);
      const header = decodeLogHeader(block);
      if (header === undefined || header.sequence !== this.#sequence) break;
      this.#block = this.#log.next(at);
      const { count } = this.#blocks;
      if (!this.#isPassed(header.blockType, block, at)) break;
      // A log that never ends would lead round and round.
      passedBlocks += 1 + this.#blocks.count - count;
      if (passedBlocks > this.#log.lengthBlocks) {
        if (this.#hasSuspect) break;
        throw new InputError(
          "journal",
          `its transactions fill more than the ${this.#log.lengthBlocks} blocks of its log`,
        );
      }
    }
    const transactionCount = this.#end ?? this.#transaction;
    return {
      transactionCount,
      endSequence: (this.#log.superblock.sequence + transactionCount) >>> 0,
      blocks: this.#blocks.before(transactionCount),
      revocations: this.#revocations.filter(({ transaction }) => transaction < transactionCount),
    };
  }

  /** Takes in one block; false when the log ends with it. */
  #isPassed(blockType: number, block: Uint8Array, at: number): boolean {
    switch (blockType) {
      case LOG_BLOCK_TYPE.DESCRIPTOR:
        this.#passDescriptor(block);
        return true;
      case LOG_BLOCK_TYPE.REVOKE:
        if (!hasRightTail(block, this.#log.format)) this.#hasSuspect = true;
        // The kernel counts them while it scans, and gives up here even if the transaction was never committed.
        if (decodeRevokedBlocks(block, this.#log.format) === undefined) {
          throw new InputError("journal", `block ${at}: its revocations do not fit it`, {
            data: { block: at },
          });
        }
        this.#revocations.push({ block: at, transaction: this.#transaction });
        return true;
      case LOG_BLOCK_TYPE.COMMIT:
        return this.#passCommit(block);
      default:
        return false;
    }
  }

  #passDescriptor(block: Uint8Array): void {
    const { format } = this.#log;
    if (!hasRightTail(block, format)) this.#hasSuspect = true;
    const isSummed = format.checksumVersion === 1 && !this.#hasSuspect && this.#end === undefined;
    if (isSummed) this.#crc32 = crc32BigEndian(this.#crc32, block);
    for (const tag of decodeTags(block, format)) {
      const copy = this.#block;
      this.#block = this.#log.next(copy);
      this.#blocks.add(tag, copy, this.#transaction);
      if (isSummed) this.#crc32 = crc32BigEndian(this.#crc32, this.#log.read(copy));
    }
  }

  /** A commit block ends a transaction. What follows says how damage and an unfinished commit are told apart. */
  #passCommit(block: Uint8Array): boolean {
    const { seconds } = decodeCommit(block);
    if (this.#hasSuspect) {
      // Time never runs backwards in one log, so this is what an older one left behind.
      if (seconds < this.#lastCommitSeconds) return false;
      throw this.#damaged("one of its blocks has a wrong checksum");
    }
    const isVersion1 = this.#log.format.checksumVersion === 1;
    if (isVersion1 && this.#end !== undefined) {
      throw this.#damaged("another one was committed after it", this.#end);
    }
    if (this.#isCommitRight(block)) this.#crc32 = CRC32_START;
    else {
      if (seconds < this.#lastCommitSeconds) return false;
      // The kernel takes a number of 0 for no transaction at all: it neither refuses that one, nor ends there for good.
      const isUnnamed = this.#sequence === 0;
      // With asynchronous commits, this block may be on the disk before the rest of its transaction.
      if (!this.#isAsynchronous) {
        if (isUnnamed) return false;
        throw this.#damaged("its commit block has a wrong checksum");
      }
      if (!isUnnamed) this.#end = this.#transaction;
    }
    this.#lastCommitSeconds = seconds;
    this.#sequence = (this.#sequence + 1) >>> 0;
    this.#transaction++;
    return true;
  }

  #isCommitRight(block: Uint8Array): boolean {
    const { format } = this.#log;
    if (format.checksumVersion !== 1) return hasRightCommitChecksum(block, format);
    const { checksumType, checksumSizeBytes, checksum } = decodeCommit(block);
    if (checksumType === 0 && checksumSizeBytes === 0 && checksum === 0) return true;
    return checksumType === COMMIT_CHECKSUM.CRC32 &&
      checksumSizeBytes === COMMIT_CHECKSUM.SIZE_BYTES && checksum === this.#crc32;
  }

  #damaged(why: string, transaction = this.#transaction): InputError {
    const sequence = (this.#log.superblock.sequence + transaction) >>> 0;
    return new InputError("journal", `transaction ${sequence} is damaged: ${why}`, {
      data: { sequence },
    });
  }
}

/** Grows as the log is walked. */
class BlockList {
  count = 0;
  #targets = new Float64Array(1024);
  #copies = new Uint32Array(1024);
  #transactions = new Uint32Array(1024);
  #checksums = new Uint32Array(1024);
  #escaped = new Uint8Array(1024);

  add(tag: BlockTag, copy: number, transaction: number): void {
    const at = this.count;
    if (at === this.#targets.length) this.#grow();
    this.#targets[at] = tag.blockNumber;
    this.#copies[at] = copy;
    this.#transactions[at] = transaction;
    this.#checksums[at] = tag.checksum;
    this.#escaped[at] = tag.isEscaped ? 1 : 0;
    this.count++;
  }

  /** Those of the transactions before one of them. */
  before(transaction: number): LoggedBlocks {
    let count = this.count;
    while (count > 0 && this.#transactions[count - 1]! >= transaction) count--;
    return {
      count,
      targets: this.#targets.subarray(0, count),
      copies: this.#copies.subarray(0, count),
      transactions: this.#transactions.subarray(0, count),
      checksums: this.#checksums.subarray(0, count),
      escaped: this.#escaped.subarray(0, count),
    };
  }

  #grow(): void {
    const length = 2 * this.#targets.length;
    if (length > JOURNAL_BLOCKS_LIMIT) {
      throw limitError("journal", `its log holds more than ${JOURNAL_BLOCKS_LIMIT} blocks`, {
        name: "journalBlocks",
        expected: JOURNAL_BLOCKS_LIMIT,
        isFixed: true,
      });
    }
    this.#targets = grown(this.#targets, new Float64Array(length));
    this.#copies = grown(this.#copies, new Uint32Array(length));
    this.#transactions = grown(this.#transactions, new Uint32Array(length));
    this.#checksums = grown(this.#checksums, new Uint32Array(length));
    this.#escaped = grown(this.#escaped, new Uint8Array(length));
  }
}

function grown<T extends { set(from: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}
