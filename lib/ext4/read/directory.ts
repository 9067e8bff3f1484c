/**
 * Names of directories: linear, hashed, or kept in the inode.
 *
 * @module
 */
import type { ByteString } from "../../bytes/byte_string.ts";
import { displayName } from "../../bytes/byte_string.ts";
import { InputError } from "../../errors.ts";
import { DIRENT_TYPE, INCOMPAT, INODE_FLAG } from "../format/constants.ts";
import {
  decodeDirectoryBlock,
  decodeDirectoryEntries,
  type DirectoryEntry,
  verifyDirectoryBlock,
} from "../format/directory.ts";
import { viewOf } from "../format/fields.ts";
import { inlineContent } from "./content.ts";
import { DirectoryBlocks } from "./directory_blocks.ts";
import { checkLeafHashes, readIndex } from "./directory_index.ts";
import { hasFlag } from "./inode.ts";
import { DEFAULT_READ_LIMITS } from "./limits.ts";
import type { Ext4Image, ImageInode, NodeKind } from "./types.ts";

/** One name in a directory; never "." or "..". */
export interface DirectoryName {
  /** 1 to 255 bytes. */
  readonly name: ByteString;
  /** The inode that has this name. */
  readonly inodeNumber: number;
  /** What the entry says that the inode is; undefined without the feature filetype. */
  readonly kind: NodeKind | undefined;
}

/** What a directory holds. */
export interface DirectoryContent {
  /** What ".." says. */
  readonly parentInodeNumber: number;
  /** In the order of the directory; each name once. */
  readonly names: readonly DirectoryName[];
  /** Blocks that the directory maps, its map included. */
  readonly blockCount: number;
}

const KIND_OF_DIRENT: Readonly<Record<number, NodeKind>> = {
  [DIRENT_TYPE.REGULAR]: "file",
  [DIRENT_TYPE.DIRECTORY]: "directory",
  [DIRENT_TYPE.CHARACTER_DEVICE]: "characterDevice",
  [DIRENT_TYPE.BLOCK_DEVICE]: "blockDevice",
  [DIRENT_TYPE.FIFO]: "fifo",
  [DIRENT_TYPE.SOCKET]: "socket",
  [DIRENT_TYPE.SYMLINK]: "symlink",
};

const DOT_RECORD_LENGTH = 12;
/** Before the entries in i_block of an inline directory: the number of its parent. */
const INLINE_PARENT_SIZE_BYTES = 4;

/**
 * Reads a whole directory. Every block's checksum, every record, and in a hashed one the index and the place of every
 * name are checked.
 *
 * @throws {InputError} for a directory that is damaged, encrypted, or has more names than `maxChildCount`
 */
export function readDirectory(
  image: Ext4Image,
  inode: ImageInode,
  options: { readonly maxChildCount?: number } = {},
): DirectoryContent {
  if (inode.kind !== "directory") throw new InputError(inode.what, `it is a ${inode.kind}`);
  if (hasFlag(inode, INODE_FLAG.ENCRYPT)) {
    throw new InputError(inode.what, "the directory is encrypted, and that is not supported");
  }
  const collector = new NameCollector(image, inode, options.maxChildCount);
  if (hasFlag(inode, INODE_FLAG.INLINE_DATA)) return readInlineDirectory(inode, collector);
  const blocks = new DirectoryBlocks(image, inode);
  const isHashed = hasFlag(inode, INODE_FLAG.INDEX);
  const parentInodeNumber = isHashed
    ? readHashed(image, inode, blocks, collector)
    : readLinear(inode, blocks, collector);
  return { parentInodeNumber, names: collector.names, blockCount: blocks.ownedBlockCount };
}

function readLinear(
  inode: ImageInode,
  blocks: DirectoryBlocks,
  collector: NameCollector,
): number {
  let parentInodeNumber = 0;
  for (let logicalBlock = 0; logicalBlock < blocks.blockCount; logicalBlock++) {
    const entries = decodeLeaf(inode, blocks, logicalBlock);
    if (logicalBlock === 0) parentInodeNumber = takeDots(entries, inode);
    collector.add(entries, inode.what);
  }
  return parentInodeNumber;
}

function readHashed(
  image: Ext4Image,
  inode: ImageInode,
  blocks: DirectoryBlocks,
  collector: NameCollector,
): number {
  const index = readIndex(image, inode, blocks);
  for (const leaf of index.leaves) {
    const entries = decodeLeaf(inode, blocks, leaf.logicalBlock);
    checkLeafHashes(image, inode, index, leaf, entries);
    collector.add(entries, inode.what);
  }
  return index.parentInodeNumber;
}

function decodeLeaf(
  inode: ImageInode,
  blocks: DirectoryBlocks,
  logicalBlock: number,
): DirectoryEntry[] {
  const { bytes, what } = blocks.read(logicalBlock);
  if (inode.seed !== undefined) verifyDirectoryBlock(bytes, inode.seed, what);
  return decodeDirectoryBlock(bytes, { checksummed: inode.seed !== undefined, what });
}

/** Takes "." and ".." off the entries of the first block; returns the number of the parent. */
function takeDots(entries: DirectoryEntry[], inode: ImageInode): number {
  const [dot, dotDot] = entries.splice(0, 2);
  if (dot?.name !== "." || dot.recordLength !== DOT_RECORD_LENGTH || dotDot?.name !== "..") {
    throw new InputError(inode.what, 'the directory does not begin with "." and ".."');
  }
  if (dot.inodeNumber !== inode.number) {
    throw new InputError(inode.what, `its "." is inode ${dot.inodeNumber}`);
  }
  return dotDot.inodeNumber;
}

/** The 56 bytes behind the parent's number, then system.data: entries fill both from end to end. */
function readInlineDirectory(inode: ImageInode, collector: NameCollector): DirectoryContent {
  const { first, rest } = inlineContent(inode);
  const keptBytes = first.length + rest.length;
  if (inode.record.sizeBytes !== keptBytes) {
    throw new InputError(
      inode.what,
      `its size is ${inode.record.sizeBytes} bytes, but it keeps ${keptBytes} in itself`,
    );
  }
  const what = `inline entries of ${inode.what}`;
  const start = INLINE_PARENT_SIZE_BYTES;
  collector.add(decodeDirectoryEntries(first, { start, end: first.length, what }), what);
  const more = `further inline entries of ${inode.what}`;
  collector.add(decodeDirectoryEntries(rest, { start: 0, end: rest.length, what: more }), more);
  const parentInodeNumber = viewOf(first).getUint32(0, true);
  return { parentInodeNumber, names: collector.names, blockCount: 0 };
}

/** Gathers the entries in use and refuses what no directory holds. */
class NameCollector {
  readonly names: DirectoryName[] = [];
  readonly #seen = new Set<ByteString>();
  readonly #hasTypes: boolean;
  readonly #maxCount: number;
  readonly #inode: ImageInode;

  constructor(image: Ext4Image, inode: ImageInode, maxCount = DEFAULT_READ_LIMITS.maxChildCount) {
    this.#hasTypes = image.hasIncompat(INCOMPAT.FILETYPE);
    this.#inode = inode;
    this.#maxCount = maxCount;
  }

  add(entries: readonly DirectoryEntry[], what: string): void {
    for (const { inodeNumber, name, fileType } of entries) {
      if (inodeNumber === 0) continue;
      if (name === "." || name === "..") {
        throw new InputError(what, `it has "${name}" among its names`);
      }
      if (this.#seen.has(name)) {
        throw new InputError(what, `it has the name "${displayName(name)}" twice`);
      }
      if (this.names.length >= this.#maxCount) {
        throw new InputError(this.#inode.what, `it has more than ${this.#maxCount} names`);
      }
      this.#seen.add(name);
      this.names.push({ name, inodeNumber, kind: this.#kindOf(fileType, name, what) });
    }
  }

  #kindOf(fileType: number, name: ByteString, what: string): NodeKind | undefined {
    const kind = KIND_OF_DIRENT[fileType];
    // Without the feature the byte is the high half of the length of the name.
    if (this.#hasTypes ? kind !== undefined : fileType === 0) return kind;
    const wanted = this.#hasTypes ? "1 to 7" : "0";
    throw new InputError(
      what,
      `its entry "${displayName(name)}" has the file type ${fileType}, not ${wanted}`,
    );
  }
}
