/**
 * The inode tables: every slot that may be in use, its checksum, its fields, its blocks and its attributes.
 *
 * @module
 */
import {
  COMPAT,
  FILE_MODE,
  INCOMPAT,
  INODE_FLAG,
  INODE_NUMBER,
  RO_COMPAT,
} from "../../format/constants.ts";
import { isBareHole } from "../content.ts";
import type { BlockMap } from "./block_walk.ts";
import { walkBlocks } from "./block_walk.ts";
import type { Context, KeptInode } from "./context.ts";
import type { Place } from "./findings.ts";
import { checkBlockCount, checkFields, checkLargeFile, checkSize } from "./inode_fields.ts";
import { INODE_TRAIT } from "./inode_book.ts";
import { InodeView } from "./inode_view.ts";
import { PlainFiles } from "./plain_files.ts";
import { checkSymlink } from "./symlinks.ts";
import type { Volume } from "./volume.ts";
import type { InodeXattrs } from "./xattrs.ts";
import { checkValueInode, checkXattrs } from "./xattrs.ts";

/** Blocks of a table that are read at once. */
const READ_BLOCKS = 64;
/** Blocks of tables between two looks at the signal. */
const BLOCKS_A_TURN = 1024;
const NO_MAP: Readonly<BlockMap> = { runs: [], blockCount: 0, lastWritten: -1, last: -1 };

interface Scan {
  readonly context: Context;
  readonly special: SpecialInodes;
  readonly plainFiles: PlainFiles;
  readonly buffer: Uint8Array;
  /** Those that the slots in the buffer should carry. */
  readonly checksums: Uint32Array;
}

/** Looks at all inodes, in order. Yields where the caller may let others work. */
export function* scanInodes(context: Context): Generator<void> {
  const { volume, groups } = context;
  const scan: Scan = {
    context,
    special: specialInodes(volume),
    plainFiles: new PlainFiles(context),
    buffer: new Uint8Array(READ_BLOCKS * volume.blockSizeBytes),
    checksums: new Uint32Array(READ_BLOCKS * volume.inodesPerBlock),
  };
  let blocksOfTurn = 0;
  yield;
  for (let group = 0; group < groups.length; group++) {
    const { descriptor, initializedInodes, isTableSound } = groups[group]!;
    if (descriptor === undefined || !isTableSound) continue;
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

/** Looks at the inodes of a group from one on, as many as are read at once; the answer is how many, 0 past the end. */
function scanSlots(scan: Scan, group: number, start: number): number {
  const { context, special, plainFiles, buffer, checksums } = scan;
  const { volume, groups, findings } = context;
  const { descriptor, initializedInodes } = groups[group]!;
  const block = descriptor!.inodeTableBlock + start / volume.inodesPerBlock;
  const count = Math.min(READ_BLOCKS * volume.inodesPerBlock, initializedInodes - start);
  const bytes = volume.read(block, Math.ceil(count / volume.inodesPerBlock), buffer);
  if (bytes === undefined) {
    findings.add("inode table", { group, block }, "it is past the end");
    return 0;
  }
  const view = new InodeView(bytes, volume.inodeSizeBytes);
  const firstInode = group * volume.superblock.inodesPerGroup + start + 1;
  if (volume.seed !== undefined) {
    view.computeChecksums(volume.seed, firstInode, checksums.subarray(0, count));
  }
  for (let index = 0; index < count; index++) {
    const inode = firstInode + index;
    if (!special.has(inode)) {
      const isTaken = plainFiles.take(inode, view.words, index * view.slotWords, checksums[index]!);
      if (isTaken || view.isBlankAt(index)) continue;
    }
    view.moveTo(index);
    checkSlot(scan, inode, view, checksums[index]!);
  }
  return count;
}

/** Inodes that the superblock names, and what they are for. */
export type SpecialInodes = ReadonlyMap<number, "journal" | "resize" | "quota" | "orphan file">;

/** The inodes that the superblock of a volume names. */
export function specialInodes(volume: Volume): SpecialInodes {
  const special = new Map<number, "journal" | "resize" | "quota" | "orphan file">();
  const { superblock } = volume;
  const note = (inode: number, use: "journal" | "resize" | "quota" | "orphan file") => {
    if (inode !== 0 && inode !== INODE_NUMBER.ROOT) special.set(inode, use);
  };
  if (volume.hasRoCompat(RO_COMPAT.QUOTA)) {
    note(superblock.userQuotaInode, "quota");
    note(superblock.groupQuotaInode, "quota");
    if (volume.hasRoCompat(RO_COMPAT.PROJECT)) note(superblock.projectQuotaInode, "quota");
  }
  if (volume.hasCompat(COMPAT.ORPHAN_FILE)) note(superblock.orphanFileInode, "orphan file");
  if (volume.hasCompat(COMPAT.RESIZE_INODE)) note(INODE_NUMBER.RESIZE, "resize");
  if (volume.hasCompat(COMPAT.HAS_JOURNAL)) note(superblock.journalInode, "journal");
  return special;
}

function checkSlot(scan: Scan, inode: number, view: InodeView, checksum: number): void {
  const { context, special } = scan;
  const { volume, findings } = context;
  const isReserved = inode < volume.firstInode && inode !== INODE_NUMBER.ROOT;
  // Most inodes are right, and need no place for findings.
  if (volume.seed !== undefined && view.storedChecksum !== checksum) {
    findings.expectChecksum("inode", slotPlace(context, inode), view.storedChecksum, checksum);
  }
  if (view.dtime !== 0 && isOnOrphanList(context, view)) {
    const problem = "i_dtime is the number of the next orphan, or no time";
    findings.add("orphan list", slotPlace(context, inode), problem, { found: view.dtime });
  }
  const use = special.get(inode);
  if (use !== undefined) checkSpecial(context, inode, view);
  else if (isReserved) checkReserved(context, inode, view);
  else if (view.linkCount > 0) checkUsed(context, inode, view);
  else if (view.mode !== 0 && view.dtime === 0) {
    findings.add("inode", slotPlace(context, inode), "i_dtime of an inode without links", {
      found: 0,
      wanted: "when it was deleted",
    });
  }
}

/**
 * Orphans keep the number of the next one where others keep the time of their deletion. In a file system that was made
 * or mounted in the first days of 1970 the two cannot be told apart.
 */
function isOnOrphanList({ volume }: Context, view: InodeView): boolean {
  const { inodesCount, writeTime, mountTime, mkfsTime } = volume.superblock;
  const isEarly = [writeTime, mountTime, mkfsTime].some((time) => time > 0 && time < inodesCount);
  return view.dtime > 0 && view.dtime < inodesCount && !isEarly &&
    !volume.hasIncompat(INCOMPAT.RECOVER);
}

function slotPlace(context: Context, inode: number): Place {
  return { inode, offset: offsetOf(context, inode) };
}

/** Where an inode's slot is. */
export function offsetOf(context: Context, inode: number): number {
  const { volume, groups } = context;
  const { group, index } = volume.placeOfInode(inode);
  const table = groups[group]?.descriptor?.inodeTableBlock ?? 0;
  return table * volume.blockSizeBytes + index * volume.inodeSizeBytes;
}

/** A file of the file system itself: it has blocks, but no name. */
function checkSpecial(context: Context, inode: number, view: InodeView): void {
  const { findings, book } = context;
  const place = { inode };
  if (view.type !== FILE_MODE.REGULAR) {
    findings.add("inode", place, "type of a file of the file system itself", {
      found: octal(view.mode),
      wanted: "a regular file",
    });
  }
  book.enter(inode, view.mode, view.linkCount, INODE_TRAIT.HIDDEN);
  if (view.linkCount === 0) {
    findings.add("inode", place, "links of a file of the file system itself", {
      found: 0,
      wanted: "at least 1",
    });
  }
  checkFields(context, inode, view);
  const xattrs = checkXattrs(context, inode, view);
  // The blocks of the resize inode are those that its group keeps free: they are not its own.
  const isResize = inode === INODE_NUMBER.RESIZE;
  const map = isResize ? NO_MAP : walkBlocks(context, inode, view);
  checkSize(context, inode, view, map);
  if (!isResize) {
    checkBlockCount(context, inode, view, map.blockCount + xattrs.chargedBlocks);
  }
  keep(context, inode, view, map, undefined);
}

/** The other inodes below s_first_ino: mostly not in use at all. */
function checkReserved(context: Context, inode: number, view: InodeView): void {
  const { findings } = context;
  const mayHaveBlocks = inode === INODE_NUMBER.BAD_BLOCKS || view.type === FILE_MODE.REGULAR;
  if (view.mode !== 0 && !mayHaveBlocks) {
    findings.add("inode", { inode }, "type of a reserved inode", {
      found: octal(view.mode),
      wanted: "none, or a regular file",
    });
  }
  const isNamedElsewhere = inode === INODE_NUMBER.JOURNAL || inode === INODE_NUMBER.RESIZE ||
    inode === INODE_NUMBER.USER_QUOTA || inode === INODE_NUMBER.GROUP_QUOTA;
  if (isNamedElsewhere && (view.linkCount > 0 || view.sectorCount > 0 || view.blockWord(0) > 0)) {
    findings.add("inode", { inode }, "it is in use, but the superblock says nothing of it");
  }
  if (inode === INODE_NUMBER.BAD_BLOCKS && !isBareList(view)) {
    findings.add("inode", { inode }, "the list of bad blocks has an owner, a type or a link");
  }
  const { chargedBlocks } = checkXattrs(context, inode, view);
  const map = walkBlocks(context, inode, view);
  checkSize(context, inode, view, map);
  checkBlockCount(context, inode, view, map.blockCount + chargedBlocks);
}

function isBareList(view: InodeView): boolean {
  return view.mode === 0 && view.uid === 0 && view.gid === 0 && view.linkCount === 0 &&
    view.xattrBlock === 0;
}

function checkUsed(context: Context, inode: number, view: InodeView): void {
  const { findings, book, groups, volume } = context;
  const isValue = (view.flags & INODE_FLAG.EA_INODE) !== 0;
  const isIndexed = (view.flags & INODE_FLAG.INDEX) !== 0;
  const { NONE, VALUE, HIDDEN, INDEXED } = INODE_TRAIT;
  const traits = (isValue ? VALUE | HIDDEN : NONE) | (isIndexed ? INDEXED : NONE);
  book.enter(inode, view.mode, view.linkCount, traits);
  if (view.dtime !== 0) {
    findings.add("inode", { inode }, "i_dtime of an inode with links", {
      found: view.dtime,
      wanted: 0,
    });
  }
  checkFields(context, inode, view);
  const xattrs = checkXattrs(context, inode, view);
  const { chargedBlocks, inlineRest } = xattrs;
  const isDirectory = view.type === FILE_MODE.DIRECTORY;
  if (isDirectory) groups[volume.placeOfInode(inode).group]!.usedDirectories++;
  let map = NO_MAP;
  let inlineData: Uint8Array | undefined;
  if (view.hasInlineData) inlineData = inlineDataOf(context, inode, view, inlineRest);
  else if (isDirectory || view.type === FILE_MODE.REGULAR) {
    map = walkBlocks(context, inode, view);
    checkSize(context, inode, view, map);
  } else if (view.type === FILE_MODE.SYMLINK) map = checkSymlink(context, inode, view);
  const blockCount = map.blockCount + chargedBlocks;
  checkBlockCount(context, inode, view, blockCount);
  if (isValue) checkValueInode(context, inode, view, map.runs);
  else countUsage(context, view, blockCount, xattrs);
  if (isDirectory) keep(context, inode, view, map, inlineData);
  else if (view.type === FILE_MODE.REGULAR && !isValue) countLayout(context, inode, view, map);
}

/** What i_block and the attribute behind it hold: a small file, or a small directory. */
function inlineDataOf(
  context: Context,
  inode: number,
  view: InodeView,
  rest: Uint8Array | undefined,
): Uint8Array {
  const { findings } = context;
  const place = { inode };
  if (rest === undefined) {
    findings.add("inode", place, "inline data without the attribute system.data");
  }
  const data = new Uint8Array(view.blockField.length + (rest?.length ?? 0));
  data.set(view.blockField);
  if (rest !== undefined) data.set(rest, view.blockField.length);
  const isDirectory = view.type === FILE_MODE.DIRECTORY;
  const isHole = view.type === FILE_MODE.REGULAR && isBareHole(view.sizeBytes, [data]);
  const isTooLarge = view.sizeBytes > data.length && !isHole;
  if (isTooLarge || (isDirectory && view.sizeBytes !== data.length)) {
    findings.add("inode", place, "i_size of inline data", {
      found: view.sizeBytes,
      wanted: isDirectory ? data.length : `at most ${data.length}`,
    });
  }
  if (isHole) checkLargeFile(context, inode, view);
  return data;
}

function keep(
  context: Context,
  inode: number,
  view: InodeView,
  map: Readonly<BlockMap>,
  inlineData: Uint8Array | undefined,
): void {
  const kept: KeptInode = {
    number: inode,
    // The slot is a part of a larger read, which must not stay in memory for it.
    view: view.copy(),
    runs: map.runs,
    inlineData,
  };
  if (context.book.isHidden(inode)) context.special.set(inode, kept);
  else context.directories.push(kept);
}

/**
 * What quotas count: everything that somebody has, but not what the file system has for itself. A value in an inode
 * counts as an inode of whoever names it. e2fsck leaves out symlinks with inline data, and so has to be whoever compares.
 */
function countUsage(
  context: Context,
  view: InodeView,
  blockCount: number,
  xattrs: InodeXattrs,
): void {
  if (context.quotas.length === 0) return;
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

/** Whether a large file lies on the grid: physical = logical, modulo the grid, for every run of it. */
function countLayout(
  context: Context,
  inode: number,
  view: InodeView,
  map: Readonly<BlockMap>,
): void {
  const { layoutRule, layout, volume } = context;
  if (view.sizeBytes < layoutRule.thresholdBytes || map.runs.length === 0) return;
  const gridBlocks = Math.max(1, layoutRule.gridBytes / volume.blockSizeBytes);
  layout.files++;
  if (map.runs.every(({ logical, start }) => (start - logical) % gridBlocks === 0)) {
    layout.congruentFiles++;
  } else layout.firstOff ??= inode;
}

function octal(mode: number): string {
  return `mode 0${mode.toString(8)}`;
}
