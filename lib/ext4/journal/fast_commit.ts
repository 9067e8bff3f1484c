/**
 * Fast commits (fs/ext4/fast_commit.h, fast_commit.c): the changes since the last transaction as tags, in blocks of
 * their own at the end of the journal. Little-endian, unlike the rest of it.
 *
 * @module
 */
import { crc32c } from "../../bytes/crc32c.ts";
import { InputError, limitError } from "../../errors.ts";
import { viewOf } from "../format/fields.ts";
import type { JournalLog } from "./log.ts";

export type FastCommitRecord =
  | {
    /** Blocks that a file gets, replacing others at the same logical place. */
    readonly kind: "addRange";
    readonly inode: number;
    readonly logicalBlock: number;
    readonly blockCount: number;
    readonly startBlock: number;
    readonly unwritten: boolean;
  }
  | {
    /** Blocks that a file loses. */
    readonly kind: "deleteRange";
    readonly inode: number;
    readonly logicalBlock: number;
    readonly blockCount: number;
  }
  | {
    /** A name that a directory gains or loses. */
    readonly kind: "create" | "link" | "unlink";
    readonly parent: number;
    readonly inode: number;
    readonly name: Uint8Array;
  }
  | {
    /** An inode up to i_extra_isize, without its block map. */
    readonly kind: "inode";
    readonly inode: number;
    readonly slot: Uint8Array;
  };

/** The fast commits of a journal. */
export interface FastCommits {
  /** In the order in which they happened. */
  readonly records: readonly FastCommitRecord[];
  readonly blocks: number;
}

/** fc_tag. */
const TAG = {
  ADD_RANGE: 1,
  DEL_RANGE: 2,
  CREATE: 3,
  LINK: 4,
  UNLINK: 5,
  INODE: 6,
  PAD: 7,
  TAIL: 8,
  HEAD: 9,
} as const;

const TAG_HEADER_BYTES = 4;
const TAG_AT = { tag: 0, length: 2 } as const;
const HEAD_AT = { features: 0, sequence: 4 } as const;
const TAIL_AT = { sequence: 0, checksum: 4 } as const;
const INODE_MIN_BYTES = 4 + 128;
const NAME_AT = 8;
const RANGE_BYTES = 16;
const DELETED_RANGE_BYTES = 12;
const UNWRITTEN = 0x8000;
const SEQUENCE_BYTES = 8;
const NAME_BYTES_MAX = 255;
/** A hundred times what fits in the room that mke2fs makes. */
const RECORDS_MAX = 1_000_000;

/**
 * Reads the fast commits that follow a log. If they fill all their room, a kernel (6.18) reads one block too far and
 * refuses the image; this function still reads them.
 *
 * @param sequence the transaction that they belong to: the first one not in the log
 * @throws {InputError} if the first of them is damaged: the kernel does not mount such an image
 */
export function readFastCommits(log: JournalLog, sequence: number): FastCommits {
  const scan = new FastCommitScan(sequence);
  const { startBlock, endBlock } = log.fastCommits;
  if (log.superblock.startBlock === 0) return scan.whole;
  for (let block = startBlock; block < endBlock; block++) {
    if (!scan.take(log.read(block), block, block === startBlock)) break;
  }
  return scan.whole;
}

class FastCommitScan {
  readonly #sequence: number;
  readonly #records: FastCommitRecord[] = [];
  /** How many of the records and blocks belong to commits with a tail. */
  #wholeRecords = 0;
  #wholeBlocks = 0;
  #blocks = 0;
  #block = 0;
  #checksum = 0;

  constructor(sequence: number) {
    this.#sequence = sequence;
  }

  get whole(): FastCommits {
    return { records: this.#records.slice(0, this.#wholeRecords), blocks: this.#wholeBlocks };
  }

  /** Processes a block; returns false if reading ends there. */
  take(bytes: Uint8Array, block: number, isFirst: boolean): boolean {
    const view = viewOf(bytes);
    if (isFirst && view.getUint16(TAG_AT.tag, true) !== TAG.HEAD) return false;
    this.#block = block;
    this.#blocks++;
    for (let at = 0; at + TAG_HEADER_BYTES <= bytes.length;) {
      const tag = view.getUint16(at + TAG_AT.tag, true);
      const length = view.getUint16(at + TAG_AT.length, true);
      const next = at + TAG_HEADER_BYTES + length;
      if (next > bytes.length || !isLengthPossible(tag, length)) {
        return this.#endOrThrow("it has a tag that is unknown or does not fit its block");
      }
      if (!this.#takeTag(tag, bytes.slice(at, next))) return false;
      at = next;
    }
    return true;
  }

  #takeTag(tag: number, bytes: Uint8Array): boolean {
    const value = bytes.subarray(TAG_HEADER_BYTES);
    const view = viewOf(value);
    if (tag === TAG.TAIL) return this.#takeTail(bytes, view);
    if (tag === TAG.HEAD) {
      if (view.getUint32(HEAD_AT.features, true) !== 0) {
        throw this.#fault("it has unknown features");
      }
      // Left over from an earlier transaction.
      if (view.getUint32(HEAD_AT.sequence, true) !== this.#sequence) return false;
    } else if (tag !== TAG.PAD) this.#add(decodeRecord(tag, value, view));
    this.#checksum = crc32c(this.#checksum, bytes);
    return true;
  }

  #add(record: FastCommitRecord): void {
    if (this.#records.length === RECORDS_MAX) {
      throw limitError("journal", `its fast commits have more than ${RECORDS_MAX} changes`, {
        name: "fastCommitRecords",
        expected: RECORDS_MAX,
        isFixed: true,
      });
    }
    this.#records.push(record);
  }

  /** The tail of a commit counts up to its checksum; the rest of its block is empty. */
  #takeTail(bytes: Uint8Array, view: DataView<ArrayBufferLike>): boolean {
    const covered = bytes.subarray(0, TAG_HEADER_BYTES + TAIL_AT.checksum);
    const checksum = crc32c(this.#checksum, covered);
    this.#checksum = 0;
    const isRight = view.getUint32(TAIL_AT.sequence, true) === this.#sequence &&
      view.getUint32(TAIL_AT.checksum, true) === checksum;
    if (!isRight) return this.#endOrThrow("its checksum is wrong");
    [this.#wholeRecords, this.#wholeBlocks] = [this.#records.length, this.#blocks];
    return true;
  }

  /** After a complete commit, anything may follow. */
  #endOrThrow(error: string): false {
    if (this.#wholeBlocks === 0) throw this.#fault(error);
    return false;
  }

  #fault(error: string): InputError {
    const block = this.#block;
    return new InputError("journal", `block ${block}, a fast commit: ${error}`, {
      data: { block },
    });
  }
}

function isLengthPossible(tag: number, length: number): boolean {
  switch (tag) {
    case TAG.ADD_RANGE:
      return length === RANGE_BYTES;
    case TAG.DEL_RANGE:
      return length === DELETED_RANGE_BYTES;
    case TAG.CREATE:
    case TAG.LINK:
    case TAG.UNLINK:
      return length > NAME_AT && length <= NAME_AT + NAME_BYTES_MAX;
    case TAG.INODE:
      return length >= INODE_MIN_BYTES;
    case TAG.TAIL:
    case TAG.HEAD:
      return length >= SEQUENCE_BYTES;
    default:
      return tag === TAG.PAD;
  }
}

function decodeRecord(
  tag: number,
  value: Uint8Array,
  view: DataView<ArrayBufferLike>,
): FastCommitRecord {
  const first = view.getUint32(0, true);
  switch (tag) {
    case TAG.ADD_RANGE: {
      const length = view.getUint16(8, true);
      const unwritten = length > UNWRITTEN;
      return {
        kind: "addRange",
        inode: first,
        logicalBlock: view.getUint32(4, true),
        blockCount: unwritten ? length - UNWRITTEN : length,
        startBlock: view.getUint16(10, true) * 2 ** 32 + view.getUint32(12, true),
        unwritten,
      };
    }
    case TAG.DEL_RANGE:
      return {
        kind: "deleteRange",
        inode: first,
        logicalBlock: view.getUint32(4, true),
        blockCount: view.getUint32(8, true),
      };
    case TAG.INODE:
      return { kind: "inode", inode: first, slot: value.subarray(4) };
    default: {
      const kind = tag === TAG.CREATE ? "create" : tag === TAG.LINK ? "link" : "unlink";
      const inode = view.getUint32(4, true);
      return { kind, parent: first, inode, name: value.subarray(NAME_AT) };
    }
  }
}
