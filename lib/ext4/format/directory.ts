/**
 * Linear directory blocks (kernel documentation, "Linear (Classic) Directories"): entries that fill the block from end
 * to end, and with metadata checksums a last one that names nothing and holds the checksum.
 *
 * @module
 */
import type { ByteString } from "../../bytes/byte_string.ts";
import { byteStringFromBytes, displayName } from "../../bytes/byte_string.ts";
import { crc32c } from "../../bytes/crc32c.ts";
import { InputError, invariant } from "../../errors.ts";
import { checkChecksum } from "./checksum.ts";
import { DIRENT_TYPE } from "./constants.ts";
import { viewOf } from "./fields.ts";

/** One entry: struct ext4_dir_entry_2. */
export interface DirectoryEntry {
  /** 0 marks an unused entry. */
  readonly inodeNumber: number;
  /** Bytes to the next entry. */
  readonly recordLength: number;
  readonly name: ByteString;
  /** A DIRENT_TYPE. */
  readonly fileType: number;
}

/** The fake entry with the checksum. */
export const DIRECTORY_TAIL_SIZE_BYTES = 12;
/** The longest name. */
export const NAME_LENGTH_MAX = 255;

/** The shortest record, with a name of up to 4 bytes. */
export const RECORD_LENGTH_MIN = 12;

/** Offsets in struct ext4_dir_entry_2. */
const DIRENT_AT = {
  inodeNumber: 0, // inode
  recordLength: 4, // rec_len
  nameLength: 6, // name_len
  fileType: 7, // file_type
  name: 8, // name
} as const;

/** Offset of det_checksum in struct ext4_dir_entry_tail. */
const TAIL_CHECKSUM_AT = 8;

/** The least record length for a name: header and name, rounded up to 4. */
export function direntSizeBytes(nameLength: number): number {
  return (DIRENT_AT.name + nameLength + 3) & ~3;
}

/** Writes one entry; bytes of the record behind the name are left as they are. */
export function encodeDirectoryEntry(
  block: Uint8Array,
  offset: number,
  entry: DirectoryEntry,
): void {
  const { name, recordLength } = entry;
  const nameStart = offset + DIRENT_AT.name;
  invariant(
    name.length <= NAME_LENGTH_MAX && recordLength >= direntSizeBytes(name.length) &&
      recordLength % 4 === 0 && offset % 4 === 0 && offset + recordLength <= block.length,
    `a directory entry of ${recordLength} bytes at ${offset} of ${block.length}`,
  );
  writeUint32(block, offset + DIRENT_AT.inodeNumber, entry.inodeNumber);
  const stored = encodeRecordLength(recordLength);
  block[offset + DIRENT_AT.recordLength] = stored & 0xff;
  block[offset + DIRENT_AT.recordLength + 1] = stored >> 8;
  block[offset + DIRENT_AT.nameLength] = name.length;
  block[offset + DIRENT_AT.fileType] = entry.fileType;
  for (let i = 0; i < name.length; i++) block[nameStart + i] = name.charCodeAt(i);
}

/** rec_len on disk: 65536, which only a 64 KiB block can have, does not fit 16 bits and is written as 65535. */
export function encodeRecordLength(recordLength: number): number {
  invariant(recordLength > 0 && recordLength <= 0x10000, `a record of ${recordLength} bytes`);
  return recordLength === 0x10000 ? 0xffff : recordLength;
}

/** The record length of a stored rec_len: 0 and 65535 mean the whole block, and the low two bits are bits 16 and 17. */
export function decodeRecordLength(stored: number, blockSizeBytes: number): number {
  if (blockSizeBytes < 0x10000) return stored;
  if (stored === 0 || stored === 0xffff) return blockSizeBytes;
  return (stored & 0xfffc) | ((stored & 3) << 16);
}

/** Writes the fake entry with the checksum at the end of a block. `inodeSeed` is that of the directory. */
export function sealDirectoryBlock(block: Uint8Array, inodeSeed: number): void {
  const tail = block.length - DIRECTORY_TAIL_SIZE_BYTES;
  encodeDirectoryEntry(block, tail, {
    inodeNumber: 0,
    recordLength: DIRECTORY_TAIL_SIZE_BYTES,
    name: "",
    fileType: DIRENT_TYPE.CHECKSUM_TAIL,
  });
  const checksum = crc32c(inodeSeed, block.subarray(0, tail));
  viewOf(block).setUint32(tail + TAIL_CHECKSUM_AT, checksum, true);
}

/** Throws InputError, with `what` in it, when a block has no checksum or a wrong one. */
export function verifyDirectoryBlock(block: Uint8Array, inodeSeed: number, what: string): void {
  const tail = checkedTailOffset(block, what);
  const stored = viewOf(block).getUint32(tail + TAIL_CHECKSUM_AT, true);
  checkChecksum(what, stored, crc32c(inodeSeed, block.subarray(0, tail)));
}

/** Whether a block ends with the fake entry that holds a checksum. */
export function hasDirectoryTail(block: Uint8Array): boolean {
  const tail = block.length - DIRECTORY_TAIL_SIZE_BYTES;
  if (tail < 0) return false;
  const view = viewOf(block);
  return view.getUint32(tail + DIRENT_AT.inodeNumber, true) === 0 &&
    view.getUint16(tail + DIRENT_AT.recordLength, true) === DIRECTORY_TAIL_SIZE_BYTES &&
    view.getUint8(tail + DIRENT_AT.nameLength) === 0 &&
    view.getUint8(tail + DIRENT_AT.fileType) === DIRENT_TYPE.CHECKSUM_TAIL;
}

function checkedTailOffset(block: Uint8Array, what: string): number {
  if (!hasDirectoryTail(block)) throw new InputError(what, "it does not end with a checksum");
  return block.length - DIRECTORY_TAIL_SIZE_BYTES;
}

/**
 * Reads all entries of a linear directory block, unused ones (inode 0) too, but not the fake one. Records must fill the
 * block exactly and names must be possible. Throws InputError, with `what` in it, for anything else. The checksum is
 * for the caller to check (verifyDirectoryBlock()).
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { decodeDirectoryBlock, encodeDirectoryEntry } from "./directory.ts";
 * const block = new Uint8Array(1024);
 * const entry = { inodeNumber: 12, recordLength: 1024, name: "etc", fileType: 2 };
 * encodeDirectoryEntry(block, 0, entry);
 * assertEquals(decodeDirectoryBlock(block, { checksummed: false, what: "block 9" }), [entry]);
 * ```
 */
export function decodeDirectoryBlock(
  block: Uint8Array,
  options: { readonly checksummed: boolean; readonly what: string },
): DirectoryEntry[] {
  const end = options.checksummed ? checkedTailOffset(block, options.what) : block.length;
  return decodeDirectoryEntries(block, { start: 0, end, what: options.what });
}

/** Reads the entries that fill `[start, end)` of some bytes: a part of a block, or of an inline directory. */
export function decodeDirectoryEntries(
  bytes: Uint8Array,
  range: { readonly start: number; readonly end: number; readonly what: string },
): DirectoryEntry[] {
  const { end, what } = range;
  invariant(end <= bytes.length, `directory entries to ${end} of ${bytes.length} bytes`);
  const view = viewOf(bytes);
  // One call for all names: a call for each would cost more than all the rest.
  const text = byteStringFromBytes(bytes);
  const entries: DirectoryEntry[] = [];
  for (let at = range.start; at < end;) {
    if (end - at < DIRENT_AT.name) {
      throw new InputError(what, `the entry at ${at} has only ${end - at} bytes`);
    }
    const entry = decodeDirectoryEntry(text, view, at);
    checkEntry(entry, at, range);
    entries.push(entry);
    at += entry.recordLength;
  }
  return entries;
}

function decodeDirectoryEntry(
  text: ByteString,
  view: DataView<ArrayBufferLike>,
  at: number,
): DirectoryEntry {
  const nameStart = at + DIRENT_AT.name;
  const nameLength = view.getUint8(at + DIRENT_AT.nameLength);
  return {
    inodeNumber: view.getUint32(at + DIRENT_AT.inodeNumber, true),
    recordLength: decodeRecordLength(
      view.getUint16(at + DIRENT_AT.recordLength, true),
      text.length,
    ),
    name: text.slice(nameStart, nameStart + nameLength),
    fileType: view.getUint8(at + DIRENT_AT.fileType),
  };
}

function checkEntry(
  entry: DirectoryEntry,
  at: number,
  range: { readonly end: number; readonly what: string },
): void {
  const { inodeNumber, recordLength, name, fileType } = entry;
  const { end, what } = range;
  const room = end - at;
  // An unused entry may be cut down to less than its old name needs: what then counts is the header.
  const least = Math.max(RECORD_LENGTH_MIN, inodeNumber === 0 ? 0 : direntSizeBytes(name.length));
  if (recordLength < least || recordLength > room || recordLength % 4 !== 0) {
    throw new InputError(
      what,
      `the entry at ${at} is ${recordLength} bytes long, not a multiple of 4 from ${least} to ${room}`,
      { data: { offset: at, actual: recordLength } },
    );
  }
  if (inodeNumber === 0) return;
  if (name.length === 0 || name.includes("/") || name.includes("\0")) {
    throw new InputError(what, `the entry at ${at} has the name "${displayName(name)}"`, {
      data: { offset: at },
    });
  }
  if (fileType > DIRENT_TYPE.SYMLINK) {
    throw new InputError(what, `the entry at ${at} has the file type ${fileType}`, {
      data: { offset: at, actual: fileType },
    });
  }
}

function writeUint32(target: Uint8Array, at: number, value: number): void {
  target[at] = value;
  target[at + 1] = value >>> 8;
  target[at + 2] = value >>> 16;
  target[at + 3] = value >>> 24;
}
