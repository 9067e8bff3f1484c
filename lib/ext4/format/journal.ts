/**
 * The journal's superblock (kernel documentation, "Journal (jbd2)"; include/linux/jbd2.h, struct journal_superblock_s):
 * 1024 bytes at the start of the journal's first block. Unlike all else in ext4 it is big-endian.
 *
 * @module
 */
import { crc32c } from "../../bytes/crc32c.ts";
import { InputError, invariant } from "../../errors.ts";
import { CRC32C_START } from "./checksum.ts";
import { viewOf } from "./fields.ts";

/** The journal's superblock. Numbers of blocks count within the journal. */
export interface JournalSuperblock {
  /** That of the file system. */
  readonly blockSizeBytes: number;
  /** All blocks of the journal, this one included. */
  readonly blockCount: number;
  /** The first block of the log. */
  readonly firstBlock: number;
  /** The first transaction expected in the log. */
  readonly sequence: number;
  /** Where the log starts; 0 when it is empty. */
  readonly startBlock: number;
  /** What went wrong in it, or 0. */
  readonly errorNumber: number;
  /** s_feature_compat of the journal. */
  readonly featureCompat: number;
  /** JOURNAL_INCOMPAT bits. */
  readonly featureIncompat: number;
  /** s_feature_ro_compat of the journal. */
  readonly featureRoCompat: number;
  /** 16 bytes: the file system's UUID for an internal journal. */
  readonly uuid: Uint8Array;
  /** File systems that share it. */
  readonly userCount: number;
  /** s_dynsuper, which nothing uses. */
  readonly dynamicSuperblock: number;
  /** s_max_transaction, which nothing uses. */
  readonly transactionBlocksMax: number;
  /** s_max_trans_data, which nothing uses. */
  readonly transactionDataBlocksMax: number;
  /** 4 is CRC-32C; 0 without checksums. */
  readonly checksumType: number;
  /** Blocks at its end for fast commits. */
  readonly fastCommitBlocks: number;
  /** Where the log ends. */
  readonly headBlock: number;
}

/** What must be known to make one; the rest is as mke2fs leaves it. */
export type NewJournalSuperblock =
  & Pick<JournalSuperblock, "blockSizeBytes" | "blockCount" | "uuid">
  & Partial<JournalSuperblock>;

/** s_feature_incompat of the journal. */
export const JOURNAL_INCOMPAT = {
  REVOKE: 0x1,
  BIT64: 0x2,
  ASYNC_COMMIT: 0x4,
  CSUM_V2: 0x8,
  CSUM_V3: 0x10,
  FAST_COMMIT: 0x20,
} as const;

/** h_magic of every journal block. */
export const JOURNAL_MAGIC = 0xc03b3998;
/** The bytes of the superblock; the rest of its block is zero. */
export const JOURNAL_SUPERBLOCK_SIZE_BYTES = 1024;
/** The smallest journal that the kernel takes (JBD2_MIN_JOURNAL_BLOCKS). */
export const JOURNAL_BLOCKS_MIN = 1024;

/** Without features: what would be in their place has no meaning. */
const BLOCK_TYPE_SUPERBLOCK_V1 = 3;
const BLOCK_TYPE_SUPERBLOCK_V2 = 4;
const CHECKSUM_TYPE_CRC32C = 4;

const AT = {
  magic: 0x00, // h_magic
  blockType: 0x04, // h_blocktype
  blockSize: 0x0c, // s_blocksize
  blockCount: 0x10, // s_maxlen
  firstBlock: 0x14, // s_first
  sequence: 0x18, // s_sequence
  startBlock: 0x1c, // s_start
  errorNumber: 0x20, // s_errno
  featureCompat: 0x24, // s_feature_compat
  featureIncompat: 0x28, // s_feature_incompat
  featureRoCompat: 0x2c, // s_feature_ro_compat
  uuid: 0x30, // s_uuid
  userCount: 0x40, // s_nr_users
  dynamicSuperblock: 0x44, // s_dynsuper
  transactionBlocksMax: 0x48, // s_max_transaction
  transactionDataBlocksMax: 0x4c, // s_max_trans_data
  checksumType: 0x50, // s_checksum_type
  fastCommitBlocks: 0x54, // s_num_fc_blks
  headBlock: 0x58, // s_head
  checksum: 0xfc, // s_checksum
  // s_users (0x100) lists file systems that share an external journal; an internal one leaves it zero.
} as const;

/**
 * The 1024 bytes of a superblock. By default the log is empty and there are no features, and so no checksum, just as
 * mke2fs makes it: the kernel turns checksums on at the first mount that writes. With CSUM_V2 or CSUM_V3 set, the
 * checksum and its type are filled in.
 */
export function encodeJournalSuperblock(journal: NewJournalSuperblock): Uint8Array<ArrayBuffer> {
  invariant(journal.uuid.length === 16, `a UUID of ${journal.uuid.length} bytes`);
  const encoded = new Uint8Array(JOURNAL_SUPERBLOCK_SIZE_BYTES);
  const view = viewOf(encoded);
  const isChecksummed = hasJournalChecksum(journal.featureIncompat ?? 0);
  view.setUint32(AT.magic, JOURNAL_MAGIC);
  view.setUint32(AT.blockType, BLOCK_TYPE_SUPERBLOCK_V2);
  view.setUint32(AT.blockSize, journal.blockSizeBytes);
  view.setUint32(AT.blockCount, journal.blockCount);
  view.setUint32(AT.firstBlock, journal.firstBlock ?? 1);
  view.setUint32(AT.sequence, journal.sequence ?? 1);
  view.setUint32(AT.startBlock, journal.startBlock ?? 0);
  view.setUint32(AT.errorNumber, journal.errorNumber ?? 0);
  view.setUint32(AT.featureCompat, journal.featureCompat ?? 0);
  view.setUint32(AT.featureIncompat, journal.featureIncompat ?? 0);
  view.setUint32(AT.featureRoCompat, journal.featureRoCompat ?? 0);
  encoded.set(journal.uuid, AT.uuid);
  view.setUint32(AT.userCount, journal.userCount ?? 1);
  view.setUint32(AT.dynamicSuperblock, journal.dynamicSuperblock ?? 0);
  view.setUint32(AT.transactionBlocksMax, journal.transactionBlocksMax ?? 0);
  view.setUint32(AT.transactionDataBlocksMax, journal.transactionDataBlocksMax ?? 0);
  view.setUint8(AT.checksumType, isChecksummed ? CHECKSUM_TYPE_CRC32C : journal.checksumType ?? 0);
  view.setUint32(AT.fastCommitBlocks, journal.fastCommitBlocks ?? 0);
  view.setUint32(AT.headBlock, journal.headBlock ?? 0);
  if (isChecksummed) view.setUint32(AT.checksum, journalSuperblockChecksum(encoded));
  return encoded;
}

/**
 * Reads the 1024 bytes of a superblock, of version 1 or 2. Throws InputError when they are none, or carry a checksum that
 * is wrong or of an unknown type.
 */
export function decodeJournalSuperblock(encoded: Uint8Array): JournalSuperblock {
  checkSize(encoded);
  const view = viewOf(encoded);
  const magic = view.getUint32(AT.magic);
  const blockType = view.getUint32(AT.blockType);
  const isVersion1 = blockType === BLOCK_TYPE_SUPERBLOCK_V1;
  if (magic !== JOURNAL_MAGIC || (blockType !== BLOCK_TYPE_SUPERBLOCK_V2 && !isVersion1)) {
    throw new InputError(
      "journal superblock",
      `magic 0x${magic.toString(16)} and block type ${blockType}, ` +
        `not 0x${JOURNAL_MAGIC.toString(16)} and ${BLOCK_TYPE_SUPERBLOCK_V2}`,
      { data: { magic, blockType } },
    );
  }
  const journal = readJournalFields(encoded, view);
  if (isVersion1) {
    return { ...journal, featureCompat: 0, featureIncompat: 0, featureRoCompat: 0 };
  }
  if (hasJournalChecksum(journal.featureIncompat)) checkJournalChecksum(encoded, journal);
  return journal;
}

function readJournalFields(
  encoded: Uint8Array,
  view: DataView<ArrayBufferLike>,
): JournalSuperblock {
  return {
    blockSizeBytes: view.getUint32(AT.blockSize),
    blockCount: view.getUint32(AT.blockCount),
    firstBlock: view.getUint32(AT.firstBlock),
    sequence: view.getUint32(AT.sequence),
    startBlock: view.getUint32(AT.startBlock),
    errorNumber: view.getUint32(AT.errorNumber),
    featureCompat: view.getUint32(AT.featureCompat),
    featureIncompat: view.getUint32(AT.featureIncompat),
    featureRoCompat: view.getUint32(AT.featureRoCompat),
    uuid: encoded.slice(AT.uuid, AT.uuid + 16),
    userCount: view.getUint32(AT.userCount),
    dynamicSuperblock: view.getUint32(AT.dynamicSuperblock),
    transactionBlocksMax: view.getUint32(AT.transactionBlocksMax),
    transactionDataBlocksMax: view.getUint32(AT.transactionDataBlocksMax),
    checksumType: view.getUint8(AT.checksumType),
    fastCommitBlocks: view.getUint32(AT.fastCommitBlocks),
    headBlock: view.getUint32(AT.headBlock),
  };
}

function checkJournalChecksum(encoded: Uint8Array, journal: JournalSuperblock): void {
  if (journal.checksumType !== CHECKSUM_TYPE_CRC32C) {
    throw new InputError(
      "journal superblock",
      `its checksum type is ${journal.checksumType}, not ${CHECKSUM_TYPE_CRC32C} (CRC-32C)`,
    );
  }
  const expected = journalSuperblockChecksum(encoded);
  const actual = viewOf(encoded).getUint32(AT.checksum);
  if (actual !== expected) {
    throw new InputError(
      "journal superblock",
      `its checksum is 0x${actual.toString(16)}, not 0x${expected.toString(16)}`,
      { data: { offset: AT.checksum, actual, expected } },
    );
  }
}

/** s_checksum as it should be: over the 1024 bytes with that field zero. */
export function journalSuperblockChecksum(encoded: Uint8Array): number {
  checkSize(encoded);
  const before = encoded.subarray(0, AT.checksum);
  return crc32c(CRC32C_START, before, FOUR_ZEROS, encoded.subarray(AT.checksum + 4));
}

/** Whether a journal with these features checksums its blocks. */
export function hasJournalChecksum(featureIncompat: number): boolean {
  return (featureIncompat & (JOURNAL_INCOMPAT.CSUM_V2 | JOURNAL_INCOMPAT.CSUM_V3)) !== 0;
}

const FOUR_ZEROS = new Uint8Array(4);

function checkSize(encoded: Uint8Array): void {
  invariant(
    encoded.length === JOURNAL_SUPERBLOCK_SIZE_BYTES,
    `a journal superblock of ${encoded.length} bytes`,
  );
}
