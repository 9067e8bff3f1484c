/**
 * Linear directory blocks (kernel documentation, "Linear (Classic) Directories"): entries that fill the block from end
 * to end, and with metadata checksums a last one that names nothing and holds the checksum.
 *
 * @module
 */
import type { ByteString } from "../../bytes/byte_string.ts";
import { crc32c } from "../../bytes/crc32c.ts";
import { invariant } from "../../errors.ts";
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

/** Offsets in struct ext4_dir_entry_2. */
export const DIRENT_AT = {
  inodeNumber: 0, // inode
  recordLength: 4, // rec_len
  nameLength: 6, // name_len
  fileType: 7, // file_type
  name: 8, // name
} as const;

/** Offset of det_checksum in struct ext4_dir_entry_tail. */
export const TAIL_CHECKSUM_AT = 8;

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

function writeUint32(target: Uint8Array, at: number, value: number): void {
  target[at] = value;
  target[at + 1] = value >>> 8;
  target[at + 2] = value >>> 16;
  target[at + 3] = value >>> 24;
}
