/**
 * From a tree and settings to the plan of an image. Pure: reads no payload, except that of inline files when their inodes
 * are written.
 *
 * @module
 */
import { formatUuid } from "../../bytes/uuid.ts";
import { divCeil } from "../../bytes/arithmetic.ts";
import { invariant } from "../../errors.ts";
import { blocksWithin, countBlocks } from "../../layout/blocks.ts";
import { hotFirst } from "../../layout/hot_order.ts";
import { isAligned, sortPayloads } from "../../layout/placement.ts";
import type { FileNode, FileTree, TreeNode } from "../../model/node.ts";
import { BLOCK_SIZE_BYTES } from "../../model/payload.ts";
import { Warnings } from "../../warnings.ts";
import { filesystemSeed, inodeSeed } from "../format/checksum.ts";
import { INODE_NUMBER, SUPERBLOCK_OFFSET_BYTES } from "../format/constants.ts";
import { type InodeRecord, InodeSlots } from "../format/inode.ts";
import { encodeJournalSuperblock } from "../format/journal.ts";
import { encodeSuperblock } from "../format/superblock.ts";
import { encodeXattrBlock, sealXattrBlock } from "../format/xattr.ts";
import {
  allocate,
  type Allocation,
  type FileDemand,
  type InodeBlocks,
  layoutRules,
} from "./allocation.ts";
import { encodeExtentTree } from "../format/extent.ts";
import { BLOCKS_PER_GROUP, INODE_SIZE_BYTES } from "./geometry.ts";
import {
  buildGroupTables,
  CHECKSUM_SEED,
  encodeDescriptorTable,
  type GroupTables,
  primarySuperblock,
} from "./groups.ts";
import type {
  FileLayout,
  ImagePlan,
  MetadataWrite,
  PayloadWrite,
  PlanSummary,
} from "./image_plan.ts";
import {
  draftInodes,
  type DraftOptions,
  type InodeDrafts,
  type NodeDraft,
  type ValueDraft,
} from "./inode_drafts.ts";
import { checkAttributes, journalRecord, nodeRecord, valueRecord } from "./inode_records.ts";
import { allocateAmongKept } from "./kept_allocation.ts";
import { type PreviousImage, PreviousMatches } from "./previous.ts";
import type { Settings } from "./settings.ts";
import { driftOf, staleExcess, staleRanges, staleWrites } from "./stale.ts";

/** Inodes that are encoded at a time. */
const INODES_PER_WRITE = 1024;

/** A previous image that a plan is to continue. */
export interface Continuation {
  /** Where everything was. */
  readonly previous: PreviousImage;
  /** Blocks that are given up keep their bytes. */
  readonly keepsStale: boolean;
}

/** What decides where files are placed; at most one of them. */
export interface PlacementInput {
  /** A previous image, whose blocks are kept where nothing changed. */
  readonly continuation?: Continuation | undefined;
  /** Files that are placed first, in this order. */
  readonly hot?: readonly FileNode[] | undefined;
}

/** Plans an image. */
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
  checkAttributes(inodes.drafts, warnings);
  const files = fileDemands(inodes, settings);
  if (hot.length === 0) {
    return buildPlan(allocate({ inodes, files }, settings), inodes, files, settings);
  }
  const ranks = new Map<TreeNode, number>(hot.map((node, rank) => [node, rank]));
  const hotOrder = hotFirst(files, layoutRules(settings), ({ draft }) => ranks.get(draft.node));
  const layout = allocate({ inodes, files: hotOrder.files, hotOrder }, settings);
  return buildPlan(layout, inodes, hotOrder.files, settings, hotOrder.isCopy);
}

/** Continues a previous image, unless it drifted too far from what a fresh layout would be. */
function planAfter(
  tree: FileTree,
  settings: Settings,
  warnings: Warnings,
  { previous, keepsStale }: Continuation,
): ImagePlan {
  const matches = new PreviousMatches(tree, previous);
  // What is counted as a warning is counted once, by the fresh plan.
  const fresh = planAfresh(tree, settings, warnings);
  const inodes = draftInodes(tree, {
    ...draftOptions(settings, new Warnings()),
    numbers: matches.numbers(),
    previousIndexOf: (node) => matches.indexOf(node),
  });
  const files = fileDemands(inodes, settings);
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
  throw new Error("Invariant broken: an image without stale bytes has too many");
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
  return {
    seed: seedOf(settings),
    metadataChecksums: settings.metadataChecksums,
    inlineData: settings.inlineData,
    valueInodesRefusedBy: settings.valueInodesRefusedBy,
    warnings,
  };
}

function seedOf(settings: Settings): number {
  return settings.constantSeed ? CHECKSUM_SEED : filesystemSeed(settings.uuid);
}

/** The files with payload, in their order on disk. */
function fileDemands(inodes: InodeDrafts, settings: Settings): FileDemand[] {
  const files: FileDemand[] = [];
  for (const draft of inodes.drafts) {
    if (draft.kind !== "node" || draft.isInline || draft.node.kind !== "file") continue;
    const directory = draft.parentInodeNumber;
    files.push({ draft, payload: draft.node.payload, directory, nameHash: draft.nameHash });
  }
  sortPayloads(files, settings.payloadOrder, ({ draft }) => draft.node);
  return files;
}

function buildPlan(
  layout: Allocation,
  inodes: InodeDrafts,
  files: readonly FileDemand[],
  settings: Settings,
  isCopy?: Uint8Array,
): ImagePlan {
  const seed = settings.metadataChecksums ? seedOf(settings) : undefined;
  const layouts: FileLayout[] = files.map(({ draft, payload }, i) => ({
    draft,
    payload,
    isAligned: isAligned(payload, settings),
    extents: layout.placement.extents[i]!,
  }));
  const builder = new PlanBuilder(layout, inodes, settings, seed);
  if (isCopy === undefined) return builder.build(layouts, []);
  return builder.build(
    layouts.filter((_, i) => isCopy[i] === 0),
    layouts.filter((_, i) => isCopy[i] === 1),
  );
}

/** Turns an allocation into writes. */
class PlanBuilder {
  readonly #layout: Allocation;
  readonly #inodes: InodeDrafts;
  readonly #settings: Settings;
  /** Undefined without checksums. */
  readonly #seed: number | undefined;
  readonly #writes: MetadataWrite[] = [];

  constructor(
    layout: Allocation,
    inodes: InodeDrafts,
    settings: Settings,
    seed: number | undefined,
  ) {
    this.#layout = layout;
    this.#inodes = inodes;
    this.#settings = settings;
    this.#seed = seed;
  }

  /** @param copies what is written to free blocks */
  build(files: readonly FileLayout[], copies: readonly FileLayout[]): ImagePlan {
    const { totalBlocks, geometry, usedRanges } = this.#layout;
    const tables = buildGroupTables(this.#layout, {
      seed: this.#seed,
      lastInodeNumber: this.#inodes.lastInodeNumber,
      freeInodeNumbers: this.#inodes.freeInodeNumbers,
      directoryInodes: this.#inodes.drafts
        .filter((draft) => draft.kind === "node" && draft.node.kind === "directory")
        .map((draft) => draft.inodeNumber),
    });
    for (const bitmap of tables.bitmaps) this.#writes.push(bitmap);
    this.#addSuperblocks(tables);
    this.#addInodeTables();
    this.#addJournal();
    this.#addContent();
    this.#addXattrBlocks();
    const metadata = this.#writes.sort((a, b) => a.offsetBytes - b.offsetBytes);
    const payload = payloadWrites([...files, ...copies]);
    const { gridBlocks } = this.#settings;
    const inlinePayloads = this.#inodes.drafts.flatMap((draft) =>
      draft.kind === "node" && draft.isInline && draft.node.kind === "file"
        ? [draft.node.payload]
        : []
    );
    const placed = { totalBlocks, geometry, usedRanges, gridBlocks, files };
    const plan = { ...placed, metadata, payload, inlinePayloads };
    const summary = summarize(plan, {
      layout: this.#layout,
      inodes: this.#inodes,
      freeInodes: tables.freeInodesCount,
      uuid: this.#settings.uuid,
    });
    return { ...plan, summary };
  }

  #add(offsetBytes: number, sizeBytes: number, encode: () => Uint8Array): void {
    this.#writes.push({ offsetBytes, sizeBytes, encode });
  }

  #addSuperblocks(tables: GroupTables): void {
    const { geometry } = this.#layout;
    const journal = this.#layout.journal;
    const superblock = primarySuperblock(this.#layout, tables, {
      settings: this.#settings,
      used: { valueInodes: this.#inodes.planner.valueInodes.length > 0 },
      journalMap: journal && this.#tree(INODE_NUMBER.JOURNAL, journal).root,
    });
    const table = encodeDescriptorTable(this.#layout, tables, this.#seed);
    for (const { startBlock } of geometry.reserved) {
      const blockGroupNumber = startBlock / BLOCKS_PER_GROUP;
      // s_block_group_nr has 16 bits; the kernel does not read it, and e2fsck is satisfied with them.
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

  /** The used parts of the tables; the rest stays a hole. */
  #addInodeTables(): void {
    const { geometry, inodeTableBlocks } = this.#layout;
    const byNumber = this.#recordsByNumber();
    const last = this.#inodes.lastInodeNumber;
    for (let first = 1; first <= last;) {
      const group = Math.floor((first - 1) / geometry.inodesPerGroup);
      const groupEnd = (group + 1) * geometry.inodesPerGroup + 1;
      const end = Math.min(first + INODES_PER_WRITE, groupEnd, last + 1);
      const indexInGroup = first - 1 - group * geometry.inodesPerGroup;
      const firstInode = first;
      this.#add(
        inodeTableBlocks[group]! * BLOCK_SIZE_BYTES + indexInGroup * INODE_SIZE_BYTES,
        (end - first) * INODE_SIZE_BYTES,
        () => this.#encodeInodes(byNumber, firstInode, end),
      );
      first = end;
    }
  }

  #encodeInodes(
    recordOf: (inodeNumber: number) => InodeRecord | undefined,
    first: number,
    end: number,
  ): Uint8Array {
    const slots = new InodeSlots(first, end - first, INODE_SIZE_BYTES, this.#seed);
    for (let inodeNumber = first; inodeNumber < end; inodeNumber++) {
      const record = recordOf(inodeNumber);
      if (record !== undefined) slots.put(inodeNumber, record);
    }
    return slots.bytes;
  }

  #recordsByNumber(): (inodeNumber: number) => InodeRecord | undefined {
    const { drafts, planner } = this.#inodes;
    const xattrBlockOf = new Map(planner.blocks.map((block, i) => [block, i]));
    const record = (draft: NodeDraft | ValueDraft): InodeRecord => {
      const blocks = this.#layout.inodeBlocks.get(draft.inodeNumber);
      const context = { seed: this.#seed, blocks, xattrBlock: 0 };
      if (draft.kind === "value") return valueRecord(draft, context);
      const { block } = draft.xattrs;
      const xattrBlock = block === undefined
        ? 0
        : this.#layout.xattrBlocks[xattrBlockOf.get(block)!]!;
      return nodeRecord(draft, { ...context, xattrBlock });
    };
    const draftOf: (NodeDraft | ValueDraft | undefined)[] = [];
    for (const draft of drafts) {
      while (draftOf.length < draft.inodeNumber) draftOf.push(undefined);
      draftOf[draft.inodeNumber] = draft;
    }
    return (inodeNumber) => {
      if (inodeNumber === INODE_NUMBER.JOURNAL) return this.#journalRecord();
      const draft = draftOf[inodeNumber];
      return draft && record(draft);
    };
  }

  #journalRecord(): InodeRecord | undefined {
    const { journal } = this.#layout;
    if (journal === undefined) return undefined;
    const { journalBlocks, timestamp } = this.#settings;
    return journalRecord(INODE_NUMBER.JOURNAL, journalBlocks, {
      seed: this.#seed,
      blocks: journal,
      xattrBlock: 0,
      timestamp,
    });
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

  /** Directories, long symlinks, attribute values, and all extent tree blocks. */
  #addContent(): void {
    for (const [inodeNumber, blocks] of this.#layout.inodeBlocks.entries()) {
      this.#addTree(inodeNumber, blocks);
    }
    for (const { content, inodeNumber } of this.#inodes.drafts) {
      if (content === undefined) continue;
      for (const leaf of this.#layout.inodeBlocks.get(inodeNumber)?.leaves ?? []) {
        const sizeBytes = leaf.blockCount * BLOCK_SIZE_BYTES;
        const at = leaf.logicalBlock * BLOCK_SIZE_BYTES;
        this.#add(
          leaf.startBlock * BLOCK_SIZE_BYTES,
          sizeBytes,
          () => content.encode().subarray(at, at + sizeBytes),
        );
      }
    }
  }

  #addXattrBlocks(): void {
    this.#inodes.planner.blocks.forEach((block, i) => {
      const blockNumber = this.#layout.xattrBlocks[i]!;
      this.#add(blockNumber * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, () => {
        const { xattrs, referenceCount } = block;
        const options = { blockSizeBytes: BLOCK_SIZE_BYTES, referenceCount };
        const encoded = encodeXattrBlock(xattrs, options);
        if (this.#seed !== undefined) sealXattrBlock(encoded, { blockNumber, seed: this.#seed });
        return encoded;
      });
    });
  }

  #addTree(inodeNumber: number, blocks: InodeBlocks): void {
    if (blocks.treeBlocks.length === 0) return;
    let encoded: Uint8Array | undefined;
    blocks.treeBlocks.forEach((block, i) => {
      this.#add(block * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, () => {
        encoded ??= this.#tree(inodeNumber, blocks).blocks;
        return encoded.subarray(i * BLOCK_SIZE_BYTES, (i + 1) * BLOCK_SIZE_BYTES);
      });
    });
  }

  #tree(inodeNumber: number, blocks: InodeBlocks): { root: Uint8Array; blocks: Uint8Array } {
    const seed = this.#seed === undefined ? undefined : inodeSeed(this.#seed, inodeNumber, 0);
    return encodeExtentTree(blocks.leaves, blocks.treeBlocks, seed);
  }
}

/** Runs of payload; the part of a last block behind a file's end is zeros. */
function payloadWrites(files: readonly FileLayout[]): PayloadWrite[] {
  const writes: PayloadWrite[] = [];
  for (const { payload, extents } of files) {
    const fileBlocks = divCeil(payload.sizeBytes, BLOCK_SIZE_BYTES);
    for (const { startBlock, logicalBlock, blockCount } of extents) {
      const inFile = Math.min(blockCount, fileBlocks - logicalBlock);
      writes.push({ startBlock, blockCount: inFile, logicalBlock, payload });
    }
  }
  const ascends = writes.every((write, i) =>
    i === 0 || write.startBlock > writes[i - 1]!.startBlock
  );
  return ascends ? writes : writes.sort((a, b) => a.startBlock - b.startBlock);
}

/** Counts what a plan holds. */
export function summarize(
  plan: Omit<ImagePlan, "summary">,
  facts: {
    readonly layout: Allocation;
    readonly inodes: InodeDrafts;
    readonly freeInodes: number;
    readonly uuid: Uint8Array;
  },
): PlanSummary {
  const kinds = countKinds(facts.inodes);
  const { placement } = facts.layout;
  const { startBlock, endBlock } = placement;
  const paddingBlocks = endBlock - startBlock -
    blocksWithin(plan.usedRanges, { startBlock, endBlock });
  return {
    uuid: formatUuid(facts.uuid),
    sizeBytes: plan.totalBlocks * BLOCK_SIZE_BYTES,
    usedBytes: countBlocks(plan.usedRanges) * BLOCK_SIZE_BYTES,
    ...kinds,
    inodes: plan.geometry.groupCount * plan.geometry.inodesPerGroup,
    freeInodes: facts.freeInodes,
    alignedFiles: placement.alignedCount,
    paddingBytes: paddingBlocks * BLOCK_SIZE_BYTES,
  };
}

function countKinds(
  inodes: InodeDrafts,
): Pick<PlanSummary, "files" | "directories" | "symlinks" | "specialFiles"> {
  const counts = { files: 0, directories: 0, symlinks: 0, specialFiles: 0 };
  for (const draft of inodes.drafts) {
    if (draft.kind !== "node") continue;
    const { kind } = draft.node;
    if (kind === "file") counts.files++;
    else if (kind === "directory") counts.directories++;
    else if (kind === "symlink") counts.symlinks++;
    else counts.specialFiles++;
  }
  return counts;
}
