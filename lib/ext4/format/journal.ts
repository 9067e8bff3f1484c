/**
 * The journal's superblock (kernel documentation, "Journal (jbd2)"; include/linux/jbd2.h, struct journal_superblock_s):
 * 1024 bytes at the start of the journal's first block. Unlike the rest of ext4, it is big-endian.
 *
 * @module
 */
import { crc32c } from "../../bytes/crc32c.ts";
import { InputError, invariant } from "../../errors.ts";
import { CRC32C_START, ZEROED_CHECKSUM } from "./checksum.ts";
import type { FieldTable } from "./fields.ts";
import {
  bytes,
  neutralFields,
  readFields,
  u32BigEndian,
  u8,
  viewOf,
  writeFields,
} from "./fields.ts";

/** The journal's superblock. Block numbers count within the journal. */
export interface JournalSuperblock {
  /** The file system's block size. */
  readonly blockSizeBytes: number;
  /** All blocks of the journal, including this one. */
  readonly blockCount: number;
  /** The first block of the log. */
  readonly firstBlock: number;
  /** The first transaction expected in the log. */
  readonly sequence: number;
  /** Where the log starts; 0 if it is empty. */
  readonly startBlock: number;
  /** The recorded error number, or 0. */
  readonly errorNumber: number;
  /** s_feature_compat of the journal. */
  readonly featureCompat: number;
  /** JOURNAL_INCOMPAT bits. */
  readonly featureIncompat: number;
  /** s_feature_ro_compat of the journal. */
  readonly featureRoCompat: number;
  /** 16 bytes: the file system's UUID for an internal journal. */
  readonly uuid: Uint8Array;
  /** Number of file systems that share it. */
  readonly userCount: number;
  /** s_dynsuper, unused. */
  readonly dynamicSuperblock: number;
  /** s_max_transaction, unused. */
  readonly transactionBlocksMax: number;
  /** s_max_trans_data, unused. */
  readonly transactionDataBlocksMax: number;
  /** 4 is CRC-32C; 0 without checksums. */
  readonly checksumType: number;
  /** Blocks for fast commits at the end. */
  readonly fastCommitBlocks: number;
  /** Where the log ends. */
  readonly headBlock: number;
}

/** The fields needed to create one; the rest is as mke2fs leaves it. */
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
/** Size of the superblock; the rest of its block is zero. */
export const JOURNAL_SUPERBLOCK_SIZE_BYTES = 1024;
/** The smallest journal that the kernel accepts (JBD2_MIN_JOURNAL_BLOCKS). */
export const JOURNAL_BLOCKS_MIN = 1024;

/** h_blocktype of a superblock. Version 1 ends before the features, so the bytes in their place mean nothing. */
const BLOCK_TYPE = { VERSION_1: 3, VERSION_2: 4 } as const;
const VERSION_1_SIZE_BYTES = 0x24;
const CHECKSUM_TYPE_CRC32C = 4;

const MAGIC_OFFSET = 0x00; // h_magic
const BLOCK_TYPE_OFFSET = 0x04; // h_blocktype
const CHECKSUM_OFFSET = 0xfc; // s_checksum

const FIELDS: FieldTable<JournalSuperblock> = {
  blockSizeBytes: u32BigEndian(0x0c), // s_blocksize
  blockCount: u32BigEndian(0x10), // s_maxlen
  firstBlock: u32BigEndian(0x14), // s_first
  sequence: u32BigEndian(0x18), // s_sequence
  startBlock: u32BigEndian(0x1c), // s_start
  errorNumber: u32BigEndian(0x20), // s_errno
  featureCompat: u32BigEndian(0x24), // s_feature_compat
  featureIncompat: u32BigEndian(0x28), // s_feature_incompat
  featureRoCompat: u32BigEndian(0x2c), // s_feature_ro_compat
  uuid: bytes(0x30, 16), // s_uuid
  userCount: u32BigEndian(0x40), // s_nr_users
  dynamicSuperblock: u32BigEndian(0x44), // s_dynsuper
  transactionBlocksMax: u32BigEndian(0x48), // s_max_transaction
  transactionDataBlocksMax: u32BigEndian(0x4c), // s_max_trans_data
  checksumType: u8(0x50), // s_checksum_type
  fastCommitBlocks: u32BigEndian(0x54), // s_num_fc_blks
  headBlock: u32BigEndian(0x58), // s_head
  // s_users (0x100) lists the file systems that share an external journal; an internal one leaves it zero.
};

/**
 * Encodes the 1024 bytes of a superblock. By default the log is empty and there are no features, hence no checksum,
 * exactly as mke2fs makes it: the kernel turns checksums on at the first mount that writes. With CSUM_V2 or CSUM_V3
 * set, the checksum and its type are filled in.
 */
export function encodeJournalSuperblock(journal: NewJournalSuperblock): Uint8Array<ArrayBuffer> {
  const encoded = new Uint8Array(JOURNAL_SUPERBLOCK_SIZE_BYTES);
  const view = viewOf(encoded);
  const isChecksummed = hasJournalChecksum(journal.featureIncompat ?? 0);
  view.setUint32(MAGIC_OFFSET, JOURNAL_MAGIC);
  view.setUint32(BLOCK_TYPE_OFFSET, BLOCK_TYPE.VERSION_2);
  writeFields(FIELDS, encoded, {
    ...neutralFields(FIELDS),
    firstBlock: 1,
    sequence: 1,
    userCount: 1,
    ...journal,
    ...(isChecksummed ? { checksumType: CHECKSUM_TYPE_CRC32C } : {}),
  });
  if (isChecksummed) view.setUint32(CHECKSUM_OFFSET, journalSuperblockChecksum(encoded));
  return encoded;
}

/**
 * Reads the 1024 bytes of a superblock, version 1 or 2. Throws InputError for anything else, and for a checksum that is
 * wrong or of unknown type.
 */
export function decodeJournalSuperblock(encoded: Uint8Array): JournalSuperblock {
  checkSize(encoded);
  const view = viewOf(encoded);
  const magic = view.getUint32(MAGIC_OFFSET);
  const blockType = view.getUint32(BLOCK_TYPE_OFFSET);
  const isVersion1 = blockType === BLOCK_TYPE.VERSION_1;
  if (magic !== JOURNAL_MAGIC || (blockType !== BLOCK_TYPE.VERSION_2 && !isVersion1)) {
    throw new InputError(
      "journal superblock",
      `magic 0x${magic.toString(16)} and block type ${blockType}, ` +
        `not 0x${JOURNAL_MAGIC.toString(16)} and ${BLOCK_TYPE.VERSION_2}`,
      { data: { magic, blockType } },
    );
  }
  if (isVersion1) {
    return readFields(FIELDS, encoded.slice().fill(0, VERSION_1_SIZE_BYTES));
  }
  const journal = readFields(FIELDS, encoded);
  if (hasJournalChecksum(journal.featureIncompat)) checkJournalChecksum(encoded, journal);
  return journal;
}

function checkJournalChecksum(encoded: Uint8Array, { checksumType }: JournalSuperblock): void {
  if (checksumType !== CHECKSUM_TYPE_CRC32C) {
    throw new InputError(
      "journal superblock",
      `its checksum type is ${checksumType}, not ${CHECKSUM_TYPE_CRC32C} (CRC-32C)`,
    );
  }
  const expected = journalSuperblockChecksum(encoded);
  const actual = viewOf(encoded).getUint32(CHECKSUM_OFFSET);
  if (actual === expected) return;
  throw new InputError(
    "journal superblock",
    `its checksum is 0x${actual.toString(16)}, not 0x${expected.toString(16)}`,
    { data: { offset: CHECKSUM_OFFSET, actual, expected } },
  );
}

/** Writes the log's position and, if there is one, the checksum. Works for both versions of the superblock. */
export function patchJournalSuperblock(
  block: Uint8Array,
  state: Pick<JournalSuperblock, "sequence" | "startBlock" | "errorNumber">,
): void {
  const encoded = block.subarray(0, JOURNAL_SUPERBLOCK_SIZE_BYTES);
  const { sequence, startBlock, errorNumber, featureIncompat } = FIELDS;
  writeFields({ sequence, startBlock, errorNumber }, encoded, state);
  const view = viewOf(encoded);
  const isVersion2 = view.getUint32(BLOCK_TYPE_OFFSET) === BLOCK_TYPE.VERSION_2;
  if (!isVersion2 || !hasJournalChecksum(view.getUint32(featureIncompat.offset))) return;
  view.setUint32(CHECKSUM_OFFSET, journalSuperblockChecksum(encoded));
}

/** The correct s_checksum: over the 1024 bytes with that field zeroed. */
export function journalSuperblockChecksum(encoded: Uint8Array): number {
  checkSize(encoded);
  const before = encoded.subarray(0, CHECKSUM_OFFSET);
  return crc32c(CRC32C_START, before, ZEROED_CHECKSUM, encoded.subarray(CHECKSUM_OFFSET + 4));
}

/** Whether a journal with these features checksums its blocks. */
export function hasJournalChecksum(featureIncompat: number): boolean {
  return (featureIncompat & (JOURNAL_INCOMPAT.CSUM_V2 | JOURNAL_INCOMPAT.CSUM_V3)) !== 0;
}

function checkSize({ length }: Uint8Array): void {
  invariant(length === JOURNAL_SUPERBLOCK_SIZE_BYTES, `a journal superblock of ${length} bytes`);
}
