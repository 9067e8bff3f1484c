/**
 * Replays fast commits in memory (fs/ext4/fast_commit.c, ext4_fc_replay()): inodes, block maps and names, on top of the
 * replayed log.
 *
 * The names, bytes and attributes of files come out as with the kernel. The kernel sets directory times to the time of
 * the mount, which are left unchanged here, and allocates new directory and map blocks elsewhere.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import { FILE_MODE, RO_COMPAT } from "../format/constants.ts";
import { encodeExtentNode, EXTENT_MAGIC, EXTENT_ROOT_ENTRIES_MAX } from "../format/extent.ts";
import { viewOf } from "../format/fields.ts";
import { INODE_FIELDS } from "../format/inode.ts";
import type { FastCommitRecord } from "../journal/fast_commit.ts";
import { firstAtOrAfter } from "../journal/overlay.ts";
import { DirectoryEditor } from "./directory_editor.ts";
import { InodeMaps } from "./inode_maps.ts";
import { InodeRemover } from "./orphans.ts";
import type { VolumeEditor } from "./volume_editor.ts";

const { offset: BLOCK_FIELD_AT } = INODE_FIELDS.blockField;
const { offset: GENERATION_AT } = INODE_FIELDS.generation;

type NameRecord = Extract<FastCommitRecord, { kind: "create" | "link" | "unlink" }>;

/**
 * Applies fast commits.
 *
 * @throws {InputError} for changes that the kernel refuses, and for unsupported ones: in a file system with bigalloc or
 * quotas, to a directory stored in its inode, to files without extents, and new directories
 */
export function replayFastCommits(
  editor: VolumeEditor,
  records: readonly FastCommitRecord[],
): void {
  for (const name of ["BIGALLOC", "QUOTA"] as const) {
    if (!editor.image.hasRoCompat(RO_COMPAT[name])) continue;
    const why = `it has fast commits, which are not supported with ${name.toLowerCase()}`;
    throw new InputError("journal", why, { code: "unsupported" });
  }
  editor.isKept = blocksOfRanges(records);
  const replay = new FastCommitReplay(editor);
  for (const record of records) replay.apply(record);
  replay.finish();
}

class FastCommitReplay {
  readonly #editor: VolumeEditor;
  readonly #maps: InodeMaps;
  readonly #remover: InodeRemover;
  readonly #directories = new Map<number, DirectoryEditor>();
  /** Inodes that were replaced or linked. */
  readonly #touched = new Set<number>();

  constructor(editor: VolumeEditor) {
    this.#editor = editor;
    this.#maps = new InodeMaps(editor);
    this.#remover = new InodeRemover(editor);
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
      if (this.#exists(inode) && this.#editor.inode(inode).linkCount === 0) this.#remove(inode);
    }
    this.#maps.finish();
    for (const inode of this.#touched) this.#editor.sealInode(inode);
  }

  /** Replaces everything but the map, which comes as ranges. */
  #replaceInode(inode: number, from: Uint8Array): void {
    this.#checkNumber(inode);
    const mode = viewOf(from).getUint16(INODE_FIELDS.mode.offset, true);
    if ((mode & FILE_MODE.TYPE_MASK) === FILE_MODE.DIRECTORY) {
      throw new InputError("journal", `a fast commit makes directory ${inode}: not supported`, {
        code: "unsupported",
      });
    }
    if (this.#exists(inode) && this.#editor.inode(inode).usesExtents) this.#maps.extents(inode);
    this.#editor.useInode(inode, false);
    const slot = this.#editor.inodeSlot(inode);
    if (from.length > slot.length) {
      throw new InputError("journal", `a fast commit has ${from.length} bytes of inode ${inode}`);
    }
    slot.set(from.subarray(0, BLOCK_FIELD_AT));
    slot.set(from.subarray(GENERATION_AT), GENERATION_AT);
    const { usesExtents, hasInlineData, blockField } = this.#editor.inode(inode);
    if (usesExtents) {
      if (viewOf(blockField).getUint16(0, true) !== EXTENT_MAGIC) clearMap(blockField);
    } else if (hasInlineData) blockField.set(from.subarray(BLOCK_FIELD_AT, GENERATION_AT));
    this.#touched.add(inode);
    this.#editor.sealInode(inode);
    if (usesExtents) this.#maps.extents(inode);
  }

  #link({ kind, parent, inode, name }: NameRecord): void {
    this.#checkNumber(inode);
    if (!this.#exists(inode)) {
      if (kind === "link") return;
      throw new InputError("journal", `a fast commit names inode ${inode}, which is not there`);
    }
    const directory = this.#directory(parent);
    const isNew = directory !== undefined && directory.find(name) === undefined;
    const { type, linkCount } = this.#editor.inode(inode);
    if (isNew) directory.add(name, inode, type);
    this.#setLinkCount(inode, kind === "create" ? 1 : linkCount + (isNew ? 1 : 0));
  }

  #unlink({ parent, inode, name }: NameRecord): void {
    if (!this.#exists(inode)) return;
    const directory = this.#directory(parent);
    const found = directory?.find(name);
    if (directory === undefined || found === undefined) return;
    // Another inode may have taken the name by now; this one loses a name all the same.
    if (found === inode) directory.remove(name);
    const linkCount = Math.max(0, this.#editor.inode(inode).linkCount - 1);
    this.#setLinkCount(inode, linkCount);
    if (linkCount === 0) this.#remove(inode);
  }

  /** A directory to change; undefined if the inode is not one. */
  #directory(inode: number): DirectoryEditor | undefined {
    const known = this.#directories.get(inode);
    if (known !== undefined || !this.#exists(inode)) return known;
    if (this.#editor.inode(inode).type !== FILE_MODE.DIRECTORY) return undefined;
    const directory = new DirectoryEditor(this.#editor, this.#maps, inode);
    this.#directories.set(inode, directory);
    return directory;
  }

  #remove(inode: number): void {
    const { usesExtents, blockField } = this.#editor.inode(inode);
    if (usesExtents) {
      this.#maps.clear(inode);
      clearMap(blockField);
    }
    this.#remover.remove(inode);
  }

  #exists(inode: number): boolean {
    const { inodesCount } = this.#editor.image.geometry;
    return inode >= 1 && inode <= inodesCount && this.#editor.isInodeUsed(inode);
  }

  #setLinkCount(inode: number, linkCount: number): void {
    this.#editor.editInode(inode, { linkCount });
    this.#touched.add(inode);
  }

  #checkNumber(inode: number): void {
    const { firstInode, inodesCount } = this.#editor.image.geometry;
    if (inode >= firstInode && inode <= inodesCount) return;
    throw new InputError("journal", `a fast commit changes inode ${inode}, which no file has`);
  }
}

function clearMap(blockField: Uint8Array): void {
  encodeExtentNode(blockField, { depth: 0, entriesMax: EXTENT_ROOT_ENTRIES_MAX, leaves: [] });
}

function blocksOfRanges(records: readonly FastCommitRecord[]): (block: number) => boolean {
  const ranges = records.flatMap((record) => record.kind === "addRange" ? [record] : [])
    .sort((a, b) => a.startBlock - b.startBlock);
  const starts = ranges.map(({ startBlock }) => startBlock);
  // Ranges may overlap: the furthest end of all ranges that begin no later.
  let end = 0;
  const ends = ranges.map(({ startBlock, blockCount }) =>
    end = Math.max(end, startBlock + blockCount)
  );
  return (block) => {
    const index = firstAtOrAfter(starts, block + 1) - 1;
    return index >= 0 && block < ends[index]!;
  };
}
