/**
 * The entries of one block of a directory, in arrays that the next block uses again: a record and a string for each
 * entry would cost more than all that is asked of it.
 *
 * @module
 */
import type { ByteString } from "../../../bytes/byte_string.ts";
import { byteStringFromBytes } from "../../../bytes/byte_string.ts";
import { DIRENT_TYPE } from "../../format/constants.ts";
import { decodeRecordLength, direntSizeBytes, RECORD_LENGTH_MIN } from "../../format/directory.ts";

/** Bytes of an entry before its name; inode, then rec_len, name_len and file_type in a word. */
const HEAD_SIZE_BYTES = 8;
/** Four of them. */
const SLASHES = 0x2f2f2f2f;
const DOT = 0x2e;

/** What to read. */
export interface EntryRange {
  /** A block or the data of an inline directory; it must stay as it is while the list is in use. */
  readonly bytes: Uint8Array;
  /** Words, among them those of the bytes. */
  readonly words: Int32Array;
  /** Where the bytes begin in the words. */
  readonly firstWord: number;
  /** From the start of the bytes, a multiple of 4. */
  readonly start: number;
  readonly end: number;
  /** How many entries at the front are "." and "..". */
  readonly dotCount: number;
}

/** Entries in the order of the block. */
export class EntryList {
  count = 0;
  /** How many of them, at the front, are "." and "..". */
  dotCount = 0;
  /**
   * The first entry that is not known to differ from all before it: those before it, but for dots, each come after the
   * one before in the order of names.
   */
  firstUnordered = 0;
  readonly #inodes: Uint32Array;
  readonly #offsets: Uint32Array;
  readonly #nameLengths: Uint8Array;
  readonly #fileTypes: Uint8Array;
  #bytes: Uint8Array = new Uint8Array(0);
  #words: Int32Array = new Int32Array(0);
  #firstWord = 0;
  #text: ByteString | undefined;

  /** @param sizeBytesMax how long what is read can be */
  constructor(sizeBytesMax: number) {
    const room = Math.ceil(sizeBytesMax / RECORD_LENGTH_MIN);
    this.#inodes = new Uint32Array(room);
    this.#offsets = new Uint32Array(room);
    this.#nameLengths = new Uint8Array(room);
    this.#fileTypes = new Uint8Array(room);
  }

  /** Reads entries; false when decodeDirectoryEntries() has something to say against them. */
  read({ bytes, words, firstWord, start, end, dotCount }: EntryRange): boolean {
    this.count = 0;
    this.dotCount = dotCount;
    this.firstUnordered = -1;
    this.#bytes = bytes;
    this.#words = words;
    this.#firstWord = firstWord;
    this.#text = undefined;
    let previous = -1;
    for (let at = start; at < end;) {
      if (end - at < HEAD_SIZE_BYTES) return false;
      const inode = words[firstWord + (at >>> 2)]! >>> 0;
      const head = words[firstWord + (at >>> 2) + 1]!;
      const recordLength = decodeRecordLength(head & 0xffff, bytes.length);
      const nameLength = (head >>> 16) & 0xff;
      if (recordLength < RECORD_LENGTH_MIN || recordLength > end - at) return false;
      if ((recordLength & 3) !== 0) return false;
      const index = this.count++;
      this.#inodes[index] = inode;
      this.#offsets[index] = at;
      this.#nameLengths[index] = nameLength;
      this.#fileTypes[index] = head >>> 24;
      if (inode !== 0) {
        const name = firstWord + ((at + HEAD_SIZE_BYTES) >>> 2);
        if (recordLength < direntSizeBytes(nameLength) || !isName(words, name, nameLength)) {
          return false;
        }
        if (head >>> 24 > DIRENT_TYPE.SYMLINK) return false;
        if (index >= dotCount && this.firstUnordered < 0) {
          if (!this.#isAfter(previous, index)) this.firstUnordered = index;
          previous = index;
        }
      }
      at += recordLength;
    }
    if (this.firstUnordered < 0) this.firstUnordered = this.count;
    return true;
  }

  /** The number of the inode that an entry names; 0 for an unused one. */
  inodeAt(index: number): number {
    return this.#inodes[index]!;
  }

  /** Where an entry begins. */
  offsetAt(index: number): number {
    return this.#offsets[index]!;
  }

  /** A DIRENT_TYPE. */
  fileTypeAt(index: number): number {
    return this.#fileTypes[index]!;
  }

  /** The name of an entry. */
  nameAt(index: number): ByteString {
    // One call for all names: a call for each would cost more than all the rest.
    this.#text ??= byteStringFromBytes(this.#bytes);
    const start = this.#offsets[index]! + HEAD_SIZE_BYTES;
    return this.#text.slice(start, start + this.#nameLengths[index]!);
  }

  /** Whether the name of an entry is so many dots. */
  isDots(index: number, dotCount: number): boolean {
    if (this.#nameLengths[index] !== dotCount) return false;
    const start = this.#offsets[index]! + HEAD_SIZE_BYTES;
    for (let i = 0; i < dotCount; i++) if (this.#bytes[start + i] !== DOT) return false;
    return true;
  }

  /** Whether the name of an entry comes after that of another; without another, after "." and "..". */
  #isAfter(previous: number, index: number): boolean {
    const words = this.#words;
    const name = this.#firstWord + ((this.#offsets[index]! + HEAD_SIZE_BYTES) >>> 2);
    if (previous < 0) return (words[name]! & 0xff) > DOT;
    const other = this.#firstWord + ((this.#offsets[previous]! + HEAD_SIZE_BYTES) >>> 2);
    const [length, otherLength] = [this.#nameLengths[index]!, this.#nameLengths[previous]!];
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

/** Whether some bytes can be a name: there are any, and neither zero nor a slash among them. */
function isName(words: Int32Array, start: number, length: number): boolean {
  if (length === 0) return false;
  const last = start + ((length - 1) >>> 2);
  for (let at = start; at < last; at++) {
    if (hasZeroByte(words[at]!) || hasZeroByte(words[at]! ^ SLASHES)) return false;
  }
  // Behind the name, the last word has what was there before: ones are neither.
  const rest = length & 3;
  const word = words[last]! | (rest === 0 ? 0 : -1 << (rest << 3));
  return !hasZeroByte(word) && !hasZeroByte(word ^ SLASHES);
}

/** Whether one of the four bytes of a word is zero: only such a byte borrows without having its high bit set before. */
function hasZeroByte(word: number): boolean {
  return ((word - 0x01010101) & ~word & 0x80808080) !== 0;
}
