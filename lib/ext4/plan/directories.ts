/**
 * Directories: one linear block while everything fits, a hash tree beyond.
 *
 * Kernel: Documentation/filesystems/ext4, "Directory Entries" and "Hash Tree Directories".
 *
 * @module
 */
import { divCeil } from "../../bytes/arithmetic.ts";
import type { ByteString } from "../../bytes/byte_string.ts";
import { displayName } from "../../bytes/byte_string.ts";
import { InputError } from "../../errors.ts";
import type { TreeNode } from "../../model/node.ts";
import { BLOCK_SIZE_BYTES } from "../../model/payload.ts";
import { DIRENT_TYPE, FILE_MODE, HASH_VERSION } from "../format/constants.ts";
import {
  DIRECTORY_TAIL_SIZE_BYTES,
  direntSizeBytes,
  encodeDirectoryEntry,
  sealDirectoryBlock,
} from "../format/directory.ts";
import { directoryHash } from "../format/htree.ts";
import type { DxEntry } from "../format/htree.ts";
import {
  DX_NODE_COUNT_OFFSET,
  DX_ROOT_COUNT_OFFSET,
  dxEntriesMax,
  encodeDxNode,
  encodeDxRoot,
  sealDxBlock,
} from "../format/htree.ts";

/** s_hash_seed: any constant that is not zero. These are the first digits of pi. */
export const HASH_SEED: readonly number[] = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344];
/** The entries for `.` and `..` of a linear directory. */
const DOTS_SIZE_BYTES = direntSizeBytes(1) + direntSizeBytes(2);

/** A directory entry. */
export interface DirectoryChild {
  readonly name: ByteString;
  readonly inodeNumber: number;
  readonly fileType: number;
}

/** How a directory's entries are spread over its blocks. */
export interface DirectoryShape {
  readonly blockCount: number;
  /** Undefined for a linear directory. */
  readonly index: DirectoryIndex | undefined;
}

interface DirectoryIndex {
  /** Every name, in hash order. */
  readonly names: readonly ByteString[];
  /** Where in `names` each leaf starts. */
  readonly leafStarts: readonly number[];
  /** The lowest hash of each leaf; bit 0 is set if the previous leaf ends with the same hash. */
  readonly leafHashes: readonly number[];
  /** Blocks between the root and the leaves. */
  readonly nodeCount: number;
}

/** How kinds of nodes are stored: in i_mode, and as file_type of directory entries. */
export const KIND_CODES: Readonly<
  Record<TreeNode["kind"], { readonly mode: number; readonly direntType: number }>
> = {
  file: { mode: FILE_MODE.REGULAR, direntType: DIRENT_TYPE.REGULAR },
  directory: { mode: FILE_MODE.DIRECTORY, direntType: DIRENT_TYPE.DIRECTORY },
  symlink: { mode: FILE_MODE.SYMLINK, direntType: DIRENT_TYPE.SYMLINK },
  characterDevice: {
    mode: FILE_MODE.CHARACTER_DEVICE,
    direntType: DIRENT_TYPE.CHARACTER_DEVICE,
  },
  blockDevice: { mode: FILE_MODE.BLOCK_DEVICE, direntType: DIRENT_TYPE.BLOCK_DEVICE },
  fifo: { mode: FILE_MODE.FIFO, direntType: DIRENT_TYPE.FIFO },
  socket: { mode: FILE_MODE.SOCKET, direntType: DIRENT_TYPE.SOCKET },
};

/** Decides the shape of a directory from its names alone. */
export function shapeDirectory(
  path: ByteString,
  names: Iterable<ByteString>,
  checksummed: boolean,
): DirectoryShape {
  let sizeBytes = DOTS_SIZE_BYTES;
  const all: ByteString[] = [];
  // Detects what cannot fit even in full leaves, before names are hashed and sorted.
  const mostBytes = leavesMax(checksummed) * leafRoomBytes(checksummed);
  for (const name of names) {
    sizeBytes += direntSizeBytes(name.length);
    all.push(name);
    if (sizeBytes - DOTS_SIZE_BYTES > mostBytes) {
      throw new InputError(
        displayName(path || "/"),
        `has at least ${all.length} entries: a directory without large_dir holds at most ` +
          `${leavesMax(checksummed)} blocks of them`,
        { code: "doesNotFit" },
      );
    }
  }
  if (sizeBytes <= leafRoomBytes(checksummed)) return { blockCount: 1, index: undefined };
  const index = indexNames(path, all, checksummed);
  return { blockCount: 1 + index.nodeCount + index.leafStarts.length, index };
}

/** Encodes all blocks of a directory. `childOf` looks up names in the order in which they are written. */
export function encodeDirectory(
  shape: DirectoryShape,
  directory: {
    readonly inodeNumber: number;
    readonly parentInodeNumber: number;
    readonly names: readonly ByteString[];
    readonly childOf: (name: ByteString) => DirectoryChild;
    /** Checksum seed of the directory's inode; undefined without checksums. */
    readonly inodeSeed: number | undefined;
  },
): Uint8Array {
  const blocks = new Uint8Array(shape.blockCount * BLOCK_SIZE_BYTES);
  if (shape.index === undefined) {
    const dots = [
      { name: ".", inodeNumber: directory.inodeNumber, fileType: DIRENT_TYPE.DIRECTORY },
      { name: "..", inodeNumber: directory.parentInodeNumber, fileType: DIRENT_TYPE.DIRECTORY },
    ];
    const children = directory.names.map((name) => directory.childOf(name));
    encodeLeaf(blocks, [...dots, ...children], directory.inodeSeed);
    return blocks;
  }
  const { names, leafStarts, nodeCount } = shape.index;
  encodeIndex(blocks, shape.index, directory);
  for (let leaf = 0; leaf < leafStarts.length; leaf++) {
    const at = (1 + nodeCount + leaf) * BLOCK_SIZE_BYTES;
    const children = names
      .slice(leafStarts[leaf], leafStarts[leaf + 1] ?? names.length)
      .map((name) => directory.childOf(name));
    encodeLeaf(blocks.subarray(at, at + BLOCK_SIZE_BYTES), children, directory.inodeSeed);
  }
  return blocks;
}

function leafRoomBytes(checksummed: boolean): number {
  return checksummed ? BLOCK_SIZE_BYTES - DIRECTORY_TAIL_SIZE_BYTES : BLOCK_SIZE_BYTES;
}

function indexNames(
  path: ByteString,
  names: readonly ByteString[],
  checksummed: boolean,
): DirectoryIndex {
  const options = { version: HASH_VERSION.HALF_MD4, seed: HASH_SEED, signed: false };
  const hashes = new Uint32Array(names.length);
  const minors = new Uint32Array(names.length);
  names.forEach((name, i) => {
    const { hash, minor } = directoryHash(name, options);
    hashes[i] = hash;
    minors[i] = minor;
  });
  // Sorts indexes instead of objects: a directory may have hundreds of thousands of names.
  const order = new Uint32Array(names.length).map((_, i) => i).sort((a, b) =>
    hashes[a]! - hashes[b]! || minors[a]! - minors[b]! || (names[a]! < names[b]! ? -1 : 1)
  );
  const room = leafRoomBytes(checksummed);
  const leafStarts: number[] = [];
  const leafHashes: number[] = [];
  let leafBytes = Infinity;
  const sorted = Array.from(order, (index) => names[index]!);
  sorted.forEach((name, i) => {
    const sizeBytes = direntSizeBytes(name.length);
    if (leafBytes + sizeBytes > room) {
      const hash = hashes[order[i]!]!;
      const continues = i > 0 && hashes[order[i - 1]!] === hash;
      leafStarts.push(i);
      leafHashes.push(continues ? hash + 1 : hash);
      leafBytes = 0;
    }
    leafBytes += sizeBytes;
  });
  const limits = indexLimits(checksummed);
  const nodeCount = leafStarts.length <= limits.root ? 0 : divCeil(leafStarts.length, limits.node);
  if (nodeCount > limits.root) {
    throw new InputError(
      displayName(path || "/"),
      `has ${names.length} entries in ${leafStarts.length} blocks: a directory without large_dir ` +
        `has at most ${leavesMax(checksummed)}`,
    );
  }
  return { names: sorted, leafStarts, leafHashes, nodeCount };
}

function leavesMax(checksummed: boolean): number {
  const { root, node } = indexLimits(checksummed);
  return root * node;
}

function indexLimits(checksummed: boolean): { root: number; node: number } {
  return {
    root: dxEntriesMax(BLOCK_SIZE_BYTES, { countOffset: DX_ROOT_COUNT_OFFSET, checksummed }),
    node: dxEntriesMax(BLOCK_SIZE_BYTES, { countOffset: DX_NODE_COUNT_OFFSET, checksummed }),
  };
}

/** Writes the root into block 0 and the nodes into the blocks behind it. */
function encodeIndex(
  blocks: Uint8Array,
  index: DirectoryIndex,
  directory: {
    readonly inodeNumber: number;
    readonly parentInodeNumber: number;
    readonly inodeSeed: number | undefined;
  },
): void {
  const { nodeCount, leafHashes } = index;
  const { inodeNumber, parentInodeNumber, inodeSeed } = directory;
  const checksummed = inodeSeed !== undefined;
  const leafEntries: DxEntry[] = leafHashes.map((hash, i) => ({ hash, block: 1 + nodeCount + i }));
  let rootEntries = leafEntries;
  if (nodeCount > 0) {
    const perNode = divCeil(leafEntries.length, nodeCount);
    rootEntries = [];
    for (let node = 0; node < nodeCount; node++) {
      const entries = leafEntries.slice(node * perNode, (node + 1) * perNode);
      const at = (1 + node) * BLOCK_SIZE_BYTES;
      const block = blocks.subarray(at, at + BLOCK_SIZE_BYTES);
      encodeDxNode(block, { entries, checksummed });
      if (checksummed) sealDxBlock(block, DX_NODE_COUNT_OFFSET, inodeSeed);
      rootEntries.push({ hash: entries[0]!.hash, block: 1 + node });
    }
  }
  const root = blocks.subarray(0, BLOCK_SIZE_BYTES);
  encodeDxRoot(root, {
    inodeNumber,
    parentInodeNumber,
    hashVersion: HASH_VERSION.HALF_MD4,
    indirectLevels: nodeCount > 0 ? 1 : 0,
    entries: rootEntries,
    checksummed,
  });
  if (checksummed) sealDxBlock(root, DX_ROOT_COUNT_OFFSET, inodeSeed);
}

/** Packs entries into a block; the record of the last one extends to the end. */
function encodeLeaf(
  block: Uint8Array,
  children: readonly DirectoryChild[],
  inodeSeed: number | undefined,
): void {
  const room = leafRoomBytes(inodeSeed !== undefined);
  let at = 0;
  children.forEach((child, i) => {
    const isLast = i === children.length - 1;
    const recordLength = isLast ? room - at : direntSizeBytes(child.name.length);
    encodeDirectoryEntry(block, at, { ...child, recordLength });
    at += recordLength;
  });
  if (inodeSeed !== undefined) sealDirectoryBlock(block, inodeSeed);
}
