/**
 * Compares the bitmaps and free counts with what was found in use.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { divCeil, littleEndianWords } from "../../bytes/arithmetic.ts";
import { bitmapChecksum, countBits, type GroupDescriptor } from "../format/group_descriptor.ts";
import { GROUP_FLAG, INCOMPAT, SUPERBLOCK_OFFSET_BYTES } from "../format/constants.ts";
import type { Group } from "../volume/volume.ts";
import { type Context, groupOwner } from "./context.ts";
import type { FaultDetails, Structure } from "../volume/judge.ts";

const TWO_32 = 2 ** 32;
const UNINIT_FLAGS = GROUP_FLAG.INODE_UNINIT | GROUP_FLAG.BLOCK_UNINIT;

interface Comparison {
  readonly structure: Structure;
  readonly location: { readonly group: number; readonly block: number };
  /** Only these bytes are meaningful; those after them are 0xff. */
  readonly usedBytes: number;
  readonly wanted: Uint8Array;
  /** The number that bit 0 stands for, and the step to each following bit. */
  readonly first: number;
  readonly step: number;
  readonly storedChecksum: number;
}

/** Compares the bitmaps and counts of every group, and the totals in the superblock. */
export function checkBitmaps(context: Context): void {
  const { volume, groups, judge } = context;
  let freeBlocks = 0;
  let freeInodes = 0;
  for (const [group, state] of groups.entries()) {
    if (state.descriptor === undefined) continue;
    // A group that the image does not fully hold was reported already.
    if (volume.groupStart(group) + volume.groupBlocks(group) > volume.endBlock) return;
    freeBlocks += checkBlocks(context, group, state, state.descriptor);
    freeInodes += checkInodes(context, group, state, state.descriptor);
  }
  const { superblock } = volume;
  const expect = (problem: string, found: number, wanted: number) =>
    judge.expect("superblock", { offset: SUPERBLOCK_OFFSET_BYTES }, problem, found, wanted);
  // Without 64bit, the high half is not part of the count.
  const stored = superblock.freeBlocksCount;
  const found = volume.hasIncompat(INCOMPAT.BIT64) ? stored : stored % TWO_32;
  expect("s_free_blocks_count", found, freeBlocks);
  expect("s_free_inodes_count", superblock.freeInodesCount, freeInodes);
}

/** Checks the descriptors' flags and what they mark as never used. */
export function checkGroupFlags({ volume, groups, judge }: Context): void {
  const { inodesPerGroup, descriptorSizeBytes } = volume.geometry;
  for (const { index: group, descriptor } of groups) {
    if (descriptor === undefined) continue;
    const { flags, itableUnusedCount, freeInodesCount } = descriptor;
    const at = (group % volume.descriptorsPerBlock) * descriptorSizeBytes;
    const block = volume.descriptorBlock(Math.floor(group / volume.descriptorsPerBlock));
    const location = { group, offset: block * volume.blockSizeBytes + at };
    const bad = (problem: string, details?: FaultDetails) =>
      judge.report("group descriptor", location, problem, details);
    if (!volume.hasGroupChecksums) {
      if ((flags & UNINIT_FLAGS) === 0 && itableUnusedCount === 0) continue;
      bad("marks of what was never used, without group checksums", { severity: "note" });
      continue;
    }
    if (itableUnusedCount > inodesPerGroup) {
      bad("bg_itable_unused", { found: itableUnusedCount, wanted: `at most ${inodesPerGroup}` });
    }
    if (group === volume.groupCount - 1 && (flags & GROUP_FLAG.BLOCK_UNINIT) !== 0) {
      bad("bg_flags", { found: "BLOCK_UNINIT", wanted: "a block bitmap in the last group" });
    }
    if ((flags & GROUP_FLAG.INODE_UNINIT) !== 0 && freeInodesCount !== inodesPerGroup) {
      const found = freeInodesCount;
      bad("bg_free_inodes_count under INODE_UNINIT", { found, wanted: inodesPerGroup });
    }
  }
}

/** Assigns every group its own blocks: superblocks, descriptors, bitmaps, tables. */
export function markGroupBlocks({ volume, groups, usage }: Context): void {
  for (const { index: group, descriptor, isTableSound } of groups) {
    let next = volume.superblockBlock(group);
    if (volume.hasSuperblock(group)) usage.mark(next++, 1, groupOwner(group, "superblock"));
    const room = volume.descriptorRoom(group);
    usage.mark(next, room.used, groupOwner(group, "group descriptors"));
    usage.mark(next + room.used, room.reserved, groupOwner(group, "room for group descriptors"));
    if (descriptor === undefined) continue;
    usage.mark(descriptor.blockBitmapBlock, 1, groupOwner(group, "block bitmap"));
    usage.mark(descriptor.inodeBitmapBlock, 1, groupOwner(group, "inode bitmap"));
    if (!isTableSound) continue;
    const { inodeTableBlock } = descriptor;
    usage.mark(inodeTableBlock, volume.inodeTableBlocks, groupOwner(group, "inode table"));
  }
  const { mmpBlock } = volume.superblock;
  if (volume.hasIncompat(INCOMPAT.MMP) && volume.contains(mmpBlock)) {
    usage.mark(mmpBlock, 1, groupOwner(0, "MMP block"));
  }
}

function checkBlocks(
  context: Context,
  group: number,
  state: Group,
  descriptor: GroupDescriptor,
): number {
  const { volume, usage, judge } = context;
  const { clustersPerGroup, clusterBlocks, firstDataBlock } = volume.geometry;
  const clusterCount = divCeil(volume.groupBlocks(group), clusterBlocks);
  const first = volume.groupStart(group);
  const usedBytes = clustersPerGroup / 8;
  const wanted = new Uint8Array(usedBytes);
  const groupBytes = usedBytes * clusterBlocks;
  const blocks = usage.bits.subarray((first - firstDataBlock) / 8).subarray(0, groupBytes);
  if (clusterBlocks === 1) wanted.set(blocks);
  else setClusters(wanted, blocks, clusterBlocks);
  const used = countUsed(wanted, clusterCount);
  // Clusters beyond the end of the file system count as used.
  for (let bit = clusterCount; bit < clustersPerGroup; bit++) {
    wanted[bit >> 3]! |= 1 << (bit & 7);
  }
  if ((state.flags & GROUP_FLAG.BLOCK_UNINIT) !== 0) {
    const own = ownClusters(context, group, descriptor);
    judge.expect("group descriptor", { group }, "blocks in use under BLOCK_UNINIT", used, own);
  } else {
    compare(context, {
      structure: "block bitmap",
      location: { group, block: descriptor.blockBitmapBlock },
      usedBytes,
      wanted,
      first,
      step: clusterBlocks,
      storedChecksum: descriptor.blockBitmapChecksum,
    });
  }
  const free = clusterCount - used;
  const { freeBlocksCount } = descriptor;
  judge.expect("group descriptor", { group }, "bg_free_blocks_count", freeBlocksCount, free);
  return free * clusterBlocks;
}

/** A cluster is in use if one of its blocks is. */
function setClusters(clusters: Uint8Array, blocks: Uint8Array, clusterBlocks: number): void {
  for (let at = 0; at < blocks.length; at++) {
    const byte = blocks[at]!;
    for (let bit = 0; byte >> bit > 0; bit++) {
      if ((byte >> bit & 1) === 0) continue;
      const cluster = Math.floor((8 * at + bit) / clusterBlocks);
      clusters[cluster >> 3]! |= 1 << (cluster & 7);
    }
  }
}

/** Counts set bits, a word at a time where possible: most words are all zeros or all ones. */
function countUsed(bitmap: Uint8Array, bitCount: number): number {
  const words = littleEndianWords(bitmap);
  const wholeWords = bitCount >>> 5;
  let count = 0;
  for (let at = 0; at < wholeWords; at++) {
    const word = words[at]!;
    if (word === 0) continue;
    if (word === -1) {
      count += 32;
      continue;
    }
    // Sums of bits, pairs, nibbles and bytes (Warren, Hacker's Delight, 5-1).
    const pairs = word - ((word >>> 1) & 0x55555555);
    const nibbles = (pairs & 0x33333333) + ((pairs >>> 2) & 0x33333333);
    count += Math.imul((nibbles + (nibbles >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
  }
  return count + countBits(bitmap.subarray(4 * wholeWords), bitCount - 32 * wholeWords);
}

/** The group's own clusters, which are all that a bitmap derived under BLOCK_UNINIT marks. */
function ownClusters({ volume }: Context, group: number, descriptor: GroupDescriptor): number {
  const { clusterBlocks } = volume.geometry;
  const start = volume.groupStart(group);
  const end = start + volume.groupBlocks(group);
  const room = volume.descriptorRoom(group);
  const own = new Set<number>();
  const add = (block: number, count: number) => {
    for (let at = block; at < block + count; at++) {
      own.add(Math.floor((at - start) / clusterBlocks));
    }
  };
  const headBlocks = (volume.hasSuperblock(group) ? 1 : 0) + room.used + room.reserved;
  add(volume.superblockBlock(group), headBlocks);
  const isHere = (block: number) => block >= start && block < end;
  if (isHere(descriptor.blockBitmapBlock)) add(descriptor.blockBitmapBlock, 1);
  if (isHere(descriptor.inodeBitmapBlock)) add(descriptor.inodeBitmapBlock, 1);
  if (isHere(descriptor.inodeTableBlock)) add(descriptor.inodeTableBlock, volume.inodeTableBlocks);
  return own.size;
}

function checkInodes(
  context: Context,
  group: number,
  state: Group,
  descriptor: GroupDescriptor,
): number {
  const { volume, inodes, judge } = context;
  const { inodesPerGroup } = volume.geometry;
  const usedBytes = inodesPerGroup / 8;
  const wanted = new Uint8Array(usedBytes);
  inodes.markUsed(group, wanted);
  if (!volume.hasGroupChecksums) {
    // The kernel then ignores the marks, but e2fsck does not if it finds inodes beyond them.
    const { flags, itableUnusedCount } = descriptor;
    const isUnused = (flags & GROUP_FLAG.INODE_UNINIT) !== 0;
    const hidden = inodesBehind(wanted, isUnused ? 0 : inodesPerGroup - itableUnusedCount);
    judge.expect("group descriptor", { group }, "inodes marked as never used", hidden, 0);
  }
  // Reserved inodes count as used; they may span several small groups.
  const reserved = Math.min(volume.firstInode - 1 - group * inodesPerGroup, inodesPerGroup);
  for (let i = 0; i < reserved; i++) wanted[i >> 3]! |= 1 << (i & 7);
  if ((state.flags & GROUP_FLAG.INODE_UNINIT) === 0) {
    compare(context, {
      structure: "inode bitmap",
      location: { group, block: descriptor.inodeBitmapBlock },
      usedBytes,
      wanted,
      first: group * inodesPerGroup + 1,
      step: 1,
      storedChecksum: descriptor.inodeBitmapChecksum,
    });
  }
  const used = countUsed(wanted, inodesPerGroup);
  const free = inodesPerGroup - used;
  const expect = (problem: string, found: number, right: number) =>
    judge.expect("group descriptor", { group }, problem, found, right);
  if ((state.flags & GROUP_FLAG.INODE_UNINIT) !== 0) expect("inodes under INODE_UNINIT", used, 0);
  expect("bg_free_inodes_count", descriptor.freeInodesCount, free);
  expect("bg_used_dirs_count", descriptor.usedDirectoriesCount, context.usedDirectories[group]!);
  return free;
}

function inodesBehind(bitmap: Uint8Array, start: number): number {
  let count = 0;
  for (let i = Math.max(0, start); i < 8 * bitmap.length; i++) {
    count += bitmap[i >> 3]! >> (i & 7) & 1;
  }
  return count;
}

function compare(context: Context, comparison: Comparison): void {
  const { volume, judge } = context;
  const { structure, location, usedBytes, wanted } = comparison;
  const { block } = location;
  const bytes = volume.contains(block) ? volume.read(block) : undefined;
  if (bytes === undefined) return judge.report(structure, location, "it cannot be read");
  if (volume.seed !== undefined) {
    const mask = volume.bitmapChecksumMask;
    const computed = (bitmapChecksum(volume.seed, bytes, usedBytes) & mask) >>> 0;
    judge.expectChecksum(structure, location, comparison.storedChecksum, computed);
  }
  // Nearly all are correct, which one comparison shows.
  if (Buffer.compare(bytes.subarray(0, usedBytes), wanted) !== 0) {
    const { marked, unmarked } = compareBits(bytes, comparison);
    const report = (problem: string, span: BitSpan) => {
      if (span.count > 0) judge.report(structure, location, problem, { found: describeBits(span) });
    };
    report("marked as used, but not in use", marked);
    report("in use, but not marked as used", unmarked);
  }
  // The bytes after the group's bits are all ones.
  let at = usedBytes;
  while (at < bytes.length && bytes[at] === 0xff) at++;
  if (at === bytes.length) return;
  const details = { found: bytes[at]!, wanted: 0xff };
  judge.report(structure, location, `byte ${at}, behind the bits of the group`, details);
}

interface BitSpan {
  count: number;
  first: number;
  last: number;
}

function compareBits(
  found: Uint8Array,
  { wanted, first, step }: Comparison,
): { readonly marked: BitSpan; readonly unmarked: BitSpan } {
  const marked = { count: 0, first: 0, last: 0 };
  const unmarked = { count: 0, first: 0, last: 0 };
  for (let i = 0; i < wanted.length; i++) {
    const difference = found[i]! ^ wanted[i]!;
    if (difference === 0) continue;
    for (let bit = 0; bit < 8; bit++) {
      if ((difference >> bit & 1) === 0) continue;
      const span = (found[i]! >> bit & 1) === 1 ? marked : unmarked;
      const number = first + step * (8 * i + bit);
      if (span.count === 0) span.first = number;
      span.count++;
      span.last = number;
    }
  }
  return { marked, unmarked };
}

function describeBits({ count, first, last }: BitSpan): string {
  if (count === 1) return `${first}`;
  return count === last - first + 1 ? `${first} to ${last}` : `${count} from ${first} to ${last}`;
}
