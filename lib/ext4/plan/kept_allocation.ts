/**
 * Allocates blocks along the lines of a previous image: whatever did not change, metadata and payload alike, keeps its
 * blocks.
 *
 * Bitmaps, inode tables, the journal, directories and attribute blocks stay where they are. New ones go into cells that
 * already hold metadata, then into cells that are entirely free, then after everything else. Inode tables move only if
 * they are too small; their blocks then keep their positions within cells, so that a store still finds them.
 *
 * @module
 */
import { alignUp, divCeil } from "../../bytes/arithmetic.ts";
import {
  AscendingAllocator,
  type BlockRange,
  endOf,
  joinedInOrder,
  mergeRanges,
  overlapsAny,
  subtractRanges,
  uniteRanges,
} from "../../layout/blocks.ts";
import { keepable, type KeptDemand, placeAmongKept } from "../../layout/kept.ts";
import { appendExtents, type Extent, roundedToGrid } from "../../layout/placement.ts";
import type { Payload } from "../../model/node.ts";
import { EXTENT_BLOCKS_MAX } from "../format/constants.ts";
import { type ExtentLeaf, extentTreeBlockCount } from "../format/extent.ts";
import {
  type Allocation,
  type AllocationDemand,
  blockNumbers,
  imageBlocks,
  InodeBlockTable,
  layoutRules,
  ROUNDS_MAX,
  totalSizeBlocks,
  withPayload,
} from "./allocation.ts";
import {
  BLOCKS_PER_GROUP,
  type Geometry,
  INODES_PER_BLOCK,
  INODES_PER_GROUP_MAX,
  makeGeometry,
} from "./groups.ts";
import { type FileDraft, NodeDraft, withContent } from "./inode_drafts.ts";
import type { PreviousImage, PreviousMatches, PreviousNode } from "./previous.ts";
import type { Settings } from "./settings.ts";

interface KeptAllocation extends Allocation {
  /** For each file, in disk order: 1 if it keeps its blocks. */
  readonly isKept: Uint8Array;
}

interface KeptAllocationDemand extends AllocationDemand {
  readonly previous: PreviousImage;
  readonly matches: PreviousMatches;
  /** Unused data stays where it is, so that its cells do not change. */
  readonly keepsStale: boolean;
}

/** Inode tables that must move get this share of spare inodes. */
const SPARE_INODES_SHARE = 1 / 16;

/** Allocates the blocks of an image; returns a text if a previous image cannot be continued, saying why. */
export function allocateAmongKept(
  demand: KeptAllocationDemand,
  settings: Settings,
): KeptAllocation | string {
  const { inodes, previous } = demand;
  const files = demand.files.map((file) => keptDemand(file, demand.matches));
  const rules = layoutRules(settings);
  const isKept = keepable(files, rules, []);
  const keptEnd = files.reduce(
    (end, { sameContent }, i) => isKept[i] === 1 ? Math.max(end, endOf(sameContent!.at(-1)!)) : end,
    1,
  );
  const { size } = settings;
  const inodesNeeded = Math.max(inodes.lastInodeNumber, settings.inodeCount ?? 0);
  let groupCount = Math.max(
    divCeil(size.kind === "total" ? totalSizeBlocks(size.sizeBytes) : keptEnd, BLOCKS_PER_GROUP),
    divCeil(inodesNeeded, INODES_PER_GROUP_MAX),
  );
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const { inodesPerGroup: previousInodes } = previous.superblock;
    const keepsTables = previousInodes * groupCount >= inodesNeeded;
    const spacious = divCeil(Math.ceil(inodesNeeded * (1 + SPARE_INODES_SHARE)), groupCount);
    const inodesPerGroup = keepsTables ? previousInodes : Math.min(INODES_PER_GROUP_MAX, spacious);
    const geometry = makeGeometry(settings, groupCount, inodesPerGroup);
    const attempt = new KeptAttempt({ ...demand, files, settings, geometry, keepsTables }).run();
    if (typeof attempt === "string") return attempt;
    const totalBlocks = imageBlocks(attempt, settings, geometry);
    if (totalBlocks === undefined) return "the content does not fit into the given size with it";
    const groupsNeeded = divCeil(totalBlocks, BLOCKS_PER_GROUP);
    if (groupsNeeded <= groupCount) return { ...attempt, geometry, totalBlocks };
    groupCount = groupsNeeded;
  }
  return "the layout does not settle with it";
}

interface KeptFile extends KeptDemand {
  readonly payload: Payload;
  readonly inodeNumber: number;
  /** The inode whose blocks it can keep. */
  readonly content: PreviousNode | undefined;
}

function keptDemand(file: FileDraft, matches: PreviousMatches): KeptFile {
  const { payload, directory, nameHash, inodeNumber, node } = file;
  const content = matches.contents.get(node);
  const replaced = matches.inodes.get(node);
  return {
    payload,
    directory,
    nameHash,
    inodeNumber,
    content,
    sameContent: content?.extents,
    replaced: replaced?.kind === "file" ? replaced.extents : undefined,
  };
}

interface KeptAttemptGiven extends Omit<KeptAllocationDemand, "files"> {
  readonly files: readonly KeptFile[];
  readonly settings: Settings;
  readonly geometry: Geometry;
  readonly keepsTables: boolean;
}

class KeptAttempt {
  readonly #given: KeptAttemptGiven;
  /** Metadata blocks outside the reserved ranges. */
  readonly #metadata: BlockRange[] = [];
  readonly #inodeBlocks = new InodeBlockTable();

  constructor(given: KeptAttemptGiven) {
    this.#given = given;
  }

  run(): Omit<KeptAllocation, "geometry" | "totalBlocks"> | string {
    const { previous, keepsStale, files, settings, geometry } = this.#given;
    const { reserved, groupCount } = geometry;
    const rules = layoutRules(settings);
    const { journal } = previous;
    const kept = previous.groups.slice(0, groupCount);
    this.#keepGroups(kept);
    for (const extent of journal?.extents ?? []) this.#metadata.push(extent);
    this.#take(journal?.treeBlocks ?? []);
    const contents = this.#keepContents();
    const xattrBlocks = this.#keepXattrBlocks();
    if (this.#metadata.some((range) => overlapsAny(range, reserved))) {
      return "its group descriptors have no room to grow";
    }
    const isKept = keepable(files, rules, uniteRanges([...this.#metadata, ...reserved]));
    const keptFiles = files.filter((_, i) => isKept[i] === 1);
    for (const { content } of keptFiles) this.#take(content!.treeBlocks);
    const room = this.#room(keptFiles.map(({ content }) => content!.extents), true);
    const blockBitmapBlocks = kept.map((group) => group.blockBitmapBlock);
    const inodeBitmapBlocks = kept.map((group) => group.inodeBitmapBlock);
    for (let group = kept.length; group < groupCount; group++) {
      blockBitmapBlocks.push(this.#takeNew(room, 1)[0]!);
      inodeBitmapBlocks.push(this.#takeNew(room, 1)[0]!);
    }
    for (const { inodeNumber, blocks, missing, treeBlocks } of contents) {
      blocks.push(...this.#takeNew(room, missing));
      const leaves: ExtentLeaf[] = [];
      const ranges = joinedInOrder([blocks.map((startBlock) => ({ startBlock, blockCount: 1 }))]);
      appendExtents(leaves, 0, ranges, EXTENT_BLOCKS_MAX);
      const own = this.#treeOver(leaves, treeBlocks, room);
      this.#inodeBlocks.set(inodeNumber, { leaves, treeBlocks: own });
    }
    for (let i = 0; i < xattrBlocks.length; i++) xattrBlocks[i] ||= this.#takeNew(room, 1)[0]!;
    const inodeTableBlocks = this.#tables(room);
    const taken = uniteRanges(this.#metadata);
    const placement = placeAmongKept(files, rules, {
      taken,
      reserved,
      cleared: (payload) =>
        keepsStale
          ? []
          : subtractRanges(previous.dataRanges, uniteRanges([...taken, ...reserved, ...payload])),
    });
    const extents = withPayload(placement.extents, files);
    this.#mapFiles(extents, placement.isKept);
    const payload = joinedInOrder(extents);
    const inUse = mergeRanges([...this.#metadata, ...payload]);
    const usedRanges = mergeRanges([...inUse, ...reserved]);
    const endBlock = endOf(inUse.at(-1)!);
    return {
      blockBitmapBlocks,
      inodeBitmapBlocks,
      inodeTableBlocks,
      journal: journal && { leaves: journal.extents, treeBlocks: journal.treeBlocks },
      inodeBlocks: this.#inodeBlocks,
      xattrBlocks,
      placement: {
        ...placement,
        extents,
        startBlock: payload.length === 0 ? endBlock : placement.startBlock,
        endBlock,
      },
      usedRanges,
      isKept: placement.isKept,
    };
  }

  #take(blocks: readonly number[]): void {
    for (const startBlock of blocks) this.#metadata.push({ startBlock, blockCount: 1 });
  }

  #takeNew(room: MetadataRoom, blockCount: number): number[] {
    const blocks = room.take(blockCount);
    this.#take(blocks);
    return blocks;
  }

  #keepGroups(groups: PreviousImage["groups"]): void {
    const { keepsTables, geometry: { inodeTableBlocks: blockCount } } = this.#given;
    for (const { blockBitmapBlock, inodeBitmapBlock, inodeTableBlock: startBlock } of groups) {
      this.#take([blockBitmapBlock, inodeBitmapBlock]);
      if (keepsTables) this.#metadata.push({ startBlock, blockCount });
    }
  }

  /** Keeps the blocks of directories, long symlinks and attribute values. */
  #keepContents() {
    const { inodes, matches } = this.#given;
    return Array.from(withContent(inodes), (draft) => {
      const { inodeNumber, content: { blockCount } } = draft;
      const match = draft instanceof NodeDraft ? matches.inodes.get(draft.node) : undefined;
      const found = draft instanceof NodeDraft && match?.kind === draft.node.kind
        ? match
        : undefined;
      const before = found === undefined ? [] : blockNumbers(found.extents);
      const blocks = before.slice(0, blockCount);
      const missing = blockCount - blocks.length;
      const isWhole = missing === 0 && blocks.length === before.length;
      const treeBlocks = isWhole ? found?.treeBlocks ?? [] : [];
      this.#take(blocks);
      this.#take(treeBlocks);
      return { inodeNumber, blocks, missing, treeBlocks };
    });
  }

  /** The blocks of shared attributes, 0 for new ones: each stays where the first inode with them had its own. */
  #keepXattrBlocks(): number[] {
    const { inodes, matches } = this.#given;
    const order = new Map(inodes.planner.blocks.map((block, i) => [block, i]));
    const blocks = inodes.planner.blocks.map(() => 0);
    const claimed = new Set<number>();
    for (const { node, xattrs } of inodes.nodes) {
      if (xattrs.block === undefined) continue;
      const i = order.get(xattrs.block)!;
      const before = matches.inodes.get(node)?.xattrBlock ?? 0;
      if (blocks[i] !== 0 || before === 0 || claimed.has(before)) continue;
      claimed.add(before);
      blocks[i] = before;
    }
    this.#take([...claimed]);
    return blocks;
  }

  /** Room for new metadata among the blocks in use. */
  #room(payload: readonly (readonly BlockRange[])[], withWholeCells: boolean): MetadataRoom {
    const { previous, settings: { gridBlocks }, geometry } = this.#given;
    const { reserved } = geometry;
    const inUse = uniteRanges([...this.#metadata, ...payload.flat()]);
    const used = uniteRanges([...inUse, ...reserved]);
    const usedCells = uniteRanges(roundedToGrid(used, gridBlocks));
    const end = alignUp(endOf(inUse.at(-1)!), gridBlocks);
    const before = [
      ...metadataOf(previous, geometry),
      ...this.#metadata,
    ];
    const cells = uniteRanges(roundedToGrid(before, gridBlocks))
      .map((cell) => ({ ...cell, blockCount: Math.min(endOf(cell), end) - cell.startBlock }))
      .filter(({ blockCount }) => blockCount > 0);
    const free = subtractRanges(cells, used);
    const whole = subtractRanges(
      [{ startBlock: 0, blockCount: end }],
      uniteRanges([...usedCells, ...cells]),
    );
    const pieces = withWholeCells ? [...free, ...whole] : free;
    return new MetadataRoom(pieces, new AscendingAllocator(reserved, end));
  }

  /**
   * Inode tables that cannot stay are laid out one after another, as before: each block keeps its position within a
   * cell.
   */
  #tables(room: MetadataRoom): number[] {
    const { previous, settings: { gridBlocks }, keepsTables } = this.#given;
    const { groupCount, inodeTableBlocks } = this.#given.geometry;
    const blocks = keepsTables
      ? previous.groups.slice(0, groupCount).map((group) => group.inodeTableBlock)
      : [];
    if (blocks.length === groupCount) return blocks;
    if (blocks.length === 0) {
      room.behind.advanceToCongruent(previous.groups[0]!.inodeTableBlock % gridBlocks, gridBlocks);
    }
    while (blocks.length < groupCount) {
      const startBlock = room.behind.takeContiguous(inodeTableBlocks);
      this.#metadata.push({ startBlock, blockCount: inodeTableBlocks });
      blocks.push(startBlock);
    }
    return blocks;
  }

  #treeOver(
    leaves: readonly ExtentLeaf[],
    before: readonly number[],
    room: MetadataRoom,
  ): readonly number[] {
    const count = extentTreeBlockCount(leaves.length);
    return [...before.slice(0, count), ...this.#takeNew(room, Math.max(0, count - before.length))];
  }

  /** Gives each file its extents, and new files the blocks of their extent trees. */
  #mapFiles(extents: readonly (readonly Extent[])[], isKept: Uint8Array): void {
    let room: MetadataRoom | undefined;
    this.#given.files.forEach(({ inodeNumber, content }, i) => {
      const leaves = extents[i]!;
      if (leaves.length === 0) return;
      const before = isKept[i] === 1 ? content!.treeBlocks : [];
      if (extentTreeBlockCount(leaves.length) > before.length) room ??= this.#room(extents, false);
      const treeBlocks = room === undefined ? before : this.#treeOver(leaves, before, room);
      this.#inodeBlocks.set(inodeNumber, { leaves, treeBlocks });
    });
  }
}

/** Allocates metadata blocks: first from the given pieces, then after everything else. */
class MetadataRoom {
  readonly behind: AscendingAllocator;
  readonly #pieces: { startBlock: number; blockCount: number }[];
  #next = 0;

  constructor(pieces: readonly BlockRange[], behind: AscendingAllocator) {
    this.#pieces = pieces.map((piece) => ({ ...piece }));
    this.behind = behind;
  }

  take(blockCount: number): number[] {
    const blocks: number[] = [];
    while (blocks.length < blockCount) {
      const piece = this.#pieces[this.#next];
      if (piece === undefined) {
        blocks.push(...blockNumbers(this.behind.take(blockCount - blocks.length)));
      } else if (piece.blockCount === 0) {
        this.#next++;
      } else {
        blocks.push(piece.startBlock++);
        piece.blockCount--;
      }
    }
    return blocks;
  }
}

/** All metadata blocks of a previous image, and the reserved ranges. */
function metadataOf(previous: PreviousImage, { reserved }: Geometry): BlockRange[] {
  const ranges: BlockRange[] = [...reserved, ...previous.journal?.extents ?? []];
  const tableBlocks = divCeil(previous.superblock.inodesPerGroup, INODES_PER_BLOCK);
  const single = (startBlock: number) => ranges.push({ startBlock, blockCount: 1 });
  for (const group of previous.groups) {
    single(group.blockBitmapBlock);
    single(group.inodeBitmapBlock);
    ranges.push({ startBlock: group.inodeTableBlock, blockCount: tableBlocks });
  }
  previous.journal?.treeBlocks.forEach(single);
  const pending = [previous.root];
  for (let node = pending.pop(); node; node = pending.pop()) {
    node.treeBlocks.forEach(single);
    if (node.xattrBlock !== 0) single(node.xattrBlock);
    if (node.kind !== "file") ranges.push(...node.extents);
    if (node.children !== undefined) pending.push(...node.children.values());
  }
  return ranges;
}
