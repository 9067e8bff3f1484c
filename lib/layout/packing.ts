/**
 * How files below the alignment threshold are packed: which of them start on the grid.
 *
 * A rule sees the files in their order on disk but not their blocks, so equal runs of files are packed alike in every
 * image. Another rule is one more kind of `Packing` and one more function here.
 *
 * @module
 */
import type { BlockRange } from "./blocks.ts";

/** How files below the alignment threshold are packed. */
export type Packing =
  | { readonly kind: "merge" }
  | { readonly kind: "resync"; readonly meanBytes: number; readonly lowBytes: number }
  | { readonly kind: "tight" };

/** What a layout needs to know of a file's content. */
export interface DemandedPayload {
  /** The file's length, holes included. */
  readonly sizeBytes: number;
  /** The blocks of the file that need space on disk: ascending, disjoint, counted from the start of the file. */
  readonly dataRuns: readonly BlockRange[];
  /** 32 bits that depend on the content alone. */
  readonly contentHash: number;
}

/** A file that asks for blocks. */
export interface Demand {
  readonly payload: DemandedPayload;
  /** Identifies its directory; only compared for equality. */
  readonly directory: number;
  /** 32 bits that depend on the last two names of its path alone: its directory's and its own. */
  readonly nameHash: number;
}

/** The options of a layout. */
export interface LayoutRules {
  readonly blockSizeBytes: number;
  /** The most blocks that one extent can have. */
  readonly extentBlocksMax: number;
  readonly gridBlocks: number;
  /** Files of at least this size are aligned; `Infinity` turns alignment off. */
  readonly alignThresholdBytes: number;
  /** Whether payload begins on the grid. */
  readonly startOnGrid: boolean;
  readonly packing: Packing;
}

/** For each file, 1 if it starts on the grid although it is small; for other files without meaning. */
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
 * "Merge up to one cell". A stretch of small files, between two aligned ones, begins as one group a file. The boundaries
 * between neighbours are then visited from the weakest on, and two groups become one where that still fits into a cell. What
 * is weak does not depend on where files lie: boundaries within a directory go first, and among those the names decide,
 * which survive edits of the files. So a change stays in its cell unless it makes a group fit, or no longer fit.
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
  const strengths = Float64Array.from({ length: count }, (_, boundary) => strengthOf(boundary));
  const contentOf = (boundary: number) => demands[stretch[boundary + 1]!]!.payload.contentHash;
  const weakestFirst = Uint32Array.from({ length: count }, (_, boundary) => boundary).sort((a, b) =>
    strengths[b]! - strengths[a]! || contentOf(b) - contentOf(a) || b - a
  );
  for (const boundary of weakestFirst) groups.join(boundary, gridBlocks);
  for (let i = 0; i < stretch.length; i++) if (groups.isFirst(i)) starts[stretch[i]!] = 1;
}

/** Neighbours in groups: a union-find over intervals. */
class NeighbourGroups {
  /** The first of the group, or one nearer to it. */
  readonly #before: Uint32Array;
  /** Of the group, at its first. */
  readonly #blocks: number[];

  constructor(blocks: number[]) {
    this.#blocks = blocks;
    this.#before = Uint32Array.from(blocks, (_, i) => i);
  }

  /** Joins the groups on both sides of a boundary, unless they have more than `blocksMax` together. */
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
 * A run ends behind every aligned file that has data. It also ends, once it has `lowBytes`, behind a small file whose
 * content says so, and in front of another directory. There is one number of state and no look-ahead, so images in which
 * some files differ are in step again at the next boundary.
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
