/**
 * Checksums of everything but superblocks: groups with their bitmaps and descriptors, inodes, and the blocks that
 * belong to inodes.
 *
 * A directory leaf holds its checksum in a fake entry of 12 bytes, taken from the last entry's record; an index block
 * gives up room for one entry.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import { readExactly } from "../../io/random_reader.ts";
import { bitmapChecksum, editGroupDescriptor, testBit } from "../format/group_descriptor.ts";
import { checkChecksum, inodeSeed } from "../format/checksum.ts";
import {
  COMPAT,
  FILE_MODE,
  GROUP_FLAG,
  INCOMPAT,
  INODE_FLAG,
  INODE_NUMBER,
} from "../format/constants.ts";
import {
  decodeDirectoryBlock,
  DIRECTORY_TAIL_SIZE_BYTES,
  direntSizeBytes,
  encodeRecordLength,
  RECORD_LENGTH_MIN,
  sealDirectoryBlock,
  verifyDirectoryBlock,
} from "../format/directory.ts";
import { sealExtentBlock } from "../format/extent.ts";
import { viewOf } from "../format/fields.ts";
import type { GroupDescriptor } from "../format/group_descriptor.ts";
import {
  decodeDxNode,
  decodeDxRoot,
  DX_ENTRY_SIZE_BYTES,
  DX_ROOT_COUNT_OFFSET,
  dxEntriesMax,
  sealDxBlock,
  verifyDxBlock,
} from "../format/htree.ts";
import { inodeChecksum, sealInode, storedInodeChecksum } from "../format/inode.ts";
import { decodeJournalSuperblock, JOURNAL_SUPERBLOCK_SIZE_BYTES } from "../format/journal.ts";
import {
  decodeOrphanBlock,
  MMP_SIZE_BYTES,
  sealMmpBlock,
  sealOrphanBlock,
  verifyMmpBlock,
  verifyOrphanBlock,
} from "../format/special_blocks.ts";
import { sealXattrBlock, XATTR_BLOCK_AT } from "../format/xattr.ts";
import { type MappedRun, readBlockMap } from "../volume/block_map.ts";
import { isFastSymlink, judgeXattrBlockPointer, readXattrBlock } from "../volume/content.ts";
import { readIndex } from "../volume/htree.ts";
import { InodeView, judgeSize } from "../volume/inode.ts";
import type { Volume } from "../volume/volume.ts";

/** How many structures gained or lost a checksum. */
export interface SwitchCounts {
  /** Block groups. */
  groups: number;
  /** Inodes, including unused ones. */
  inodes: number;
  /** Directory blocks. */
  directoryBlocks: number;
  /** Extent tree blocks. */
  extentBlocks: number;
  /** Extended attribute blocks. */
  xattrBlocks: number;
}

/** Structures without room for a checksum. */
export interface LackingRoom {
  leaves: number;
  indexBlocks: number;
  first: string | undefined;
}

export interface SwitchContext {
  readonly volume: Volume;
  /** The image's name in messages. */
  readonly name: string;
  /** True adds checksums; false removes them after checking them. */
  readonly enable: boolean;
  readonly seed: number;
  readonly counts: SwitchCounts;
  readonly lacking: LackingRoom;
  /** Receives the new bytes for a position in the image. */
  readonly change: (offsetBytes: number, bytes: Uint8Array) => Promise<void>;
}

const UNINIT = GROUP_FLAG.INODE_UNINIT | GROUP_FLAG.BLOCK_UNINIT;
/** Inode tables are read and written in pieces of about this size. */
const TABLE_PIECE_BYTES = 256 << 10;

/** Reads a whole block into a buffer of its own. Throws InputError for a block outside the file system. */
export function readBlock(volume: Volume, block: number, what: string): Uint8Array {
  const bytes = volume.contains(block) ? volume.read(block) : undefined;
  if (bytes !== undefined) return bytes;
  const last = volume.geometry.blocksCount - 1;
  throw new InputError(what, `block ${block} is not within 1 to ${last}`, {
    data: { actual: block },
  });
}

export function fullJournal(name: string): InputError {
  return new InputError(name, "its journal holds changes that were not written back", {
    code: "inUse",
    hint: "let e2fsck -f or a mount replay the journal first",
  });
}

export async function switchGroups(
  context: SwitchContext,
  progress: (bytes: number) => void,
): Promise<void> {
  const { volume } = context;
  if (volume.hasIncompat(INCOMPAT.MMP)) await switchMmpBlock(context);
  const inodes = new InodeSwitch(context);
  const descriptors: Uint8Array[] = [];
  for (let group = 0; group < volume.groupCount; group++) {
    descriptors.push(switchDescriptor(context, group));
    await switchInodeTable(context, group, inodes, progress);
    context.counts.groups++;
  }
  await writeDescriptors(context, descriptors);
}

function switchDescriptor(context: SwitchContext, group: number): Uint8Array {
  const { volume, enable, seed } = context;
  const { flags } = volume.group(group);
  const { encoded, descriptor } = volume.findDescriptor(group)!;
  const { clustersPerGroup, inodesPerGroup } = volume.geometry;
  const changes: { -readonly [K in keyof GroupDescriptor]?: GroupDescriptor[K] } = {};
  if ((flags & GROUP_FLAG.BLOCK_UNINIT) === 0) {
    const { blockBitmapBlock: block, blockBitmapChecksum: stored } = descriptor;
    const bitmap = { block, usedBytes: clustersPerGroup / 8, stored };
    changes.blockBitmapChecksum = switchBitmap(context, `block bitmap of group ${group}`, bitmap);
  }
  if ((flags & GROUP_FLAG.INODE_UNINIT) === 0) {
    const { inodeBitmapBlock: block, inodeBitmapChecksum: stored } = descriptor;
    const bitmap = { block, usedBytes: inodesPerGroup / 8, stored };
    changes.inodeBitmapChecksum = switchBitmap(context, `inode bitmap of group ${group}`, bitmap);
  }
  // Without checksums, a descriptor cannot mark parts as unused. By now everything has been read and is correct.
  if (!volume.hasGroupChecksums) {
    changes.flags = (descriptor.flags & ~UNINIT) | GROUP_FLAG.INODE_ZEROED;
    changes.itableUnusedCount = 0;
  }
  return editGroupDescriptor(encoded, changes, {
    groupIndex: group,
    seal: enable ? { kind: "crc32c", seed } : { kind: "crc16", uuid: volume.superblock.uuid },
  });
}

/** Switches a bitmap's checksum, which the descriptor stores. A bitmap that was never written has none. */
function switchBitmap(
  { volume, enable, seed, name }: SwitchContext,
  what: string,
  bitmap: { readonly block: number; readonly usedBytes: number; readonly stored: number },
): number {
  const bytes = readBlock(volume, bitmap.block, `${name}: ${what}`);
  const computed = bitmapChecksum(seed, bytes, bitmap.usedBytes);
  if (enable) return computed;
  const masked = (computed & volume.bitmapChecksumMask) >>> 0;
  checkChecksum(`${name}: ${what}`, bitmap.stored, masked);
  return 0;
}

async function switchInodeTable(
  context: SwitchContext,
  group: number,
  inodes: InodeSwitch,
  progress: (bytes: number) => void,
): Promise<void> {
  const { volume, name } = context;
  const { inodesPerGroup, inodeSizeBytes } = volume.geometry;
  const { descriptor, initializedInodes, flags } = volume.group(group);
  if (descriptor === undefined || (flags & GROUP_FLAG.INODE_UNINIT) !== 0) return;
  const what = `${name}: inode bitmap of group ${group}`;
  const bitmap = readBlock(volume, descriptor.inodeBitmapBlock, what);
  const tableOffset = descriptor.inodeTableBlock * volume.blockSizeBytes;
  const perPiece = TABLE_PIECE_BYTES / inodeSizeBytes;
  for (let first = 0; first < initializedInodes; first += perPiece) {
    const count = Math.min(perPiece, initializedInodes - first);
    const piece = new Uint8Array(count * inodeSizeBytes);
    const offsetBytes = tableOffset + first * inodeSizeBytes;
    readExactly(volume.reader, piece, offsetBytes);
    let changedEnd = 0;
    for (let i = 0; i < count; i++) {
      const slot = piece.subarray(i * inodeSizeBytes, (i + 1) * inodeSizeBytes);
      if (slot.every((byte) => byte === 0)) continue;
      const inodeNumber = group * inodesPerGroup + first + i + 1;
      await inodes.switch(slot, inodeNumber, testBit(bitmap, first + i));
      changedEnd = (i + 1) * inodeSizeBytes;
    }
    if (changedEnd > 0) await context.change(offsetBytes, piece.subarray(0, changedEnd));
    progress(piece.length);
  }
}

async function writeDescriptors(
  context: SwitchContext,
  descriptors: readonly Uint8Array[],
): Promise<void> {
  const { volume } = context;
  const { descriptorsPerBlock, geometry: { descriptorSizeBytes } } = volume;
  for (let i = 0; i * descriptorsPerBlock < descriptors.length; i++) {
    const part = descriptors.slice(i * descriptorsPerBlock, (i + 1) * descriptorsPerBlock);
    const bytes = new Uint8Array(part.length * descriptorSizeBytes);
    part.forEach((descriptor, j) => bytes.set(descriptor, j * descriptorSizeBytes));
    const copies = volume.descriptorBackups(i).map(({ block }) => block);
    for (const block of [volume.descriptorBlock(i), ...copies]) {
      await context.change(block * volume.blockSizeBytes, bytes);
    }
  }
}

async function switchMmpBlock(context: SwitchContext): Promise<void> {
  const { volume, enable, seed, name } = context;
  const { mmpBlock } = volume.superblock;
  const what = `${name}: MMP block ${mmpBlock}`;
  const bytes = readBlock(volume, mmpBlock, what).subarray(0, MMP_SIZE_BYTES);
  if (!enable) verifyMmpBlock(bytes, seed, what);
  sealMmpBlock(bytes, enable ? seed : undefined);
  await context.change(mmpBlock * volume.blockSizeBytes, bytes);
}

/** Switches inodes one after another. The volume's walkers check what they read before it is changed. */
class InodeSwitch {
  readonly #context: SwitchContext;
  readonly #seenXattrBlocks = new Set<number>();
  readonly #ownedBlocks = new Set<number>();

  constructor(context: SwitchContext) {
    this.#context = context;
  }

  /**
   * Switches one inode and the blocks that it owns, in place.
   *
   * @param isUsed according to the inode bitmap; only then are its blocks its own
   */
  async switch(slot: Uint8Array, inodeNumber: number, isUsed: boolean): Promise<void> {
    const { enable, seed, name, counts } = this.#context;
    if (!enable) {
      const computed = inodeChecksum(slot, { inodeNumber, seed });
      checkChecksum(`${name}: inode ${inodeNumber}`, storedInodeChecksum(slot), computed);
    }
    const stored = slot.slice();
    sealInode(slot, { inodeNumber, seed: enable ? seed : undefined });
    // mke2fs seals empty reserved inodes. Only the checksum records that it did, and nothing else reads it.
    if (!enable && slot.every((byte) => byte === 0)) slot.set(stored);
    counts.inodes++;
    if (!isUsed || inodeNumber === INODE_NUMBER.BAD_BLOCKS) return;
    // A view of the stored slot, which differs from the slot only by its checksum.
    const view = new InodeView(stored, inodeNumber);
    if (view.mode !== 0 || view.usesExtents) await this.#switchBlocks(view);
  }

  async #switchBlocks(view: InodeView): Promise<void> {
    const { volume, seed } = this.#context;
    const { number: inode } = view;
    if (view.xattrBlock !== 0) await this.#switchXattrBlock(view.xattrBlock, inode);
    if (view.hasInlineData) return;
    if (view.type === FILE_MODE.SYMLINK && isFastSymlink(view)) return;
    const { orphanFileInode, journalInode } = volume.superblock;
    const isDirectory = view.type === FILE_MODE.DIRECTORY;
    const isOrphanFile = volume.hasCompat(COMPAT.ORPHAN_FILE) && inode === orphanFileInode;
    const isJournal = volume.hasCompat(COMPAT.HAS_JOURNAL) && inode === journalInode;
    const hasOwnBlocks = isDirectory || isOrphanFile || isJournal;
    if (!view.usesExtents && !hasOwnBlocks) return;
    const extentBlocks: number[] = [];
    const map = readBlockMap(volume, view, {
      onMapBlock: ({ blockNumber }) => {
        if (view.usesExtents) extentBlocks.push(blockNumber);
      },
    });
    const ownSeed = inodeSeed(seed, inode, view.generation);
    for (const block of extentBlocks) await this.#switchExtentBlock(block, ownSeed, inode);
    if (!hasOwnBlocks) return;
    if (isDirectory) judgeSize(volume, view, map);
    const blocks = wholeBlocks(map.runs, `${this.#context.name}: inode ${inode}`);
    if (isDirectory) await this.#switchDirectory(view, map.runs, ownSeed);
    if (isOrphanFile) await this.#switchOrphanFile(blocks, ownSeed, inode);
    if (isJournal) this.#refuseFullJournal(blocks[0]!);
  }

  async #switchXattrBlock(block: number, inode: number): Promise<void> {
    const { volume, enable, seed, counts } = this.#context;
    if (this.#seenXattrBlocks.has(block)) return;
    this.#seenXattrBlocks.add(block);
    if (!judgeXattrBlockPointer(volume, inode, block)) return;
    this.#own(block, inode);
    readXattrBlock(volume, block);
    const bytes = this.#read(block, inode);
    if (enable) sealXattrBlock(bytes, { blockNumber: block, seed });
    else viewOf(bytes).setUint32(XATTR_BLOCK_AT.checksum, 0, true);
    counts.xattrBlocks++;
    await this.#change(block, bytes);
  }

  async #switchExtentBlock(block: number, ownSeed: number, inode: number): Promise<void> {
    const { enable, counts } = this.#context;
    this.#own(block, inode);
    const bytes = this.#read(block, inode);
    if (enable) sealExtentBlock(bytes, ownSeed);
    else {
      const tail = 12 * (1 + viewOf(bytes).getUint16(4, true));
      viewOf(bytes).setUint32(tail, 0, true);
    }
    counts.extentBlocks++;
    await this.#change(block, bytes);
  }

  async #switchDirectory(
    view: InodeView,
    runs: readonly MappedRun[],
    inodeSeed: number,
  ): Promise<void> {
    const { enable, volume, lacking, counts, name } = this.#context;
    const { number: inode } = view;
    const isIndexed = volume.hasCompat(COMPAT.DIR_INDEX) && (view.flags & INODE_FLAG.INDEX) !== 0;
    const index = isIndexed ? readIndex(volume, { view, runs }) : undefined;
    const isEncrypted = (view.flags & INODE_FLAG.ENCRYPT) !== 0;
    for (const [logical, block] of wholeBlocks(runs, name).entries()) {
      this.#own(block, inode);
      const bytes = this.#read(block, inode);
      const what = `inode ${inode}, directory block ${logical}`;
      const options = { enable, inodeSeed, isEncrypted, what: `${name}: ${what}` };
      const countOffset = index?.indexBlocks.get(logical);
      const isSwitched = countOffset === undefined
        ? switchLeaf(bytes, options)
        : switchIndexBlock(bytes, countOffset, options);
      if (!isSwitched) {
        if (countOffset === undefined) lacking.leaves++;
        else lacking.indexBlocks++;
        lacking.first ??= what;
      }
      counts.directoryBlocks++;
      await this.#change(block, bytes);
    }
  }

  async #switchOrphanFile(
    blocks: readonly number[],
    inodeSeed: number,
    inode: number,
  ): Promise<void> {
    const { enable, name } = this.#context;
    for (const block of blocks) {
      const what = `${name}: inode ${inode}, orphan block ${block}`;
      this.#own(block, inode);
      const bytes = this.#read(block, inode);
      const [orphan] = decodeOrphanBlock(bytes, what);
      if (orphan !== undefined) {
        const hint = "check it first: e2fsck -f";
        throw new InputError(what, `inode ${orphan} waits to be deleted`, { code: "inUse", hint });
      }
      const options = { blockNumber: block, inodeSeed };
      if (enable) sealOrphanBlock(bytes, options);
      else {
        verifyOrphanBlock(bytes, { ...options, what });
        viewOf(bytes).setUint32(bytes.length - 4, 0, true);
      }
      await this.#change(block, bytes);
    }
  }

  /** Even without RECOVER, a journal whose log has a start would be replayed. */
  #refuseFullJournal(block: number): void {
    const { volume, name } = this.#context;
    const bytes = readBlock(volume, block, `${name}: journal superblock`);
    const journal = decodeJournalSuperblock(bytes.subarray(0, JOURNAL_SUPERBLOCK_SIZE_BYTES));
    if (journal.startBlock !== 0) throw fullJournal(name);
  }

  /** A block with two owners cannot have the checksums of both. */
  #own(block: number, inode: number): void {
    if (this.#ownedBlocks.has(block)) {
      const what = `${this.#context.name}: inode ${inode}`;
      const hint = "check it first: e2fsck -f";
      throw new InputError(what, `block ${block} of it is in use elsewhere`, { hint });
    }
    this.#ownedBlocks.add(block);
  }

  #read(block: number, inode: number): Uint8Array {
    return readBlock(this.#context.volume, block, `${this.#context.name}: inode ${inode}`);
  }

  async #change(block: number, bytes: Uint8Array): Promise<void> {
    await this.#context.change(block * this.#context.volume.blockSizeBytes, bytes);
  }
}

/** The blocks of a file without holes, in order. */
function wholeBlocks(runs: readonly MappedRun[], what: string): number[] {
  const blocks: number[] = [];
  for (const { logicalBlock, startBlock, blockCount, unwritten } of runs) {
    if (logicalBlock !== blocks.length || unwritten) break;
    for (let i = 0; i < blockCount; i++) blocks.push(startBlock + i);
  }
  const last = runs.at(-1);
  if (last === undefined || blocks.length !== last.logicalBlock + last.blockCount) {
    throw new InputError(what, `it has no block ${blocks.length}, and must not have holes`);
  }
  return blocks;
}

const RECORD_LENGTH_AT = 4;

export interface DirectoryBlockOptions {
  readonly enable: boolean;
  readonly inodeSeed: number;
  /** Whether names may contain any bytes. */
  readonly isEncrypted?: boolean | undefined;
  readonly what: string;
}

/**
 * Adds a leaf's checksum or removes it, in place.
 *
 * @returns false if there is no room; the block is unchanged then
 * @throws InputError if the block is damaged, or the checksum to remove is wrong
 */
export function switchLeaf(block: Uint8Array, options: DirectoryBlockOptions): boolean {
  const { enable, inodeSeed, isEncrypted = false, what } = options;
  if (!enable) verifyDirectoryBlock(block, inodeSeed, what);
  const entries = decodeDirectoryBlock(block, { checksummed: !enable, isEncrypted, what });
  const last = entries.at(-1)!;
  const end = enable ? block.length : block.length - DIRECTORY_TAIL_SIZE_BYTES;
  const lastAt = end - last.recordLength;
  const view = viewOf(block);
  if (!enable) {
    const recordLength = last.recordLength + DIRECTORY_TAIL_SIZE_BYTES;
    block.fill(0, end);
    view.setUint16(lastAt + RECORD_LENGTH_AT, encodeRecordLength(recordLength), true);
    return true;
  }
  const isTail = last.inodeNumber === 0 && last.recordLength === DIRECTORY_TAIL_SIZE_BYTES;
  if (!isTail || entries.length === 1) {
    const needed = last.inodeNumber === 0 ? RECORD_LENGTH_MIN : direntSizeBytes(last.name.length);
    const left = last.recordLength - DIRECTORY_TAIL_SIZE_BYTES;
    if (left < Math.max(needed, RECORD_LENGTH_MIN)) return false;
    view.setUint16(lastAt + RECORD_LENGTH_AT, encodeRecordLength(left), true);
  }
  sealDirectoryBlock(block, inodeSeed);
  return true;
}

/**
 * Adds an index block's checksum or removes it, in place.
 *
 * @param countOffset DX_ROOT_COUNT_OFFSET or DX_NODE_COUNT_OFFSET
 * @returns false if there is no room; the block is unchanged then
 * @throws InputError as {@linkcode switchLeaf}
 */
export function switchIndexBlock(
  block: Uint8Array,
  countOffset: number,
  options: DirectoryBlockOptions,
): boolean {
  const { enable, inodeSeed, what } = options;
  if (!enable) verifyDxBlock(block, { countOffset, inodeSeed, what });
  const decode = countOffset === DX_ROOT_COUNT_OFFSET ? decodeDxRoot : decodeDxNode;
  const { entries } = decode(block, { checksummed: !enable, what });
  const limit = dxEntriesMax(block.length, { countOffset, checksummed: enable });
  if (entries.length > limit) return false;
  viewOf(block).setUint16(countOffset, limit, true);
  const tail = countOffset + DX_ENTRY_SIZE_BYTES * (enable ? limit : limit - 1);
  // dt_reserved may hold anything. The checksum covers it, so it stays unchanged.
  block.fill(0, tail + 4, tail + DX_ENTRY_SIZE_BYTES);
  if (enable) sealDxBlock(block, countOffset, inodeSeed);
  return true;
}
