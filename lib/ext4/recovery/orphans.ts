/**
 * Inodes that were deleted while they were open, or were being cut short, when the machine stopped. The kernel finishes
 * that work when it mounts (fs/ext4/orphan.c, ext4_orphan_cleanup()); this does the same in memory.
 *
 * @module
 */
import { divCeil } from "../../bytes/arithmetic.ts";
import { InputError } from "../../errors.ts";
import { inodeSeed } from "../format/checksum.ts";
import { COMPAT, FILE_MODE, INODE_FLAG, RO_COMPAT } from "../format/constants.ts";
import { viewOf } from "../format/fields.ts";
import { decodeInode, INODE_AT, INODE_FIELDS, type InodeRecord } from "../format/inode.ts";
import {
  decodeOrphanBlock,
  ORPHAN_BLOCK_TAIL_SIZE_BYTES,
  sealOrphanBlock,
  verifyOrphanBlock,
} from "../format/special_blocks.ts";
import {
  type DecodedXattr,
  decodeInodeXattrs,
  decodeXattrBlock,
  sealXattrBlock,
  XATTR_BLOCK_AT,
} from "../format/xattr.ts";
import { blockRuns } from "../read/content.ts";
import { uncheckedInode } from "../read/image.ts";
import { QuotaEditor } from "./quota_editor.ts";
import { truncateMap } from "./truncate.ts";
import type { VolumeEditor } from "./volume_editor.ts";

/** What was done with orphans. */
export interface OrphanReport {
  /** Inodes without names that were deleted. */
  readonly deleted: number;
  /** Files that were cut to their size. */
  readonly truncated: number;
}

const SECTOR_SIZE_BYTES = 512;
/** s_state: errors were seen, so lists of orphans are not to be trusted. */
const STATE_ERRORS = 2;
/** Types that can be cut. */
const HAS_CONTENT: readonly number[] = [
  FILE_MODE.REGULAR,
  FILE_MODE.DIRECTORY,
  FILE_MODE.SYMLINK,
];

/** Deletes and cuts what the lists of orphans name, and empties them as far as the superblock is not concerned. */
export function cleanUpOrphans(editor: VolumeEditor): OrphanReport {
  const { superblock } = editor.image;
  const cleanup = new OrphanCleanup(editor);
  if ((superblock.state & STATE_ERRORS) !== 0) return cleanup.report();
  cleanup.followList(superblock.lastOrphan);
  if (editor.image.hasCompat(COMPAT.ORPHAN_FILE)) cleanup.readFile(superblock.orphanFileInode);
  cleanup.finish();
  return cleanup.report();
}

class OrphanCleanup {
  readonly #editor: VolumeEditor;
  readonly #remover: InodeRemover;
  readonly #seen = new Set<number>();
  #deleted = 0;
  #truncated = 0;

  constructor(editor: VolumeEditor) {
    this.#editor = editor;
    this.#remover = new InodeRemover(editor);
  }

  report(): OrphanReport {
    return { deleted: this.#deleted, truncated: this.#truncated };
  }

  finish(): void {
    this.#remover.finish();
  }

  /** The list that starts in the superblock and goes on in i_dtime. It ends at the first inode that cannot be on it. */
  followList(first: number): void {
    for (let number = first; number !== 0;) {
      const next = this.#process(number);
      if (next === undefined) return;
      number = next;
    }
  }

  /** The orphan file: inodes that cannot be in it are passed over. */
  readFile(fileInode: number): void {
    const { image, blocks } = this.#editor;
    if (!image.hasRoCompat(RO_COMPAT.ORPHAN_PRESENT)) return;
    const file = image.inode(fileInode);
    for (const { startBlock, blockCount } of blockRuns(image, file)) {
      for (let block = startBlock; block < startBlock + blockCount; block++) {
        const what = `block ${block} of the orphan file`;
        const seal = { blockNumber: block, inodeSeed: file.seed ?? 0 };
        if (file.seed !== undefined) verifyOrphanBlock(blocks.read(block), { ...seal, what });
        const orphans = decodeOrphanBlock(blocks.read(block), what);
        if (orphans.length === 0) continue;
        for (const orphan of orphans) this.#process(orphan);
        const bytes = blocks.edit(block);
        bytes.fill(0, 0, bytes.length - ORPHAN_BLOCK_TAIL_SIZE_BYTES);
        if (file.seed !== undefined) sealOrphanBlock(bytes, seal);
      }
    }
  }

  /** Deletes or cuts one inode; gives the next one of the list, or undefined if the inode is not an orphan. */
  #process(number: number): number | undefined {
    const { image } = this.#editor;
    const { firstInode, inodesCount } = image.geometry;
    if (number < firstInode || number > inodesCount || this.#seen.has(number)) return undefined;
    if (!this.#editor.isInodeUsed(number)) return undefined;
    this.#seen.add(number);
    let record: InodeRecord;
    try {
      record = this.#checkedRecord(number);
    } catch (error) {
      if (error instanceof InputError) return undefined;
      throw error;
    }
    if (record.dtime > inodesCount) return undefined;
    const hasContent = HAS_CONTENT.includes(record.mode & FILE_MODE.TYPE_MASK);
    if (record.linkCount > 0 && !hasContent) return undefined;
    if (record.linkCount === 0) {
      this.#remover.remove(number);
      this.#deleted++;
    } else {
      this.#remover.truncate(number);
      this.#truncated++;
    }
    return record.dtime;
  }

  /** An inode whose map can be walked to its end. */
  #checkedRecord(number: number): InodeRecord {
    const slot = this.#editor.inodeSlot(number);
    const record = decodeInode(slot, `inode ${number}`);
    if (hasMap(record)) {
      const { image } = this.#editor;
      blockRuns(image, uncheckedInode(image, number, slot));
    }
    return record;
  }
}

/** Takes inodes and what they map out of use. */
export class InodeRemover {
  readonly #editor: VolumeEditor;
  readonly #quotas: QuotaEditor;

  constructor(editor: VolumeEditor) {
    this.#editor = editor;
    this.#quotas = new QuotaEditor(editor);
  }

  /** Writes what quotas count less. */
  finish(): void {
    this.#quotas.finish();
  }

  /** Cuts what an inode maps to its size. */
  truncate(number: number): void {
    const { image, clusterSizeBytes } = this.#editor;
    const slot = this.#editor.inodeSlot(number);
    const record = decodeInode(slot, `inode ${number}`);
    const endBlock = divCeil(record.sizeBytes, image.geometry.blockSizeBytes);
    const freed = this.#truncate(number, slot, record, endBlock);
    this.#editor.subtractClusters(slot, freed);
    viewOf(slot).setUint32(INODE_FIELDS.dtime.offset, 0, true);
    this.#editor.sealInode(number);
    this.#quotas.subtract(record, freed * clusterSizeBytes, 0);
  }

  /** Deletes an inode with its blocks and attributes. */
  remove(number: number): void {
    const { superblock, geometry } = this.#editor.image;
    const slot = this.#editor.inodeSlot(number);
    const record = decodeInode(slot, `inode ${number}`);
    this.#truncate(number, slot, record, 0);
    const values = this.#releaseXattrs(number, record);
    const view = viewOf(slot);
    for (
      const at of [
        INODE_FIELDS.sectorCount.offset,
        INODE_FIELDS.sizeBytes.offset,
        INODE_AT.sizeHigh,
      ]
    ) {
      view.setUint32(at, 0, true);
    }
    view.setUint16(INODE_AT.blocksHigh, 0, true);
    view.setUint16(INODE_FIELDS.linkCount.offset, 0, true);
    view.setUint32(INODE_FIELDS.xattrBlock.offset, 0, true);
    view.setUint16(INODE_AT.xattrBlockHigh, 0, true);
    // The kernel takes the time of the mount. Anything as low as an inode's number would look like a place in the list.
    const dtime = Math.max(superblock.writeTime, geometry.inodesCount + 1);
    view.setUint32(INODE_FIELDS.dtime.offset, dtime, true);
    const isDirectory = (record.mode & FILE_MODE.TYPE_MASK) === FILE_MODE.DIRECTORY;
    this.#editor.freeInode(number, isDirectory);
    this.#editor.sealInode(number);
    const unit = (record.flags & INODE_FLAG.HUGE_FILE) === 0
      ? SECTOR_SIZE_BYTES
      : geometry.blockSizeBytes;
    const bytes = record.sectorCount * unit + values.bytes;
    this.#quotas.subtract(record, bytes, 1 + values.inodes);
  }

  #truncate(number: number, slot: Uint8Array, record: InodeRecord, endBlock: number): number {
    if (!hasMap(record)) return 0;
    const { seed } = this.#editor.image;
    const mapSeed = seed === undefined ? undefined : inodeSeed(seed, number, record.generation);
    return truncateMap(this.#editor, number, slot, endBlock, mapSeed);
  }

  /** Gives back the block of attributes and values in inodes; says what quotas count for the values. */
  #releaseXattrs(number: number, record: InodeRecord): { bytes: number; inodes: number } {
    const what = `attributes of inode ${number}`;
    const values = record.xattrArea.length > 0 ? decodeInodeXattrs(record.xattrArea, what) : [];
    if (record.xattrBlock !== 0) values.push(...this.#releaseXattrBlock(record.xattrBlock, what));
    const counted = { bytes: 0, inodes: 0 };
    for (const { valueInode, valueSizeBytes } of values) {
      if (valueInode === undefined) continue;
      this.#releaseValue(valueInode);
      const { clusterSizeBytes } = this.#editor;
      counted.bytes += divCeil(valueSizeBytes, clusterSizeBytes) * clusterSizeBytes;
      counted.inodes++;
    }
    return counted;
  }

  /** The attributes of a block whose last owner goes; others only lose one. */
  #releaseXattrBlock(blockNumber: number, what: string): readonly DecodedXattr[] {
    const { image, blocks } = this.#editor;
    image.checkRange(blockNumber, 1, what);
    const block = blocks.edit(blockNumber);
    const { referenceCount, xattrs } = decodeXattrBlock(block, what);
    if (referenceCount === 1) {
      this.#editor.freeBlocks(blockNumber, 1);
      return xattrs;
    }
    viewOf(block).setUint32(XATTR_BLOCK_AT.referenceCount, referenceCount - 1, true);
    if (image.seed !== undefined) sealXattrBlock(block, { blockNumber, seed: image.seed });
    return [];
  }

  /** A value in an inode of its own counts its owners in i_ctime and l_i_version. */
  #releaseValue(number: number): void {
    const slot = this.#editor.inodeSlot(number);
    const view = viewOf(slot);
    const count = view.getUint32(INODE_FIELDS.ctime.offset, true) * 2 ** 32 +
      view.getUint32(INODE_FIELDS.versionLow.offset, true);
    const left = Math.max(0, count - 1);
    view.setUint32(INODE_FIELDS.ctime.offset, Math.floor(left / 2 ** 32), true);
    view.setUint32(INODE_FIELDS.versionLow.offset, left % 2 ** 32, true);
    if (left === 0) this.#deleteValue(number, slot);
    this.#editor.sealInode(number);
  }

  #deleteValue(number: number, slot: Uint8Array): void {
    const record = decodeInode(slot, `inode ${number}`);
    this.#truncate(number, slot, record, 0);
    const view = viewOf(slot);
    const { superblock, geometry } = this.#editor.image;
    view.setUint16(INODE_FIELDS.linkCount.offset, 0, true);
    view.setUint32(INODE_FIELDS.sectorCount.offset, 0, true);
    view.setUint32(INODE_FIELDS.sizeBytes.offset, 0, true);
    view.setUint32(
      INODE_FIELDS.dtime.offset,
      Math.max(superblock.writeTime, geometry.inodesCount + 1),
      true,
    );
    this.#editor.freeInode(number, false);
  }
}

/** Whether i_block leads to blocks: devices, fifos, sockets and short symlinks have something else there. */
function hasMap(record: InodeRecord): boolean {
  const type = record.mode & FILE_MODE.TYPE_MASK;
  if (type !== FILE_MODE.SYMLINK) return HAS_CONTENT.includes(type);
  return record.sizeBytes >= SHORT_SYMLINK_END;
}

/** Symlinks below this are kept in i_block. */
const SHORT_SYMLINK_END = 60;
