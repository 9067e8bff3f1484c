/**
 * Adds and removes names of directories.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { type ByteString, byteStringFromBytes } from "../../bytes/byte_string.ts";
import { InputError } from "../../errors.ts";
import { DIRENT_TYPE, INCOMPAT, INODE_FLAG } from "../format/constants.ts";
import {
  decodeRecordLength,
  DIRECTORY_TAIL_SIZE_BYTES,
  direntSizeBytes,
  encodeRecordLength,
  RECORD_LENGTH_MIN,
  sealDirectoryBlock,
} from "../format/directory.ts";
import { viewOf } from "../format/fields.ts";
import { DIRENT_TYPES, seedOf } from "../volume/inode.ts";
import type { InodeMaps } from "./inode_maps.ts";
import type { VolumeEditor } from "./volume_editor.ts";

/** Offsets in struct ext4_dir_entry_2. */
const ENTRY_AT = { inode: 0, recordLength: 4, nameLength: 6, fileType: 7, name: 8 } as const;

interface Place {
  readonly block: number;
  readonly at: number;
  /** The previous entry in the block; undefined for the first one. */
  readonly before: number | undefined;
}

export class DirectoryEditor {
  readonly #editor: VolumeEditor;
  readonly #maps: InodeMaps;
  readonly #inode: number;
  readonly #seed: number | undefined;
  readonly #names = new Map<ByteString, number>();
  /** How many leading blocks are known to be full. */
  #fullBlocks = 0;

  /** @throws {InputError} for a directory that is stored in its inode, or is damaged */
  constructor(editor: VolumeEditor, maps: InodeMaps, inode: number) {
    this.#editor = editor;
    this.#maps = maps;
    this.#inode = inode;
    const view = editor.inode(inode);
    if (view.hasInlineData) {
      throw new InputError(`inode ${inode}`, "a fast commit changes a directory without blocks");
    }
    this.#seed = seedOf(editor.image, view);
    for (const number of this.#blocks()) {
      const block = editor.blocks.read(number);
      const entries = viewOf(block);
      for (const { at } of this.#entries(entries)) {
        if (entries.getUint32(at, true) === 0) continue;
        const start = at + ENTRY_AT.name;
        const end = start + entries.getUint8(at + ENTRY_AT.nameLength);
        this.#names.set(byteStringFromBytes(block, start, end), number);
      }
    }
  }

  /** The inode that a name refers to; undefined if there is no such name. */
  find(name: Uint8Array): number | undefined {
    const place = this.#find(name);
    if (place === undefined) return undefined;
    return viewOf(this.#editor.blocks.read(place.block)).getUint32(place.at, true);
  }

  remove(name: Uint8Array): void {
    const place = this.#find(name);
    if (place === undefined) return;
    const block = this.#editor.blocks.edit(place.block);
    const view = viewOf(block);
    if (place.before === undefined) view.setUint32(place.at + ENTRY_AT.inode, 0, true);
    else {
      const end = place.at + this.#length(view, place.at);
      this.#setLength(view, place.before, end - place.before);
    }
    this.#seal(block);
    this.#names.delete(byteStringFromBytes(name, 0, name.length));
  }

  /** Adds a new name. An indexed directory loses its index, which would otherwise need the name, too. */
  add(name: Uint8Array, inode: number, mode: number): void {
    this.#dropIndex();
    const hasType = this.#editor.image.hasIncompat(INCOMPAT.FILETYPE);
    const fileType = hasType ? DIRENT_TYPES[mode >>> 12]! : 0;
    const wanted = direntSizeBytes(name.length);
    const put = (number: number, at: number) => {
      const block = this.#editor.blocks.edit(number);
      const view = viewOf(block);
      view.setUint32(at + ENTRY_AT.inode, inode, true);
      view.setUint8(at + ENTRY_AT.nameLength, name.length);
      view.setUint8(at + ENTRY_AT.fileType, fileType);
      block.set(name, at + ENTRY_AT.name);
      this.#seal(block);
      this.#names.set(byteStringFromBytes(name, 0, name.length), number);
    };
    let passed = 0;
    for (const number of this.#blocks()) {
      if (passed++ < this.#fullBlocks) continue;
      const view = viewOf(this.#editor.blocks.read(number));
      for (const { at, length } of this.#entries(view)) {
        const isUsed = view.getUint32(at, true) !== 0;
        const used = isUsed ? direntSizeBytes(view.getUint8(at + ENTRY_AT.nameLength)) : 0;
        if (length - used < wanted) continue;
        const block = this.#editor.blocks.edit(number);
        if (isUsed) {
          this.#setLength(viewOf(block), at, used);
          this.#setLength(viewOf(block), at + used, length - used);
        }
        put(number, at + used);
        this.#fullBlocks = passed - 1;
        return;
      }
    }
    const number = this.#append();
    const block = this.#editor.blocks.edit(number);
    this.#setLength(viewOf(block), 0, this.#end(block));
    put(number, 0);
    this.#fullBlocks = passed;
  }

  #find(name: Uint8Array): Place | undefined {
    const number = this.#names.get(byteStringFromBytes(name, 0, name.length));
    if (number === undefined) return undefined;
    const block = this.#editor.blocks.read(number);
    const view = viewOf(block);
    let before: number | undefined;
    for (const { at } of this.#entries(view)) {
      const length = view.getUint8(at + ENTRY_AT.nameLength);
      const start = at + ENTRY_AT.name;
      const isIt = view.getUint32(at, true) !== 0 && length === name.length &&
        Buffer.compare(block.subarray(start, start + length), name) === 0;
      if (isIt) return { block: number, at, before };
      before = at;
    }
    return undefined;
  }

  *#blocks(): Generator<number> {
    const count = this.#editor.inode(this.#inode).sizeBytes / this.#editor.image.blockSizeBytes;
    for (const { logicalBlock, blockCount, startBlock } of this.#maps.extents(this.#inode)) {
      const end = Math.min(blockCount, count - logicalBlock);
      for (let i = 0; i < end; i++) yield startBlock + i;
    }
  }

  /** Yields the entries of a block, including unused ones but not the one that holds its checksum. */
  *#entries(view: DataView<ArrayBufferLike>): Generator<{ readonly at: number; length: number }> {
    const end = view.byteLength;
    for (let at = 0; at + RECORD_LENGTH_MIN <= end;) {
      const length = this.#length(view, at);
      if (length < RECORD_LENGTH_MIN || length % 4 !== 0 || at + length > end) {
        throw new InputError(
          `inode ${this.#inode}`,
          `a fast commit changes it, but one of its entries has a length of ${length}`,
        );
      }
      const isTail = view.getUint32(at, true) === 0 &&
        view.getUint8(at + ENTRY_AT.fileType) === DIRENT_TYPE.CHECKSUM_TAIL;
      if (!isTail) yield { at, length };
      at += length;
    }
  }

  #length(view: DataView<ArrayBufferLike>, at: number): number {
    return decodeRecordLength(view.getUint16(at + ENTRY_AT.recordLength, true), view.byteLength);
  }

  #setLength(view: DataView<ArrayBufferLike>, at: number, length: number): void {
    view.setUint16(at + ENTRY_AT.recordLength, encodeRecordLength(length), true);
  }

  #end(block: Uint8Array): number {
    return block.length - (this.#seed === undefined ? 0 : DIRECTORY_TAIL_SIZE_BYTES);
  }

  /** An index block has its checksum elsewhere; its last entry extends to the end of the block. */
  #seal(block: Uint8Array): void {
    if (this.#seed === undefined) return;
    const tail = viewOf(block);
    const at = block.length - DIRECTORY_TAIL_SIZE_BYTES;
    tail.setUint32(at, 0, true);
    tail.setUint16(at + ENTRY_AT.recordLength, DIRECTORY_TAIL_SIZE_BYTES, true);
    tail.setUint8(at + ENTRY_AT.nameLength, 0);
    tail.setUint8(at + ENTRY_AT.fileType, DIRENT_TYPE.CHECKSUM_TAIL);
    sealDirectoryBlock(block, this.#seed);
  }

  /** Turns the index blocks into blocks without entries. */
  #dropIndex(): void {
    const { flags } = this.#editor.inode(this.#inode);
    if ((flags & INODE_FLAG.INDEX) === 0) return;
    for (const number of this.#blocks()) {
      const found = viewOf(this.#editor.blocks.read(number));
      const last = [...this.#entries(found)].at(-1)!;
      // In a block of names with a checksum, the last entry ends before it.
      const isIndex = last.at + last.length === found.byteLength &&
        (this.#seed !== undefined || this.#isIndexBlock(number));
      if (!isIndex) continue;
      const block = this.#editor.blocks.edit(number);
      const isRoot = number === this.#maps.extents(this.#inode)[0]!.startBlock;
      const used = isRoot ? 2 * RECORD_LENGTH_MIN : 0;
      block.fill(0, used);
      const at = isRoot ? RECORD_LENGTH_MIN : 0;
      this.#setLength(viewOf(block), at, this.#end(block) - at);
      this.#seal(block);
    }
    this.#editor.editInode(this.#inode, { flags: (flags & ~INODE_FLAG.INDEX) >>> 0 });
  }

  /** Without checksums, an index node looks like a block with one unused entry; only the first block is the root. */
  #isIndexBlock(number: number): boolean {
    const first = this.#maps.extents(this.#inode)[0]!;
    if (number === first.startBlock) return true;
    const view = viewOf(this.#editor.blocks.read(number));
    return view.getUint32(0, true) === 0 && this.#length(view, 0) === view.byteLength;
  }

  #append(): number {
    const { blockSizeBytes } = this.#editor.image;
    const { sizeBytes } = this.#editor.inode(this.#inode);
    const startBlock = this.#editor.allocateBlock();
    const logicalBlock = sizeBytes / blockSizeBytes;
    this.#maps.put(this.#inode, { logicalBlock, blockCount: 1, startBlock });
    this.#editor.editInode(this.#inode, { sizeBytes: sizeBytes + blockSizeBytes });
    this.#editor.blocks.edit(startBlock).fill(0);
    return startBlock;
  }
}
