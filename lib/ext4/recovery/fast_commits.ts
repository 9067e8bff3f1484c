/**
 * Replaying fast commits in memory (fs/ext4/fast_commit.c, ext4_fc_replay()): inodes, what they map, and names, on top of
 * what the log made of the image.
 *
 * The names, bytes and attributes of files come out as with the kernel. It gives directories the time of the mount, which
 * here stays what it was, and puts new blocks of directories and maps elsewhere.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import { FILE_MODE, INODE_FLAG, RO_COMPAT } from "../format/constants.ts";
import { EXTENT_MAGIC, EXTENT_ROOT_ENTRIES_MAX } from "../format/extent.ts";
import { viewOf } from "../format/fields.ts";
import { INODE_FIELDS } from "../format/inode.ts";
import type { FastCommitRecord } from "../journal/fast_commit.ts";
import { firstAtOrAfter } from "../journal/overlay.ts";
import { BlockMaps } from "./block_maps.ts";
import { DirectoryEditor } from "./directory_editor.ts";
import { InodeRemover } from "./orphans.ts";
import type { VolumeEditor } from "./volume_editor.ts";

const { offset: BLOCK_FIELD_AT } = INODE_FIELDS.blockField;
const { offset: GENERATION_AT } = INODE_FIELDS.generation;
const { offset: LINK_COUNT_AT } = INODE_FIELDS.linkCount;
/** Offsets in struct ext4_extent_header. */
const HEADER_AT = { magic: 0, entriesMax: 4 } as const;

type NameRecord = Extract<FastCommitRecord, { kind: "create" | "link" | "unlink" }>;

/**
 * Makes the changes of fast commits.
 *
 * @throws {InputError} for changes that the kernel refuses, and for those that are not supported: in a file system with
 * bigalloc or quotas, to a directory that is kept in its inode, to files without extents, and new directories
 */
export function replayFastCommits(
  editor: VolumeEditor,
  records: readonly FastCommitRecord[],
): void {
  for (
    const [feature, name] of [
      [RO_COMPAT.BIGALLOC, "bigalloc"],
      [RO_COMPAT.QUOTA, "quota"],
    ] as const
  ) {
    if (editor.image.hasRoCompat(feature)) {
      throw new InputError("journal", `it has fast commits, which are not supported with ${name}`, {
        code: "unsupported",
      });
    }
  }
  const replay = new FastCommitReplay(editor, records);
  for (const record of records) replay.apply(record);
  replay.finish();
}

class FastCommitReplay {
  readonly #editor: VolumeEditor;
  readonly #maps: BlockMaps;
  readonly #remover: InodeRemover;
  readonly #directories = new Map<number, DirectoryEditor>();
  /** Inodes that were replaced or linked. */
  readonly #touched = new Set<number>();
  readonly #isKept: (block: number) => boolean;

  constructor(editor: VolumeEditor, records: readonly FastCommitRecord[]) {
    this.#editor = editor;
    this.#maps = new BlockMaps(editor);
    this.#remover = new InodeRemover(editor);
    this.#isKept = blocksOfRanges(records);
  }

  apply(record: FastCommitRecord): void {
    switch (record.kind) {
      case "inode":
        return this.#replaceInode(record.inode, record.slot);
      case "addRange": {
        const { inode, logicalBlock, blockCount, startBlock, unwritten } = record;
        this.#editor.image.checkRange(startBlock, blockCount, `fast commit of inode ${inode}`);
        if (!this.#exists(inode)) return;
        return this.#maps.put(inode, { logicalBlock, blockCount, startBlock, unwritten });
      }
      case "deleteRange":
        if (this.#exists(record.inode)) {
          this.#maps.remove(record.inode, record.logicalBlock, record.blockCount);
        }
        return;
      case "unlink":
        return this.#unlink(record);
      default:
        return this.#link(record);
    }
  }

  finish(): void {
    for (const inode of this.#touched) {
      if (this.#exists(inode) && this.#linkCount(inode) === 0) this.#remove(inode);
    }
    this.#maps.finish(this.#isKept);
    for (const inode of this.#touched) this.#editor.sealInode(inode);
  }

  /** All but what it maps: that comes as ranges. */
  #replaceInode(inode: number, from: Uint8Array): void {
    this.#checkNumber(inode);
    const mode = viewOf(from).getUint16(INODE_FIELDS.mode.offset, true);
    if ((mode & FILE_MODE.TYPE_MASK) === FILE_MODE.DIRECTORY) {
      throw new InputError("journal", `a fast commit makes directory ${inode}: not supported`, {
        code: "unsupported",
      });
    }
    if (this.#exists(inode) && this.#hasExtents(inode)) this.#maps.extents(inode);
    this.#editor.useInode(inode, false);
    const slot = this.#editor.inodeSlot(inode);
    if (from.length > slot.length) {
      throw new InputError("journal", `a fast commit has ${from.length} bytes of inode ${inode}`);
    }
    slot.set(from.subarray(0, BLOCK_FIELD_AT));
    slot.set(from.subarray(GENERATION_AT), GENERATION_AT);
    const view = viewOf(slot);
    const flags = view.getUint32(INODE_FIELDS.flags.offset, true);
    if ((flags & INODE_FLAG.EXTENTS) !== 0) {
      if (view.getUint16(BLOCK_FIELD_AT + HEADER_AT.magic, true) !== EXTENT_MAGIC) {
        slot.fill(0, BLOCK_FIELD_AT, GENERATION_AT);
        view.setUint16(BLOCK_FIELD_AT + HEADER_AT.magic, EXTENT_MAGIC, true);
        view.setUint16(BLOCK_FIELD_AT + HEADER_AT.entriesMax, EXTENT_ROOT_ENTRIES_MAX, true);
      }
    } else if ((flags & INODE_FLAG.INLINE_DATA) !== 0) {
      slot.set(from.subarray(BLOCK_FIELD_AT, GENERATION_AT), BLOCK_FIELD_AT);
    }
    this.#touched.add(inode);
    this.#editor.sealInode(inode);
    if ((flags & INODE_FLAG.EXTENTS) !== 0) this.#maps.extents(inode);
  }

  #link({ kind, parent, inode, name }: NameRecord): void {
    this.#checkNumber(inode);
    if (!this.#exists(inode)) {
      if (kind === "link") return;
      throw new InputError("journal", `a fast commit names inode ${inode}, which is not there`);
    }
    const directory = this.#directory(parent);
    const isNew = directory !== undefined && directory.find(name) === undefined;
    const mode = viewOf(this.#editor.inodeSlot(inode)).getUint16(INODE_FIELDS.mode.offset, true);
    if (isNew) directory.add(name, inode, mode);
    const linkCount = this.#linkCount(inode) + (isNew ? 1 : 0);
    this.#setLinkCount(inode, kind === "create" ? 1 : linkCount);
  }

  #unlink({ parent, inode, name }: NameRecord): void {
    if (!this.#exists(inode)) return;
    const directory = this.#directory(parent);
    const found = directory?.find(name);
    if (directory === undefined || found === undefined) return;
    // Another inode may have got the name by now; this one has one name less all the same.
    if (found === inode) directory.remove(name);
    this.#setLinkCount(inode, Math.max(0, this.#linkCount(inode) - 1));
    if (this.#linkCount(inode) === 0) this.#remove(inode);
  }

  /** A directory to change; undefined when there is none of that number. */
  #directory(inode: number): DirectoryEditor | undefined {
    const known = this.#directories.get(inode);
    if (known !== undefined || !this.#exists(inode)) return known;
    const mode = viewOf(this.#editor.inodeSlot(inode)).getUint16(INODE_FIELDS.mode.offset, true);
    if ((mode & FILE_MODE.TYPE_MASK) !== FILE_MODE.DIRECTORY) return undefined;
    const directory = new DirectoryEditor(this.#editor, this.#maps, inode, this.#isKept);
    this.#directories.set(inode, directory);
    return directory;
  }

  #remove(inode: number): void {
    if (this.#hasExtents(inode)) {
      this.#maps.clear(inode);
      const slot = this.#editor.inodeSlot(inode);
      slot.fill(0, BLOCK_FIELD_AT, GENERATION_AT);
      const view = viewOf(slot);
      view.setUint16(BLOCK_FIELD_AT + HEADER_AT.magic, EXTENT_MAGIC, true);
      view.setUint16(BLOCK_FIELD_AT + HEADER_AT.entriesMax, EXTENT_ROOT_ENTRIES_MAX, true);
    }
    this.#remover.remove(inode);
  }

  #exists(inode: number): boolean {
    const { inodesCount } = this.#editor.image.geometry;
    return inode >= 1 && inode <= inodesCount && this.#editor.isInodeUsed(inode);
  }

  #hasExtents(inode: number): boolean {
    const view = viewOf(this.#editor.inodeSlot(inode));
    return (view.getUint32(INODE_FIELDS.flags.offset, true) & INODE_FLAG.EXTENTS) !== 0;
  }

  #linkCount(inode: number): number {
    return viewOf(this.#editor.inodeSlot(inode)).getUint16(LINK_COUNT_AT, true);
  }

  #setLinkCount(inode: number, count: number): void {
    viewOf(this.#editor.inodeSlot(inode)).setUint16(LINK_COUNT_AT, count, true);
    this.#touched.add(inode);
    this.#editor.sealInode(inode);
  }

  #checkNumber(inode: number): void {
    const { firstInode, inodesCount } = this.#editor.image.geometry;
    if (inode >= firstInode && inode <= inodesCount) return;
    throw new InputError("journal", `a fast commit changes inode ${inode}, which no file has`);
  }
}

/** Whether a block is one of those that fast commits give to files. */
function blocksOfRanges(records: readonly FastCommitRecord[]): (block: number) => boolean {
  const ranges = records.flatMap((record) => record.kind === "addRange" ? [record] : [])
    .sort((a, b) => a.startBlock - b.startBlock);
  const starts = ranges.map(({ startBlock }) => startBlock);
  // Ranges may overlap: how far those reach that begin no later.
  let end = 0;
  const ends = ranges.map(({ startBlock, blockCount }) =>
    end = Math.max(end, startBlock + blockCount)
  );
  return (block) => {
    const index = firstAtOrAfter(starts, block + 1) - 1;
    return index >= 0 && block < ends[index]!;
  };
}
