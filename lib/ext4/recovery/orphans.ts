/**
 * Orphans: inodes that were deleted while open, or were being truncated, when the machine stopped. The kernel finishes
 * that work when it mounts (fs/ext4/orphan.c, ext4_orphan_cleanup()); this does the same in memory.
 *
 * @module
 */
import { divCeil } from "../../bytes/arithmetic.ts";
import { InputError } from "../../errors.ts";
import { COMPAT, FILE_MODE, RO_COMPAT } from "../format/constants.ts";
import { viewOf } from "../format/fields.ts";
import {
  decodeInode,
  INODE_BLOCK_FIELD_SIZE_BYTES,
  INODE_FIELDS,
  type InodeRecord,
} from "../format/inode.ts";
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
import { type MappedRun, physicalBlock } from "../volume/block_map.ts";
import { inputError } from "../volume/judge.ts";
import { STATE } from "../volume/superblock.ts";
import { truncateMap } from "./inode_maps.ts";
import type { VolumeEditor } from "./volume_editor.ts";

/** What was done with orphans. */
export interface OrphanReport {
  /** Inodes without names that were deleted. */
  readonly deleted: number;
  /** Files that were truncated to their size. */
  readonly truncated: number;
}

const HAS_CONTENT: readonly number[] = [
  FILE_MODE.REGULAR,
  FILE_MODE.DIRECTORY,
  FILE_MODE.SYMLINK,
];
const TWO_32 = 2 ** 32;

/** Deletes or truncates the listed orphans, and empties their lists except for the superblock's field. */
export function cleanUpOrphans(editor: VolumeEditor): OrphanReport {
  const { superblock } = editor.image;
  const cleanup = new OrphanCleanup(editor);
  // After errors, the lists of orphans cannot be trusted.
  if ((superblock.state & STATE.ERRORS) === 0) {
    cleanup.followList(superblock.lastOrphan);
    if (editor.image.hasCompat(COMPAT.ORPHAN_FILE)) cleanup.readFile(superblock.orphanFileInode);
    cleanup.remover.finish();
  }
  return { deleted: cleanup.deleted, truncated: cleanup.truncated };
}

class OrphanCleanup {
  readonly remover: InodeRemover;
  deleted = 0;
  truncated = 0;
  readonly #editor: VolumeEditor;
  readonly #seen = new Set<number>();

  constructor(editor: VolumeEditor) {
    this.#editor = editor;
    this.remover = new InodeRemover(editor);
  }

  /** Follows the list from the superblock through i_dtime, up to the first inode that cannot be on it. */
  followList(first: number): void {
    for (let next: number | undefined = first; next;) next = this.#process(next);
  }

  /** Reads the orphan file; inodes that cannot be in it are skipped. */
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

  /** Deletes or truncates one inode; returns the next one in the list, or undefined if the inode is not an orphan. */
  #process(number: number): number | undefined {
    const { firstInode, inodesCount } = this.#editor.image.geometry;
    if (number < firstInode || number > inodesCount || this.#seen.has(number)) return undefined;
    if (!this.#editor.isInodeUsed(number)) return undefined;
    this.#seen.add(number);
    let record: InodeRecord;
    try {
      record = this.#checkedRecord(number);
    } catch (error) {
      inputError(error);
      return undefined;
    }
    const { dtime, linkCount, mode } = record;
    if (dtime > inodesCount) return undefined;
    if (linkCount > 0 && !HAS_CONTENT.includes(mode & FILE_MODE.TYPE_MASK)) return undefined;
    if (linkCount === 0) {
      this.remover.remove(number);
      this.deleted++;
    } else {
      this.remover.truncate(number);
      this.truncated++;
    }
    return dtime;
  }

  /** An inode whose map can be walked to its end. */
  #checkedRecord(number: number): InodeRecord {
    const slot = this.#editor.inodeSlot(number);
    const record = decodeInode(slot, `inode ${number}`);
    const { image } = this.#editor;
    if (hasMap(record)) blockRuns(image, uncheckedInode(image, number, slot));
    return record;
  }
}

export class InodeRemover {
  readonly #editor: VolumeEditor;
  readonly #quotas: QuotaEditor;

  constructor(editor: VolumeEditor) {
    this.#editor = editor;
    this.#quotas = new QuotaEditor(editor);
  }

  finish(): void {
    this.#quotas.finish();
  }

  truncate(number: number): void {
    const editor = this.#editor;
    const record = this.#record(number);
    const endBlock = divCeil(record.sizeBytes, editor.image.blockSizeBytes);
    const freedBytes = this.#truncate(number, record, endBlock) * editor.clusterSizeBytes;
    const view = editor.inode(number);
    const sectorCount = view.sectorCount - freedBytes / editor.countUnitBytes(view);
    editor.editInode(number, { sectorCount: Math.max(0, sectorCount), dtime: 0 });
    this.#quotas.subtract(record, freedBytes, 0);
  }

  remove(number: number): void {
    const record = this.#record(number);
    const unitBytes = this.#editor.countUnitBytes(this.#editor.inode(number));
    this.#truncate(number, record, 0);
    const values = this.#releaseXattrs(number, record);
    this.#delete(number, (record.mode & FILE_MODE.TYPE_MASK) === FILE_MODE.DIRECTORY);
    this.#quotas.subtract(record, record.sectorCount * unitBytes + values.bytes, 1 + values.inodes);
  }

  #record(number: number): InodeRecord {
    return decodeInode(this.#editor.inodeSlot(number), `inode ${number}`);
  }

  #truncate(number: number, record: InodeRecord, endBlock: number): number {
    return hasMap(record) ? truncateMap(this.#editor, number, endBlock) : 0;
  }

  /** Marks an inode as deleted after its blocks and attributes were freed. */
  #delete(number: number, isDirectory: boolean): void {
    const { superblock, geometry } = this.#editor.image;
    this.#editor.editInode(number, {
      sectorCount: 0,
      sizeBytes: 0,
      linkCount: 0,
      xattrBlock: 0,
      // The kernel uses the time of the mount. A value as low as an inode number would look like a link of the list.
      dtime: Math.max(superblock.writeTime, geometry.inodesCount + 1),
    });
    this.#editor.freeInode(number, isDirectory);
  }

  /** Frees the attribute block and values in inodes; returns what quotas count for the values. */
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

  /** Returns the attributes of a block that loses its last owner; otherwise only its reference count drops. */
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
    const { ctimeWord, versionLow } = this.#editor.inode(number);
    const left = Math.max(0, ctimeWord * TWO_32 + versionLow - 1);
    const slot = viewOf(this.#editor.inodeSlot(number));
    slot.setUint32(INODE_FIELDS.ctime.offset, Math.floor(left / TWO_32), true);
    slot.setUint32(INODE_FIELDS.versionLow.offset, left % TWO_32, true);
    if (left > 0) return this.#editor.sealInode(number);
    this.#truncate(number, this.#record(number), 0);
    this.#delete(number, false);
  }
}

/** Whether i_block maps blocks: devices, fifos, sockets and short symlinks store something else there. */
function hasMap({ mode, sizeBytes }: InodeRecord): boolean {
  const type = mode & FILE_MODE.TYPE_MASK;
  if (type !== FILE_MODE.SYMLINK) return HAS_CONTENT.includes(type);
  return sizeBytes >= INODE_BLOCK_FIELD_SIZE_BYTES;
}

const QUOTA_BLOCK_BYTES = 1024;
const ROOT_BLOCK = 1;
const TREE_DEPTH = 4;
const LEAF_HEADER_BYTES = 16;
/** struct v2r1_disk_dqblk. */
const ENTRY_BYTES = 72;
const ENTRY_AT = { id: 0, inodes: 24, bytes: 48 } as const;

interface Use {
  bytes: number;
  inodes: number;
}

/**
 * Subtracts usage from the quota files of an image (fs/quota/quota_v2.c, quota_tree.c): a tree of 1 KiB blocks in a
 * hidden inode, with four levels of pointers by the bytes of an id, and entries in its leaves. Does nothing for an
 * image without them.
 */
class QuotaEditor {
  readonly #editor: VolumeEditor;
  /** Usage by id, for users, groups and projects. */
  readonly #uses: readonly Map<number, Use>[] = [new Map(), new Map(), new Map()];

  constructor(editor: VolumeEditor) {
    this.#editor = editor;
  }

  subtract(owner: InodeRecord, bytes: number, inodes: number): void {
    if (!this.#editor.image.hasRoCompat(RO_COMPAT.QUOTA)) return;
    for (const [type, id] of [owner.uid, owner.gid, owner.projectId].entries()) {
      const use = this.#uses[type]!.get(id);
      this.#uses[type]!.set(id, {
        bytes: bytes + (use?.bytes ?? 0),
        inodes: inodes + (use?.inodes ?? 0),
      });
    }
  }

  finish(): void {
    const { image } = this.#editor;
    const { userQuotaInode, groupQuotaInode, projectQuotaInode } = image.superblock;
    for (const [type, inode] of [userQuotaInode, groupQuotaInode, projectQuotaInode].entries()) {
      const uses = this.#uses[type]!;
      if (inode === 0 || uses.size === 0) continue;
      const runs = blockRuns(image, image.inode(inode));
      for (const [id, use] of uses) this.#write(runs, id, use);
    }
  }

  #write(runs: readonly MappedRun[], id: number, use: Use): void {
    let block = ROOT_BLOCK;
    for (let level = TREE_DEPTH - 1; level >= 0; level--) {
      const pointer = 4 * ((id >>> (8 * level)) & 0xff);
      block = this.#block(runs, block).getUint32(pointer, true);
      if (block === 0) return;
    }
    const view = this.#block(runs, block);
    for (let at = LEAF_HEADER_BYTES; at + ENTRY_BYTES <= QUOTA_BLOCK_BYTES; at += ENTRY_BYTES) {
      if (view.getUint32(at + ENTRY_AT.id, true) !== id) continue;
      subtract(view, at + ENTRY_AT.inodes, use.inodes);
      subtract(view, at + ENTRY_AT.bytes, use.bytes);
    }
  }

  #block(runs: readonly MappedRun[], number: number): DataView<ArrayBufferLike> {
    const { blockSizeBytes } = this.#editor.image;
    const offset = number * QUOTA_BLOCK_BYTES;
    const block = physicalBlock(runs, Math.floor(offset / blockSizeBytes));
    if (block === undefined) throw new InputError("quota file", `it has no block ${number}`);
    const start = offset % blockSizeBytes;
    return viewOf(this.#editor.blocks.edit(block).subarray(start, start + QUOTA_BLOCK_BYTES));
  }
}

function subtract(view: DataView<ArrayBufferLike>, at: number, amount: number): void {
  const value = view.getUint32(at + 4, true) * TWO_32 + view.getUint32(at, true);
  const left = Math.max(0, value - amount);
  view.setUint32(at, left % TWO_32, true);
  view.setUint32(at + 4, Math.floor(left / TWO_32), true);
}
