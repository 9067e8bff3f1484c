/**
 * Directory blocks with and without room for a checksum. A leaf has a fake entry of 12 bytes for it, which comes off the
 * last entry's record; an index block has one place for an entry less.
 *
 * @module
 */
import {
  decodeDirectoryBlock,
  DIRECTORY_TAIL_SIZE_BYTES,
  direntSizeBytes,
  encodeRecordLength,
  RECORD_LENGTH_MIN,
  sealDirectoryBlock,
  verifyDirectoryBlock,
} from "../format/directory.ts";
import { viewOf } from "../format/fields.ts";
import {
  decodeDxNode,
  decodeDxRoot,
  DX_ENTRY_SIZE_BYTES,
  DX_ROOT_COUNT_OFFSET,
  dxEntriesMax,
  sealDxBlock,
  verifyDxBlock,
} from "../format/htree.ts";

const RECORD_LENGTH_AT = 4;

/** What both kinds of blocks need. */
export interface DirectoryBlockOptions {
  readonly enable: boolean;
  /** That of the directory. */
  readonly inodeSeed: number;
  /** Whether its names may have any bytes. */
  readonly isEncrypted?: boolean;
  readonly what: string;
}

/**
 * Gives a leaf its checksum, or takes it away, in place.
 *
 * @returns false when there is no room: the block is as it was
 * @throws InputError when the block is damaged, or the checksum to be taken away is wrong
 */
export function switchLeaf(block: Uint8Array, options: DirectoryBlockOptions): boolean {
  const { enable, inodeSeed, isEncrypted = false, what } = options;
  if (!enable) verifyDirectoryBlock(block, inodeSeed, what);
  const entries = decodeDirectoryBlock(block, { checksummed: !enable, isEncrypted, what });
  const last = entries.at(-1)!;
  const end = enable ? block.length : block.length - DIRECTORY_TAIL_SIZE_BYTES;
  const lastAt = end - last.recordLength;
  const view = viewOf(block);
  if (!enable) {
    const recordLength = last.recordLength + DIRECTORY_TAIL_SIZE_BYTES;
    block.fill(0, end);
    view.setUint16(lastAt + RECORD_LENGTH_AT, encodeRecordLength(recordLength), true);
    return true;
  }
  const isTail = last.inodeNumber === 0 && last.recordLength === DIRECTORY_TAIL_SIZE_BYTES;
  if (!isTail || entries.length === 1) {
    const needed = last.inodeNumber === 0 ? RECORD_LENGTH_MIN : direntSizeBytes(last.name.length);
    const left = last.recordLength - DIRECTORY_TAIL_SIZE_BYTES;
    if (left < Math.max(needed, RECORD_LENGTH_MIN)) return false;
    view.setUint16(lastAt + RECORD_LENGTH_AT, encodeRecordLength(left), true);
  }
  sealDirectoryBlock(block, inodeSeed);
  return true;
}

/**
 * Gives an index block its checksum, or takes it away, in place.
 *
 * @param countOffset DX_ROOT_COUNT_OFFSET or DX_NODE_COUNT_OFFSET
 * @returns false when there is no room, and then it is as it was
 * @throws InputError as {@linkcode switchLeaf}
 */
export function switchIndexBlock(
  block: Uint8Array,
  countOffset: number,
  options: DirectoryBlockOptions,
): boolean {
  const { enable, inodeSeed, what } = options;
  if (!enable) verifyDxBlock(block, { countOffset, inodeSeed, what });
  const decode = countOffset === DX_ROOT_COUNT_OFFSET ? decodeDxRoot : decodeDxNode;
  const { entries } = decode(block, { checksummed: !enable, what });
  const limit = dxEntriesMax(block.length, { countOffset, checksummed: enable });
  if (entries.length > limit) return false;
  viewOf(block).setUint16(countOffset, limit, true);
  const tail = countOffset + DX_ENTRY_SIZE_BYTES * (enable ? limit : limit - 1);
  // dt_reserved may hold anything, and the checksum covers it: it stays as it is.
  block.fill(0, tail + 4, tail + DX_ENTRY_SIZE_BYTES);
  if (enable) sealDxBlock(block, countOffset, inodeSeed);
  return true;
}
