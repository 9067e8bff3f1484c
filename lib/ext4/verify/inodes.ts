/**
 * Checks the inode tables: every slot that may be in use, its checksum, its fields, its blocks and its attributes.
 *
 * @module
 */
import { COMPAT, FILE_MODE, INODE_FLAG, INODE_NUMBER, RO_COMPAT } from "../format/constants.ts";
import { type BlockMapVisitor, type MappedRun, walkBlockMap } from "../volume/block_map.ts";
import {
  isFastSymlink,
  judgeSymlinkSize,
  judgeTarget,
  readInlineData,
  readSymlinkBlock,
} from "../volume/content.ts";
import {
  InodeView,
  judgeBlockCount,
  judgeFields,
  judgeSize,
  reportInode,
} from "../volume/inode.ts";
import { type Location, modeText } from "../volume/judge.ts";
import type { Volume } from "../volume/volume.ts";
import { checkValueInode, checkXattrs, type InodeXattrs } from "./attributes.ts";
import { type BlockUsage, type Context, INODE_TRAIT } from "./context.ts";

const READ_BLOCKS = 64;
const BLOCKS_A_TURN = 1024;
const NO_RUNS: readonly MappedRun[] = [];

interface Scan {
  readonly context: Context;
  readonly special: ReadonlySet<number>;
  readonly blocks: InodeBlocks;
  readonly buffer: Uint8Array;
  /** The correct checksums of the slots in the buffer. */
  readonly checksums: Uint32Array;
}

/** Checks all inodes, in order. Yields where the caller may let other work run. */
export function* scanInodes(context: Context): Generator<void> {
  const { volume, groups } = context;
  const scan: Scan = {
    context,
    special: specialInodes(volume),
    blocks: new InodeBlocks(context),
    buffer: new Uint8Array(READ_BLOCKS * volume.blockSizeBytes),
    checksums: new Uint32Array(READ_BLOCKS * volume.inodesPerBlock),
  };
  let blocksOfTurn = 0;
  yield;
  for (let group = 0; group < groups.length; group++) {
    const { initializedInodes, isTableSound } = groups[group]!;
    if (!isTableSound) continue;
    for (let index = 0; index < initializedInodes;) {
      const count = scanSlots(scan, group, index);
      if (count === 0) break;
      index += count;
      blocksOfTurn += READ_BLOCKS;
      if (blocksOfTurn < BLOCKS_A_TURN) continue;
      blocksOfTurn = 0;
      yield;
    }
  }
}

/** Checks the inodes of a group from `start` on, as many as are read at once; returns how many, 0 past the end. */
function scanSlots(scan: Scan, group: number, start: number): number {
  const { context, buffer, checksums } = scan;
  const { volume, groups, judge } = context;
  const { descriptor, initializedInodes } = groups[group]!;
  const block = descriptor!.inodeTableBlock + start / volume.inodesPerBlock;
  const count = Math.min(READ_BLOCKS * volume.inodesPerBlock, initializedInodes - start);
  const bytes = volume.read(block, Math.ceil(count / volume.inodesPerBlock), buffer);
  if (bytes === undefined) {
    judge.report("inode table", { group, block }, "it is past the end");
    return 0;
  }
  const firstInode = group * volume.geometry.inodesPerGroup + start + 1;
  const view = new InodeView(bytes, firstInode, volume.inodeSizeBytes);
  const { seed } = volume;
  const isRight = seed === undefined || view.areChecksumsRight(seed, count);
  if (!isRight) view.computeChecksums(seed, checksums.subarray(0, count));
  for (let index = 0; index < count; index++) {
    const isBlank = view.isBlankAt(index);
    if (isBlank && !scan.special.has(firstInode + index)) continue;
    view.moveTo(index);
    if (isBlank && isRight && seed !== undefined) {
      view.computeChecksums(seed, checksums.subarray(0, index + 1));
      checkSlot(scan, view, checksums[index]!);
    } else checkSlot(scan, view, isRight ? view.storedChecksum : checksums[index]!);
  }
  return count;
}

export function specialInodes(volume: Volume): ReadonlySet<number> {
  const { superblock } = volume;
  const hasQuota = volume.hasRoCompat(RO_COMPAT.QUOTA);
  const special = new Set([
    ...hasQuota ? [superblock.userQuotaInode, superblock.groupQuotaInode] : [],
    ...hasQuota && volume.hasRoCompat(RO_COMPAT.PROJECT) ? [superblock.projectQuotaInode] : [],
    ...volume.hasCompat(COMPAT.ORPHAN_FILE) ? [superblock.orphanFileInode] : [],
    ...volume.hasCompat(COMPAT.RESIZE_INODE) ? [INODE_NUMBER.RESIZE] : [],
    ...volume.hasCompat(COMPAT.HAS_JOURNAL) ? [superblock.journalInode] : [],
  ]);
  special.delete(0);
  special.delete(INODE_NUMBER.ROOT);
  return special;
}

function checkSlot(scan: Scan, view: InodeView, checksum: number): void {
  const { number: inode } = view;
  const { context, special } = scan;
  const { volume, judge } = context;
  // Most inodes are correct and need no location for findings.
  if (volume.seed !== undefined && view.storedChecksum !== checksum) {
    judge.expectChecksum("inode", locateSlot(volume, inode), view.storedChecksum, checksum);
  }
  if (view.dtime !== 0 && isOnOrphanList(context, view)) {
    const problem = "i_dtime is the number of the next orphan, or no time";
    judge.report("orphan list", locateSlot(volume, inode), problem, { found: view.dtime });
  }
  if (special.has(inode)) checkSpecial(scan, view);
  else if (inode < volume.firstInode && inode !== INODE_NUMBER.ROOT) {
    checkReserved(scan, view);
  } else if (view.linkCount > 0) checkUsed(scan, view);
  else if (view.mode !== 0 && view.dtime === 0) {
    const details = { found: 0, wanted: "when it was deleted" };
    judge.report("inode", locateSlot(volume, inode), "i_dtime of an inode without links", details);
  }
}

/**
 * Orphans store the next orphan's number where others store the time of deletion. In a file system made or mounted in
 * the first days of 1970, the two cannot be told apart.
 */
function isOnOrphanList({ volume }: Context, view: InodeView): boolean {
  const { inodesCount, writeTime, mountTime, mkfsTime } = volume.superblock;
  const isEarly = [writeTime, mountTime, mkfsTime].some((time) => time > 0 && time < inodesCount);
  return view.dtime > 0 && view.dtime < inodesCount && !isEarly;
}

function locateSlot(volume: Volume, inode: number): Location {
  return { inode, offset: volume.inodeOffset(inode) };
}

/** Checks a file of the file system itself: it has blocks, but no name. */
function checkSpecial(scan: Scan, view: InodeView): void {
  const { number: inode } = view;
  const { context, blocks } = scan;
  const { inodes, volume } = context;
  if (view.type !== FILE_MODE.REGULAR) {
    const details = { found: modeText(view.mode), wanted: "a regular file" };
    reportInode(volume, view, "type of a file of the file system itself", details);
  }
  inodes.add(inode, view.mode, view.linkCount, INODE_TRAIT.HIDDEN);
  if (view.linkCount === 0) {
    const details = { found: 0, wanted: "at least 1" };
    reportInode(volume, view, "links of a file of the file system itself", details);
  }
  judgeFields(volume, view);
  const { chargedBlocks } = checkXattrs(context, view);
  // The resize inode's blocks are those that its group reserves, not its own.
  const isResize = inode === INODE_NUMBER.RESIZE;
  blocks.begin(inode, true);
  if (!isResize) walkBlockMap(volume, view, blocks);
  judgeSize(volume, view, blocks);
  if (!isResize) judgeBlockCount(volume, view, blocks.blockCount + chargedBlocks);
  keep(context, view, blocks.runs, undefined);
}

/** Reserved inodes whose use the superblock declares. */
const NAMED_ELSEWHERE: readonly number[] = [
  INODE_NUMBER.JOURNAL,
  INODE_NUMBER.RESIZE,
  INODE_NUMBER.USER_QUOTA,
  INODE_NUMBER.GROUP_QUOTA,
];

/** Checks the other inodes below s_first_ino, most of them unused. */
function checkReserved(scan: Scan, view: InodeView): void {
  const { number: inode } = view;
  const { context, blocks } = scan;
  const { volume } = context;
  const isBadBlocks = inode === INODE_NUMBER.BAD_BLOCKS;
  if (view.mode !== 0 && !isBadBlocks && view.type !== FILE_MODE.REGULAR) {
    const details = { found: modeText(view.mode), wanted: "none, or a regular file" };
    reportInode(volume, view, "type of a reserved inode", details);
  }
  const isUsed = view.linkCount > 0 || view.sectorCount > 0 || view.blockWord(0) > 0;
  if (NAMED_ELSEWHERE.includes(inode) && isUsed) {
    const details = inode === INODE_NUMBER.JOURNAL ? { severity: "note" } as const : {};
    reportInode(volume, view, "it is in use, but the superblock says nothing of it", details);
  }
  if (isBadBlocks && !isBareList(view)) {
    reportInode(volume, view, "the list of bad blocks has an owner, a type or a link");
  }
  const { chargedBlocks } = checkXattrs(context, view);
  blocks.begin(inode, false, isBadBlocks);
  walkBlockMap(volume, view, blocks);
  // The list of bad blocks has no size and counts no blocks.
  if (isBadBlocks) return;
  judgeSize(volume, view, blocks);
  judgeBlockCount(volume, view, blocks.blockCount + chargedBlocks);
}

function isBareList(view: InodeView): boolean {
  return view.mode === 0 && view.uid === 0 && view.gid === 0 && view.linkCount === 0 &&
    view.xattrBlock === 0;
}

function checkUsed(scan: Scan, view: InodeView): void {
  const { number: inode } = view;
  const { context, blocks } = scan;
  const { inodes, volume } = context;
  const { flags, type } = view;
  const isValue = (flags & INODE_FLAG.EA_INODE) !== 0;
  const { VALUE, HIDDEN, INDEXED } = INODE_TRAIT;
  const traits = (isValue ? VALUE | HIDDEN : 0) |
    ((flags & INODE_FLAG.INDEX) !== 0 ? INDEXED : 0) |
    ((flags & INODE_FLAG.ENCRYPT) !== 0 ? INODE_TRAIT.ENCRYPTED : 0);
  inodes.add(inode, view.mode, view.linkCount, traits);
  if (view.dtime !== 0) {
    const details = { found: view.dtime, wanted: 0 };
    reportInode(volume, view, "i_dtime of an inode with links", details);
  }
  judgeFields(volume, view);
  const xattrs = checkXattrs(context, view);
  if (xattrs.policy !== undefined) context.policies.set(inode, xattrs.policy);
  else if ((flags & INODE_FLAG.ENCRYPT) !== 0) {
    reportInode(volume, view, "it is encrypted, but does not say how");
  }
  const isDirectory = type === FILE_MODE.DIRECTORY;
  const isFile = type === FILE_MODE.REGULAR;
  blocks.begin(inode, isDirectory || isValue);
  let inlineData: Uint8Array | undefined;
  if (view.hasInlineData) {
    inlineData = readInlineData(volume, view, xattrs.inInode).bytes;
    if (type === FILE_MODE.SYMLINK) {
      judgeTarget(volume, view, inlineData, { severity: "note" });
    }
  } else if (isFile || isDirectory) {
    walkBlockMap(volume, view, blocks);
    judgeSize(volume, view, blocks);
  } else if (type === FILE_MODE.SYMLINK) checkSymlink(scan, view);
  const blockCount = blocks.blockCount + xattrs.chargedBlocks;
  judgeBlockCount(volume, view, blockCount);
  if (isValue) checkValueInode(context, view, blocks.runs);
  else if (context.quotas.length > 0) countQuota(context, view, blockCount, xattrs);
  if (isDirectory) {
    context.usedDirectories[Math.floor((inode - 1) / volume.geometry.inodesPerGroup)]!++;
    keep(context, view, blocks.runs, inlineData);
  } else if (isFile && !isValue && view.sizeBytes >= context.layoutRule.thresholdBytes) {
    countLayout(context, inode, blocks);
  }
}

function checkSymlink({ context, blocks }: Scan, view: InodeView): void {
  const { volume } = context;
  judgeSymlinkSize(volume, view);
  if (isFastSymlink(view)) {
    judgeTarget(volume, view, view.blockField);
    return;
  }
  blocks.begin(view.number, true);
  walkBlockMap(volume, view, blocks);
  const block = readSymlinkBlock(volume, view, blocks.runs);
  if (block !== undefined) judgeTarget(volume, view, block);
}

function keep(
  context: Context,
  view: InodeView,
  runs: readonly MappedRun[],
  inlineData: Uint8Array | undefined,
): void {
  // Copies the slot, so that it does not keep the larger buffer in memory.
  const kept = { view: view.copy(), runs, inlineData };
  if (context.inodes.is(view.number, INODE_TRAIT.HIDDEN)) context.special.set(view.number, kept);
  else context.directories.push(kept);
}

/**
 * Counts what quotas count: everything that belongs to a user, but not what the file system has for itself. A value in
 * an inode counts as an inode of each owner. Symlinks with inline data are left out, as in e2fsck.
 */
function countQuota(
  context: Context,
  view: InodeView,
  blockCount: number,
  xattrs: InodeXattrs,
): void {
  if (view.type === FILE_MODE.SYMLINK && view.hasInlineData) return;
  const ids = [view.uid, view.gid, view.projectId];
  for (const [type, usages] of context.quotas.entries()) {
    const id = ids[type] ?? 0;
    const usage = usages.get(id) ?? { bytes: 0, inodes: 0 };
    usage.bytes += blockCount * context.volume.blockSizeBytes;
    usage.inodes += 1 + xattrs.valueCount;
    usages.set(id, usage);
  }
}

function countLayout({ layout }: Context, inode: number, blocks: InodeBlocks): void {
  if (blocks.runCount === 0) return;
  layout.files++;
  if (blocks.isCongruent) layout.congruentFiles++;
  else layout.firstOff ??= inode;
}

/** Marks the blocks of one inode after another as used, and accumulates totals. */
class InodeBlocks implements BlockMapVisitor {
  /** Blocks of data and of the map together. */
  blockCount = 0;
  /** The last written logical block; -1 if none. */
  lastWritten = -1;
  /** The last mapped logical block; -1 if none. */
  last = -1;
  /** Runs, except those with blocks of another owner, if runs are kept. */
  runs: MappedRun[] = [];
  runCount = 0;
  /** Whether physical = logical, modulo the grid, for every run. */
  isCongruent = true;
  readonly #usage: BlockUsage;
  readonly #volume: Volume;
  readonly #gridBlocks: number;
  #inode = 0;
  #keepsRuns = false;
  /** A bad block may lie in metadata; a block of the map that lists it may not. */
  #mayShareBlocks = false;
  #lastCluster = -1;

  constructor({ usage, volume, layoutRule }: Context) {
    this.#usage = usage;
    this.#volume = volume;
    this.#gridBlocks = Math.max(1, layoutRule.gridBytes / volume.blockSizeBytes);
  }

  /**
   * Starts an inode.
   *
   * @param mayShareBlocks whether its blocks may be in use already
   */
  begin(inode: number, keepsRuns: boolean, mayShareBlocks = false): void {
    this.#inode = inode;
    this.#mayShareBlocks = mayShareBlocks;
    this.#lastCluster = -1;
    this.#keepsRuns = keepsRuns;
    this.blockCount = 0;
    this.lastWritten = -1;
    this.last = -1;
    this.runCount = 0;
    this.isCongruent = true;
    this.runs = keepsRuns ? [] : NO_RUNS as MappedRun[];
  }

  /** A map block that already has another owner is not followed: it could lead in circles. */
  mapBlock(blockNumber: number): boolean {
    this.#countClusters(blockNumber, 1);
    return this.#usage.mark(blockNumber, 1, this.#inode);
  }

  #mark(startBlock: number, blockCount: number): boolean {
    if (this.#mayShareBlocks) {
      this.#judgeBadBlocks(startBlock, blockCount);
      this.#usage.markAgain(startBlock, blockCount);
      return true;
    }
    return this.#usage.mark(startBlock, blockCount, this.#inode);
  }

  /** A bad block may lie in a backup or an inode table, but not in what is read first nor in a bitmap. */
  #judgeBadBlocks(startBlock: number, blockCount: number): void {
    for (let block = startBlock; block < startBlock + blockCount; block++) {
      if (!this.#usage.has(block) || !isEssential(this.#volume, block)) continue;
      const location = { inode: this.#inode, block };
      this.#volume.judge.report("inode", location, "a bad block is in use for metadata");
    }
  }

  /** Counts whole clusters, and only once if runs share one. */
  #countClusters(startBlock: number, blockCount: number): void {
    const size = this.#volume.geometry.clusterBlocks;
    if (size === 1) {
      this.blockCount += blockCount;
      return;
    }
    const first = Math.floor(startBlock / size);
    const last = Math.floor((startBlock + blockCount - 1) / size);
    this.blockCount += size * (last - first + (first === this.#lastCluster ? 0 : 1));
    this.#lastCluster = last;
  }

  #checkAlignment(logicalBlock: number, startBlock: number): void {
    const size = this.#volume.geometry.clusterBlocks;
    if (size === 1 || (startBlock - logicalBlock) % size === 0) return;
    const location = { inode: this.#inode, block: startBlock };
    const details = { found: startBlock % size, wanted: logicalBlock % size };
    this.#volume.judge.report("extent tree", location, "position in the cluster", details);
  }

  run(logicalBlock: number, startBlock: number, blockCount: number, unwritten: boolean): void {
    const isOwn = this.#mark(startBlock, blockCount);
    this.#checkAlignment(logicalBlock, startBlock);
    this.#countClusters(startBlock, blockCount);
    const last = logicalBlock + blockCount - 1;
    if (last > this.last) this.last = last;
    if (!unwritten && last > this.lastWritten) this.lastWritten = last;
    // From here, no block is in two runs, so the image bounds the remaining work on an inode.
    if (!isOwn) return;
    this.runCount++;
    if ((startBlock - logicalBlock) % this.#gridBlocks !== 0) this.isCongruent = false;
    if (this.#keepsRuns) this.runs.push({ logicalBlock, blockCount, startBlock, unwritten });
  }
}

/** Whether a block is the primary superblock, a descriptor in use, or a bitmap. */
function isEssential(volume: Volume, block: number): boolean {
  const head = volume.superblockBlock(0);
  if (block >= head && block <= head + volume.descriptorRoom(0).used) return true;
  for (let group = 0; group < volume.groupCount; group++) {
    if (volume.groupStart(group) >= volume.endBlock) break;
    const { descriptor } = volume.group(group);
    if (descriptor?.blockBitmapBlock === block || descriptor?.inodeBitmapBlock === block) {
      return true;
    }
  }
  return false;
}
