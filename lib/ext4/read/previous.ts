/**
 * Reads what a plan needs from a previous image: its inodes by path, the blocks of each, and the layout of hashed
 * directories.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { exactSize } from "../../bytes/arithmetic.ts";
import { type ByteString, displayName } from "../../bytes/byte_string.ts";
import { InputError, throwIfAborted } from "../../errors.ts";
import { appendExtents, type Extent, isAligned } from "../../layout/placement.ts";
import { isCongruent } from "../../layout/kept.ts";
import { BLOCK_SIZE_BYTES } from "../../model/node.ts";
import { EXTENT_BLOCKS_MAX, INCOMPAT, INODE_FLAG, INODE_NUMBER } from "../format/constants.ts";
import type { DirectoryEntries } from "../format/directory.ts";
import { decodeDxNode, decodeDxRoot, type DxEntry, HASH_SEED } from "../format/htree.ts";
import type { DirectoryIndex, DirectoryIndexNode, DirectoryLeaf } from "../plan/directories.ts";
import { extentTreeBlockCount } from "../format/extent.ts";
import { BLOCKS_PER_GROUP, featureWords, INODE_SIZE_BYTES } from "../plan/groups.ts";
import type { PreviousImage, PreviousNode } from "../plan/previous.ts";
import type { Settings } from "../plan/settings.ts";
import { type MappedRun, physicalBlock } from "../volume/block_map.ts";
import { type DirectoryWalk, DirectoryWalker } from "../volume/directory.ts";
import { featureNames } from "../volume/superblock.ts";
import { blockRuns, filePayload } from "./content.ts";
import {
  BlockBudget,
  DEFAULT_READ_LIMITS,
  type Ext4Image,
  hasFlag,
  hasInlineData,
  type ImageInode,
} from "./image.ts";

export type PreviousStructures = Pick<
  PreviousImage,
  "name" | "superblock" | "groups" | "journal" | "root"
>;

const YIELD_AFTER_NAMES = 256;

/**
 * Reads the structures of an image that a plan with these settings will continue, and the bytes of its files once.
 *
 * @throws {InputError} for an image that is damaged, or was made with other options
 */
export async function readPrevious(
  image: Ext4Image,
  settings: Settings,
  signal?: AbortSignal,
): Promise<PreviousStructures> {
  checkOptions(image, settings);
  const groups = Array.from({ length: image.groupCount }, (_, index) => {
    const { descriptor } = image.group(index);
    if (descriptor === undefined) {
      throw new InputError(image.name, `its group ${index} has no descriptor`);
    }
    return descriptor;
  });
  return {
    name: image.name,
    superblock: image.superblock,
    groups,
    journal: readJournal(image, settings),
    root: await new NodeReader(image, settings, signal).readAll(),
  };
}

/** Only an image made with the same options can be continued. */
function checkOptions(image: Ext4Image, settings: Settings): void {
  const { superblock, geometry } = image;
  const refuse = (
    why: string,
    hint = "lay the image out afresh, without a previous one",
  ): never => {
    throw new InputError(image.name, `cannot be continued: ${why}`, { code: "unsupported", hint });
  };
  const expect = (what: string, found: number, wanted: number) => {
    if (found !== wanted) refuse(`it has ${what} ${found}, wanted ${wanted}`);
  };
  expect("blocks of", geometry.blockSizeBytes, BLOCK_SIZE_BYTES);
  expect("inodes of", geometry.inodeSizeBytes, INODE_SIZE_BYTES);
  // Whether there are value inodes depends on the content.
  const wanted = featureWords(settings, { valueInodes: false });
  const found = { ...superblock, featureIncompat: superblock.featureIncompat & ~INCOMPAT.EA_INODE };
  const [has, wants] = [featureNames(found), featureNames(wanted)];
  const extra = has.filter((name) => !wants.includes(name));
  const missing = wants.filter((name) => !has.includes(name));
  if (extra.length + missing.length > 0) {
    const parts = [
      ...extra.length > 0 ? [`it has ${extra.join(", ")}`] : [],
      ...missing.length > 0 ? [`it lacks ${missing.join(", ")}`] : [],
    ];
    const hint = [...extra, ...missing].includes("has_journal")
      ? "make both with a journal or both without; an image with a hash tree has none"
      : undefined;
    refuse(`its features differ from those of the options: ${parts.join("; ")}`, hint);
  }
  expect("a first data block", geometry.firstDataBlock, 0);
  expect("blocks per group", geometry.blocksPerGroup, BLOCKS_PER_GROUP);
  expect("bytes in a group descriptor", geometry.descriptorSizeBytes, settings.wide ? 64 : 32);
  if (superblock.hashSeed.some((word, i) => word !== HASH_SEED[i])) {
    refuse("blessfs did not make it, for its directories are hashed with another seed");
  }
}

/** The journal stays where it is, so it must have the requested size. */
function readJournal(image: Ext4Image, settings: Settings): PreviousImage["journal"] {
  if (settings.journalBlocks === 0) return undefined;
  const { extents, treeBlocks } = readMap(image, image.inode(INODE_NUMBER.JOURNAL));
  const blocks = extents.reduce((sum, { blockCount }) => sum + blockCount, 0);
  if (blocks === settings.journalBlocks) return { extents, treeBlocks };
  const [found, wanted] = [blocks, settings.journalBlocks]
    .map((count) => exactSize(count * BLOCK_SIZE_BYTES));
  const why = `cannot be continued: its journal has ${found}, wanted ${wanted}`;
  throw new InputError(image.name, why, {
    code: "unsupported",
    remedies: [{ option: "journalBytes", change: "set", to: "keep its size" }],
  });
}

type BlockMap = Pick<PreviousNode, "extents" | "treeBlocks"> & {
  readonly runs: readonly MappedRun[];
};

/** The map of an inode in the form that a plan makes; no extents if some of its blocks are unwritten. */
function readMap(image: Ext4Image, inode: ImageInode): BlockMap {
  const mapBlocks: { blockNumber: number; depth: number; logicalBlock: number }[] = [];
  const runs = blockRuns(image, inode, { onMapBlock: (block) => mapBlocks.push({ ...block }) });
  const extents: Extent[] = [];
  if (runs.some(({ unwritten }) => unwritten)) return { runs, extents, treeBlocks: [] };
  for (const run of runs) appendExtents(extents, run.logicalBlock, [run], EXTENT_BLOCKS_MAX);
  mapBlocks.sort((a, b) => a.depth - b.depth || a.logicalBlock - b.logicalBlock);
  const isAsPlanned = mapBlocks.length === extentTreeBlockCount(extents.length);
  const treeBlocks = isAsPlanned ? mapBlocks.map(({ blockNumber }) => blockNumber) : [];
  return { runs, extents, treeBlocks };
}

interface Pending {
  readonly inodeNumber: number;
  readonly path: ByteString;
  readonly depth: number;
  readonly attach: (node: PreviousNode) => void;
}

class NodeReader {
  readonly #image: Ext4Image;
  readonly #settings: Settings;
  readonly #signal: AbortSignal | undefined;
  readonly #walker: DirectoryWalker;
  readonly #budget: BlockBudget;
  readonly #known = new Map<number, PreviousNode>();
  readonly #pending: Pending[] = [];
  #nameCount = 0;

  constructor(image: Ext4Image, settings: Settings, signal: AbortSignal | undefined) {
    this.#image = image;
    this.#settings = settings;
    this.#signal = signal;
    this.#walker = new DirectoryWalker(image);
    this.#budget = new BlockBudget(image.geometry.blocksCount);
  }

  async readAll(): Promise<PreviousNode> {
    let root: PreviousNode | undefined;
    const attach = (node: PreviousNode) => root = node;
    this.#pending.push({ inodeNumber: INODE_NUMBER.ROOT, path: "", depth: 0, attach });
    let count = 0;
    for (let item = this.#pending.pop(); item; item = this.#pending.pop()) {
      item.attach(await this.#read(item));
      if (++count % YIELD_AFTER_NAMES !== 0) continue;
      await setImmediate();
      throwIfAborted(this.#signal);
    }
    return root!;
  }

  async #read({ inodeNumber, path, depth }: Pending): Promise<PreviousNode> {
    const shown = displayName(path || "/");
    const known = this.#known.get(inodeNumber);
    if (known !== undefined) {
      if (known.kind !== "directory") return known;
      throw new InputError(this.#image.name, `${shown} is a second name of a directory`);
    }
    const { maxPathDepth, maxNameCount } = DEFAULT_READ_LIMITS;
    if (depth > maxPathDepth || ++this.#nameCount > maxNameCount) {
      const why =
        `has more than ${maxNameCount} names, or names more than ${maxPathDepth} directories deep`;
      throw new InputError(this.#image.name, why);
    }
    const inode = this.#image.inode(inodeNumber);
    const node = await this.#nodeOf(inode, path, depth);
    this.#known.set(inodeNumber, node);
    return node;
  }

  async #nodeOf(inode: ImageInode, path: ByteString, depth: number): Promise<PreviousNode> {
    const { number: inodeNumber, kind } = inode;
    const { xattrBlock } = inode.record;
    const base = { inodeNumber, kind, xattrBlock };
    const none = { extents: [], treeBlocks: [] };
    if (kind === "symlink" && inode.record.sectorCount > 0) {
      const { extents, treeBlocks } = this.#mapOf(inode);
      return { ...base, extents: isDense(extents) ? extents : [], treeBlocks };
    }
    if (kind === "file") {
      const { extents, treeBlocks } = hasInlineData(inode) ? none : this.#mapOf(inode);
      const payload = filePayload(this.#image, inode);
      await payload.scan(this.#signal);
      this.#checkGrid(payload, extents, path);
      return { ...base, extents, treeBlocks, payload: indexOf(payload) };
    }
    if (kind !== "directory") return { ...base, ...none };
    return { ...base, ...this.#directory(inode, path, depth) };
  }

  #mapOf(inode: ImageInode): BlockMap {
    const map = readMap(this.#image, inode);
    this.#budget.add(map.runs.reduce((sum, run) => sum + run.blockCount, 0), inode.what);
    return map;
  }

  #directory(
    inode: ImageInode,
    path: ByteString,
    depth: number,
  ): Pick<PreviousNode, "extents" | "treeBlocks" | "children" | "index"> {
    const { view } = inode;
    const { runs, extents, treeBlocks } = this.#mapOf(inode);
    const children = new Map<ByteString, PreviousNode>();
    const namesOf = new Map<number, ByteString[]>();
    const inlineData = undefined;
    this.#walker.walk({ view, runs, inlineData }, {
      self: () => {},
      parent: () => {},
      entry: (entries: DirectoryEntries, index: number, walk: DirectoryWalk) => {
        const name = entries.nameAt(index);
        const { block = 0 } = walk.locate(index);
        const names = namesOf.get(block);
        if (names) names.push(name);
        else namesOf.set(block, [name]);
        this.#pending.push({
          inodeNumber: entries.inodeAt(index),
          path: `${path}/${name}`,
          depth: depth + 1,
          attach: (node) => children.set(name, node),
        });
      },
    });
    const index = hasFlag(inode, INODE_FLAG.INDEX) && isDense(extents)
      ? readIndex(this.#image, runs, namesOf)
      : undefined;
    return { extents: isDense(extents) ? extents : [], treeBlocks, children, index };
  }

  /** A large enough file must be on the grid; otherwise the image was laid out differently. */
  #checkGrid(
    payload: Parameters<typeof isAligned>[0],
    extents: readonly Extent[],
    path: ByteString,
  ): void {
    const { gridBlocks } = this.#settings;
    if (!isAligned(payload, this.#settings)) return;
    if (extents.every((extent) => isCongruent(extent, gridBlocks))) return;
    const file = `${displayName(path)} of ${payload.sizeBytes} bytes`;
    const why = `cannot be continued: ${file} is not on a grid of ` +
      `${gridBlocks * BLOCK_SIZE_BYTES}: it was laid out for another grid or threshold, or ` +
      "written to since";
    const to = "name the grid that it was made for";
    const remedies = [{ option: "gridBytes", change: "set", to }] as const;
    throw new InputError(this.#image.name, why, { remedies });
  }
}

function indexOf({ sizeBytes, dataRuns, contentHash }: NonNullable<PreviousNode["payload"]>) {
  return { sizeBytes, dataRuns, contentHash };
}

function isDense(extents: readonly Extent[]): boolean {
  let next = 0;
  for (const { logicalBlock, blockCount } of extents) {
    if (logicalBlock !== next) return false;
    next += blockCount;
  }
  return true;
}

/** The distribution of a hashed directory's names; undefined if it has more levels than a plan makes. */
function readIndex(
  image: Ext4Image,
  runs: readonly MappedRun[],
  namesOf: ReadonlyMap<number, readonly ByteString[]>,
): DirectoryIndex | undefined {
  const options = { checksummed: image.seed !== undefined, what: image.name };
  const blockOf = (logical: number) => image.block(physicalBlock(runs, logical)!)!;
  const leavesOf = (entries: readonly DxEntry[], hash: number): DirectoryLeaf[] =>
    entries.map((entry, i) => ({
      block: entry.block,
      hash: i === 0 ? hash : entry.hash,
      names: namesOf.get(physicalBlock(runs, entry.block)!) ?? [],
    }));
  const root = decodeDxRoot(blockOf(0), options);
  if (root.indirectLevels > 1) return undefined;
  if (root.indirectLevels === 0) return { leaves: leavesOf(root.entries, 0), nodes: [] };
  const leaves: DirectoryLeaf[] = [];
  const nodes: DirectoryIndexNode[] = [];
  for (const { block, hash } of root.entries) {
    const { entries } = decodeDxNode(blockOf(block), options);
    leaves.push(...leavesOf(entries, hash));
    nodes.push({ block, leafCount: entries.length });
  }
  return { leaves, nodes };
}
