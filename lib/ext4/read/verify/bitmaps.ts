/**
 * The bitmaps and the counts of free things, against what was found in use.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { littleEndianWords } from "../../../bytes/words.ts";
import { bitmapChecksum, countBits } from "../../format/bitmap.ts";
import { GROUP_FLAG, INCOMPAT, SUPERBLOCK_OFFSET_BYTES } from "../../format/constants.ts";
import type { GroupDescriptor } from "../../format/group_descriptor.ts";
import type { Context, GroupState } from "./context.ts";
import type { Structure } from "./findings.ts";

/** One bitmap and what it should be. */
interface Comparison {
  readonly structure: Structure;
  readonly group: number;
  readonly block: number;
  /** Only these bytes have a meaning; those behind them are 0xff. */
  readonly usedBytes: number;
  readonly wanted: Uint8Array;
  /** What bit 0 stands for. */
  readonly first: number;
  readonly storedChecksum: number;
}

/** Compares the bitmaps and the counts of every group, and the sums in the superblock. */
export function checkBitmaps(context: Context): void {
  const { volume, groups, findings } = context;
  let freeBlocks = 0;
  let freeInodes = 0;
  for (const [group, state] of groups.entries()) {
    if (state.descriptor === undefined) continue;
    // A group that the image does not hold in full was told already.
    if (volume.groupStart(group) + volume.groupBlocks(group) > volume.endBlock) return;
    freeBlocks += checkBlocks(context, group, state, state.descriptor);
    freeInodes += checkInodes(context, group, state, state.descriptor);
  }
  // The sums are brought up to date when the file system is unmounted, and not before.
  if (volume.hasIncompat(INCOMPAT.RECOVER)) return;
  const { superblock } = volume;
  const expect = (problem: string, found: number, wanted: number) =>
    findings.expect("superblock", { offset: SUPERBLOCK_OFFSET_BYTES }, problem, found, wanted);
  expect("s_free_blocks_count", superblock.freeBlocksCount, freeBlocks);
  expect("s_free_inodes_count", superblock.freeInodesCount, freeInodes);
}

function checkBlocks(
  context: Context,
  group: number,
  state: GroupState,
  descriptor: GroupDescriptor,
): number {
  const { volume, claims, findings } = context;
  const { blocksPerGroup, firstDataBlock } = volume.superblock;
  const blockCount = volume.groupBlocks(group);
  const first = volume.groupStart(group);
  const usedBytes = blocksPerGroup / 8;
  const wanted = new Uint8Array(usedBytes);
  wanted.set(claims.bits.subarray((first - firstDataBlock) / 8).subarray(0, usedBytes));
  const claimed = countUsed(wanted, blockCount);
  // Blocks behind the end of the file system count as used.
  for (let bit = blockCount; bit < blocksPerGroup; bit++) wanted[bit >> 3]! |= 1 << (bit & 7);
  if ((state.flags & GROUP_FLAG.BLOCK_UNINIT) !== 0) {
    const own = ownBlocks(context, group, descriptor);
    findings.expect(
      "group descriptor",
      { group },
      "blocks in use under BLOCK_UNINIT",
      claimed,
      own,
    );
  } else {
    compare(context, {
      structure: "block bitmap",
      group,
      block: descriptor.blockBitmapBlock,
      usedBytes,
      wanted,
      first,
      storedChecksum: descriptor.blockBitmapChecksum,
    });
  }
  const free = blockCount - claimed;
  findings.expect(
    "group descriptor",
    { group },
    "bg_free_blocks_count",
    descriptor.freeBlocksCount,
    free,
  );
  return free;
}

/** The bits that are set, a word at a time where the words are whole: most are all zeros or all ones. */
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

/** What a group has of its own, all that a bitmap made up under BLOCK_UNINIT shows. */
function ownBlocks(context: Context, group: number, descriptor: GroupDescriptor): number {
  const { volume } = context;
  const start = volume.groupStart(group);
  const end = start + volume.groupBlocks(group);
  const room = volume.descriptorRoom(group);
  let own = (volume.hasSuperblock(group) ? 1 : 0) + room.used + room.reserved;
  const isHere = (block: number) => block >= start && block < end;
  if (isHere(descriptor.blockBitmapBlock)) own++;
  if (isHere(descriptor.inodeBitmapBlock)) own++;
  if (isHere(descriptor.inodeTableBlock)) own += volume.inodeTableBlocks;
  return own;
}

function checkInodes(
  context: Context,
  group: number,
  state: GroupState,
  descriptor: GroupDescriptor,
): number {
  const { volume, book, findings } = context;
  const { inodesPerGroup } = volume.superblock;
  const usedBytes = inodesPerGroup / 8;
  const wanted = new Uint8Array(usedBytes);
  book.markUsed(group, wanted);
  // Reserved inodes count as used; small groups have only some of them each.
  const reserved = Math.min(volume.firstInode - 1 - group * inodesPerGroup, inodesPerGroup);
  for (let i = 0; i < reserved; i++) wanted[i >> 3]! |= 1 << (i & 7);
  if ((state.flags & GROUP_FLAG.INODE_UNINIT) === 0) {
    compare(context, {
      structure: "inode bitmap",
      group,
      block: descriptor.inodeBitmapBlock,
      usedBytes,
      wanted,
      first: group * inodesPerGroup + 1,
      storedChecksum: descriptor.inodeBitmapChecksum,
    });
  }
  const used = countUsed(wanted, inodesPerGroup);
  const free = inodesPerGroup - used;
  const expect = (problem: string, found: number, right: number) =>
    findings.expect("group descriptor", { group }, problem, found, right);
  if ((state.flags & GROUP_FLAG.INODE_UNINIT) !== 0) expect("inodes under INODE_UNINIT", used, 0);
  expect("bg_free_inodes_count", descriptor.freeInodesCount, free);
  expect("bg_used_dirs_count", descriptor.usedDirectoriesCount, state.usedDirectories);
  return free;
}

function compare(context: Context, comparison: Comparison): void {
  const { volume, findings } = context;
  const { structure, group, block, usedBytes, wanted } = comparison;
  const place = { group, block };
  const bytes = volume.contains(block) ? volume.read(block) : undefined;
  if (bytes === undefined) {
    findings.add(structure, place, "it cannot be read");
    return;
  }
  if (volume.seed !== undefined) {
    const mask = volume.descriptorSizeBytes === 64 ? 0xffffffff : 0xffff;
    const computed = (bitmapChecksum(volume.seed, bytes, usedBytes) & mask) >>> 0;
    findings.expectChecksum(structure, place, comparison.storedChecksum, computed);
  }
  // Nearly all are as they should be, which is seen at once.
  if (Buffer.compare(bytes.subarray(0, usedBytes), wanted) === 0) {
    checkPadding(context, comparison, bytes);
    return;
  }
  const differences = compareBits(bytes, wanted, comparison.first);
  if (differences.marked.count > 0) {
    findings.add(structure, place, "marked as used, but not in use", {
      found: describeBits(differences.marked),
    });
  }
  if (differences.unmarked.count > 0) {
    findings.add(structure, place, "in use, but not marked as used", {
      found: describeBits(differences.unmarked),
    });
  }
  checkPadding(context, comparison, bytes);
}

/** The bytes behind the bits of the group are all ones. */
function checkPadding({ findings }: Context, comparison: Comparison, bytes: Uint8Array): void {
  const { structure, group, block, usedBytes } = comparison;
  for (let i = usedBytes; i < bytes.length; i++) {
    if (bytes[i] === 0xff) continue;
    findings.add(structure, { group, block }, `byte ${i}, behind the bits of the group`, {
      found: bytes[i]!,
      wanted: 0xff,
    });
    break;
  }
}

interface BitSpan {
  count: number;
  first: number;
  last: number;
}

function compareBits(
  found: Uint8Array,
  wanted: Uint8Array,
  first: number,
): { readonly marked: BitSpan; readonly unmarked: BitSpan } {
  const marked = { count: 0, first: 0, last: 0 };
  const unmarked = { count: 0, first: 0, last: 0 };
  for (let i = 0; i < wanted.length; i++) {
    const difference = found[i]! ^ wanted[i]!;
    if (difference === 0) continue;
    for (let bit = 0; bit < 8; bit++) {
      if ((difference >> bit & 1) === 0) continue;
      const span = (found[i]! >> bit & 1) === 1 ? marked : unmarked;
      const number = first + 8 * i + bit;
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
