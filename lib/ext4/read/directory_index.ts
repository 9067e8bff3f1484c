/**
 * The index of a hashed directory: which of its blocks are leaves, and which hashes each may hold.
 *
 * @module
 */
import { displayName } from "../../bytes/byte_string.ts";
import { InputError } from "../../errors.ts";
import { COMPAT, INCOMPAT, INODE_FLAG, SUPERBLOCK_FLAG } from "../format/constants.ts";
import type { DirectoryEntry } from "../format/directory.ts";
import { directoryHash } from "../format/directory_hash.ts";
import {
  decodeDxNode,
  decodeDxRoot,
  DX_INDIRECT_LEVELS_MAX,
  DX_NODE_COUNT_OFFSET,
  DX_ROOT_COUNT_OFFSET,
  type DxEntry,
  verifyDxBlock,
} from "../format/htree.ts";
import type { DirectoryBlocks } from "./directory_blocks.ts";
import { hasFlag } from "./inode.ts";
import type { Ext4Image, ImageInode } from "./types.ts";

/** A leaf and the hashes of its names. */
export interface IndexLeaf {
  readonly logicalBlock: number;
  /** The lowest hash. */
  readonly fromHash: number;
  /** The highest hash. */
  readonly toHash: number;
}

/** A whole index. */
export interface DirectoryIndex {
  readonly parentInodeNumber: number;
  readonly hashVersion: number;
  /** In the order of their hashes. */
  readonly leaves: readonly IndexLeaf[];
}

/** A pointer and the hash that the names below the next one begin with. */
interface BoundedEntry extends DxEntry {
  readonly nextHash: number;
}

const HASH_END = 2 ** 32;

/**
 * Reads an index. Every block of the directory must be in it exactly once, so no index is endless.
 *
 * @throws {InputError} for an index that is damaged
 */
export function readIndex(
  image: Ext4Image,
  inode: ImageInode,
  blocks: DirectoryBlocks,
): DirectoryIndex {
  if (!image.hasCompat(COMPAT.DIR_INDEX)) {
    throw new InputError(inode.what, "its flags say it is hashed, without the feature for it");
  }
  const checksummed = inode.seed !== undefined;
  const { bytes, what } = blocks.read(0);
  const root = decodeDxRoot(bytes, { checksummed, what });
  verifyNode(inode, bytes, DX_ROOT_COUNT_OFFSET, what);
  const levelsMax = image.hasIncompat(INCOMPAT.LARGEDIR)
    ? DX_INDIRECT_LEVELS_MAX + 1
    : DX_INDIRECT_LEVELS_MAX;
  if (root.indirectLevels > levelsMax) {
    throw new InputError(what, `its index has ${root.indirectLevels} levels, over ${levelsMax}`);
  }
  if (root.inodeNumber !== inode.number) {
    throw new InputError(what, `its "." is inode ${root.inodeNumber}, not ${inode.number}`);
  }
  const seen = new SeenBlocks(blocks.blockCount, inode);
  let level = boundEntries(root.entries, 0, HASH_END);
  for (let depth = root.indirectLevels; depth > 0; depth--) {
    level = level.flatMap((entry) => readNode(inode, blocks, entry, seen));
  }
  const leaves = level.map(({ hash, block, nextHash }) => {
    seen.add(block);
    // Bit 0 of the next hash says that names of that very hash are here too.
    const toHash = nextHash % 2 === 1 ? nextHash - 1 : nextHash - 2;
    return { logicalBlock: block, fromHash: hash - hash % 2, toHash };
  });
  seen.checkAll();
  return { parentInodeNumber: root.parentInodeNumber, hashVersion: root.hashVersion, leaves };
}

/**
 * Throws InputError when a leaf holds a name whose hash belongs somewhere else. Names of a directory that ignores case
 * are hashed after folding them, which is not known here, so they are not checked.
 */
export function checkLeafHashes(
  image: Ext4Image,
  inode: ImageInode,
  index: DirectoryIndex,
  leaf: IndexLeaf,
  entries: readonly DirectoryEntry[],
): void {
  if (hasFlag(inode, INODE_FLAG.CASEFOLD)) return;
  const { flags, hashSeed } = image.superblock;
  const signs = [false, true].filter((signed) => {
    const excluded = signed ? SUPERBLOCK_FLAG.UNSIGNED_HASH : SUPERBLOCK_FLAG.SIGNED_HASH;
    return (flags & excluded) === 0;
  });
  for (const { inodeNumber, name } of entries) {
    if (inodeNumber === 0) continue;
    const isHere = signs.some((signed) => {
      const { hash } = directoryHash(name, { version: index.hashVersion, seed: hashSeed, signed });
      return hash >= leaf.fromHash && hash <= leaf.toHash;
    });
    if (isHere) continue;
    throw new InputError(
      inode.what,
      `the hash of its name "${displayName(name)}" is not within those of its block ` +
        `${leaf.logicalBlock}, ${hex(leaf.fromHash)} to ${hex(leaf.toHash)}`,
    );
  }
}

function readNode(
  inode: ImageInode,
  blocks: DirectoryBlocks,
  entry: BoundedEntry,
  seen: SeenBlocks,
): BoundedEntry[] {
  seen.add(entry.block);
  const { bytes, what } = blocks.read(entry.block);
  const node = decodeDxNode(bytes, { checksummed: inode.seed !== undefined, what });
  verifyNode(inode, bytes, DX_NODE_COUNT_OFFSET, what);
  const [, second] = node.entries;
  const last = node.entries.at(-1)!;
  if ((second !== undefined && second.hash < entry.hash) || last.hash > entry.nextHash) {
    throw new InputError(
      what,
      `its hashes are not within ${hex(entry.hash)} to ${hex(entry.nextHash)}`,
    );
  }
  return boundEntries(node.entries, entry.hash, entry.nextHash);
}

function verifyNode(
  inode: ImageInode,
  block: Uint8Array,
  countOffset: number,
  what: string,
): void {
  if (inode.seed === undefined) return;
  verifyDxBlock(block, { countOffset, inodeSeed: inode.seed, what });
}

/** The first entry of a node has the hash that its parent gives it. */
function boundEntries(
  entries: readonly DxEntry[],
  firstHash: number,
  endHash: number,
): BoundedEntry[] {
  return entries.map(({ hash, block }, i) => ({
    hash: i === 0 ? firstHash : hash,
    block,
    nextHash: entries[i + 1]?.hash ?? endHash,
  }));
}

/** The blocks of the directory that the index has named so far; the root is block 0. */
class SeenBlocks {
  readonly #seen = new Set<number>([0]);
  readonly #blockCount: number;
  readonly #inode: ImageInode;

  constructor(blockCount: number, inode: ImageInode) {
    this.#blockCount = blockCount;
    this.#inode = inode;
  }

  add(logicalBlock: number): void {
    if (logicalBlock >= this.#blockCount) {
      throw new InputError(
        this.#inode.what,
        `its index points to block ${logicalBlock} of ${this.#blockCount}`,
      );
    }
    if (this.#seen.has(logicalBlock)) {
      throw new InputError(
        this.#inode.what,
        `its index points to its block ${logicalBlock} twice`,
      );
    }
    this.#seen.add(logicalBlock);
  }

  checkAll(): void {
    if (this.#seen.size === this.#blockCount) return;
    throw new InputError(
      this.#inode.what,
      `its index has ${this.#seen.size} of its ${this.#blockCount} blocks`,
    );
  }
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
