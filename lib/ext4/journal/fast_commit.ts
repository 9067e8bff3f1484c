/**
 * Fast commits (fs/ext4/fast_commit.h): what changed since the last transaction as tags, in blocks of their own at the end
 * of the journal. Little-endian.
 *
 * @module
 */
import { viewOf } from "../format/fields.ts";
import type { JournalLog } from "./log.ts";

/** fc_tag. */
export const FAST_COMMIT_TAG = {
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

const TAG_AT = { tag: 0, length: 2, value: 4 } as const;
const HEAD_AT = { features: 0, sequence: 4 } as const;

/**
 * Whether a log is followed by fast commits.
 *
 * @param sequence the transaction that they belong to: the first one that is not in the log
 */
export function hasFastCommits(log: JournalLog, sequence: number): boolean {
  const { startBlock, endBlock } = log.fastCommits;
  if (log.superblock.startBlock === 0 || startBlock >= endBlock) return false;
  const view = viewOf(log.read(startBlock));
  return view.getUint16(TAG_AT.tag, true) === FAST_COMMIT_TAG.HEAD &&
    view.getUint32(TAG_AT.value + HEAD_AT.sequence, true) === sequence;
}
