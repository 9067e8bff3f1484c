/**
 * Random whole trees: every kind of node, hard links, big directories, deep ones, and files of the sizes at which
 * layouts go wrong.
 *
 * @module
 */
import type { ByteString } from "../../lib/bytes/byte_string.ts";
import { byteStringFromBytes } from "../../lib/bytes/byte_string.ts";
import {
  BLOCK_SIZE_BYTES,
  type DirectoryNode,
  type FileTree,
  type NodeAttributes,
  type TreeNode,
} from "../../lib/model/node.ts";
import type { Random } from "./noise.ts";
import type { XattrLimits } from "./random_attributes.ts";
import { randomAttributes, randomName } from "./random_attributes.ts";
import type { Content } from "./tree_builder.ts";
import { dir, file, special, symlink, treeOf } from "./tree_builder.ts";

/** What a random tree has to fit. */
export interface RandomTreeLimits extends XattrLimits {
  /** The cell whose multiples are sizes of interest. */
  readonly gridBytes: number;
  /** About how many bytes of content there may be in all. */
  readonly contentBytesMax: number;
  /** Whether a file may be longer than a block group, whatever the line above says. */
  readonly allowsLong: boolean;
}

/** What a tree needs of an image, for choosing options that can hold it. */
export interface TreeNeeds {
  readonly nodeCount: number;
  readonly xattrCount: number;
  readonly contentBytes: number;
  /** Runs of data in all files: each may start in a grid cell of its own. */
  readonly runCount: number;
}

const KIND_WEIGHTS: readonly TreeNode["kind"][] = [
  ...new Array<TreeNode["kind"]>(10).fill("file"),
  ...new Array<TreeNode["kind"]>(4).fill("directory"),
  "symlink",
  "symlink",
  "characterDevice",
  "blockDevice",
  "fifo",
  "socket",
];
const MAJORS = [0, 1, 255, 256, 4095];
const MINORS = [0, 1, 255, 256, 2 ** 20 - 1];
/** 59 bytes is the longest target that fits in an inode; 4095 the longest of all. */
const TARGET_LENGTHS = [1, 20, 58, 59, 60, 61, 255, 4094, 4095];
/** The last block that an inode of 4 KiB blocks can map, rounded down to a whole file. */
const FILE_BYTES_MAX = (2 ** 32 - 1) * BLOCK_SIZE_BYTES;

/** Makes one tree, step by step. */
class TreeMaker {
  readonly #random: Random;
  readonly #limits: RandomTreeLimits;
  readonly #directories: DirectoryNode[];
  /** What further names can be given to. */
  readonly #linkable: TreeNode[] = [];
  #contentBytesLeft: number;

  constructor(random: Random, limits: RandomTreeLimits) {
    this.#random = random;
    this.#limits = limits;
    this.#contentBytesLeft = limits.contentBytesMax;
    this.#directories = [this.#withAttributes(dir())];
  }

  make(): FileTree {
    const random = this.#random;
    const nodeCount = random.pick([0, 1, 10, 40, 40, 40, 150, 150]);
    for (let i = 0; i < nodeCount; i++) this.#addName(random.pick(this.#directories));
    if (random.chance(0.15)) this.#addBigDirectory();
    if (random.chance(0.1)) this.#addDeepDirectory();
    if (random.chance(0.05)) this.#addManyLinks();
    if (this.#limits.allowsLong && random.chance(0.05)) this.#addLongFile();
    const root = this.#directories[0]!;
    if (random.chance(0.1)) root.children.set("lost+found", this.#withAttributes(dir()));
    return treeOf(root);
  }

  #addName(parent: DirectoryNode): void {
    const random = this.#random;
    const name = randomName(random);
    if (parent.children.has(name)) return;
    if (this.#linkable.length > 0 && random.chance(0.07)) {
      parent.children.set(name, random.pick(this.#linkable));
      return;
    }
    const node = this.#withAttributes(this.#newNode(random.pick(KIND_WEIGHTS)));
    parent.children.set(name, node);
    if (node.kind === "directory") this.#directories.push(node);
    else this.#linkable.push(node);
  }

  #newNode(kind: TreeNode["kind"]): TreeNode {
    const random = this.#random;
    if (kind === "file") return file(this.#content());
    if (kind === "directory") return dir();
    if (kind === "symlink") return symlink(randomTarget(random));
    if (kind === "fifo" || kind === "socket") return special(kind);
    return special(kind, [random.pick(MAJORS), random.pick(MINORS)]);
  }

  #withAttributes<T extends TreeNode>(node: T): T {
    const attributes: NodeAttributes = randomAttributes(this.#random, node.kind, this.#limits);
    node.attributes = attributes;
    return node;
  }

  #content(): Content {
    const random = this.#random;
    const sizeBytes = randomSize(random, this.#limits.gridBytes);
    if (random.chance(0.15)) return this.#sparseContent();
    if (sizeBytes > this.#contentBytesLeft) return random.bytes(random.below(100));
    this.#contentBytesLeft -= sizeBytes;
    if (sizeBytes > 256 * 1024) return { sizeBytes, noise: "all", seed: random.next() };
    const bytes = random.bytes(sizeBytes);
    if (random.chance(0.2)) zeroSomeBlocks(random, bytes);
    return bytes;
  }

  /** A file with holes: often a few ranges, sometimes so many that its extents need a tree. */
  #sparseContent(): Content {
    const random = this.#random;
    const rangeCount = random.pick([0, 1, 2, 5, 5, 20, random.chance(0.3) ? 1500 : 300]);
    const gapBytes = random.pick([1, 4096, 10_000, 2 ** 20, 2 ** 30, 2 ** 37]);
    const noise: [number, number][] = [];
    let at = random.chance(0.5) ? 0 : random.below(gapBytes);
    for (let i = 0; i < rangeCount && this.#contentBytesLeft > 0; i++) {
      const lengthBytes = random.pick([1, 4096, random.between(1, 9000)]);
      if (at + lengthBytes > FILE_BYTES_MAX) break;
      noise.push([at, lengthBytes]);
      this.#contentBytesLeft -= lengthBytes + BLOCK_SIZE_BYTES;
      at += lengthBytes + random.between(1, gapBytes);
    }
    const [lastStart, lastLength] = noise.at(-1) ?? [0, 0];
    const end = lastStart + lastLength;
    const sizeBytes = random.pick([end, end, Math.min(at, FILE_BYTES_MAX)]);
    return {
      sizeBytes: random.chance(0.02) ? FILE_BYTES_MAX : sizeBytes,
      noise,
      seed: random.next(),
    };
  }

  /** Enough names for an index of one or two levels, most of them of the same few inodes. */
  #addBigDirectory(): void {
    const random = this.#random;
    const directory = this.#withAttributes(dir());
    const nodes = Array.from({ length: 3 }, () => this.#withAttributes(file(random.bytes(10))));
    const nameCount = random.pick([30, 300, 300, 2000, 9000]);
    const padding = random.pick([0, 0, 100, 240]);
    for (let i = 0; i < nameCount; i++) {
      const name = `${i}-${"x".repeat(random.chance(0.9) ? padding : 0)}`;
      const isOwn = nameCount < 1000 && random.chance(0.2);
      directory.children.set(name, isOwn ? this.#withAttributes(file()) : random.pick(nodes));
    }
    random.pick(this.#directories).children.set("big directory", directory);
  }

  #addDeepDirectory(): void {
    const depth = this.#random.pick([20, 100, 400]);
    let parent = this.#random.pick(this.#directories);
    for (let i = 0; i < depth; i++) {
      const child = this.#withAttributes(dir());
      parent.children.set(i % 7 === 0 ? "a longer name of a directory" : "d", child);
      parent = child;
    }
  }

  /** A file that does not fit in one block group. */
  #addLongFile(): void {
    const random = this.#random;
    const sizeBytes = random.between(100 * 2 ** 20, 160 * 2 ** 20);
    const node = file({ sizeBytes, noise: "all", seed: random.next() });
    random.pick(this.#directories).children.set("long file", this.#withAttributes(node));
  }

  #addManyLinks(): void {
    const node = this.#withAttributes(file("many names"));
    const parents = this.#directories;
    const linkCount = this.#random.pick([2, 300, 3000]);
    for (let i = 0; i < linkCount; i++) {
      parents[i % parents.length]!.children.set(`link ${i}`, node);
    }
  }
}

/** A whole random tree. */
export function randomTree(random: Random, limits: RandomTreeLimits): FileTree {
  return new TreeMaker(random, limits).make();
}

/** Sizes at which something changes: nothing, a byte, a block, a grid cell, each with a byte and a block more or less. */
function randomSize(random: Random, gridBytes: number): number {
  const base = random.pick([
    0,
    1,
    60,
    BLOCK_SIZE_BYTES,
    random.below(20_000),
    random.below(200_000),
    random.below(200_000),
    gridBytes / 2,
    gridBytes,
    gridBytes * random.between(1, 5),
    random.chance(0.1) ? random.below(2 ** 23) : 0,
  ]);
  const change = random.pick([0, 0, -1, 1, -BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES]);
  return Math.max(0, base + change);
}

function zeroSomeBlocks(random: Random, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += BLOCK_SIZE_BYTES) {
    if (random.chance(0.5)) bytes.fill(0, at, at + BLOCK_SIZE_BYTES);
  }
}

function randomTarget(random: Random): ByteString {
  const length = random.pick(TARGET_LENGTHS);
  return byteStringFromBytes(random.bytes(length).map((byte) => byte || 0x2f));
}

/** What a tree needs, generously. */
export function needsOf(tree: FileTree): TreeNeeds {
  const seen = new Set<TreeNode>();
  const pending: TreeNode[] = [tree.root];
  let xattrCount = 0;
  let contentBytes = 0;
  let runCount = 0;
  for (let node = pending.pop(); node; node = pending.pop()) {
    if (node.kind === "directory") pending.push(...node.children.values());
    if (seen.has(node)) continue;
    seen.add(node);
    xattrCount += node.attributes.xattrs.length;
    for (const { value } of node.attributes.xattrs) contentBytes += value.length + BLOCK_SIZE_BYTES;
    contentBytes += ownBytes(node);
    if (node.kind === "file") runCount += node.payload.dataRuns.length;
  }
  return { nodeCount: seen.size, xattrCount, contentBytes, runCount };
}

function ownBytes(node: TreeNode): number {
  if (node.kind === "symlink") return BLOCK_SIZE_BYTES;
  if (node.kind === "directory") return (node.children.size + 15) * 512;
  if (node.kind !== "file") return 0;
  const blockCount = node.payload.dataRuns.reduce((sum, run) => sum + run.blockCount, 0);
  // Each run may need an entry in a block of extents.
  return (blockCount + 1 + node.payload.dataRuns.length / 300) * BLOCK_SIZE_BYTES;
}
