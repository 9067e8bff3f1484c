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
}

/** The options of a layout. */
export interface LayoutRules {
  readonly blockSizeBytes: number;
  /** The most blocks that one extent can have. */
  readonly extentBlocksMax: number;
  readonly gridBlocks: number;
  /** Files of at least this size are aligned; `Infinity` turns alignment off. */
  readonly alignThresholdBytes: number;
  readonly packing: Packing;
}

/** For each file, 1 if it starts on the grid although it is small; for other files without meaning. */
export function runStarts(demands: readonly Demand[], rules: LayoutRules): Uint8Array {
  const { packing } = rules;
  if (packing.kind === "tight" || rules.alignThresholdBytes === Infinity) {
    return new Uint8Array(demands.length);
  }
  return resyncStarts(demands, rules, packing);
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
    let blocks = 0;
    for (const { blockCount } of payload.dataRuns) blocks += blockCount;
    runBytes += blocks * blockSizeBytes;
    const fraction = payload.contentHash / 2 ** 32;
    isAtBoundary = runBytes >= lowBytes && fraction < 1 - (1 - perBlock) ** blocks;
  }
  return starts;
}
