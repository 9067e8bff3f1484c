/**
 * A payload layout in which stores of fixed-size blocks find equal content again. It does not depend on the file
 * system: its input is files that need blocks, and reserved ranges.
 *
 * A file of at least the threshold is grid-congruent: each of its extents has physical block = logical block modulo the
 * grid. Smaller files are packed in runs, and a packing rule decides which of them start on the grid. The rule sees the
 * order of the files on disk but not their blocks, so equal runs of files are packed alike in every image. To add a
 * rule, add a kind of `Packing` and a function here.
 *
 * @module
 */
import { alignUp } from "../bytes/arithmetic.ts";
import { AscendingAllocator, type BlockRange } from "./blocks.ts";

/** A contiguous run of a file's blocks. */
export interface Extent extends BlockRange {
  /** The position in the file. */
  readonly logicalBlock: number;
}

/** The positions of all payloads. */
export interface Placement {
  /** The extents of each payload, in the order given. */
  readonly extents: readonly (readonly Extent[])[];
  /** The first block of the payload area. */
  readonly startBlock: number;
  /** The block after the last one used. */
  readonly endBlock: number;
  /** The number of payloads that are grid-congruent by rule. */
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

/** Places files in the order given, starting at `fromBlock` or the next grid cell. */
export function placePayloads(
  demands: readonly Demand[],
  rules: LayoutRules,
  area: {
    readonly fromBlock: number;
    readonly reserved: readonly BlockRange[];
    /** The result of {@linkcode runStarts}, for callers that place the same files several times. */
    readonly runStarts?: Uint8Array | undefined;
  },
): Placement {
  const { gridBlocks } = rules;
  // With alignment, payload resumes on the grid after a reserved range.
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

/** Takes extents for all runs, with physical = logical block modulo the grid. */
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

/** Extends reserved ranges to whole grid cells. */
export function roundedToGrid(reserved: readonly BlockRange[], gridBlocks: number): BlockRange[] {
  return reserved.map(({ startBlock, blockCount }) => {
    const start = startBlock - startBlock % gridBlocks;
    return { startBlock: start, blockCount: alignUp(startBlock + blockCount, gridBlocks) - start };
  });
}

/**
 * The order of payload: by path; by the lowest layer with an entry at the path, then by path; or by layer and entry,
 * like a writer without a plan.
 */
export type PayloadOrder = "path" | "first-layer" | "layer";

/** The facts that the order depends on. */
export interface PayloadOrigin {
  /** The lowest layer with an entry at the path; 0 when not set. */
  readonly firstLayer?: number | undefined;
  /** The layer and the entry of the file itself. */
  readonly origin: { readonly layerIndex: number; readonly entryIndex: number };
}

/** Sorts files that are in path order; files that compare equal stay in path order. */
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

/** Files and copies in placement order. */
export interface HotOrder<T> {
  readonly files: readonly T[];
  /** For each file, 1 if it is a copy of a hot file; the blocks of copies stay free. */
  readonly isCopy: Uint8Array;
  /** For each small file, 1 if it starts on the grid. */
  readonly runStarts: Uint8Array;
}

/**
 * Puts hot files first.
 *
 * @param files in their usual order, which the other files keep
 * @param rankOf the position of a file in the reading order; undefined if the file is not hot
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

/** Makes the first file with blocks, from an index on, start on the grid. */
function startCell(files: readonly Demand[], starts: Uint8Array, from: number): void {
  const first = files.findIndex(({ payload }, i) => i >= from && payload.dataRuns.length > 0);
  if (first >= 0) starts[first] = 1;
}

/** How files below the alignment threshold are packed. */
export type Packing =
  | { readonly kind: "merge" }
  | { readonly kind: "resync"; readonly meanBytes: number; readonly lowBytes: number }
  | { readonly kind: "tight" };

/** The facts of a file's content that a layout needs. */
export interface DemandedPayload {
  /** The file's length, including holes. */
  readonly sizeBytes: number;
  /** The blocks of the file that need space on disk: ascending, disjoint, counted from the start of the file. */
  readonly dataRuns: readonly BlockRange[];
  /** A 32-bit hash of the content alone. */
  readonly contentHash: number;
}

/** A file that needs blocks. */
export interface Demand {
  readonly payload: DemandedPayload;
  /** Identifies its directory; only compared for equality. */
  readonly directory: number;
  /** A 32-bit hash of the last two names of its path: its directory's and its own. */
  readonly nameHash: number;
}

/** The options of a layout. */
export interface LayoutRules {
  readonly blockSizeBytes: number;
  /** The largest number of blocks in one extent. */
  readonly extentBlocksMax: number;
  readonly gridBlocks: number;
  /** Files of at least this size are aligned; `Infinity` turns alignment off. */
  readonly alignThresholdBytes: number;
  /** Whether payload begins on the grid. */
  readonly startOnGrid: boolean;
  readonly packing: Packing;
}

/** For each small file, 1 if it starts on the grid; the values of other files have no meaning. */
export function runStarts(demands: readonly Demand[], rules: LayoutRules): Uint8Array {
  const { packing } = rules;
  if (packing.kind === "tight" || rules.alignThresholdBytes === Infinity) {
    return new Uint8Array(demands.length);
  }
  return packing.kind === "merge"
    ? mergeStarts(demands, rules)
    : resyncStarts(demands, rules, packing);
}

/**
 * "Merge up to one cell". In a stretch of small files between two aligned ones, each file begins as its own group. The
 * boundaries between neighbours are then visited from the weakest to the strongest, and two groups are merged if the
 * result still fits into a cell. The strength of a boundary does not depend on where files lie: boundaries within a
 * directory are weakest, and among those the names decide, which edits do not change. A change therefore stays in its
 * cell unless it makes a group fit, or no longer fit.
 */
function mergeStarts(demands: readonly Demand[], rules: LayoutRules): Uint8Array {
  const starts = new Uint8Array(demands.length);
  let stretch: number[] = [];
  for (let i = 0; i < demands.length; i++) {
    const { payload } = demands[i]!;
    if (payload.dataRuns.length === 0) continue;
    if (payload.sizeBytes < rules.alignThresholdBytes) stretch.push(i);
    else {
      startGroups(stretch, demands, rules.gridBlocks, starts);
      stretch = [];
    }
  }
  startGroups(stretch, demands, rules.gridBlocks, starts);
  return starts;
}

/** Marks the first file of each group of a stretch. */
function startGroups(
  stretch: readonly number[],
  demands: readonly Demand[],
  gridBlocks: number,
  starts: Uint8Array,
): void {
  const groups = new NeighbourGroups(stretch.map((i) => dataBlocks(demands[i]!)));
  const strengthOf = (boundary: number): number => {
    const [before, behind] = [demands[stretch[boundary]!]!, demands[stretch[boundary + 1]!]!];
    return (before.directory === behind.directory ? 2 ** 32 : 0) + behind.nameHash;
  };
  const count = Math.max(0, stretch.length - 1);
  const strengths = new Float64Array(count).map((_, boundary) => strengthOf(boundary));
  const contentOf = (boundary: number) => demands[stretch[boundary + 1]!]!.payload.contentHash;
  const weakestFirst = new Uint32Array(count).map((_, boundary) => boundary).sort((a, b) =>
    strengths[b]! - strengths[a]! || contentOf(b) - contentOf(a) || b - a
  );
  for (const boundary of weakestFirst) groups.join(boundary, gridBlocks);
  for (let i = 0; i < stretch.length; i++) if (groups.isFirst(i)) starts[stretch[i]!] = 1;
}

/** A union-find over intervals of neighbours. */
class NeighbourGroups {
  /** The first member of the group, or a member closer to it. */
  readonly #before: Uint32Array;
  /** The number of blocks of each group, stored at its first member. */
  readonly #blocks: number[];

  constructor(blocks: number[]) {
    this.#blocks = blocks;
    this.#before = new Uint32Array(blocks.length).map((_, i) => i);
  }

  /** Joins the groups on both sides of a boundary, unless together they exceed `blocksMax`. */
  join(boundary: number, blocksMax: number): void {
    const [first, second] = [this.#firstOf(boundary), this.#firstOf(boundary + 1)];
    const blocks = this.#blocks[first]! + this.#blocks[second]!;
    if (blocks > blocksMax) return;
    this.#blocks[first] = blocks;
    this.#before[second] = first;
  }

  isFirst(index: number): boolean {
    return this.#before[index] === index;
  }

  #firstOf(index: number): number {
    const before = this.#before;
    let at = index;
    while (before[at] !== at) at = before[at] = before[before[at]!]!;
    return at;
  }
}

function dataBlocks({ payload }: Demand): number {
  return payload.dataRuns.reduce((sum, { blockCount }) => sum + blockCount, 0);
}

/**
 * A run ends after every aligned file with data. Once it has `lowBytes`, it also ends after a small file whose content
 * hash says so, and before another directory. The only state is one number and there is no look-ahead, so images in
 * which some files differ are in step again at the next boundary.
 */
function resyncStarts(
  demands: readonly Demand[],
  { blockSizeBytes, alignThresholdBytes }: LayoutRules,
  { meanBytes, lowBytes }: Packing & { readonly kind: "resync" },
): Uint8Array {
  const starts = new Uint8Array(demands.length);
  const perBlock = blockSizeBytes / (meanBytes - lowBytes);
  let runBytes = 0;
  let isAtBoundary = false;
  let previousDirectory = 0;
  for (let i = 0; i < demands.length; i++) {
    const { payload, directory } = demands[i]!;
    if (payload.dataRuns.length === 0) continue;
    if (isAtBoundary || (runBytes >= lowBytes && directory !== previousDirectory)) {
      starts[i] = 1;
      runBytes = 0;
    }
    previousDirectory = directory;
    if (payload.sizeBytes >= alignThresholdBytes) {
      isAtBoundary = true;
      runBytes = 0;
      continue;
    }
    const blocks = dataBlocks(demands[i]!);
    runBytes += blocks * blockSizeBytes;
    const fraction = payload.contentHash / 2 ** 32;
    isAtBoundary = runBytes >= lowBytes && fraction < 1 - (1 - perBlock) ** blocks;
  }
  return starts;
}
