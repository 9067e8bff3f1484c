/**
 * Bytes of a previous image in blocks that are free now, and how far such an image drifts from a fresh layout.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { exactSize } from "../../bytes/size_text.ts";
import {
  type BlockRange,
  endOf,
  overlapsAny,
  subtractRanges,
  uniteRanges,
} from "../../layout/blocks.ts";
import { roundedToGrid } from "../../layout/placement.ts";
import { BLOCK_SIZE_BYTES } from "../../model/payload.ts";
import type { ImagePlan, MetadataWrite } from "./image_plan.ts";
import type { PreviousImage } from "./previous.ts";

/** Stale bytes over this share of the bytes in use are all cleared. */
export const STALE_SHARE_MAX = 1 / 20;
/** An image this much larger than a fresh one, and by more than some cells: the image is laid out afresh. */
export const SIZE_SHARE_MAX = 1 / 4;
const SIZE_CELLS_MIN = 64;
const PIECE_BLOCKS = 256;

/**
 * Blocks that are free and keep the bytes that they have in the previous image: those of cells in which nothing else
 * changes. In any other cell, and in one that holds nothing any more, they would cost more than they save.
 */
export function staleRanges(
  plan: ImagePlan,
  isKept: Uint8Array,
  previous: PreviousImage,
): BlockRange[] {
  const { gridBlocks, usedRanges, totalBlocks } = plan;
  const inImage = [{ startBlock: 0, blockCount: totalBlocks }];
  const beyond = subtractRanges(previous.dataRanges, inImage);
  const free = subtractRanges(subtractRanges(previous.dataRanges, beyond), usedRanges);
  const usedCells = uniteRanges(roundedToGrid(usedRanges, gridBlocks));
  const freeCells = uniteRanges(roundedToGrid(free, gridBlocks));
  const changed: BlockRange[] = subtractRanges(freeCells, usedCells);
  plan.files.forEach(({ extents }, i) => {
    if (isKept[i] === 0) changed.push(...extents);
  });
  for (const write of plan.metadata) {
    const range = blocksOf(write);
    if (!overlapsAny(range, freeCells)) continue;
    const bytes = write.encode();
    const before = previous.read(range.startBlock, range.blockCount);
    const inset = write.offsetBytes - range.startBlock * BLOCK_SIZE_BYTES;
    for (let block = 0; block < range.blockCount; block++) {
      const at = Math.max(0, block * BLOCK_SIZE_BYTES - inset);
      const end = Math.min(bytes.length, (block + 1) * BLOCK_SIZE_BYTES - inset);
      const old = before.subarray(inset + at, inset + end);
      if (isEqual(bytes.subarray(at, end), old)) continue;
      changed.push({ startBlock: range.startBlock + block, blockCount: 1 });
    }
  }
  const changedCells = uniteRanges(roundedToGrid(uniteRanges(changed), gridBlocks));
  return subtractRanges(free, changedCells);
}

/** Writes that put back what the previous image has in free blocks. */
export function staleWrites(range: BlockRange, previous: PreviousImage): MetadataWrite[] {
  const writes: MetadataWrite[] = [];
  for (let at = range.startBlock; at < endOf(range); at += PIECE_BLOCKS) {
    const blockCount = Math.min(PIECE_BLOCKS, endOf(range) - at);
    writes.push({
      offsetBytes: at * BLOCK_SIZE_BYTES,
      sizeBytes: blockCount * BLOCK_SIZE_BYTES,
      encode: () => previous.read(at, blockCount),
    });
  }
  return writes;
}

/** Why stale bytes are too many to be kept; undefined when they are not. */
export function staleExcess(staleBytes: number, fresh: ImagePlan): string | undefined {
  const staleMax = Math.floor(fresh.summary.usedBytes * STALE_SHARE_MAX);
  if (staleBytes <= staleMax) return undefined;
  return `it would have ${exactSize(staleBytes)} of stale bytes, over ${exactSize(staleMax)}`;
}

/** Why an image is too far from a fresh layout to be continued; undefined when it is not. */
export function driftOf(plan: ImagePlan, fresh: ImagePlan): string | undefined {
  const excess = plan.totalBlocks - fresh.totalBlocks;
  const isLarge = excess > fresh.totalBlocks * SIZE_SHARE_MAX &&
    excess > SIZE_CELLS_MIN * plan.gridBlocks;
  if (!isLarge) return undefined;
  return `it would have ${exactSize(plan.summary.sizeBytes)}, a fresh layout has ` +
    exactSize(fresh.summary.sizeBytes);
}

function blocksOf({ offsetBytes, sizeBytes }: MetadataWrite): BlockRange {
  const startBlock = Math.floor(offsetBytes / BLOCK_SIZE_BYTES);
  const endBlock = Math.ceil((offsetBytes + sizeBytes) / BLOCK_SIZE_BYTES);
  return { startBlock, blockCount: endBlock - startBlock };
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}
