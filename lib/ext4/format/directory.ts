/**
 * Linear directory blocks (kernel documentation, "Linear (Classic) Directories"): entries that fill the block from end
 * to end. With metadata checksums, a fake last entry without a name holds the checksum.
 *
 * @module
 */
import { type ByteString, byteStringFromBytes, displayName } from "../../bytes/byte_string.ts";
import { crc32c } from "../../bytes/crc32c.ts";
import { littleEndianWords } from "../../bytes/arithmetic.ts";
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
  readonly fileType: number;
}

/** Bytes of the fake entry that holds the checksum. */
export const DIRECTORY_TAIL_SIZE_BYTES = 12;
export const NAME_LENGTH_MAX = 255;

/** The shortest record, for a name of up to 4 bytes. */
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

/** The shortest record for a name: header and name, rounded up to 4. */
export function direntSizeBytes(nameLength: number): number {
  return (DIRENT_AT.name + nameLength + 3) & ~3;
}

/** Writes one entry; record bytes after the name are left unchanged. */
export function encodeDirectoryEntry(
  block: Uint8Array,
  offset: number,
  entry: DirectoryEntry,
): void {
  const { name, recordLength } = entry;
  const nameStart = offset + DIRENT_AT.name;
  const fits = name.length <= NAME_LENGTH_MAX && recordLength >= direntSizeBytes(name.length) &&
    recordLength % 4 === 0 && offset % 4 === 0 && offset + recordLength <= block.length;
  // Builds the message only if needed: this is called for every name.
  if (!fits) {
    invariant(false, `a directory entry of ${recordLength} bytes at ${offset} of ${block.length}`);
  }
  const { inodeNumber } = entry;
  for (let i = 0; i < 4; i++) block[offset + i] = inodeNumber >>> (8 * i);
  const stored = encodeRecordLength(recordLength);
  block[offset + DIRENT_AT.recordLength] = stored & 0xff;
  block[offset + DIRENT_AT.recordLength + 1] = stored >> 8;
  block[offset + DIRENT_AT.nameLength] = name.length;
  block[offset + DIRENT_AT.fileType] = entry.fileType;
  for (let i = 0; i < name.length; i++) block[nameStart + i] = name.charCodeAt(i);
}

/** rec_len on disk: 65536, possible only in a 64 KiB block, does not fit 16 bits and is written as 65535. */
export function encodeRecordLength(recordLength: number): number {
  if (recordLength <= 0 || recordLength > 0x10000) {
    invariant(false, `a record of ${recordLength} bytes`);
  }
  return recordLength === 0x10000 ? 0xffff : recordLength;
}

/** Decodes a stored rec_len: 0 and 65535 mean the whole block, and the low two bits are bits 16 and 17. */
export function decodeRecordLength(stored: number, blockSizeBytes: number): number {
  if (blockSizeBytes < 0x10000) return stored;
  if (stored === 0 || stored === 0xffff) return blockSizeBytes;
  return (stored & 0xfffc) | ((stored & 3) << 16);
}

/** Writes the fake entry with the checksum at the end of a block. `inodeSeed` is the directory's. */
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

/** Throws InputError, with `what` in it, if a block has a wrong checksum or none. */
export function verifyDirectoryBlock(block: Uint8Array, inodeSeed: number, what: string): void {
  const tail = checkedTailOffset(block, what);
  const stored = viewOf(block).getUint32(tail + TAIL_CHECKSUM_AT, true);
  checkChecksum(what, stored, crc32c(inodeSeed, block.subarray(0, tail)));
}

/** Whether a block ends with the fake entry for a checksum. */
export function hasDirectoryTail(block: Uint8Array): boolean {
  const tail = block.length - DIRECTORY_TAIL_SIZE_BYTES;
  if (tail < 0) return false;
  const view = viewOf(block);
  return view.getUint32(tail + DIRENT_AT.inodeNumber, true) === 0 &&
    view.getUint16(tail + DIRENT_AT.recordLength, true) === DIRECTORY_TAIL_SIZE_BYTES &&
    view.getUint8(tail + DIRENT_AT.nameLength) === 0 &&
    view.getUint8(tail + DIRENT_AT.fileType) === DIRENT_TYPE.CHECKSUM_TAIL;
}

/** Whether a block is one unused record. Index nodes look like that to code that does not know them. */
export function isEmptyBlock(block: Uint8Array): boolean {
  const view = viewOf(block);
  const recordLength = view.getUint16(DIRENT_AT.recordLength, true);
  return view.getUint32(DIRENT_AT.inodeNumber, true) === 0 &&
    decodeRecordLength(recordLength, block.length) === block.length;
}

function checkedTailOffset(block: Uint8Array, what: string): number {
  if (!hasDirectoryTail(block)) throw new InputError(what, "it does not end with a checksum");
  return block.length - DIRECTORY_TAIL_SIZE_BYTES;
}

/**
 * Reads all entries of a linear directory block, including unused ones (inode 0) but not the fake one. Records must
 * fill the block exactly and names must be possible; throws InputError, with `what` in it, otherwise. The caller checks
 * the checksum (verifyDirectoryBlock()).
 */
export function decodeDirectoryBlock(
  block: Uint8Array,
  options: {
    readonly checksummed: boolean;
    readonly isEncrypted?: boolean | undefined;
    readonly what: string;
  },
): DirectoryEntry[] {
  const { checksummed, isEncrypted, what } = options;
  const end = checksummed ? checkedTailOffset(block, what) : block.length;
  return decodeDirectoryEntries(block, { start: 0, end, isEncrypted, what });
}

/** Reads the entries that fill `[start, end)` of some bytes: part of a block or of an inline directory. */
export function decodeDirectoryEntries(
  bytes: Uint8Array,
  range: {
    readonly start: number;
    readonly end: number;
    readonly isEncrypted?: boolean | undefined;
    readonly what: string;
  },
): DirectoryEntry[] {
  const { end, what } = range;
  const entries = new DirectoryEntries(bytes.length);
  const words = littleEndianWords(bytes);
  const fault = entries.read({ bytes, words, firstWord: 0, dotCount: 0, ...range });
  if (fault !== undefined) throw new InputError(what, fault.problem, { data: { ...fault.data } });
  return Array.from({ length: entries.count }, (_, index) => ({
    inodeNumber: entries.inodeAt(index),
    recordLength: entries.recordLengthAt(index, end),
    name: entries.nameAt(index),
    fileType: entries.fileTypeAt(index),
  }));
}

/** The bytes to read entries from. */
export interface EntryRange {
  /** A block or the data of an inline directory; it must not change while the entries are in use. */
  readonly bytes: Uint8Array;
  /** Words that include the bytes. */
  readonly words: Int32Array;
  /** Index of the word at which the bytes begin. */
  readonly firstWord: number;
  /** Offset from the start of the bytes, a multiple of 4. */
  readonly start: number;
  readonly end: number;
  /** How many leading entries are "." and "..". */
  readonly dotCount: number;
  /** Whether names may contain any bytes, as encrypted ones do. */
  readonly isEncrypted?: boolean | undefined;
}

interface EntryFault {
  readonly problem: string;
  /**
   * How the kernel reacts: it ignores everything after a record of impossible length, lists an entry of unknown type,
   * and fails at an impossible name.
   */
  readonly kind: "length" | "type" | "name";
  readonly data: { readonly offset: number; readonly actual?: number };
}

const SLASHES = 0x2f2f2f2f;
const DOT = 0x2e;

/**
 * The entries of one directory block, in arrays that the next block reuses: a record and a string per entry would cost
 * more than all the checks.
 */
export class DirectoryEntries {
  count = 0;
  /** How many leading entries are "." and "..". */
  dotCount = 0;
  /** The first entry that may repeat an earlier name. Before it, apart from the dots, names are in ascending order. */
  firstUnordered = 0;
  readonly #inodes: Uint32Array;
  readonly #offsets: Uint32Array;
  readonly #nameLengths: Uint8Array;
  readonly #fileTypes: Uint8Array;
  #bytes: Uint8Array = new Uint8Array(0);
  #words: Int32Array = new Int32Array(0);
  #firstWord = 0;
  #text: ByteString | undefined;

  /** @param sizeBytesMax the longest range that will be read */
  constructor(sizeBytesMax: number) {
    const room = Math.ceil(sizeBytesMax / RECORD_LENGTH_MIN);
    this.#inodes = new Uint32Array(room);
    this.#offsets = new Uint32Array(room);
    this.#nameLengths = new Uint8Array(room);
    this.#fileTypes = new Uint8Array(room);
  }

  /**
   * Reads entries, including unused ones (inode 0): records must fill the range exactly, and names must be possible.
   * Returns the first fault, or undefined. After a fault, the entries before it are usable; after an unknown type, so
   * are those that follow.
   */
  read(range: EntryRange): EntryFault | undefined {
    const { bytes, words, firstWord, start, end, dotCount, isEncrypted = false } = range;
    this.count = 0;
    this.dotCount = dotCount;
    this.firstUnordered = -1;
    this.#bytes = bytes;
    this.#words = words;
    this.#firstWord = firstWord;
    this.#text = undefined;
    let previous = -1;
    let fault: EntryFault | undefined;
    for (let at = start; at < end;) {
      const room = end - at;
      if (room < DIRENT_AT.name) {
        const problem = `the entry at ${at} has only ${room} bytes`;
        fault ??= { problem, kind: "length", data: { offset: at } };
        break;
      }
      const inode = words[firstWord + (at >>> 2)]! >>> 0;
      const head = words[firstWord + (at >>> 2) + 1]!;
      const recordLength = decodeRecordLength(head & 0xffff, bytes.length);
      const nameLength = (head >>> 16) & 0xff;
      // The record of an unused entry may be too short for its old name; then only the header counts.
      const least = inode === 0
        ? RECORD_LENGTH_MIN
        : Math.max(RECORD_LENGTH_MIN, direntSizeBytes(nameLength));
      if (recordLength < least || recordLength > room || (recordLength & 3) !== 0) {
        const problem =
          `the entry at ${at} is ${recordLength} bytes long, not a multiple of 4 from ${least} to ${room}`;
        fault ??= { problem, kind: "length", data: { offset: at, actual: recordLength } };
        break;
      }
      const left = room - recordLength;
      if (left > 0 && left < RECORD_LENGTH_MIN) {
        const problem =
          `the entry at ${at} is ${recordLength} bytes long and leaves ${left}, too few for another`;
        fault ??= { problem, kind: "length", data: { offset: at, actual: recordLength } };
        break;
      }
      const index = this.count++;
      this.#inodes[index] = inode;
      this.#offsets[index] = at;
      this.#nameLengths[index] = nameLength;
      this.#fileTypes[index] = head >>> 24;
      if (inode !== 0) {
        const name = firstWord + ((at + DIRENT_AT.name) >>> 2);
        if (nameLength === 0 || (!isEncrypted && !isName(words, name, nameLength))) {
          const problem = `the entry at ${at} has the name "${displayName(this.nameAt(index))}"`;
          this.count--;
          fault ??= { problem, kind: "name", data: { offset: at } };
          break;
        }
        const fileType = head >>> 24;
        if (fileType > DIRENT_TYPE.SYMLINK) {
          const problem = `the entry at ${at} has the file type ${fileType}`;
          fault ??= { problem, kind: "type", data: { offset: at, actual: fileType } };
        }
        if (index >= dotCount && this.firstUnordered < 0) {
          if (!this.#isAfter(previous, index)) this.firstUnordered = index;
          previous = index;
        }
      }
      at += recordLength;
    }
    if (this.firstUnordered < 0) this.firstUnordered = this.count;
    return fault;
  }

  /** The inode number of an entry; 0 for an unused one. */
  inodeAt(index: number): number {
    return this.#inodes[index]!;
  }

  offsetAt(index: number): number {
    return this.#offsets[index]!;
  }

  /** The record length of an entry; the last record extends to the end of the range. */
  recordLengthAt(index: number, end: number): number {
    return (index + 1 < this.count ? this.#offsets[index + 1]! : end) - this.#offsets[index]!;
  }

  fileTypeAt(index: number): number {
    return this.#fileTypes[index]!;
  }

  nameLengthAt(index: number): number {
    return this.#nameLengths[index]!;
  }

  nameAt(index: number): ByteString {
    // One call decodes all names: a call for each would cost more than everything else.
    this.#text ??= byteStringFromBytes(this.#bytes);
    const start = this.#offsets[index]! + DIRENT_AT.name;
    return this.#text.slice(start, start + this.#nameLengths[index]!);
  }

  /** struct ext4_dir_entry_hash, stored after names that are both folded and encrypted; zeros if absent. */
  storedHashAt(index: number): { readonly hash: number; readonly minor: number } {
    const at = this.#offsets[index]! + direntSizeBytes(this.#nameLengths[index]!);
    if (at + 8 > this.#bytes.length) return { hash: 0, minor: 0 };
    const view = viewOf(this.#bytes);
    return { hash: view.getUint32(at, true), minor: view.getUint32(at + 4, true) };
  }

  /** Whether an entry's name consists of that many dots. */
  isDots(index: number, dotCount: number): boolean {
    if (this.#nameLengths[index] !== dotCount) return false;
    const start = this.#offsets[index]! + DIRENT_AT.name;
    for (let i = 0; i < dotCount; i++) if (this.#bytes[start + i] !== DOT) return false;
    return true;
  }

  /** The byte after an entry's name. "." and ".." always have one. */
  byteBehindName(index: number): number {
    return this.#bytes[this.#offsets[index]! + DIRENT_AT.name + this.#nameLengths[index]!]!;
  }

  /** Whether an entry's name sorts after the previous one's or, if `previous` is negative, after "." and "..". */
  #isAfter(previous: number, index: number): boolean {
    const words = this.#words;
    const name = this.#firstWord + ((this.#offsets[index]! + DIRENT_AT.name) >>> 2);
    if (previous < 0) return (words[name]! & 0xff) > DOT;
    const other = this.#firstWord + ((this.#offsets[previous]! + DIRENT_AT.name) >>> 2);
    const length = this.#nameLengths[index]!;
    const otherLength = this.#nameLengths[previous]!;
    const common = Math.min(length, otherLength);
    let at = 0;
    while (at + 4 <= common && words[name + (at >>> 2)] === words[other + (at >>> 2)]) at += 4;
    for (; at < common; at++) {
      const difference = byteAt(words, name, at) - byteAt(words, other, at);
      if (difference !== 0) return difference > 0;
    }
    return length > otherLength;
  }
}

function byteAt(words: Int32Array, start: number, index: number): number {
  return (words[start + (index >>> 2)]! >>> ((index & 3) << 3)) & 0xff;
}

/** Whether bytes are a valid name: they contain neither zero nor a slash. */
function isName(words: Int32Array, start: number, length: number): boolean {
  const last = start + ((length - 1) >>> 2);
  for (let at = start; at < last; at++) {
    if (hasZeroByte(words[at]!) || hasZeroByte(words[at]! ^ SLASHES)) return false;
  }
  // In the last word, bytes after the name are leftovers; set them to ones, which are neither.
  const rest = length & 3;
  const word = words[last]! | (rest === 0 ? 0 : -1 << (rest << 3));
  return !hasZeroByte(word) && !hasZeroByte(word ^ SLASHES);
}

/** Whether one of a word's four bytes is zero: only a zero byte borrows without having its high bit set before. */
function hasZeroByte(word: number): boolean {
  return ((word - 0x01010101) & ~word & 0x80808080) !== 0;
}
