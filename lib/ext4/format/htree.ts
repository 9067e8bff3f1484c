/**
 * Hashed directory index blocks (kernel documentation, "Hash Tree Directories"): dx_root in the directory's first block,
 * dx_node below it. To code that does not know them both look like directory blocks without entries.
 *
 * @module
 */
import { crc32c } from "../../bytes/crc32c.ts";
import { invariant } from "../../errors.ts";
import { DIRENT_TYPE } from "./constants.ts";
import { encodeDirectoryEntry, encodeRecordLength } from "./directory.ts";
import { viewOf } from "./fields.ts";

/** A pointer to a block of the directory. */
export interface DxEntry {
  /** The lowest hash in that block; bit 0 says that the block before ends with the same hash. Ignored for entry 0. */
  readonly hash: number;
  /** Logical block in the directory. */
  readonly block: number;
}

/** The root of a directory's index. */
export interface DxRoot {
  readonly inodeNumber: number;
  readonly parentInodeNumber: number;
  /** A HASH_VERSION; signedness is a flag of the superblock. */
  readonly hashVersion: number;
  /** Levels of dx_node below the root. */
  readonly indirectLevels: number;
  readonly entries: readonly DxEntry[];
  /** Whether the block ends with a checksum. */
  readonly checksummed: boolean;
}

/** A node below the root. */
export interface DxNode {
  readonly entries: readonly DxEntry[];
  readonly checksummed: boolean;
}

/** Where limit, count and the entries begin in the root. */
export const DX_ROOT_COUNT_OFFSET = 0x20;
/** Where limit, count and the entries begin in a node. */
export const DX_NODE_COUNT_OFFSET = 0x08;
/** Bytes of struct dx_entry, struct dx_countlimit and struct dx_tail. */
export const DX_ENTRY_SIZE_BYTES = 8;
/** Most levels below the root without LARGEDIR; with it, one more. */
export const DX_INDIRECT_LEVELS_MAX = 1;

/** Offsets of the root's struct dx_root_info. */
export const DX_ROOT_INFO_AT = {
  reserved: 0x18, // reserved_zero
  hashVersion: 0x1c, // hash_version
  infoLength: 0x1d, // info_length
  indirectLevels: 0x1e, // indirect_levels
  unusedFlags: 0x1f, // unused_flags
} as const;

const DX_ROOT_INFO_LENGTH = 8;
const DOT_RECORD_LENGTH = 12;

/** How many entries a root or a node has room for: 507 and 510 at 4 KiB with checksums, one more without. */
export function dxEntriesMax(
  blockSizeBytes: number,
  options: { readonly countOffset: number; readonly checksummed: boolean },
): number {
  const room = Math.floor((blockSizeBytes - options.countOffset) / DX_ENTRY_SIZE_BYTES);
  return options.checksummed ? room - 1 : room;
}

/** Writes a root over a whole block; seal it with sealDxBlock(block, DX_ROOT_COUNT_OFFSET, inodeSeed). */
export function encodeDxRoot(block: Uint8Array, root: DxRoot): void {
  block.fill(0);
  encodeDirectoryEntry(block, 0, {
    inodeNumber: root.inodeNumber,
    recordLength: DOT_RECORD_LENGTH,
    name: ".",
    fileType: DIRENT_TYPE.DIRECTORY,
  });
  encodeDirectoryEntry(block, DOT_RECORD_LENGTH, {
    inodeNumber: root.parentInodeNumber,
    recordLength: block.length - DOT_RECORD_LENGTH,
    name: "..",
    fileType: DIRENT_TYPE.DIRECTORY,
  });
  block[DX_ROOT_INFO_AT.hashVersion] = root.hashVersion;
  block[DX_ROOT_INFO_AT.infoLength] = DX_ROOT_INFO_LENGTH;
  block[DX_ROOT_INFO_AT.indirectLevels] = root.indirectLevels;
  writeEntries(block, DX_ROOT_COUNT_OFFSET, root);
}

/** Writes a node over a whole block; seal it with sealDxBlock(block, DX_NODE_COUNT_OFFSET, inodeSeed). */
export function encodeDxNode(block: Uint8Array, node: DxNode): void {
  block.fill(0);
  viewOf(block).setUint16(4, encodeRecordLength(block.length), true);
  writeEntries(block, DX_NODE_COUNT_OFFSET, node);
}

function writeEntries(block: Uint8Array, countOffset: number, node: DxNode): void {
  const { entries, checksummed } = node;
  const limit = dxEntriesMax(block.length, { countOffset, checksummed });
  invariant(
    entries.length >= 1 && entries.length <= limit,
    `an index block with ${entries.length} of ${limit} entries`,
  );
  const view = viewOf(block);
  let at = countOffset;
  for (const entry of entries) {
    view.setUint32(at, entry.hash, true);
    view.setUint32(at + 4, entry.block, true);
    at += DX_ENTRY_SIZE_BYTES;
  }
  // The first entry needs no hash; limit and count live in its place.
  view.setUint16(countOffset, limit, true);
  view.setUint16(countOffset + 2, entries.length, true);
}

/** Writes the checksum (dt_checksum) of an index block. `inodeSeed` is that of the directory. */
export function sealDxBlock(block: Uint8Array, countOffset: number, inodeSeed: number): void {
  const tail = dxTailOffset(block, countOffset);
  viewOf(block).setUint32(tail + 4, dxChecksum(block, countOffset, inodeSeed), true);
}

/** dt_checksum as it should be: over the entries in use, dt_reserved, and zeros in its own place. */
export function dxChecksum(block: Uint8Array, countOffset: number, inodeSeed: number): number {
  const view = viewOf(block);
  const tail = dxTailOffset(block, countOffset);
  const end = countOffset + view.getUint16(countOffset + 2, true) * DX_ENTRY_SIZE_BYTES;
  invariant(end <= tail, "an index block with more entries than its limit");
  const reserved = block.subarray(tail, tail + 4);
  return crc32c(inodeSeed, block.subarray(0, end), reserved, FOUR_ZEROS);
}

/** Where an index block's struct dx_tail is: behind the room for entries. */
export function dxTailOffset(block: Uint8Array, countOffset: number): number {
  const limit = viewOf(block).getUint16(countOffset, true);
  const tail = countOffset + limit * DX_ENTRY_SIZE_BYTES;
  invariant(tail + DX_ENTRY_SIZE_BYTES <= block.length, `an index block with limit ${limit}`);
  return tail;
}

const FOUR_ZEROS = new Uint8Array(4);
