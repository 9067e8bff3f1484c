/**
 * Hashed directory index blocks (kernel documentation, "Hash Tree Directories"): dx_root in the directory's first block,
 * dx_node below it. To code that does not know them both look like directory blocks without entries.
 *
 * @module
 */
import { crc32c } from "../../bytes/crc32c.ts";
import { InputError, invariant } from "../../errors.ts";
import { checkChecksum } from "./checksum.ts";
import { DIRENT_TYPE, HASH_VERSION } from "./constants.ts";
import { decodeDirectoryEntries, encodeDirectoryEntry, encodeRecordLength } from "./directory.ts";
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
const DX_ROOT_INFO_AT = {
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
  const what = "directory index block";
  const tail = dxTailOffset(block, countOffset, what);
  viewOf(block).setUint32(tail + 4, dxChecksum(block, { countOffset, inodeSeed, what }), true);
}

/** Throws InputError, with `what` in it, when the checksum of an index block is wrong. */
export function verifyDxBlock(
  block: Uint8Array,
  options: { readonly countOffset: number; readonly inodeSeed: number; readonly what: string },
): void {
  const tail = dxTailOffset(block, options.countOffset, options.what);
  checkChecksum(
    options.what,
    viewOf(block).getUint32(tail + 4, true),
    dxChecksum(block, options),
  );
}

/** dt_checksum as it should be: over the entries in use, dt_reserved, and zeros in its own place. */
function dxChecksum(
  block: Uint8Array,
  options: { readonly countOffset: number; readonly inodeSeed: number; readonly what: string },
): number {
  const { countOffset, inodeSeed, what } = options;
  const tail = dxTailOffset(block, countOffset, what);
  const count = viewOf(block).getUint16(countOffset + 2, true);
  const end = countOffset + count * DX_ENTRY_SIZE_BYTES;
  if (end > tail) throw new InputError(what, `its ${count} entries are more than its limit`);
  const reserved = block.subarray(tail, tail + 4);
  return crc32c(inodeSeed, block.subarray(0, end), reserved, FOUR_ZEROS);
}

/** Where an index block's struct dx_tail is: behind the room for entries. */
function dxTailOffset(block: Uint8Array, countOffset: number, what: string): number {
  const limit = viewOf(block).getUint16(countOffset, true);
  const tail = countOffset + limit * DX_ENTRY_SIZE_BYTES;
  if (tail + DX_ENTRY_SIZE_BYTES <= block.length) return tail;
  throw new InputError(what, `its limit of ${limit} entries leaves no room for its checksum`);
}

const FOUR_ZEROS = new Uint8Array(4);

/** How an index block is to be read. */
export interface DxDecodeOptions {
  /** Whether the file system has metadata checksums: the limit must leave room for one. */
  readonly checksummed: boolean;
  /** Names the block in errors. */
  readonly what: string;
}

/**
 * Reads a root. Throws InputError, with `what` in it, when it is not just as the format wants it: entries "." and "..",
 * a known hash, the exact limit, hashes in order. The checksum is for the caller to check (verifyDxBlock()).
 */
export function decodeDxRoot(block: Uint8Array, options: DxDecodeOptions): DxRoot {
  const { what } = options;
  const [dot, dotDot] = decodeDirectoryEntries(block, { start: 0, end: block.length, what });
  if (dot?.name !== "." || dot.recordLength !== DOT_RECORD_LENGTH || dotDot?.name !== "..") {
    throw new InputError(what, 'it does not begin with "." and ".."');
  }
  if (dotDot.recordLength !== block.length - DOT_RECORD_LENGTH) {
    throw new InputError(what, 'its entry ".." does not reach to the end of the block');
  }
  const view = viewOf(block);
  const hashVersion = view.getUint8(DX_ROOT_INFO_AT.hashVersion);
  const infoLength = view.getUint8(DX_ROOT_INFO_AT.infoLength);
  const indirectLevels = view.getUint8(DX_ROOT_INFO_AT.indirectLevels);
  if (
    view.getUint32(DX_ROOT_INFO_AT.reserved, true) !== 0 || infoLength !== DX_ROOT_INFO_LENGTH ||
    view.getUint8(DX_ROOT_INFO_AT.unusedFlags) !== 0
  ) {
    throw new InputError(what, "its reserved fields are in use");
  }
  if (hashVersion > HASH_VERSION.TEA) {
    throw new InputError(what, `its hash version ${hashVersion} is not supported`);
  }
  if (indirectLevels > DX_INDIRECT_LEVELS_MAX + 1) {
    throw new InputError(what, `it has ${indirectLevels} levels of nodes below it`);
  }
  return {
    inodeNumber: dot.inodeNumber,
    parentInodeNumber: dotDot.inodeNumber,
    hashVersion,
    indirectLevels,
    entries: readEntries(view, DX_ROOT_COUNT_OFFSET, options),
    checksummed: options.checksummed,
  };
}

/** Reads a node below the root; throws InputError as decodeDxRoot() does. */
export function decodeDxNode(block: Uint8Array, options: DxDecodeOptions): DxNode {
  const { what, checksummed } = options;
  const [unused] = decodeDirectoryEntries(block, { start: 0, end: block.length, what });
  if (unused?.inodeNumber !== 0 || unused.recordLength !== block.length) {
    throw new InputError(what, "it does not begin with one unused entry over the whole block");
  }
  return { entries: readEntries(viewOf(block), DX_NODE_COUNT_OFFSET, options), checksummed };
}

function readEntries(
  view: DataView<ArrayBufferLike>,
  countOffset: number,
  options: DxDecodeOptions,
): DxEntry[] {
  const { checksummed, what } = options;
  const limit = view.getUint16(countOffset, true);
  const count = view.getUint16(countOffset + 2, true);
  const wanted = dxEntriesMax(view.byteLength, { countOffset, checksummed });
  if (limit !== wanted) throw new InputError(what, `its limit is ${limit} entries, not ${wanted}`);
  if (count < 1 || count > limit) {
    throw new InputError(what, `it has ${count} entries, not 1 to ${limit}`);
  }
  const entries: DxEntry[] = [];
  let previousHash = 0;
  for (let i = 0; i < count; i++) {
    const at = countOffset + i * DX_ENTRY_SIZE_BYTES;
    const hash = i === 0 ? 0 : view.getUint32(at, true);
    if (hash < previousHash) throw new InputError(what, `entry ${i} is not in the order of hashes`);
    previousHash = hash;
    entries.push({ hash, block: view.getUint32(at + 4, true) });
  }
  return entries;
}
