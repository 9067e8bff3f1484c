/**
 * Replaying a journal in memory (fs/jbd2/recovery.c): the image as the kernel sees it after mounting, while nothing is
 * written to it. Replaced blocks are read from the log when they are wanted, so memory grows with the number of blocks
 * in the log, some 30 bytes each, and not with what is in them.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import { type RandomReader, readExactly } from "../../io/random_reader.ts";
import { JOURNAL_MAGIC } from "../format/journal.ts";
import { JournalLog, type JournalPlace } from "./log.ts";
import { decodeRevokedBlocks, hasRightTagChecksum } from "./log_block.ts";
import { firstAtOrAfter, overlayReader } from "./overlay.ts";
import { type LoggedBlocks, scanLog, type ScannedLog } from "./scan.ts";

/** What a replay did. */
export interface ReplayReport {
  /** Transactions replayed. */
  readonly transactions: number;
  /** The number of the first one. */
  readonly firstSequence: number;
  /** Different blocks of the image that were replaced. */
  readonly blocks: number;
  /** Copies that were not replayed because a later transaction revoked them. */
  readonly revokedBlocks: number;
  /** Blocks of fast commits that were replayed. */
  readonly fastCommitBlocks: number;
}

/** A replayed journal. */
export interface Replayed {
  /** The image with the blocks of the log in place. Closing it closes the image. */
  readonly reader: RandomReader;
  readonly report: ReplayReport;
  /** Its log. */
  readonly log: JournalLog;
  /** The number of the first transaction that is not in the log: fast commits belong to it. */
  readonly endSequence: number;
}

/**
 * Replays the log of a journal over an image.
 *
 * @param image the image as it lies; it is not changed
 * @param place where its journal is
 * @throws {InputError} for a journal that the kernel refuses to replay
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { memoryReader } from "../../io/random_reader.ts";
 * import { encodeJournalSuperblock } from "../format/journal.ts";
 * import { replayJournal } from "./replay.ts";
 * const image = new Uint8Array(4 * 1024 * 1024);
 * const uuid = new Uint8Array(16);
 * const superblock = encodeJournalSuperblock({ blockSizeBytes: 1024, blockCount: 1024, uuid });
 * image.set(superblock, 2048 * 1024);
 * const reader = memoryReader(image, "image");
 * const { report } = replayJournal(reader, {
 *   reader,
 *   blockSizeBytes: 1024,
 *   blockCount: 1024,
 *   runs: [{ logicalBlock: 0, blockCount: 1024, startBlock: 2048 }],
 *   superblockBlock: 0,
 * });
 * assertEquals(report.transactions, 0); // s_start is 0: the log is empty
 * ```
 */
export function replayJournal(image: RandomReader, place: JournalPlace): Replayed {
  const log = new JournalLog(place);
  const { startBlock, sequence } = log.superblock;
  if (startBlock === 0) {
    const report = {
      transactions: 0,
      firstSequence: sequence,
      blocks: 0,
      revokedBlocks: 0,
      fastCommitBlocks: 0,
    };
    return { reader: image, report, log, endSequence: sequence };
  }
  const scanned = scanLog(log);
  const { blocks } = scanned;
  const targets = new TargetTable(blocks);
  readRevocations(log, scanned, targets);
  const endBlock = Math.floor(image.sizeBytes / place.blockSizeBytes);
  const revokedBlocks = checkCopies(log, blocks, targets, endBlock);
  const replaced = targets.replaced(blocks);
  const report = {
    transactions: scanned.transactionCount,
    firstSequence: sequence,
    blocks: replaced.length,
    revokedBlocks,
    fastCommitBlocks: 0,
  };
  const reader = replaced.length === 0 ? image : logOverlay(image, place, log, blocks, replaced);
  return { reader, report, log, endSequence: scanned.endSequence };
}

/** The blocks that a log replaces, each once, with the transaction that revokes it. */
class TargetTable {
  /** In ascending order. */
  readonly #numbers: Float64Array;
  /** The transaction behind the last one that revoked it; 0 when none did. */
  readonly #revokedBefore: Uint32Array;

  constructor({ targets }: LoggedBlocks) {
    const sorted = targets.slice().sort();
    let count = 0;
    for (const target of sorted) {
      if (count === 0 || sorted[count - 1] !== target) sorted[count++] = target;
    }
    this.#numbers = sorted.subarray(0, count);
    this.#revokedBefore = new Uint32Array(count);
  }

  /** Copies in the log of a block up to a transaction, that one included, do not count. */
  revoke(block: number, transaction: number): void {
    const index = firstAtOrAfter(this.#numbers, block);
    if (this.#numbers[index] !== block) return;
    this.#revokedBefore[index] = Math.max(this.#revokedBefore[index]!, transaction + 1);
  }

  isRevoked(block: number, transaction: number): boolean {
    return transaction < this.#revokedBefore[firstAtOrAfter(this.#numbers, block)]!;
  }

  /** For each block that is replaced, in ascending order, the last copy of it. */
  replaced(blocks: LoggedBlocks): Uint32Array {
    const last = new Uint32Array(this.#numbers.length); // 0 for none, else one more than its index
    for (let i = 0; i < blocks.count; i++) {
      const index = firstAtOrAfter(this.#numbers, blocks.targets[i]!);
      if (blocks.transactions[i]! >= this.#revokedBefore[index]!) last[index] = i + 1;
    }
    return last.filter((one) => one > 0).map((one) => one - 1);
  }
}

function readRevocations(log: JournalLog, { revocations }: ScannedLog, targets: TargetTable): void {
  for (const { block, transaction } of revocations) {
    const revoked = decodeRevokedBlocks(log.read(block), log.format);
    for (const target of revoked ?? []) targets.revoke(target, transaction);
  }
}

/** Checks all copies that count, as the kernel does before it lets an image be mounted; gives the number of the others. */
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
    const tag = { blockNumber: target, isEscaped: false, checksum: blocks.checksums[i]! };
    if (!hasRightTagChecksum(tag, log.read(blocks.copies[i]!), sequence, format)) {
      throw new InputError("journal", `${what}: the copy of block ${target} has a wrong checksum`, {
        data: { sequence, block: target },
      });
    }
  }
  return revoked;
}

/** The image with the chosen copies in their places. */
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
  new DataView(magic.buffer).setUint32(0, JOURNAL_MAGIC);
  return overlayReader(image, place.blockSizeBytes, {
    blocks: numbers,
    fill(index, target, offset) {
      readExactly(place.reader, target, positions[index]! + offset);
      if (escaped[index] === 0 || offset >= magic.length) return;
      target.set(magic.subarray(offset, offset + target.length));
    },
  });
}
