/**
 * Replays a journal in memory (fs/jbd2/recovery.c): the image as the kernel sees it after mounting, without writing to
 * it. Replaced blocks are read from the log on demand, so memory grows with the number of blocks in the log, some 30
 * bytes each, not with their contents.
 *
 * @module
 */
import { InputError, limitError } from "../../errors.ts";
import { type RandomReader, readExactly } from "../../io/random_reader.ts";
import { viewOf } from "../format/fields.ts";
import { JOURNAL_INCOMPAT, JOURNAL_MAGIC } from "../format/journal.ts";
import {
  type BlockTag,
  crc32BigEndian,
  decodeCommit,
  decodeLogHeader,
  decodeRevokedBlocks,
  decodeTags,
  hasRightCommitChecksum,
  hasRightTail,
  JournalLog,
  type JournalPlace,
  LOG_BLOCK_TYPE,
  tagChecksum,
} from "./log.ts";
import { firstAtOrAfter, overlayReader } from "./overlay.ts";

/** What a replay did. */
export interface ReplayReport {
  /** Number of transactions replayed. */
  readonly transactions: number;
  /** The sequence number of the first one. */
  readonly firstSequence: number;
  /** Number of distinct blocks replaced in the image. */
  readonly blocks: number;
  /** Copies not replayed because a later transaction revoked them. */
  readonly revokedBlocks: number;
  /** Blocks of fast commits replayed. */
  readonly fastCommitBlocks: number;
}

/** A replayed journal. */
export interface Replayed {
  /** The image with the blocks of the log in place. Closing it closes the image. */
  readonly reader: RandomReader;
  readonly report: ReplayReport;
  readonly log: JournalLog;
  /** The number of the first transaction not in the log, to which fast commits belong. */
  readonly endSequence: number;
}

/**
 * Replays the log of a journal over an image.
 *
 * @param image the image as stored; it is not changed
 * @param place where its journal is
 * @throws {InputError} for a journal that the kernel refuses to replay
 */
export function replayJournal(image: RandomReader, place: JournalPlace): Replayed {
  const log = new JournalLog(place);
  const { startBlock, sequence } = log.superblock;
  const report = {
    transactions: 0,
    firstSequence: sequence,
    blocks: 0,
    revokedBlocks: 0,
    fastCommitBlocks: 0,
  };
  if (startBlock === 0) return { reader: image, report, log, endSequence: sequence };
  const { blocks, revocations, transactionCount, endSequence } = new LogScan(log).run();
  const targets = new TargetTable(blocks);
  for (const { block, transaction } of revocations) {
    const revoked = decodeRevokedBlocks(log.read(block), log.format) ?? [];
    for (const target of revoked) targets.revoke(target, transaction);
  }
  const endBlock = Math.floor(image.sizeBytes / place.blockSizeBytes);
  const revokedBlocks = checkCopies(log, blocks, targets, endBlock);
  const replaced = targets.replaced(blocks);
  return {
    reader: replaced.length === 0 ? image : logOverlay(image, place, log, blocks, replaced),
    report: {
      ...report,
      transactions: transactionCount,
      blocks: replaced.length,
      revokedBlocks,
    },
    log,
    endSequence,
  };
}

/** The most block copies to keep: those of a 64 GiB log with 4 KiB blocks. */
const JOURNAL_BLOCKS_LIMIT = 2 ** 24;

/** The copies of blocks in a log, in log order. Grows as the log is walked. */
class LoggedBlocks {
  count = 0;
  /** Where each block belongs in the file system. */
  targets = new Float64Array(1024);
  /** Where its copy is, counted within the journal. */
  copies = new Uint32Array(1024);
  /** Its transaction, counted from the first. */
  transactions = new Uint32Array(1024);
  checksums = new Uint32Array(1024);
  /** 1 for a copy whose magic number was replaced. */
  escaped = new Uint8Array(1024);

  add(tag: BlockTag, copy: number, transaction: number): void {
    const at = this.count;
    if (at === this.targets.length) this.#grow();
    this.targets[at] = tag.blockNumber;
    this.copies[at] = copy;
    this.transactions[at] = transaction;
    this.checksums[at] = tag.checksum;
    this.escaped[at] = tag.isEscaped ? 1 : 0;
    this.count++;
  }

  /** Drops the blocks of a transaction and of all later ones. */
  dropFrom(transaction: number): void {
    while (this.count > 0 && this.transactions[this.count - 1]! >= transaction) this.count--;
  }

  #grow(): void {
    const length = 2 * this.targets.length;
    if (length > JOURNAL_BLOCKS_LIMIT) {
      throw limitError("journal", `its log holds more than ${JOURNAL_BLOCKS_LIMIT} blocks`, {
        name: "journalBlocks",
        expected: JOURNAL_BLOCKS_LIMIT,
        isFixed: true,
      });
    }
    const grown = <T extends { set(from: T): void }>(from: T, to: T): T => {
      to.set(from);
      return to;
    };
    this.targets = grown(this.targets, new Float64Array(length));
    this.copies = grown(this.copies, new Uint32Array(length));
    this.transactions = grown(this.transactions, new Uint32Array(length));
    this.checksums = grown(this.checksums, new Uint32Array(length));
    this.escaped = grown(this.escaped, new Uint8Array(length));
  }
}

interface ScannedLog {
  readonly transactionCount: number;
  /** The number of the first transaction after them. */
  readonly endSequence: number;
  readonly blocks: LoggedBlocks;
  /** Their revocation blocks, with the transaction of each. */
  readonly revocations: readonly { readonly block: number; readonly transaction: number }[];
}

const CRC32_START = 0xffffffff;
/** JBD2_CRC32_CHKSUM and its size. */
const COMMIT_CHECKSUM = { CRC32: 1, SIZE_BYTES: 4 } as const;

/**
 * Finds the complete transactions of a log (fs/jbd2/recovery.c, the scan pass): from `s_start` on, as long as blocks
 * follow one another with the expected numbers. Throws an InputError for a transaction that was committed but is
 * damaged: the kernel does not mount such an image.
 */
class LogScan {
  readonly #log: JournalLog;
  readonly #blocks = new LoggedBlocks();
  readonly #revocations: { block: number; transaction: number }[] = [];
  readonly #isAsynchronous: boolean;
  #block: number;
  #sequence: number;
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
      // Without this check, a log that never ends would be followed in circles.
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
    this.#blocks.dropFrom(transactionCount);
    return {
      transactionCount,
      endSequence: (this.#log.superblock.sequence + transactionCount) >>> 0,
      blocks: this.#blocks,
      revocations: this.#revocations.filter(({ transaction }) => transaction < transactionCount),
    };
  }

  /** Processes one block; returns false if the log ends with it. */
  #isPassed(blockType: number, block: Uint8Array, at: number): boolean {
    switch (blockType) {
      case LOG_BLOCK_TYPE.DESCRIPTOR:
        this.#passDescriptor(block);
        return true;
      case LOG_BLOCK_TYPE.REVOKE:
        if (!hasRightTail(block, this.#log.format)) this.#hasSuspect = true;
        // The kernel counts revocations while it scans, and gives up here even if the transaction was never committed.
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

  /** Ends a transaction at its commit block. Commit times distinguish damage from leftovers of an older log. */
  #passCommit(block: Uint8Array): boolean {
    const { seconds } = decodeCommit(block);
    if (this.#hasSuspect) {
      // Time never runs backwards within a log, so this is left over from an older one.
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
      // The kernel takes sequence 0 to mean "no transaction": it neither refuses that one nor ends there for good.
      const isUnnamed = this.#sequence === 0;
      // With asynchronous commits, this block may reach the disk before the rest of its transaction.
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

/** The blocks that a log replaces, each once, with the transaction that revokes it. */
class TargetTable {
  readonly #numbers: Float64Array;
  /** One more than the last transaction that revoked it; 0 if none did. */
  readonly #revokedBefore: Uint32Array;

  constructor({ targets, count: copyCount }: LoggedBlocks) {
    const sorted = targets.slice(0, copyCount).sort();
    let count = 0;
    for (const target of sorted) {
      if (count === 0 || sorted[count - 1] !== target) sorted[count++] = target;
    }
    this.#numbers = sorted.subarray(0, count);
    this.#revokedBefore = new Uint32Array(count);
  }

  /** Discards the copies of a block in transactions up to and including this one. */
  revoke(block: number, transaction: number): void {
    const index = firstAtOrAfter(this.#numbers, block);
    if (this.#numbers[index] !== block) return;
    this.#revokedBefore[index] = Math.max(this.#revokedBefore[index]!, transaction + 1);
  }

  isRevoked(block: number, transaction: number): boolean {
    return transaction < this.#revokedBefore[firstAtOrAfter(this.#numbers, block)]!;
  }

  /** The last copy of each replaced block, in ascending order of blocks. */
  replaced(blocks: LoggedBlocks): Uint32Array {
    const last = new Uint32Array(this.#numbers.length); // 0 for none, else one more than its index
    for (let i = 0; i < blocks.count; i++) {
      const index = firstAtOrAfter(this.#numbers, blocks.targets[i]!);
      if (blocks.transactions[i]! >= this.#revokedBefore[index]!) last[index] = i + 1;
    }
    return last.filter((one) => one > 0).map((one) => one - 1);
  }
}

/** Checks all copies that count, as the kernel does before it allows a mount; returns the number of the others. */
function checkCopies(
  log: JournalLog,
  blocks: LoggedBlocks,
  targets: TargetTable,
  endBlock: number,
): number {
  const { format, superblock } = log;
  let revoked = 0;
  for (let i = 0; i < blocks.count; i++) {
    const [target, transaction] = [blocks.targets[i]!, blocks.transactions[i]!];
    if (targets.isRevoked(target, transaction)) {
      revoked++;
      continue;
    }
    const sequence = (superblock.sequence + transaction) >>> 0;
    const what = `transaction ${sequence}, block ${blocks.copies[i]} of the journal`;
    if (target >= endBlock) {
      throw new InputError(
        "journal",
        `${what}: it belongs at block ${target}, past the last block ${endBlock - 1}`,
        { data: { sequence, actual: target } },
      );
    }
    if (format.checksumVersion < 2) continue;
    const copy = log.read(blocks.copies[i]!);
    if (blocks.checksums[i] !== tagChecksum(copy, sequence, format)) {
      throw new InputError("journal", `${what}: the copy of block ${target} has a wrong checksum`, {
        data: { sequence, block: target },
      });
    }
  }
  return revoked;
}

function logOverlay(
  image: RandomReader,
  place: JournalPlace,
  log: JournalLog,
  blocks: LoggedBlocks,
  replaced: Uint32Array,
): RandomReader {
  const numbers = Float64Array.from(replaced, (copy) => blocks.targets[copy]!);
  const positions = Float64Array.from(replaced, (copy) => log.positionOf(blocks.copies[copy]!));
  const escaped = Uint8Array.from(replaced, (copy) => blocks.escaped[copy]!);
  const magic = new Uint8Array(4);
  viewOf(magic).setUint32(0, JOURNAL_MAGIC);
  return overlayReader(image, place.blockSizeBytes, {
    blocks: numbers,
    fill(index, target, offset) {
      readExactly(place.reader, target, positions[index]! + offset);
      if (escaped[index] === 0 || offset >= magic.length) return;
      target.set(magic.subarray(offset, offset + target.length));
    },
  });
}
