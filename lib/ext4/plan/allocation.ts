/**
 * Allocates blocks to every structure: all metadata first, then payload on the grid.
 *
 * The number of groups depends on where payload ends, and the number of extent tree blocks on where it is split. Both
 * only grow, so the allocation is repeated until they are right.
 *
 * @module
 */
import { alignUp, divCeil, exactSize } from "../../bytes/arithmetic.ts";
import { InputError, invariant } from "../../errors.ts";
import {
  AscendingAllocator,
  type BlockRange,
  joinedInOrder,
  mergeRanges,
} from "../../layout/blocks.ts";
import {
  appendExtents,
  type HotOrder,
  type LayoutRules,
  type Placement,
  placePayloads,
  runStarts,
} from "../../layout/placement.ts";
import { BLOCK_SIZE_BYTES, type Payload } from "../../model/node.ts";
import { EXTENT_BLOCKS_MAX } from "../format/constants.ts";
import { type ExtentLeaf, extentTreeBlockCount } from "../format/extent.ts";
import {
  BLOCKS_PER_GROUP,
  type Geometry,
  groupHasSuperblock,
  type GroupLayout,
  INODES_PER_GROUP_MAX,
  makeGeometry,
} from "./groups.ts";
import type { PayloadWrite } from "./image_plan.ts";
import { type FileDraft, type InodeDrafts, withContent } from "./inode_drafts.ts";
import type { Settings } from "./settings.ts";

export interface AllocationDemand {
  readonly inodes: InodeDrafts;
  /** The files with payload, in disk order. */
  readonly files: readonly FileDraft[];
}

/** Which files start a run on the grid, and which are copies, whose blocks stay free. */
type FileOrder = Pick<HotOrder<FileDraft>, "runStarts" | "isCopy">;

/** An inode's extents and the blocks of the tree over them. */
export interface InodeBlocks {
  readonly leaves: readonly ExtentLeaf[];
  readonly treeBlocks: readonly number[];
}

/** The blocks of all inodes that have any. */
export class InodeBlockTable {
  readonly #leaves: (readonly ExtentLeaf[] | undefined)[] = [];
  /** Few inodes need tree blocks outside the inode. */
  readonly #treeBlocks = new Map<number, readonly number[]>();

  set(inodeNumber: number, { leaves, treeBlocks }: InodeBlocks): void {
    while (this.#leaves.length <= inodeNumber) this.#leaves.push(undefined);
    this.#leaves[inodeNumber] = leaves;
    if (treeBlocks.length > 0) this.#treeBlocks.set(inodeNumber, treeBlocks);
  }

  get(inodeNumber: number): InodeBlocks | undefined {
    const leaves = this.#leaves[inodeNumber];
    return leaves && { leaves, treeBlocks: this.#treeBlocks.get(inodeNumber) ?? NO_TREE_BLOCKS };
  }

  /** Yields the inodes with tree blocks. */
  *withTrees(): Generator<[inodeNumber: number, InodeBlocks]> {
    for (const [inodeNumber, treeBlocks] of this.#treeBlocks) {
      yield [inodeNumber, { leaves: this.#leaves[inodeNumber]!, treeBlocks }];
    }
  }
}

const NO_TREE_BLOCKS: readonly number[] = [];

export interface Allocation extends GroupLayout {
  readonly journal: InodeBlocks | undefined;
  /** Metadata content and payload, by inode. */
  readonly inodeBlocks: Pick<InodeBlockTable, "get" | "withTrees">;
  /** In the order of the planner's blocks. */
  readonly xattrBlocks: readonly number[];
  readonly placement: Omit<Placement, "extents"> & {
    readonly extents: readonly (readonly PayloadWrite[])[];
  };
}

/** Free bytes per free inode, as in mke2fs. */
const FREE_BYTES_PER_INODE = 16384;
/** The most blocks that a file system without 64bit can address; larger ones are refused even with it. */
const IMAGE_BLOCKS_MAX = 2 ** 32;
/** Needing more rounds than this is a bug in the program. */
export const ROUNDS_MAX = 64;

/**
 * Allocates the blocks of an image.
 *
 * @param hotOrder order of the files, if some are hot
 */
export function allocate(
  { inodes, files }: AllocationDemand,
  settings: Settings,
  hotOrder?: FileOrder,
): Allocation {
  const { size } = settings;
  const demand = {
    inodes,
    files,
    runStarts: hotOrder?.runStarts ?? runStarts(files, layoutRules(settings)),
    isCopy: hotOrder?.isCopy ?? new Uint8Array(files.length),
  };
  const inodesWith = (spare: number) =>
    Math.max(inodes.lastInodeNumber, settings.inodeCount ?? inodes.lastInodeNumber + spare);
  if (size.kind !== "total") {
    const spare = size.kind === "free" ? spareInodes(size.freeBytes) : 0;
    const layout = settle(demand, settings, inodesWith(spare));
    invariant(layout !== undefined, "an image without a given size holds its content");
    return layout;
  }
  const exact = settle(demand, { ...settings, size: { kind: "exact" } }, inodesWith(0));
  invariant(exact !== undefined, "an image without a given size holds its content");
  const least = Math.max(exact.placement.endBlock, groupsEnd(exact.geometry));
  const totalBlocks = totalSizeBlocks(size.sizeBytes);
  if (totalBlocks < least) throw tooSmall(totalBlocks, least);
  const spare = spareInodes((totalBlocks - least) * BLOCK_SIZE_BYTES);
  const layout = settle(demand, settings, inodesWith(spare)) ??
    settle(demand, settings, inodesWith(0));
  if (layout === undefined) throw stubGroup(totalBlocks);
  return layout;
}

export function layoutRules(settings: Settings): LayoutRules {
  return { ...settings, blockSizeBytes: BLOCK_SIZE_BYTES, extentBlocksMax: EXTENT_BLOCKS_MAX };
}

/** Repeats the allocation until its assumptions hold; undefined if it does not fit the given size. */
function settle(
  demand: AllocationDemand & FileOrder,
  settings: Settings,
  inodeCount: number,
): Allocation | undefined {
  const { size } = settings;
  let groupCount = Math.max(
    size.kind === "total" ? divCeil(totalSizeBlocks(size.sizeBytes), BLOCKS_PER_GROUP) : 1,
    divCeil(inodeCount, INODES_PER_GROUP_MAX),
  );
  let payloadTreeBlocks = 0;
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const geometry = makeGeometry(settings, groupCount, divCeil(inodeCount, groupCount));
    const attempt = allocateOnce(demand, settings, { geometry, payloadTreeBlocks });
    const totalBlocks = imageBlocks(attempt, settings, geometry);
    if (totalBlocks === undefined) return undefined;
    const groupsNeeded = divCeil(totalBlocks, BLOCKS_PER_GROUP);
    if (groupsNeeded > groupCount) {
      groupCount = groupsNeeded;
    } else if (attempt.payloadTreeBlocksNeeded > payloadTreeBlocks) {
      payloadTreeBlocks = attempt.payloadTreeBlocksNeeded;
    } else {
      return finish(demand, attempt, { geometry, totalBlocks });
    }
  }
  invariant(false, "the layout does not settle");
}

/** Blocks for everything but files, and where files would lie. */
type Attempt =
  & Omit<Allocation, "geometry" | "totalBlocks" | "usedRanges" | "inodeBlocks" | "placement">
  & {
    readonly metadata: MetadataArea;
    readonly inodeBlocks: InodeBlockTable;
    readonly placement: Placement;
    /** Room for the extent trees of files, and how much of it they need. */
    readonly treeBlocks: readonly number[];
    readonly payloadTreeBlocksNeeded: number;
  };

function allocateOnce(
  demand: AllocationDemand & FileOrder,
  settings: Settings,
  assumed: { readonly geometry: Geometry; readonly payloadTreeBlocks: number },
): Attempt {
  const { geometry } = assumed;
  const metadata = new MetadataArea(geometry.reserved);
  const { groupCount } = geometry;
  const blockBitmapBlocks = metadata.takeBlocks(groupCount);
  const inodeBitmapBlocks = metadata.takeBlocks(groupCount);
  const inodeTableBlocks: number[] = [];
  for (let group = 0; group < groupCount; group++) {
    inodeTableBlocks.push(metadata.takeContiguous(geometry.inodeTableBlocks));
  }
  const journal = settings.journalBlocks === 0
    ? undefined
    : takeJournal(metadata, settings.journalBlocks, geometry);
  const inodeBlocks = new InodeBlockTable();
  for (const { inodeNumber, content } of withContent(demand.inodes)) {
    inodeBlocks.set(inodeNumber, metadata.takeMapped(metadata.take(content.blockCount)));
  }
  const xattrBlocks = metadata.takeBlocks(demand.inodes.planner.blocks.length);
  const trees = new AscendingAllocator(geometry.reserved, metadata.cursor);
  const treeBlocks = blockNumbers(trees.take(assumed.payloadTreeBlocks));
  const placement = placePayloads(demand.files, layoutRules(settings), {
    fromBlock: trees.cursor,
    reserved: geometry.reserved,
    runStarts: demand.runStarts,
  });
  const payloadTreeBlocksNeeded = placement.extents.reduce(
    (sum, { length }, i) => demand.isCopy[i] === 1 ? sum : sum + extentTreeBlockCount(length),
    0,
  );
  return {
    metadata,
    blockBitmapBlocks,
    inodeBitmapBlocks,
    inodeTableBlocks,
    journal,
    inodeBlocks,
    xattrBlocks,
    treeBlocks,
    placement,
    payloadTreeBlocksNeeded,
  };
}

function finish(
  { files, isCopy }: AllocationDemand & FileOrder,
  { metadata, placement, treeBlocks, payloadTreeBlocksNeeded, ...attempt }: Attempt,
  size: Pick<Allocation, "geometry" | "totalBlocks">,
): Allocation {
  const extents = withPayload(placement.extents, files);
  let assigned = 0;
  files.forEach(({ inodeNumber }, i) => {
    const leaves = extents[i]!;
    if (leaves.length === 0 || isCopy[i] === 1) return;
    const count = extentTreeBlockCount(leaves.length);
    const own = count === 0 ? NO_TREE_BLOCKS : treeBlocks.slice(assigned, assigned + count);
    attempt.inodeBlocks.set(inodeNumber, { leaves, treeBlocks: own });
    assigned += count;
  });
  const usedRanges = mergeRanges([
    ...size.geometry.reserved,
    ...metadata.used,
    ...treeBlocks.slice(0, payloadTreeBlocksNeeded)
      .map((startBlock) => ({ startBlock, blockCount: 1 })),
    ...joinedInOrder(extents.filter((_, i) => isCopy[i] === 0)),
  ]);
  return { ...attempt, ...size, placement: { ...placement, extents }, usedRanges };
}

/** Adds the payload to extents: one object serves as tree leaf, report entry and write. */
export function withPayload(
  extents: Placement["extents"],
  files: readonly { readonly payload: Payload }[],
): PayloadWrite[][] {
  return extents.map((own, i) => {
    const { payload } = files[i]!;
    return own.map(({ startBlock, blockCount, logicalBlock }) => ({
      startBlock,
      blockCount,
      logicalBlock,
      payload,
    }));
  });
}

/** An allocator that records the blocks it hands out. */
class MetadataArea extends AscendingAllocator {
  readonly used: BlockRange[] = [];

  override takeUpTo(blockCount: number): BlockRange {
    const range = super.takeUpTo(blockCount);
    this.used.push(range);
    return range;
  }

  takeBlocks(blockCount: number): number[] {
    return blockNumbers(this.take(blockCount));
  }

  /** Allocates extents over `ranges` and the blocks of the tree over them. */
  takeMapped(ranges: readonly BlockRange[]): InodeBlocks {
    const leaves: ExtentLeaf[] = [];
    appendExtents(leaves, 0, ranges, EXTENT_BLOCKS_MAX);
    return { leaves, treeBlocks: this.takeBlocks(extentTreeBlockCount(leaves.length)) };
  }
}

/** Allocates the journal, contiguously if it fits between two reserved ranges. */
function takeJournal(area: MetadataArea, blockCount: number, geometry: Geometry): InodeBlocks {
  const pieceMax = BLOCKS_PER_GROUP - 1 - geometry.descriptorBlocks;
  if (blockCount > pieceMax) return area.takeMapped(area.take(blockCount));
  return area.takeMapped([{ startBlock: area.takeContiguous(blockCount), blockCount }]);
}

export function blockNumbers(ranges: readonly BlockRange[]): number[] {
  const numbers: number[] = [];
  for (const { startBlock, blockCount } of ranges) {
    for (let i = 0; i < blockCount; i++) numbers.push(startBlock + i);
  }
  return numbers;
}

function spareInodes(freeBytes: number): number {
  return divCeil(freeBytes, FREE_BYTES_PER_INODE);
}

export function totalSizeBlocks(sizeBytes: number): number {
  return divCeil(sizeBytes, BLOCK_SIZE_BYTES);
}

/** The size of the file system in blocks; undefined if the content does not fit the given size. */
export function imageBlocks(
  { placement }: { readonly placement: Pick<Placement, "endBlock"> },
  settings: Settings,
  geometry: Geometry,
): number | undefined {
  const { size, gridBlocks, wide } = settings;
  // The payload area follows all metadata, so its end is the end of everything; in a kept layout that end includes
  // metadata.
  const needed = Math.max(placement.endBlock, groupsEnd(geometry));
  let totalBlocks: number;
  if (size.kind === "total") {
    totalBlocks = totalSizeBlocks(size.sizeBytes);
    if (totalBlocks < needed) return undefined;
  } else {
    const free = size.kind === "free" ? divCeil(size.freeBytes, BLOCK_SIZE_BYTES) : 0;
    const wanted = alignUp(placement.endBlock + free, gridBlocks);
    totalBlocks = Math.max(withoutStub(wanted, geometry, settings), alignUp(needed, gridBlocks));
  }
  // Without 64bit, s_blocks_count cannot hold 2^32 itself.
  const blocksMax = wide ? IMAGE_BLOCKS_MAX : IMAGE_BLOCKS_MAX - 1;
  if (totalBlocks <= blocksMax) return totalBlocks;
  throw new InputError(
    "the image",
    `needs ${totalBlocks * BLOCK_SIZE_BYTES} bytes: blessfs makes at most ` +
      `${blocksMax * BLOCK_SIZE_BYTES}`,
    { code: "doesNotFit" },
  );
}

/** All groups must exist, including those needed only for inodes, and the last one must hold its backup. */
function groupsEnd(geometry: Geometry): number {
  const lastBackup = geometry.reserved.at(-1)!;
  return Math.max(
    (geometry.groupCount - 1) * BLOCKS_PER_GROUP + 1,
    lastBackup.startBlock + lastBackup.blockCount,
  );
}

/** Extends a last group that is too small for its own backup. */
function withoutStub(totalBlocks: number, geometry: Geometry, settings: Settings): number {
  const lastGroup = Math.floor((totalBlocks - 1) / BLOCKS_PER_GROUP);
  if (!groupHasSuperblock(lastGroup, settings.backups)) return totalBlocks;
  const needed = lastGroup * BLOCKS_PER_GROUP + 1 + geometry.descriptorBlocks;
  return totalBlocks < needed ? alignUp(needed, settings.gridBlocks) : totalBlocks;
}

function tooSmall(totalBlocks: number, leastBlocks: number): InputError {
  return new InputError(
    "size",
    `${exactSize(totalBlocks * BLOCK_SIZE_BYTES)} are too few: the content needs ` +
      exactSize(leastBlocks * BLOCK_SIZE_BYTES),
    { code: "doesNotFit", option: "size", hint: "give at least that, or leave the size out" },
  );
}

function stubGroup(totalBlocks: number): InputError {
  const groupStart = Math.floor((totalBlocks - 1) / BLOCKS_PER_GROUP) * BLOCKS_PER_GROUP;
  return new InputError(
    "size",
    `${exactSize(totalBlocks * BLOCK_SIZE_BYTES)} end in a block group of ` +
      `${exactSize((totalBlocks - groupStart) * BLOCK_SIZE_BYTES)}, too few for its metadata`,
    {
      code: "doesNotFit",
      option: "size",
      hint: `give ${groupStart * BLOCK_SIZE_BYTES}, or some megabytes more`,
    },
  );
}
