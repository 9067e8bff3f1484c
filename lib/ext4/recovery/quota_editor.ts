/**
 * Taking use out of quota files (fs/quota/quota_v2.c, quota_tree.c): a tree of 1 KiB blocks in a hidden inode, four
 * levels of pointers by the bytes of an id, and entries at its end.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import { RO_COMPAT } from "../format/constants.ts";
import { viewOf } from "../format/fields.ts";
import type { InodeRecord } from "../format/inode.ts";
import { blockRuns, type MappedRun } from "../read/content.ts";
import type { VolumeEditor } from "./volume_editor.ts";

const QUOTA_BLOCK_BYTES = 1024;
const ROOT_BLOCK = 1;
const TREE_DEPTH = 4;
const LEAF_HEADER_BYTES = 16;
/** struct v2r1_disk_dqblk. */
const ENTRY_BYTES = 72;
const ENTRY_AT = { id: 0, inodes: 24, bytes: 48 } as const;
const TWO_32 = 2 ** 32;

/** What quotas count less of. */
interface Use {
  bytes: number;
  inodes: number;
}

/** Quota files of an image that is changed. Does nothing for an image without them. */
export class QuotaEditor {
  readonly #editor: VolumeEditor;
  /** Users, groups and projects, by id. */
  readonly #uses: readonly Map<number, Use>[] = [new Map(), new Map(), new Map()];

  constructor(editor: VolumeEditor) {
    this.#editor = editor;
  }

  /** Takes use away from the owners of an inode. */
  subtract(owner: InodeRecord, bytes: number, inodes: number): void {
    if (!this.#editor.image.hasRoCompat(RO_COMPAT.QUOTA)) return;
    for (const [type, id] of [owner.uid, owner.gid, owner.projectId].entries()) {
      const uses = this.#uses[type]!;
      const use = uses.get(id);
      if (use === undefined) uses.set(id, { bytes, inodes });
      else {
        use.bytes += bytes;
        use.inodes += inodes;
      }
    }
  }

  /** Writes what was subtracted. */
  finish(): void {
    const { userQuotaInode, groupQuotaInode, projectQuotaInode } = this.#editor.image.superblock;
    for (const [type, inode] of [userQuotaInode, groupQuotaInode, projectQuotaInode].entries()) {
      const uses = this.#uses[type]!;
      if (inode === 0 || uses.size === 0) continue;
      const file = new QuotaFile(this.#editor, inode);
      for (const [id, use] of uses) file.subtract(id, use);
    }
  }
}

class QuotaFile {
  readonly #editor: VolumeEditor;
  readonly #runs: readonly MappedRun[];

  constructor(editor: VolumeEditor, inode: number) {
    this.#editor = editor;
    this.#runs = blockRuns(editor.image, editor.image.inode(inode));
  }

  subtract(id: number, use: Use): void {
    let block = ROOT_BLOCK;
    for (let level = TREE_DEPTH - 1; level >= 0; level--) {
      const pointer = 4 * ((id >>> (8 * level)) & 0xff);
      block = viewOf(this.#block(block)).getUint32(pointer, true);
      if (block === 0) return;
    }
    const view = viewOf(this.#block(block));
    for (let at = LEAF_HEADER_BYTES; at + ENTRY_BYTES <= QUOTA_BLOCK_BYTES; at += ENTRY_BYTES) {
      if (view.getUint32(at + ENTRY_AT.id, true) !== id) continue;
      subtract(view, at + ENTRY_AT.inodes, use.inodes);
      subtract(view, at + ENTRY_AT.bytes, use.bytes);
    }
  }

  /** A block of the tree, to change. */
  #block(number: number): Uint8Array {
    const { blockSizeBytes } = this.#editor.image.geometry;
    const offset = number * QUOTA_BLOCK_BYTES;
    const logical = Math.floor(offset / blockSizeBytes);
    const run = this.#runs.find(({ logicalBlock, blockCount }) =>
      logical >= logicalBlock && logical < logicalBlock + blockCount
    );
    if (run === undefined) throw new InputError("quota file", `it has no block ${number}`);
    const bytes = this.#editor.blocks.edit(run.startBlock + logical - run.logicalBlock);
    const start = offset % blockSizeBytes;
    return bytes.subarray(start, start + QUOTA_BLOCK_BYTES);
  }
}

function subtract(view: DataView<ArrayBufferLike>, at: number, amount: number): void {
  const value = view.getUint32(at + 4, true) * TWO_32 + view.getUint32(at, true);
  const left = Math.max(0, value - amount);
  view.setUint32(at, left % TWO_32, true);
  view.setUint32(at + 4, Math.floor(left / TWO_32), true);
}
