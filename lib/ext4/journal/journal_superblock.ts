/**
 * Changing the superblock of a journal in place.
 *
 * @module
 */
import { viewOf } from "../format/fields.ts";
import {
  hasJournalChecksum,
  JOURNAL_SUPERBLOCK_SIZE_BYTES,
  type JournalSuperblock,
  journalSuperblockChecksum,
} from "../format/journal.ts";
import { LOG_BLOCK_TYPE } from "./log_block.ts";

const AT = {
  blockType: 0x04, // h_blocktype
  sequence: 0x18, // s_sequence
  startBlock: 0x1c, // s_start
  errorNumber: 0x20, // s_errno
  featureIncompat: 0x28, // s_feature_incompat
  checksum: 0xfc, // s_checksum
} as const;

/** The fields that say where the log is. */
export type LogState = Pick<JournalSuperblock, "sequence" | "startBlock" | "errorNumber">;

/** Writes them, and the checksum where there is one. Works for both versions of the superblock. */
export function patchJournalSuperblock(block: Uint8Array, state: LogState): void {
  const encoded = block.subarray(0, JOURNAL_SUPERBLOCK_SIZE_BYTES);
  const view = viewOf(encoded);
  view.setUint32(AT.sequence, state.sequence);
  view.setUint32(AT.startBlock, state.startBlock);
  view.setUint32(AT.errorNumber, state.errorNumber);
  const isVersion2 = view.getUint32(AT.blockType) === LOG_BLOCK_TYPE.SUPERBLOCK_V2;
  if (!isVersion2 || !hasJournalChecksum(view.getUint32(AT.featureIncompat))) return;
  view.setUint32(AT.checksum, journalSuperblockChecksum(encoded));
}
