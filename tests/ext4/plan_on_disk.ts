/**
 * Whether an image is what its plan says: bitmaps, counts, padding, and aligned files on the grid. The fields are read
 * by hand, from the offsets in the kernel's Documentation/filesystems/ext4.
 *
 * @module
 */
import { byteStringFromText } from "../../lib/bytes/byte_string.ts";
import type { ImagePlan } from "../../lib/ext4/plan/image_plan.ts";
import { BLOCK_SIZE_BYTES } from "../../lib/model/node.ts";
import { closeDescriptor, dataRanges, openDirectory, openNameAt } from "../oracle/libc.ts";

const BLOCKS_PER_GROUP = 32768;
const BLOCK_UNINIT = 0x2;
const INODE_UNINIT = 0x1;

/** Throws unless bitmaps, counts and holes of an image are those of its plan. */
export function assertPlanOnDisk(path: string, plan: ImagePlan): void {
  checkCongruence(plan);
  checkBitmaps(path, plan);
  checkPadding(path, plan);
}

/** Every extent of an aligned file, in the plan itself. */
function checkCongruence({ files, gridBlocks }: ImagePlan): void {
  for (const { draft, isAligned, extents } of files) {
    if (!isAligned) continue;
    for (const { startBlock, logicalBlock } of extents) {
      if ((startBlock - logicalBlock) % gridBlocks === 0) continue;
      throw new Error(
        `${draft.path}: block ${logicalBlock} lies at ${startBlock}, grid ${gridBlocks}`,
      );
    }
  }
}

function checkBitmaps(path: string, plan: ImagePlan): void {
  using file = Deno.openSync(path);
  const { groupCount, descriptorSizeBytes: size, inodesPerGroup } = plan.geometry;
  const table = readAt(file, BLOCK_SIZE_BYTES, groupCount * size);
  const used = usedByGroup(plan);
  let freeInodes = 0;
  for (let group = 0; group < groupCount; group++) {
    const view = new DataView(table.buffer, group * size, size);
    const word = (low: number, high: number) =>
      view.getUint16(low, true) + (size === 64 ? view.getUint16(high, true) * 2 ** 16 : 0);
    const blockNumber = (low: number, high: number) =>
      view.getUint32(low, true) + (size === 64 ? view.getUint32(high, true) * 2 ** 32 : 0);
    const flags = view.getUint16(0x12, true);
    const groupBlocks = Math.min(
      BLOCKS_PER_GROUP,
      plan.totalBlocks - group * BLOCKS_PER_GROUP,
    );
    const bits = used.get(group);
    const usedCount = bits?.reduce((sum, bit) => sum + bit, 0) ?? 0;
    expect(`group ${group}: free blocks`, word(0x0c, 0x2c), groupBlocks - usedCount);
    freeInodes += word(0x0e, 0x2e);
    if ((flags & BLOCK_UNINIT) === 0) {
      const bitmap = readAt(file, blockNumber(0x00, 0x20) * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES);
      for (let bit = 0; bit < BLOCKS_PER_GROUP; bit++) {
        const wanted = bit < groupBlocks ? bits?.[bit] ?? 0 : 1;
        expect(`group ${group}: bit of block ${bit}`, (bitmap[bit >> 3]! >> (bit & 7)) & 1, wanted);
      }
    }
    if ((flags & INODE_UNINIT) === 0) {
      const bitmap = readAt(file, blockNumber(0x04, 0x24) * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES);
      for (let bit = inodesPerGroup; bit < BLOCKS_PER_GROUP; bit++) {
        expect(`group ${group}: bit of no inode ${bit}`, (bitmap[bit >> 3]! >> (bit & 7)) & 1, 1);
      }
    }
  }
  expect("free inodes of all groups", freeInodes, plan.summary.freeInodes);
}

/** A byte for each block of a group, 1 where the plan uses it; groups without any are left out. */
function usedByGroup({ usedRanges }: ImagePlan): Map<number, Uint8Array> {
  const groups = new Map<number, Uint8Array>();
  for (const { startBlock, blockCount } of usedRanges) {
    for (let at = startBlock; at < startBlock + blockCount;) {
      const group = Math.floor(at / BLOCKS_PER_GROUP);
      const end = Math.min(startBlock + blockCount, (group + 1) * BLOCKS_PER_GROUP);
      const bits = groups.get(group) ?? new Uint8Array(BLOCKS_PER_GROUP);
      bits.fill(1, at - group * BLOCKS_PER_GROUP, end - group * BLOCKS_PER_GROUP);
      groups.set(group, bits);
      at = end;
    }
  }
  return groups;
}

/** What is no hole in the image file is in use. */
function checkPadding(path: string, plan: ImagePlan): void {
  const slash = path.lastIndexOf("/");
  const directory = openDirectory(byteStringFromText(path.slice(0, slash)));
  const descriptor = openNameAt(directory, byteStringFromText(path.slice(slash + 1)));
  try {
    const { usedRanges } = plan;
    let next = 0;
    for (const [start, end] of dataRanges(descriptor, plan.totalBlocks * BLOCK_SIZE_BYTES)) {
      for (let block = Math.floor(start / BLOCK_SIZE_BYTES); block * BLOCK_SIZE_BYTES < end;) {
        while (next < usedRanges.length && endOf(usedRanges[next]!) <= block) next++;
        const range = usedRanges[next];
        if (range === undefined || range.startBlock > block) {
          throw new Error(`block ${block}: is written, but not in use`);
        }
        block = endOf(range);
      }
    }
  } finally {
    closeDescriptor(descriptor);
    closeDescriptor(directory);
  }
}

function endOf(range: { readonly startBlock: number; readonly blockCount: number }): number {
  return range.startBlock + range.blockCount;
}

function expect(what: string, found: number, wanted: number): void {
  if (found !== wanted) throw new Error(`${what}: found ${found}, wanted ${wanted}`);
}

/** Reads exactly `length` bytes. */
export function readAt(
  file: Deno.FsFile,
  offset: number,
  length: number,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  file.seekSync(offset, Deno.SeekMode.Start);
  for (let done = 0; done < length;) {
    const count = file.readSync(bytes.subarray(done));
    if (count === null) throw new Error(`the image ends at ${offset + done}`);
    done += count;
  }
  return bytes;
}
