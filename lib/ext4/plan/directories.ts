/**
 * Directories: one linear block if everything fits, otherwise a hash tree.
 *
 * Kernel: Documentation/filesystems/ext4, "Directory Entries" and "Hash Tree Directories".
 *
 * @module
 */
import { divCeil, firstIndex } from "../../bytes/arithmetic.ts";
import { type ByteString, displayName } from "../../bytes/byte_string.ts";
import { InputError } from "../../errors.ts";
import { BLOCK_SIZE_BYTES, type TreeNode } from "../../model/node.ts";
import { DIRENT_TYPE, FILE_MODE, HASH_VERSION } from "../format/constants.ts";
import {
  DIRECTORY_TAIL_SIZE_BYTES,
  type DirectoryEntry,
  direntSizeBytes,
  encodeDirectoryEntry,
  sealDirectoryBlock,
} from "../format/directory.ts";
import {
  directoryHash,
  DX_NODE_COUNT_OFFSET,
  DX_ROOT_COUNT_OFFSET,
  dxEntriesMax,
  type DxEntry,
  encodeDxNode,
  encodeDxRoot,
  HASH_SEED,
  sealDxBlock,
} from "../format/htree.ts";

const HASH_OPTIONS = { version: HASH_VERSION.HALF_MD4, seed: HASH_SEED, signed: false };
const DOTS_SIZE_BYTES = direntSizeBytes(1) + direntSizeBytes(2);

type DirectoryChild = Omit<DirectoryEntry, "recordLength">;

/** How a directory's entries are distributed over its blocks. */
export interface DirectoryShape {
  readonly blockCount: number;
  /** Undefined for a linear directory. */
  readonly index: DirectoryIndex | undefined;
}

/** How the names of a hashed directory are distributed. Blocks are counted from its start. */
export interface DirectoryIndex {
  /** In hash order. */
  readonly leaves: readonly DirectoryLeaf[];
  /** Nodes between the root and the leaves, in hash order; empty if the root points to the leaves. */
  readonly nodes: readonly DirectoryIndexNode[];
}

/** A block of names. */
export interface DirectoryLeaf {
  /** Counted from the start of the directory. */
  readonly block: number;
  /** The lowest hash that it may hold; bit 0 is set if the previous leaf ends with the same hash. */
  readonly hash: number;
  /** In the order of storage. */
  readonly names: readonly ByteString[];
}

/** A block of the index between the root and the leaves. */
export interface DirectoryIndexNode {
  /** Counted from the start of the directory. */
  readonly block: number;
  /** How many leaves it points to. */
  readonly leafCount: number;
}

/** How each kind of node is stored: in i_mode, and as file_type in directory entries. */
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

/** Decides the shape of a directory from its names and their previous distribution. */
export function shapeDirectory(
  directory: { readonly path: ByteString },
  names: Iterable<ByteString>,
  options: { readonly checksummed: boolean; readonly previous?: DirectoryIndex | undefined },
): DirectoryShape {
  const { checksummed, previous } = options;
  let sizeBytes = DOTS_SIZE_BYTES;
  const all: ByteString[] = [];
  // Detects what cannot fit even in full leaves, before names are hashed and sorted.
  const mostBytes = leavesMax(checksummed) * leafRoomBytes(checksummed);
  for (const name of names) {
    sizeBytes += direntSizeBytes(name.length);
    all.push(name);
    if (sizeBytes - DOTS_SIZE_BYTES > mostBytes) {
      throw new InputError(
        displayName(directory.path || "/"),
        `has at least ${all.length} entries: a directory without large_dir holds at most ` +
          `${leavesMax(checksummed)} blocks of them`,
        { code: "doesNotFit" },
      );
    }
  }
  const kept = previous && keepIndex(previous, all, checksummed);
  if (kept !== undefined) return shapeOf(kept);
  if (sizeBytes <= leafRoomBytes(checksummed)) return { blockCount: 1, index: undefined };
  return shapeOf(indexNames(directory, all, checksummed));
}

function shapeOf(index: DirectoryIndex): DirectoryShape {
  return { blockCount: 1 + index.nodes.length + index.leaves.length, index };
}

interface DirectoryInodes {
  readonly inodeNumber: number;
  readonly parentInodeNumber: number;
  /** Checksum seed of the directory's inode; undefined without checksums. */
  readonly inodeSeed: number | undefined;
}

/** Encodes all blocks of a directory whose children are given in name order. */
export function encodeDirectory(
  { blockCount, index }: DirectoryShape,
  directory: DirectoryInodes & { readonly children: readonly DirectoryChild[] },
): Uint8Array {
  const { inodeNumber, parentInodeNumber, children, inodeSeed } = directory;
  const blocks = new Uint8Array(blockCount * BLOCK_SIZE_BYTES);
  if (index === undefined) {
    const fileType = DIRENT_TYPE.DIRECTORY;
    const dot = { name: ".", inodeNumber, fileType };
    const dotDot = { name: "..", inodeNumber: parentInodeNumber, fileType };
    encodeLeaf(blocks, [dot, dotDot, ...children], inodeSeed);
    return blocks;
  }
  encodeIndex(blocks, index, directory);
  const byName = new Map(children.map((child) => [child.name, child]));
  for (const { block, names } of index.leaves) {
    const leaf = names.map((name) => byName.get(name)!);
    encodeLeaf(blockAt(blocks, block), leaf, inodeSeed);
  }
  return blocks;
}

function blockAt(blocks: Uint8Array, block: number): Uint8Array {
  return blocks.subarray(block * BLOCK_SIZE_BYTES, (block + 1) * BLOCK_SIZE_BYTES);
}

function leafRoomBytes(checksummed: boolean): number {
  return checksummed ? BLOCK_SIZE_BYTES - DIRECTORY_TAIL_SIZE_BYTES : BLOCK_SIZE_BYTES;
}

function indexNames(
  directory: { readonly path: ByteString },
  names: readonly ByteString[],
  checksummed: boolean,
): DirectoryIndex {
  const hashed = sortByHash(names);
  const room = leafRoomBytes(checksummed);
  const leaves: { block: number; hash: number; names: ByteString[] }[] = [];
  let leafBytes = Infinity;
  hashed.forEach(({ name, hash }, i) => {
    const sizeBytes = direntSizeBytes(name.length);
    if (leafBytes + sizeBytes > room) {
      const continues = i > 0 && hashed[i - 1]!.hash === hash;
      leaves.push({ block: 0, hash: continues ? hash + 1 : hash, names: [] });
      leafBytes = 0;
    }
    leaves.at(-1)!.names.push(name);
    leafBytes += sizeBytes;
  });
  const limits = indexLimits(checksummed);
  const nodeCount = leaves.length <= limits.root ? 0 : divCeil(leaves.length, limits.node);
  if (nodeCount > limits.root) {
    throw new InputError(
      displayName(directory.path || "/"),
      `has ${names.length} entries in ${leaves.length} blocks: a directory without large_dir ` +
        `has at most ${leavesMax(checksummed)}`,
    );
  }
  leaves.forEach((leaf, i) => leaf.block = 1 + nodeCount + i);
  const perNode = divCeil(leaves.length, Math.max(nodeCount, 1));
  const nodes = Array.from({ length: nodeCount }, (_, i) => ({
    block: 1 + i,
    leafCount: Math.min(perNode, leaves.length - i * perNode),
  }));
  return { leaves, nodes };
}

interface HashedName {
  readonly name: ByteString;
  readonly hash: number;
}

function sortByHash(names: readonly ByteString[]): HashedName[] {
  const hashes = new Uint32Array(names.length);
  const minors = new Uint32Array(names.length);
  names.forEach((name, i) => {
    const { hash, minor } = directoryHash(name, HASH_OPTIONS);
    hashes[i] = hash;
    minors[i] = minor;
  });
  // Sorts indexes instead of objects: a directory may have hundreds of thousands of names.
  const order = new Uint32Array(names.length).map((_, i) => i).sort((a, b) =>
    hashes[a]! - hashes[b]! || minors[a]! - minors[b]! || (names[a]! < names[b]! ? -1 : 1)
  );
  return Array.from(order, (index) => ({ name: names[index]!, hash: hashes[index]! }));
}

/**
 * The previous index with old names removed from their leaves and new ones inserted; all other blocks stay unchanged. A
 * leaf that is too full is split in two, as in the kernel's do_split(). Undefined if the index has no room for that, or
 * too little of it is left.
 */
function keepIndex(
  previous: DirectoryIndex,
  names: readonly ByteString[],
  checksummed: boolean,
): DirectoryIndex | undefined {
  const newNames = new Set(names);
  const leaves: KeptLeaf[] = [];
  let leafIndex = 0;
  const nodes = previous.nodes.length === 0
    ? [{ block: 0, leafCount: previous.leaves.length }]
    : previous.nodes;
  nodes.forEach(({ leafCount }, node) => {
    for (const leaf of previous.leaves.slice(leafIndex, leafIndex + leafCount)) {
      const kept = leaf.names.filter((name) => newNames.delete(name));
      leaves.push({ block: leaf.block, hash: leaf.hash, names: kept, node });
    }
    leafIndex += leafCount;
  });
  if (leaves.every((leaf) => leaf.names.length === 0)) return undefined;
  let nextBlock = 1 + previous.nodes.length + leaves.length;
  for (const { name, hash } of sortByHash([...newNames])) {
    const at = Math.max(
      0,
      firstIndex(leaves.length, (i) => (leaves[i]!.hash & ~1) >>> 0 > hash) - 1,
    );
    leaves[at]!.names.push(name);
    if (leafSizeBytes(leaves[at]!.names) <= leafRoomBytes(checksummed)) continue;
    const upper = splitLeaf(leaves[at]!, nextBlock++);
    if (upper === undefined) return undefined;
    leaves.splice(at + 1, 0, upper);
  }
  const limits = indexLimits(checksummed);
  const most = previous.nodes.length === 0 ? limits.root : limits.node;
  const counts = nodes.map((_, node) => leaves.filter((leaf) => leaf.node === node).length);
  if (counts.some((count) => count > most)) return undefined;
  return {
    leaves,
    nodes: previous.nodes.map(({ block }, node) => ({ block, leafCount: counts[node]! })),
  };
}

interface KeptLeaf {
  readonly block: number;
  readonly hash: number;
  names: ByteString[];
  /** Index of the node that points to it. */
  readonly node: number;
}

/** Moves the upper half of a leaf's names into a new leaf; undefined if all have the same hash. */
function splitLeaf(leaf: KeptLeaf, block: number): KeptLeaf | undefined {
  const hashed = sortByHash(leaf.names);
  const halfBytes = leafSizeBytes(leaf.names) / 2;
  let at = 0;
  for (let bytes = 0; bytes < halfBytes; at++) bytes += direntSizeBytes(hashed[at]!.name.length);
  // Names with equal hashes stay together.
  while (at < hashed.length && hashed[at]!.hash === hashed[at - 1]!.hash) at++;
  if (at === hashed.length) return undefined;
  leaf.names = hashed.slice(0, at).map(({ name }) => name);
  const names = hashed.slice(at).map(({ name }) => name);
  return { block, hash: hashed[at]!.hash, names, node: leaf.node };
}

function leafSizeBytes(names: readonly ByteString[]): number {
  return names.reduce((sum, name) => sum + direntSizeBytes(name.length), 0);
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

/** Writes the root into block 0 and the nodes into the blocks after it. */
function encodeIndex(
  blocks: Uint8Array,
  { nodes, leaves }: DirectoryIndex,
  { inodeNumber, parentInodeNumber, inodeSeed }: DirectoryInodes,
): void {
  const checksummed = inodeSeed !== undefined;
  const leafEntries: DxEntry[] = leaves.map(({ hash, block }) => ({ hash, block }));
  let rootEntries = leafEntries;
  if (nodes.length > 0) {
    rootEntries = [];
    let first = 0;
    for (const { block: nodeBlock, leafCount } of nodes) {
      const entries = leafEntries.slice(first, first + leafCount);
      first += leafCount;
      const block = blockAt(blocks, nodeBlock);
      encodeDxNode(block, { entries, checksummed });
      if (checksummed) sealDxBlock(block, DX_NODE_COUNT_OFFSET, inodeSeed);
      rootEntries.push({ hash: entries[0]!.hash, block: nodeBlock });
    }
  }
  const root = blockAt(blocks, 0);
  encodeDxRoot(root, {
    inodeNumber,
    parentInodeNumber,
    hashVersion: HASH_VERSION.HALF_MD4,
    indirectLevels: nodes.length > 0 ? 1 : 0,
    entries: rootEntries,
    checksummed,
  });
  if (checksummed) sealDxBlock(root, DX_ROOT_COUNT_OFFSET, inodeSeed);
}

/** Packs entries into a block; the last record extends to the end. */
function encodeLeaf(
  block: Uint8Array,
  children: readonly DirectoryChild[],
  inodeSeed: number | undefined,
): void {
  const room = leafRoomBytes(inodeSeed !== undefined);
  // A leaf without names has one unused record.
  if (children.length === 0) {
    encodeDirectoryEntry(block, 0, { name: "", inodeNumber: 0, fileType: 0, recordLength: room });
  }
  let at = 0;
  children.forEach((child, i) => {
    const isLast = i === children.length - 1;
    const recordLength = isLast ? room - at : direntSizeBytes(child.name.length);
    encodeDirectoryEntry(block, at, { ...child, recordLength });
    at += recordLength;
  });
  if (inodeSeed !== undefined) sealDirectoryBlock(block, inodeSeed);
}
