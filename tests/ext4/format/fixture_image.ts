/**
 * A fixture image opened for the format tests: a plain walk over its structures, as simple as it can be, so that what
 * the tests compare does not hang on the reader of the library.
 */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import {
  COMPAT,
  FILE_MODE,
  GROUP_FLAG,
  INCOMPAT,
  INODE_FLAG,
  RO_COMPAT,
} from "../../../lib/ext4/format/constants.ts";
import { inodeSeed } from "../../../lib/ext4/format/checksum.ts";
import { decodeExtentNode, type ExtentLeaf } from "../../../lib/ext4/format/extent.ts";
import {
  decodeGroupDescriptor,
  type GroupDescriptor,
  testBit,
} from "../../../lib/ext4/format/group_descriptor.ts";
import { decodeInode, type InodeRecord } from "../../../lib/ext4/format/inode.ts";
import { decodeDxNode, decodeDxRoot } from "../../../lib/ext4/format/htree.ts";
import {
  decodeSuperblock,
  metadataSeed,
  type Superblock,
  superblockSeed,
} from "../../../lib/ext4/format/superblock.ts";

/** The names of all fixtures. */
export const FIXTURES = [
  "csum-4k",
  "csum-1k",
  "plain-4k",
  "gdt-csum-1k",
  "rare-4k",
  "bigalloc-4k",
  "plain-64k",
  "mmp",
  "kernel",
] as const;

/** One inode in use. */
export interface UsedInode {
  readonly number: number;
  readonly slot: Uint8Array;
  readonly inode: InodeRecord;
}

/** A block of metadata and where it is. */
export interface PlacedBlock {
  readonly number: number;
  readonly bytes: Uint8Array;
}

/** The blocks of a directory by what they are. */
export interface DirectoryBlocks {
  readonly root: PlacedBlock | undefined;
  readonly nodes: readonly PlacedBlock[];
  readonly leaves: readonly PlacedBlock[];
}

/** An image in memory. */
export class FixtureImage {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly superblock: Superblock;
  readonly blockSizeBytes: number;
  /** The seed of metadata checksums; undefined without them. */
  readonly seed: number | undefined;
  /** The seed whether or not there are metadata checksums. */
  readonly anySeed: number;
  readonly groupCount: number;
  readonly descriptorSizeBytes: 32 | 64;

  /** @param bytes the image; the fixture of that name unless given */
  constructor(name: string, bytes = unpackFixture(name)) {
    this.name = name;
    this.bytes = bytes;
    this.superblock = decodeSuperblock(this.bytes.subarray(1024, 2048));
    const { superblock } = this;
    this.blockSizeBytes = 1024 << superblock.logBlockSize;
    this.seed = metadataSeed(superblock);
    this.anySeed = superblockSeed(superblock);
    const blocks = superblock.blocksCount - superblock.firstDataBlock;
    this.groupCount = Math.ceil(blocks / superblock.blocksPerGroup);
    this.descriptorSizeBytes = (superblock.featureIncompat & INCOMPAT.BIT64) !== 0 ? 64 : 32;
  }

  block(number: number): Uint8Array {
    return this.bytes.subarray(number * this.blockSizeBytes, (number + 1) * this.blockSizeBytes);
  }

  firstBlockOfGroup(group: number): number {
    return this.superblock.firstDataBlock + group * this.superblock.blocksPerGroup;
  }

  /** Groups that have a copy of the superblock and descriptors, group 0 not among them. */
  backupGroups(): number[] {
    const { superblock } = this;
    if ((superblock.featureCompat & COMPAT.SPARSE_SUPER2) !== 0) {
      return superblock.backupGroups.filter((group) => group !== 0);
    }
    const groups: number[] = [];
    for (let group = 1; group < this.groupCount; group++) {
      const isSparse = (superblock.featureRoCompat & RO_COMPAT.SPARSE_SUPER) !== 0;
      if (!isSparse || [3, 5, 7].some((base) => isPowerOf(group, base))) groups.push(group);
    }
    return groups;
  }

  /** The bytes of a group's descriptor in the table behind the superblock of `copyGroup`. */
  descriptorBytes(group: number, copyGroup = 0): Uint8Array {
    const start = (this.firstBlockOfGroup(copyGroup) + 1) * this.blockSizeBytes +
      group * this.descriptorSizeBytes;
    return this.bytes.subarray(start, start + this.descriptorSizeBytes);
  }

  descriptor(group: number): GroupDescriptor {
    return decodeGroupDescriptor(this.descriptorBytes(group));
  }

  inodeSlot(number: number): Uint8Array {
    const { inodesPerGroup, inodeSizeBytes } = this.superblock;
    const table = this.descriptor(Math.floor((number - 1) / inodesPerGroup)).inodeTableBlock;
    const start = table * this.blockSizeBytes + ((number - 1) % inodesPerGroup) * inodeSizeBytes;
    return this.bytes.subarray(start, start + inodeSizeBytes);
  }

  usedInodes(): UsedInode[] {
    const used: UsedInode[] = [];
    const { inodesPerGroup } = this.superblock;
    for (let group = 0; group < this.groupCount; group++) {
      const descriptor = this.descriptor(group);
      if ((descriptor.flags & GROUP_FLAG.INODE_UNINIT) !== 0) continue;
      const bitmap = this.block(descriptor.inodeBitmapBlock);
      for (let i = 0; i < inodesPerGroup; i++) {
        if (!testBit(bitmap, i)) continue;
        const number = group * inodesPerGroup + i + 1;
        const slot = this.inodeSlot(number);
        used.push({ number, slot, inode: decodeInode(slot) });
      }
    }
    return used;
  }

  inodeSeed({ number, inode }: UsedInode): number | undefined {
    return this.seed === undefined ? undefined : inodeSeed(this.seed, number, inode.generation);
  }

  /** The blocks of an inode's extent tree below the root, from the top. */
  extentBlocks({ inode }: UsedInode): PlacedBlock[] {
    if (!usesExtents(inode)) return [];
    const blocks: PlacedBlock[] = [];
    const nodes = [decodeExtentNode(inode.blockField, "root")];
    for (let node = nodes.shift(); node !== undefined; node = nodes.shift()) {
      for (const { childBlock } of node.indexes) {
        const bytes = this.block(childBlock);
        blocks.push({ number: childBlock, bytes });
        nodes.push(decodeExtentNode(bytes, `block ${childBlock}`));
      }
    }
    return blocks;
  }

  extents(used: UsedInode): Required<ExtentLeaf>[] {
    if (!usesExtents(used.inode)) return [];
    const nodes = [used.inode.blockField, ...this.extentBlocks(used).map((block) => block.bytes)];
    return nodes.flatMap((node) => [...decodeExtentNode(node, "node").leaves])
      .sort((a, b) => a.logicalBlock - b.logicalBlock);
  }

  /** The blocks of a file by logical number; holes are missing. */
  fileBlocks(used: UsedInode): Map<number, PlacedBlock> {
    const blocks = new Map<number, PlacedBlock>();
    for (const { logicalBlock, blockCount, startBlock } of this.extents(used)) {
      for (let i = 0; i < blockCount; i++) {
        const number = startBlock + i;
        blocks.set(logicalBlock + i, { number, bytes: this.block(number) });
      }
    }
    return blocks;
  }

  /** Everything in a file that its blocks hold. */
  fileBytes(used: UsedInode): Uint8Array {
    const content = new Uint8Array(used.inode.sizeBytes);
    for (const [logical, { bytes }] of this.fileBlocks(used)) {
      const start = logical * this.blockSizeBytes;
      content.set(bytes.subarray(0, Math.max(0, content.length - start)), start);
    }
    return content;
  }

  /** The index of a directory, and its blocks with entries; without an index all are such blocks. */
  directoryBlocks(used: UsedInode): DirectoryBlocks {
    const blocks = this.fileBlocks(used);
    const checksummed = this.seed !== undefined;
    const what = `${this.name} directory ${used.number}`;
    if ((used.inode.flags & INODE_FLAG.INDEX) === 0) {
      return { root: undefined, nodes: [], leaves: [...blocks.values()] };
    }
    const at = (logical: number): PlacedBlock => {
      const block = blocks.get(logical);
      if (block === undefined) throw new Error(`${what} has no block ${logical}`);
      return block;
    };
    const root = at(0);
    const { entries, indirectLevels } = decodeDxRoot(root.bytes, { checksummed, what });
    let level = entries;
    const nodes: PlacedBlock[] = [];
    for (let depth = 0; depth < indirectLevels; depth++) {
      const here = level.map(({ block }) => at(block));
      nodes.push(...here);
      level = here.flatMap(({ bytes }) => [...decodeDxNode(bytes, { checksummed, what }).entries]);
    }
    return { root, nodes, leaves: level.map(({ block }) => at(block)) };
  }

  /** Directories whose entries are in blocks. */
  directories(): UsedInode[] {
    return this.usedInodes().filter(({ inode }) =>
      (inode.mode & FILE_MODE.TYPE_MASK) === FILE_MODE.DIRECTORY &&
      (inode.flags & INODE_FLAG.INLINE_DATA) === 0
    );
  }
}

/** The bytes of a fixture, new ones at each call. */
export function unpackFixture(name: string): Uint8Array<ArrayBuffer> {
  const file = new URL(`../../../fixtures/ext4/${name}.img.gz`, import.meta.url);
  return new Uint8Array(gunzipSync(readFileSync(file)));
}

const opened = new Map<string, FixtureImage>();

/** Opens a fixture; each is unpacked once. Its bytes must not be changed. */
export function fixture(name: string): FixtureImage {
  const image = opened.get(name) ?? new FixtureImage(name);
  opened.set(name, image);
  return image;
}

/** All fixtures. */
export function fixtures(): FixtureImage[] {
  return FIXTURES.map(fixture);
}

function usesExtents(inode: InodeRecord): boolean {
  return (inode.flags & INODE_FLAG.EXTENTS) !== 0;
}

function isPowerOf(value: number, base: number): boolean {
  let power = 1;
  while (power < value) power *= base;
  return power === value;
}
