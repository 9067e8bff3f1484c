/**
 * The layout of payload in which stores of fixed-size blocks find equal content again. It is independent of the file
 * system: its input is files that need blocks, and reserved ranges.
 *
 * A file of at least the threshold is grid-congruent: every extent of it has physical block = logical block modulo the
 * grid. Smaller files are packed one after the other, in runs that start on the grid (packing.ts).
 *
 * @module
 */
import { alignUp } from "../bytes/arithmetic.ts";
import { AscendingAllocator, type BlockRange } from "./blocks.ts";
import { type Demand, type DemandedPayload, type LayoutRules, runStarts } from "./packing.ts";

/** Blocks of a file that lie together. */
export interface Extent extends BlockRange {
  /** Where in the file. */
  readonly logicalBlock: number;
}

/** Where the payloads lie. */
export interface Placement {
  /** The extents of each payload, in the order given. */
  readonly extents: readonly (readonly Extent[])[];
  /** The first block of the payload area. */
  readonly startBlock: number;
  /** Behind the last block used. */
  readonly endBlock: number;
  /** How many payloads are grid-congruent by rule. */
  readonly alignedCount: number;
}

const NO_EXTENTS: readonly Extent[] = [];

/** Whether a payload is placed on the grid. */
export function isAligned(
  payload: DemandedPayload,
  rules: Pick<LayoutRules, "alignThresholdBytes">,
): boolean {
  return payload.sizeBytes >= rules.alignThresholdBytes;
}

/** Places files in the order given, from `fromBlock` or the first grid cell behind it. */
export function placePayloads(
  demands: readonly Demand[],
  rules: LayoutRules,
  area: {
    readonly fromBlock: number;
    readonly reserved: readonly BlockRange[];
    /** What {@linkcode runStarts} gives, for who places the same files several times. */
    readonly runStarts?: Uint8Array | undefined;
  },
): Placement {
  const { gridBlocks } = rules;
  // With alignment, payload resumes on the grid behind a reserved range.
  const reserved = rules.alignThresholdBytes === Infinity
    ? area.reserved
    : roundedToGrid(area.reserved, gridBlocks);
  const allocator = new AscendingAllocator(reserved, area.fromBlock);
  if (rules.startOnGrid) allocator.alignTo(gridBlocks);
  const startBlock = allocator.cursor;
  const startsRun = area.runStarts ?? runStarts(demands, rules);
  let endBlock = startBlock;
  let alignedCount = 0;
  const extents = demands.map(({ payload }, i) => {
    const aligned = isAligned(payload, rules);
    if (aligned) alignedCount++;
    if (payload.dataRuns.length === 0) return NO_EXTENTS;
    if (aligned || startsRun[i] === 1) allocator.alignTo(gridBlocks);
    const own = takeExtents(payload.dataRuns, allocator, aligned ? gridBlocks : 1, rules);
    const last = own.at(-1)!;
    endBlock = last.startBlock + last.blockCount;
    return own;
  });
  return { extents, startBlock, endBlock, alignedCount };
}

/** Extents for all runs, physical = logical modulo the grid. */
export function takeExtents(
  runs: readonly BlockRange[],
  allocator: AscendingAllocator,
  gridBlocks: number,
  { extentBlocksMax }: LayoutRules,
): Extent[] {
  const [first] = runs;
  const isSmall = runs.length === 1 && first !== undefined &&
    first.blockCount <= Math.min(extentBlocksMax, allocator.contiguousBlocks);
  if (isSmall && gridBlocks === 1) {
    // Fast path for nearly all files: a single extent.
    const { startBlock: logicalBlock, blockCount } = first;
    return [{ logicalBlock, blockCount, startBlock: allocator.takeContiguous(blockCount) }];
  }
  const extents: Extent[] = [];
  for (const { startBlock, blockCount } of runs) {
    allocator.advanceToCongruent(startBlock % gridBlocks, gridBlocks);
    appendExtents(extents, startBlock, allocator.take(blockCount), extentBlocksMax);
  }
  return extents;
}

/** Appends extents that map `pieces`, in order, from `logicalBlock` on. */
export function appendExtents(
  extents: Extent[],
  logicalBlock: number,
  pieces: readonly BlockRange[],
  extentBlocksMax: number,
): void {
  let logical = logicalBlock;
  for (const piece of pieces) {
    for (let done = 0; done < piece.blockCount;) {
      const blockCount = Math.min(piece.blockCount - done, extentBlocksMax);
      extents.push({ logicalBlock: logical, blockCount, startBlock: piece.startBlock + done });
      done += blockCount;
      logical += blockCount;
    }
  }
}

/** Every cell of the grid that a reserved range reaches into. */
export function roundedToGrid(reserved: readonly BlockRange[], gridBlocks: number): BlockRange[] {
  return reserved.map(({ startBlock, blockCount }) => {
    const start = startBlock - startBlock % gridBlocks;
    return { startBlock: start, blockCount: alignUp(startBlock + blockCount, gridBlocks) - start };
  });
}

/**
 * The order of payload: by path; by the lowest layer that has anything at the path, then by path; or by layer and entry, as
 * a writer without a plan has it.
 */
export type PayloadOrder = "path" | "first-layer" | "layer";

/** What the order depends on. */
export interface PayloadOrigin {
  /** The lowest layer that has anything at the path; 0 when not set. */
  readonly firstLayer?: number | undefined;
  /** Where the file itself comes from. */
  readonly origin: { readonly layerIndex: number; readonly entryIndex: number };
}

/** Sorts files that are in path order, which is kept among equal ones. */
export function sortPayloads<T>(
  files: T[],
  order: PayloadOrder,
  originOf: (file: T) => PayloadOrigin,
): void {
  if (order === "path") return;
  const compare = order === "first-layer" ? compareFirstLayers : compareOrigins;
  files.sort((a, b) => compare(originOf(a), originOf(b)));
}

function compareFirstLayers(a: PayloadOrigin, b: PayloadOrigin): number {
  return (a.firstLayer ?? 0) - (b.firstLayer ?? 0);
}

function compareOrigins({ origin: a }: PayloadOrigin, { origin: b }: PayloadOrigin): number {
  return a.layerIndex - b.layerIndex || a.entryIndex - b.entryIndex;
}

/** Files and copies in the order in which they are placed. */
export interface HotOrder<T> {
  readonly files: readonly T[];
  /** For each, 1 if it is a copy of a hot file, in blocks that stay free. */
  readonly isCopy: Uint8Array;
  /** For each, 1 if it starts on the grid although it is small. */
  readonly runStarts: Uint8Array;
}

/**
 * Puts hot files first.
 *
 * @param files in the order that they would have otherwise, which the others keep
 * @param rankOf when a file is read, ascending; undefined for one that is not hot
 */
export function hotFirst<T extends Demand>(
  files: readonly T[],
  rules: LayoutRules,
  rankOf: (file: T) => number | undefined,
): HotOrder<T> {
  const starts = runStarts(files, rules);
  const hasCells = rules.alignThresholdBytes !== Infinity;
  const hot: { readonly file: T; readonly rank: number; readonly isLarge: boolean }[] = [];
  const others: { readonly file: T; readonly start: number; readonly isCopy: boolean }[] = [];
  files.forEach((file, i) => {
    const rank = rankOf(file);
    const isLarge = isAligned(file.payload, rules);
    if (rank !== undefined) hot.push({ file, rank, isLarge });
    const stays = rank === undefined || (hasCells && !isLarge && file.payload.dataRuns.length > 0);
    if (stays) others.push({ file, start: starts[i]!, isCopy: rank !== undefined });
  });
  hot.sort((a, b) => Number(a.isLarge) - Number(b.isLarge) || a.rank - b.rank);
  const placed = [...hot.map(({ file }) => file), ...others.map(({ file }) => file)];
  const isCopy = new Uint8Array(placed.length);
  isCopy.set(others.map((other) => Number(other.isCopy)), hot.length);
  const placedStarts = new Uint8Array(placed.length);
  placedStarts.set(others.map(({ start }) => start), hot.length);
  if (hot.length > 0 && hasCells) {
    startCell(placed, placedStarts, 0);
    startCell(placed, placedStarts, hot.length);
  }
  return { files: placed, isCopy, runStarts: placedStarts };
}

/** Has the first file with blocks, from an index on, start on the grid. */
function startCell(files: readonly Demand[], starts: Uint8Array, from: number): void {
  const first = files.findIndex(({ payload }, i) => i >= from && payload.dataRuns.length > 0);
  if (first >= 0) starts[first] = 1;
}
