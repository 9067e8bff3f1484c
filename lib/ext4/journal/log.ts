/**
 * The log of a journal: its superblock, checked as the kernel checks it before a mount (fs/jbd2/journal.c), its blocks
 * by number, and their contents (kernel documentation, "Journal (jbd2)"; include/linux/jbd2.h): descriptors with their
 * tags, revocations and commits, and the checksums of all three versions. Big-endian, unlike the rest of ext4.
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
  JOURNAL_MAGIC,
  JOURNAL_SUPERBLOCK_SIZE_BYTES,
  type JournalSuperblock,
} from "../format/journal.ts";
import { crc32c } from "../../bytes/crc32c.ts";
import { CRC32C_START, ZEROED_CHECKSUM } from "../format/checksum.ts";
import { viewOf } from "../format/fields.ts";

/** Consecutive journal blocks that are also consecutive in the image or device. */
interface JournalRun {
  /** The first block, counted within the journal. */
  readonly logicalBlock: number;
  readonly blockCount: number;
  /** The first block, counted within the image or device that holds the journal. */
  readonly startBlock: number;
}

export interface JournalPlace {
  /** The image itself, or an external journal. */
  readonly reader: RandomReader;
  readonly blockSizeBytes: number;
  /** All blocks of the journal: the size of its inode or device. */
  readonly blockCount: number;
  /** The block map of the journal's inode, in order. An external journal is one run from block 0 on. */
  readonly runs: readonly JournalRun[];
  /** The block of the journal's superblock, counted within the journal: 0, or 1 or 2 in an external one. */
  readonly superblockBlock: number;
}

/**
 * Blocks for fast commits at the end of a journal whose superblock does not give a number
 * (JBD2_DEFAULT_FAST_COMMIT_BLOCKS).
 */
const FAST_COMMIT_BLOCKS_DEFAULT = 256;
const READ_AHEAD_BYTES = 256 * 1024;

const KNOWN_INCOMPAT = Object.values(JOURNAL_INCOMPAT).reduce((all, bit) => all | bit, 0);

/** The log of a journal with a valid superblock. */
export class JournalLog {
  readonly superblock: JournalSuperblock;
  readonly format: LogFormat;
  /** The block after the last one of the log, which wraps around to `superblock.firstBlock`. */
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

  /** The block that follows another in the log. */
  next(block: number, count = 1): number {
    const { firstBlock } = this.superblock;
    const next = block + count;
    return next >= this.endBlock ? next - (this.endBlock - firstBlock) : next;
  }

  /** The length of the log before it wraps around. */
  get lengthBlocks(): number {
    return this.endBlock - this.superblock.firstBlock;
  }

  /** The byte offset of a journal block in the image or device. Throws InputError for a hole. */
  positionOf(block: number): number {
    const run = this.#runOf(block);
    return (run.startBlock + block - run.logicalBlock) * this.#place.blockSizeBytes;
  }

  /** Reads a block of the journal, valid until the next read. */
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

/** Follows the order and limits of the kernel's journal_load_superblock() and the checks after it. */
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

/** h_blocktype. */
export const LOG_BLOCK_TYPE = { DESCRIPTOR: 1, COMMIT: 2, REVOKE: 5 } as const;

/** s_feature_compat of the journal: commit blocks hold a CRC-32 of their transaction (version 1 checksums). */
export const JOURNAL_COMPAT_CHECKSUM = 0x1;

/** t_flags of a tag. */
export const TAG_FLAG = { ESCAPED: 0x1, SAME_UUID: 0x2, DELETED: 0x4, LAST_TAG: 0x8 } as const;

/** How a journal's features shape its blocks. */
export interface LogFormat {
  readonly blockSizeBytes: number;
  readonly is64Bit: boolean;
  /** 1: one CRC-32 per transaction; 2 and 3: CRC-32C of every block; 0: none. */
  readonly checksumVersion: 0 | 1 | 2 | 3;
  readonly seed: number;
}

/** One block that a descriptor announces. Its copy is the next block of the log. */
export interface BlockTag {
  /** Where it belongs in the file system. Numbers of 2^53 and above are rounded; no file system is that large. */
  readonly blockNumber: number;
  /** The copy begins with zeros in place of JOURNAL_MAGIC. */
  readonly isEscaped: boolean;
  /** Stored checksum: 16 bits in version 2, 32 bits in version 3, else 0. */
  readonly checksum: number;
}

const HEADER_SIZE_BYTES = 12;
const UUID_SIZE_BYTES = 16;
const REVOKE_HEADER_SIZE_BYTES = 16;
/** struct commit_header. */
const COMMIT_HEADER_SIZE_BYTES = 64;
const TAIL_SIZE_BYTES = 4;

const HEADER_AT = { magic: 0, blockType: 4, sequence: 8 } as const;
/** In journal_block_tag3_t, t_flags has 32 bits from byte 4 on; the used low half is where the other tags have it. */
const TAG_AT = { blockLow: 0, checksum16: 4, flags: 6, blockHigh: 8, checksum32: 12 } as const;
const REVOKE_AT = { usedBytes: 12 } as const;
const COMMIT_AT = { checksumType: 12, checksumSize: 13, checksum: 16, seconds: 48 } as const;

/** The block format that follows from a journal's features. Its UUID seeds the checksums. */
export function logFormat(
  { blockSizeBytes, featureCompat, featureIncompat, uuid }: Pick<
    JournalSuperblock,
    "blockSizeBytes" | "featureCompat" | "featureIncompat" | "uuid"
  >,
): LogFormat {
  const checksumVersion = (featureIncompat & JOURNAL_INCOMPAT.CSUM_V3) !== 0
    ? 3
    : (featureIncompat & JOURNAL_INCOMPAT.CSUM_V2) !== 0
    ? 2
    : (featureCompat & JOURNAL_COMPAT_CHECKSUM) !== 0
    ? 1
    : 0;
  return {
    blockSizeBytes,
    is64Bit: (featureIncompat & JOURNAL_INCOMPAT.BIT64) !== 0,
    checksumVersion,
    seed: checksumVersion >= 2 ? crc32c(CRC32C_START, uuid) : 0,
  };
}

/** h_blocktype and h_sequence of one of the log's own blocks; undefined for a copy of another block. */
export function decodeLogHeader(
  block: Uint8Array,
): { readonly blockType: number; readonly sequence: number } | undefined {
  const view = viewOf(block);
  if (view.getUint32(HEADER_AT.magic) !== JOURNAL_MAGIC) return undefined;
  return {
    blockType: view.getUint32(HEADER_AT.blockType),
    sequence: view.getUint32(HEADER_AT.sequence),
  };
}

/**
 * The size of a tag (jbd2's journal_tag_bytes()). Version 2 adds two bytes although the structure already had room for
 * its checksum; every kernel does so.
 */
export function tagSizeBytes({ checksumVersion, is64Bit }: LogFormat): number {
  if (checksumVersion === 3) return 16;
  return 8 + (checksumVersion === 2 ? 2 : 0) + (is64Bit ? 4 : 0);
}

/** The tags of a descriptor, up to the one marked as last, or as many as fit. */
export function decodeTags(block: Uint8Array, format: LogFormat): BlockTag[] {
  const { checksumVersion, is64Bit } = format;
  const view = viewOf(block);
  const sizeBytes = tagSizeBytes(format);
  const end = format.blockSizeBytes - (checksumVersion >= 2 ? TAIL_SIZE_BYTES : 0);
  const tags: BlockTag[] = [];
  let at = HEADER_SIZE_BYTES;
  while (at + sizeBytes <= end) {
    const flags = view.getUint16(at + TAG_AT.flags);
    const high = is64Bit ? view.getUint32(at + TAG_AT.blockHigh) : 0;
    tags.push({
      blockNumber: high * 2 ** 32 + view.getUint32(at + TAG_AT.blockLow),
      isEscaped: (flags & TAG_FLAG.ESCAPED) !== 0,
      checksum: checksumVersion === 3
        ? view.getUint32(at + TAG_AT.checksum32)
        : checksumVersion === 2
        ? view.getUint16(at + TAG_AT.checksum16)
        : 0,
    });
    at += sizeBytes + ((flags & TAG_FLAG.SAME_UUID) === 0 ? UUID_SIZE_BYTES : 0);
    if ((flags & TAG_FLAG.LAST_TAG) !== 0) break;
  }
  return tags;
}

/** The block numbers in a revocation; undefined if it claims more bytes than its block has. */
export function decodeRevokedBlocks(block: Uint8Array, format: LogFormat): number[] | undefined {
  const view = viewOf(block);
  const usedBytes = view.getUint32(REVOKE_AT.usedBytes);
  const tailBytes = format.checksumVersion >= 2 ? TAIL_SIZE_BYTES : 0;
  if (usedBytes > format.blockSizeBytes - tailBytes) return undefined;
  const sizeBytes = format.is64Bit ? 8 : 4;
  const blocks: number[] = [];
  for (let at = REVOKE_HEADER_SIZE_BYTES; at + sizeBytes <= usedBytes; at += sizeBytes) {
    const high = format.is64Bit ? view.getUint32(at) : 0;
    blocks.push(high * 2 ** 32 + view.getUint32(at + sizeBytes - 4));
  }
  return blocks;
}

/** The fields of a commit block: h_chksum_type, h_chksum_size, h_chksum[0], seconds since 1970. */
export function decodeCommit(block: Uint8Array): {
  readonly checksumType: number;
  readonly checksumSizeBytes: number;
  readonly checksum: number;
  readonly seconds: bigint;
} {
  const view = viewOf(block);
  return {
    checksumType: view.getUint8(COMMIT_AT.checksumType),
    checksumSizeBytes: view.getUint8(COMMIT_AT.checksumSize),
    checksum: view.getUint32(COMMIT_AT.checksum),
    seconds: view.getBigUint64(COMMIT_AT.seconds),
  };
}

/** Whether the checksum at the end of a descriptor or revocation is right; true if the journal has none. */
export function hasRightTail(block: Uint8Array, format: LogFormat): boolean {
  if (format.checksumVersion < 2) return true;
  const tail = format.blockSizeBytes - TAIL_SIZE_BYTES;
  return viewOf(block).getUint32(tail) === logTailChecksum(block, format);
}

/** The correct checksum for the end of a descriptor or revocation. */
export function logTailChecksum(block: Uint8Array, format: LogFormat): number {
  const body = block.subarray(0, format.blockSizeBytes - TAIL_SIZE_BYTES);
  return crc32c(format.seed, body, ZEROED_CHECKSUM);
}

/**
 * Whether a commit block's own checksum is right; true if the journal has none. It is enough if the header matches: a
 * disk may not have written the zeros after it (jbd2_commit_block_csum_verify_partial()).
 */
export function hasRightCommitChecksum(block: Uint8Array, format: LogFormat): boolean {
  if (format.checksumVersion < 2) return true;
  const { checksum } = decodeCommit(block);
  if (checksum === commitBlockChecksum(block, format)) return true;
  const header = new Uint8Array(block.length);
  header.set(block.subarray(0, COMMIT_HEADER_SIZE_BYTES));
  return checksum === commitBlockChecksum(header, format);
}

/** The checksum of a commit block in versions 2 and 3. */
export function commitBlockChecksum(block: Uint8Array, format: LogFormat): number {
  const { checksum: at } = COMMIT_AT;
  return crc32c(format.seed, block.subarray(0, at), ZEROED_CHECKSUM, block.subarray(at + 4));
}

/** The checksum that a tag stores for the copy of a block: all 32 bits in version 3, the low 16 in version 2. */
export function tagChecksum(copy: Uint8Array, sequence: number, format: LogFormat): number {
  const key = new Uint8Array(4);
  viewOf(key).setUint32(0, sequence);
  const checksum = crc32c(format.seed, key, copy);
  return format.checksumVersion === 3 ? checksum : checksum & 0xffff;
}

/** CRC-32, high bit first and without inversion, as in version 1 checksums (the kernel's crc32_be()). */
export function crc32BigEndian(seed: number, bytes: Uint8Array): number {
  const table = crc32Table ??= Uint32Array.from({ length: 256 }, (_, byte) => {
    let register = byte << 24;
    for (let bit = 0; bit < 8; bit++) {
      register = (register << 1) ^ (register < 0 ? CRC32_POLYNOMIAL : 0);
    }
    return register;
  });
  let register = seed | 0;
  for (let at = 0; at < bytes.length; at++) {
    register = (register << 8) ^ table[(register >>> 24) ^ bytes[at]!]!;
  }
  return register >>> 0;
}

const CRC32_POLYNOMIAL = 0x04c11db7;
let crc32Table: Uint32Array | undefined;
