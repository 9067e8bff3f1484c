/**
 * Plans an image from a tree and settings. Pure: reads no payload, except that of inline files when their inodes are
 * written.
 *
 * @module
 */
import { formatUuid } from "../../bytes/digest.ts";
import { firstIndex } from "../../bytes/arithmetic.ts";
import { invariant } from "../../errors.ts";
import { blocksWithin, countBlocks } from "../../layout/blocks.ts";
import { hotFirst, isAligned, sortPayloads } from "../../layout/placement.ts";
import { BLOCK_SIZE_BYTES, type FileNode, type FileTree, type TreeNode } from "../../model/node.ts";
import { Warnings } from "../../warnings.ts";
import { filesystemSeed, inodeSeed } from "../format/checksum.ts";
import { INODE_NUMBER, SUPERBLOCK_OFFSET_BYTES } from "../format/constants.ts";
import { INODE_BLOCK_FIELD_SIZE_BYTES, InodeSlots } from "../format/inode.ts";
import { encodeJournalSuperblock } from "../format/journal.ts";
import { encodeSuperblock } from "../format/superblock.ts";
import { encodeXattrBlock, sealXattrBlock } from "../format/xattr.ts";
import { allocate, type Allocation, type InodeBlocks, layoutRules } from "./allocation.ts";
import { encodeExtentTree } from "../format/extent.ts";
import {
  BLOCKS_PER_GROUP,
  buildGroupTables,
  CHECKSUM_SEED,
  encodeDescriptorTable,
  type GroupTables,
  INODE_SIZE_BYTES,
  primarySuperblock,
} from "./groups.ts";
import type { FileLayout, ImagePlan, MetadataWrite, PlanSummary } from "./image_plan.ts";
import {
  draftInodes,
  type DraftOptions,
  type FileDraft,
  type InodeDrafts,
  NodeDraft,
  type ValueDraft,
  withContent,
} from "./inode_drafts.ts";
import { checkAttributes, journalRecord, nodeRecord, valueRecord } from "./inode_records.ts";
import { allocateAmongKept } from "./kept_allocation.ts";
import {
  driftOf,
  type PreviousImage,
  PreviousMatches,
  staleExcess,
  staleRanges,
  staleWrites,
} from "./previous.ts";
import type { Settings } from "./settings.ts";
import type { SharedXattrBlock } from "./xattrs.ts";

const INODES_PER_WRITE = 1024;

/** A previous image that a plan continues. */
export interface Continuation {
  /** The layout of the previous image. */
  readonly previous: PreviousImage;
  /** Whether freed blocks keep their bytes. */
  readonly keepsStale: boolean;
}

/** Inputs that decide where files are placed; at most one of them. */
interface PlacementInput {
  /** A previous image, whose blocks are kept where nothing changed. */
  readonly continuation?: Continuation | undefined;
  /** Files to place first, in this order. */
  readonly hot?: readonly FileNode[] | undefined;
}

export function planExt4(
  tree: FileTree,
  settings: Settings,
  warnings: Warnings,
  { continuation, hot }: PlacementInput = {},
): ImagePlan {
  if (continuation === undefined) return planAfresh(tree, settings, warnings, hot);
  invariant(hot === undefined, "files that stay where they are cannot come first");
  return planAfter(tree, settings, warnings, continuation);
}

function planAfresh(
  tree: FileTree,
  settings: Settings,
  warnings: Warnings,
  hot: readonly FileNode[] = [],
): ImagePlan {
  const inodes = draftInodes(tree, draftOptions(settings, warnings));
  checkAttributes(inodes.nodes, warnings);
  const files = filesOnDisk(inodes, settings);
  if (hot.length === 0) {
    return buildPlan(allocate({ inodes, files }, settings), inodes, files, settings);
  }
  const ranks = new Map<TreeNode, number>(hot.map((node, rank) => [node, rank]));
  const hotOrder = hotFirst(files, layoutRules(settings), ({ node }) => ranks.get(node));
  const layout = allocate({ inodes, files: hotOrder.files }, settings, hotOrder);
  return buildPlan(layout, inodes, hotOrder.files, settings, hotOrder.isCopy);
}

/** Continues a previous image, unless it has drifted too far from a fresh layout. */
function planAfter(
  tree: FileTree,
  settings: Settings,
  warnings: Warnings,
  { previous, keepsStale }: Continuation,
): ImagePlan {
  const matches = new PreviousMatches(tree, previous);
  // Only the fresh plan counts warnings, so each is counted once.
  const fresh = planAfresh(tree, settings, warnings);
  const inodes = draftInodes(tree, {
    ...draftOptions(settings, new Warnings()),
    numbers: matches.numbers(),
    previousIndexOf: (node) => matches.inodes.get(node)?.index,
  });
  const files = filesOnDisk(inodes, settings);
  const demand = { inodes, files, previous, matches };
  let staleCleared: string | undefined;
  for (const keeps of keepsStale ? [true, false] : [false]) {
    const layout = allocateAmongKept({ ...demand, keepsStale: keeps }, settings);
    if (typeof layout === "string") return afreshBecause(layout, fresh);
    const plan = buildPlan(layout, inodes, files, settings);
    const why = driftOf(plan, fresh);
    if (why !== undefined) return afreshBecause(why, fresh);
    const stale = keeps ? staleRanges(plan, layout.isKept, previous) : [];
    staleCleared ??= staleExcess(countBlocks(stale) * BLOCK_SIZE_BYTES, fresh);
    if (keeps && staleCleared !== undefined) continue;
    const metadata = [...plan.metadata, ...stale.flatMap((range) => staleWrites(range, previous))];
    const keptFiles = layout.isKept.reduce((sum, each) => sum + each, 0);
    return {
      ...plan,
      metadata: metadata.sort((a, b) => a.offsetBytes - b.offsetBytes),
      kept: {
        keptFiles,
        placedFiles: withBlocks(plan.files).length - keptFiles,
        staleBytes: countBlocks(stale) * BLOCK_SIZE_BYTES,
        staleCleared,
        afresh: undefined,
      },
    };
  }
  invariant(false, "an image without stale bytes has too many of them");
}

function afreshBecause(why: string, fresh: ImagePlan): ImagePlan {
  const placedFiles = withBlocks(fresh.files).length;
  const kept = { keptFiles: 0, placedFiles, staleBytes: 0, staleCleared: undefined, afresh: why };
  return { ...fresh, kept };
}

function withBlocks(files: readonly FileLayout[]): readonly FileLayout[] {
  return files.filter(({ extents }) => extents.length > 0);
}

function draftOptions(settings: Settings, warnings: Warnings): DraftOptions {
  return { ...settings, seed: seedOf(settings), warnings };
}

function seedOf(settings: Settings): number {
  return settings.constantSeed ? CHECKSUM_SEED : filesystemSeed(settings.uuid);
}

/** The files with payload, in disk order. */
function filesOnDisk({ nodes }: InodeDrafts, settings: Settings): FileDraft[] {
  const files = nodes.filter(({ node, isInline }) => node.kind === "file" && !isInline);
  sortPayloads(files as FileDraft[], settings.payloadOrder, ({ node }) => node);
  return files as FileDraft[];
}

/** @param isCopy 1 for a file whose blocks stay free */
function buildPlan(
  layout: Allocation,
  inodes: InodeDrafts,
  files: readonly FileDraft[],
  settings: Settings,
  isCopy?: Uint8Array,
): ImagePlan {
  const layouts = files.map((draft, i) => ({
    draft,
    payload: draft.payload,
    isAligned: isAligned(draft.payload, settings),
    extents: layout.placement.extents[i]!,
  }));
  const own = isCopy === undefined ? layouts : layouts.filter((_, i) => isCopy[i] === 0);
  return new PlanBuilder(layout, inodes, settings).build(own);
}

class PlanBuilder {
  readonly #layout: Allocation;
  readonly #inodes: InodeDrafts;
  readonly #settings: Settings;
  /** Undefined without checksums. */
  readonly #seed: number | undefined;
  readonly #writes: MetadataWrite[] = [];

  constructor(layout: Allocation, inodes: InodeDrafts, settings: Settings) {
    this.#layout = layout;
    this.#inodes = inodes;
    this.#settings = settings;
    this.#seed = settings.metadataChecksums ? seedOf(settings) : undefined;
  }

  build(files: readonly FileLayout[]): ImagePlan {
    const { totalBlocks, geometry, usedRanges } = this.#layout;
    const { nodes, lastInodeNumber, freeInodeNumbers } = this.#inodes;
    const tables = buildGroupTables(this.#layout, {
      seed: this.#seed,
      lastInodeNumber,
      freeInodeNumbers,
      directoryInodes: nodes
        .filter(({ node }) => node.kind === "directory")
        .map(({ inodeNumber }) => inodeNumber),
    });
    for (const { block, encode } of tables.bitmaps) {
      this.#addBlocks(block, 1, encode);
    }
    this.#addSuperblocks(tables);
    this.#addInodeTables();
    this.#addJournal();
    this.#addContent();
    this.#addXattrBlocks();
    const plan = {
      totalBlocks,
      geometry,
      usedRanges,
      gridBlocks: this.#settings.gridBlocks,
      files,
      metadata: this.#writes.sort((a, b) => a.offsetBytes - b.offsetBytes),
      payload: inOrder(this.#layout.placement.extents.flat(), ({ startBlock }) => startBlock),
      inlinePayloads: nodes.flatMap(({ node, isInline }) =>
        isInline && node.kind === "file" ? [node.payload] : []
      ),
    };
    return { ...plan, summary: this.#summary(tables) };
  }

  #summary({ freeInodesCount }: GroupTables): PlanSummary {
    const { totalBlocks, geometry, usedRanges, placement } = this.#layout;
    const { startBlock, endBlock, alignedCount } = placement;
    const usedWithin = blocksWithin(usedRanges, { startBlock, endBlock });
    const counts = { files: 0, directories: 0, symlinks: 0, specialFiles: 0 };
    for (const { node: { kind } } of this.#inodes.nodes) {
      if (kind === "file") counts.files++;
      else if (kind === "directory") counts.directories++;
      else if (kind === "symlink") counts.symlinks++;
      else counts.specialFiles++;
    }
    return {
      uuid: formatUuid(this.#settings.uuid),
      sizeBytes: totalBlocks * BLOCK_SIZE_BYTES,
      usedBytes: countBlocks(usedRanges) * BLOCK_SIZE_BYTES,
      ...counts,
      inodes: geometry.groupCount * geometry.inodesPerGroup,
      freeInodes: freeInodesCount,
      alignedFiles: alignedCount,
      paddingBytes: (endBlock - startBlock - usedWithin) * BLOCK_SIZE_BYTES,
    };
  }

  #add(offsetBytes: number, sizeBytes: number, encode: () => Uint8Array): void {
    this.#writes.push({ offsetBytes, sizeBytes, encode });
  }

  #addBlocks(startBlock: number, blockCount: number, encode: () => Uint8Array): void {
    this.#add(startBlock * BLOCK_SIZE_BYTES, blockCount * BLOCK_SIZE_BYTES, encode);
  }

  #addSuperblocks(tables: GroupTables): void {
    const { geometry, journal } = this.#layout;
    const superblock = primarySuperblock(this.#layout, tables, {
      settings: this.#settings,
      used: { valueInodes: this.#inodes.values.length > 0 },
      journalMap: journal && this.#tree(INODE_NUMBER.JOURNAL, journal).root,
    });
    const table = encodeDescriptorTable(this.#layout, tables, this.#seed);
    for (const { startBlock } of geometry.reserved) {
      const blockGroupNumber = startBlock / BLOCKS_PER_GROUP;
      // s_block_group_nr has 16 bits; the kernel ignores it, and e2fsck accepts the low 16 bits.
      const encoded = encodeSuperblock({
        ...superblock,
        blockGroupNumber: blockGroupNumber % 2 ** 16,
      });
      const startBytes = startBlock * BLOCK_SIZE_BYTES;
      // Only the primary superblock leaves room for a boot sector.
      const inset = blockGroupNumber === 0 ? SUPERBLOCK_OFFSET_BYTES : 0;
      this.#add(startBytes + inset, encoded.length, () => encoded);
      this.#add(startBytes + BLOCK_SIZE_BYTES, table.length, () => table);
    }
  }

  /** Writes the used parts of the tables; the rest stays a hole. */
  #addInodeTables(): void {
    const { geometry, inodeTableBlocks } = this.#layout;
    const { nodes, values, lastInodeNumber: last, planner } = this.#inodes;
    const drafts = inOrder<NodeDraft | ValueDraft>(
      values.length === 0 ? nodes : [...nodes, ...values],
      ({ inodeNumber }) => inodeNumber,
    );
    const xattrBlocks = new Map(
      planner.blocks.map((block, i) => [block, this.#layout.xattrBlocks[i]!]),
    );
    for (let first = 1; first <= last;) {
      const group = Math.floor((first - 1) / geometry.inodesPerGroup);
      const groupStart = group * geometry.inodesPerGroup + 1;
      const end = Math.min(
        first + INODES_PER_WRITE,
        groupStart + geometry.inodesPerGroup,
        last + 1,
      );
      const firstInode = first;
      this.#add(
        inodeTableBlocks[group]! * BLOCK_SIZE_BYTES + (first - groupStart) * INODE_SIZE_BYTES,
        (end - first) * INODE_SIZE_BYTES,
        () => this.#encodeInodes(drafts, xattrBlocks, firstInode, end),
      );
      first = end;
    }
  }

  /** @param drafts in the order of their numbers */
  #encodeInodes(
    drafts: readonly (NodeDraft | ValueDraft)[],
    xattrBlocks: ReadonlyMap<SharedXattrBlock, number>,
    first: number,
    end: number,
  ): Uint8Array {
    const slots = new InodeSlots(first, end - first, INODE_SIZE_BYTES, this.#seed);
    const { journal, inodeBlocks } = this.#layout;
    const blockField = new Uint8Array(INODE_BLOCK_FIELD_SIZE_BYTES);
    const context = { seed: this.#seed, blocks: journal, xattrBlock: 0, blockField };
    const journalInode = INODE_NUMBER.JOURNAL;
    if (journal !== undefined && first <= journalInode && journalInode < end) {
      slots.put(journalInode, journalRecord(journalInode, this.#settings, context));
    }
    const from = firstIndex(drafts.length, (i) => drafts[i]!.inodeNumber >= first);
    for (let i = from; i < drafts.length && drafts[i]!.inodeNumber < end; i++) {
      const draft = drafts[i]!;
      context.blocks = inodeBlocks.get(draft.inodeNumber);
      if (!(draft instanceof NodeDraft)) {
        slots.put(draft.inodeNumber, valueRecord(draft, { ...context, xattrBlock: 0 }));
        continue;
      }
      const { block } = draft.xattrs;
      context.xattrBlock = block === undefined ? 0 : xattrBlocks.get(block)!;
      slots.put(draft.inodeNumber, nodeRecord(draft, context));
    }
    return slots.bytes;
  }

  #addJournal(): void {
    const { journal } = this.#layout;
    if (journal === undefined) return;
    this.#addTree(INODE_NUMBER.JOURNAL, journal);
    const superblock = encodeJournalSuperblock({
      blockSizeBytes: BLOCK_SIZE_BYTES,
      blockCount: this.#settings.journalBlocks,
      uuid: this.#settings.uuid,
    });
    const startBytes = journal.leaves[0]!.startBlock * BLOCK_SIZE_BYTES;
    this.#add(startBytes, superblock.length, () => superblock);
  }

  /** Adds directories, long symlinks, attribute values, and all extent tree blocks. */
  #addContent(): void {
    for (const [inodeNumber, blocks] of this.#layout.inodeBlocks.withTrees()) {
      this.#addTree(inodeNumber, blocks);
    }
    for (const { content, inodeNumber } of withContent(this.#inodes)) {
      const leaves = this.#layout.inodeBlocks.get(inodeNumber)?.leaves ?? [];
      for (const { startBlock, blockCount, logicalBlock } of leaves) {
        const at = logicalBlock * BLOCK_SIZE_BYTES;
        const end = at + blockCount * BLOCK_SIZE_BYTES;
        this.#addBlocks(startBlock, blockCount, () => content.encode().subarray(at, end));
      }
    }
  }

  #addXattrBlocks(): void {
    this.#inodes.planner.blocks.forEach((block, i) => {
      const blockNumber = this.#layout.xattrBlocks[i]!;
      this.#addBlocks(blockNumber, 1, () => {
        const { xattrs, referenceCount } = block;
        const options = { blockSizeBytes: BLOCK_SIZE_BYTES, referenceCount };
        const encoded = encodeXattrBlock(xattrs, options);
        if (this.#seed !== undefined) sealXattrBlock(encoded, { blockNumber, seed: this.#seed });
        return encoded;
      });
    });
  }

  #addTree(inodeNumber: number, blocks: InodeBlocks): void {
    let encoded: Uint8Array | undefined;
    blocks.treeBlocks.forEach((block, i) => {
      this.#addBlocks(block, 1, () => {
        encoded ??= this.#tree(inodeNumber, blocks).blocks;
        return encoded.subarray(i * BLOCK_SIZE_BYTES, (i + 1) * BLOCK_SIZE_BYTES);
      });
    });
  }

  #tree(inodeNumber: number, { leaves, treeBlocks }: InodeBlocks) {
    const seed = this.#seed === undefined ? undefined : inodeSeed(this.#seed, inodeNumber, 0);
    return encodeExtentTree(leaves, treeBlocks, seed);
  }
}

/** Sorts by a unique number. Nearly always the order is right already. */
function inOrder<T>(things: readonly T[], numberOf: (thing: T) => number): readonly T[] {
  const ascends = things.every((thing, i) => i === 0 || numberOf(thing) > numberOf(things[i - 1]!));
  return ascends ? things : things.toSorted((a, b) => numberOf(a) - numberOf(b));
}
