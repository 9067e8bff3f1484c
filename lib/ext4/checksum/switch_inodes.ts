/**
 * The checksums of inodes and of the blocks that belong to them.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import { checkChecksum, inodeSeed } from "../format/checksum.ts";
import { COMPAT, FILE_MODE, INODE_FLAG, INODE_NUMBER } from "../format/constants.ts";
import { sealExtentBlock, verifyExtentBlock } from "../format/extent.ts";
import { viewOf } from "../format/fields.ts";
import { DX_NODE_COUNT_OFFSET, DX_ROOT_COUNT_OFFSET } from "../format/htree.ts";
import type { InodeRecord } from "../format/inode.ts";
import { decodeInode, inodeChecksum, sealInode, storedInodeChecksum } from "../format/inode.ts";
import { decodeJournalSuperblock, JOURNAL_SUPERBLOCK_SIZE_BYTES } from "../format/journal.ts";
import { decodeOrphanBlock, sealOrphanBlock, verifyOrphanBlock } from "../format/orphan_file.ts";
import { sealXattrBlock, XATTR_BLOCK_AT } from "../format/xattr.ts";
import { decodeXattrBlock, verifyXattrBlock } from "../format/xattr_decode.ts";
import { blocksOfExtents, blocksOfMap, readExtents } from "./block_map.ts";
import { switchIndexBlock, switchLeaf } from "./directory_blocks.ts";
import type { SwitchContext } from "./switch_context.ts";

/** A symlink of this many bytes or more has a block of its own. */
const SHORT_SYMLINK_BYTES_MAX = 60;

/** Switches inodes one after another. */
export class InodeSwitch {
  readonly #context: SwitchContext;
  readonly #seenXattrBlocks = new Set<number>();
  readonly #claimed = new Set<number>();

  constructor(context: SwitchContext) {
    this.#context = context;
  }

  /**
   * Switches one inode, in place, and the blocks that it owns.
   *
   * @param isUsed by the inode bitmap; only then its blocks are its own
   */
  async switch(slot: Uint8Array, inodeNumber: number, isUsed: boolean): Promise<void> {
    const { enable, seed, name, counts } = this.#context;
    const what = `${name}: inode ${inodeNumber}`;
    if (!enable) {
      const computed = inodeChecksum(slot, { inodeNumber, seed });
      checkChecksum(what, storedInodeChecksum(slot), computed);
    }
    const stored = slot.slice();
    sealInode(slot, { inodeNumber, seed: enable ? seed : undefined });
    // mke2fs seals reserved inodes that are empty. The checksum is all there is to say that it did: nobody else reads it.
    if (!enable && slot.every((byte) => byte === 0)) slot.set(stored);
    counts.inodes++;
    if (isUsed) await this.#switchBlocks(decodeInode(slot), inodeNumber, what);
  }

  async #switchBlocks(inode: InodeRecord, inodeNumber: number, what: string): Promise<void> {
    const { volume } = this.#context;
    if (inode.xattrBlock !== 0) await this.#switchXattrBlock(inode.xattrBlock, what);
    if ((inode.flags & INODE_FLAG.INLINE_DATA) !== 0) return;
    const type = inode.mode & FILE_MODE.TYPE_MASK;
    const isDirectory = type === FILE_MODE.DIRECTORY;
    if (type === FILE_MODE.SYMLINK && inode.sizeBytes < SHORT_SYMLINK_BYTES_MAX) return;
    const ownSeed = inodeSeed(this.#context.seed, inodeNumber, inode.generation);
    const hasExtents = (inode.flags & INODE_FLAG.EXTENTS) !== 0;
    const tree: [block: number, bytes: Uint8Array<ArrayBuffer>][] = [];
    const leaves = hasExtents
      ? readExtents(volume, inode.blockField, what, (block, bytes) => tree.push([block, bytes]))
      : [];
    for (const [block, bytes] of tree) await this.#switchExtentBlock(block, bytes, ownSeed, what);
    const { orphanFileInode, featureCompat } = volume.superblock;
    const isOrphanFile = (featureCompat & COMPAT.ORPHAN_FILE) !== 0 &&
      inodeNumber === orphanFileInode;
    const isJournal = (featureCompat & COMPAT.HAS_JOURNAL) !== 0 &&
      inodeNumber === volume.superblock.journalInode;
    if (!isDirectory && !isOrphanFile && !isJournal) return;
    const wanted = isJournal ? 1 : inode.sizeBytes / volume.blockSizeBytes;
    if (!Number.isInteger(wanted) || wanted < 1 || wanted > volume.superblock.blocksCount) {
      throw new InputError(what, `its size of ${inode.sizeBytes} bytes is no number of blocks`);
    }
    const blocks = hasExtents
      ? blocksOfExtents(leaves, wanted, what)
      : blocksOfMap(volume, inode.blockField, wanted, what);
    if (isDirectory) await this.#switchDirectory(inode, blocks, ownSeed, what);
    if (isOrphanFile) await this.#switchOrphanFile(blocks, ownSeed, what);
    if (isJournal) this.#refuseFullJournal(blocks[0]!);
  }

  async #switchXattrBlock(block: number, what: string): Promise<void> {
    const { volume, enable, seed, counts } = this.#context;
    if (this.#seenXattrBlocks.has(block)) return;
    this.#seenXattrBlocks.add(block);
    this.#claim(block, what);
    const name = `${what}, xattr block ${block}`;
    const bytes = volume.readBlock(block, `${what}, attributes`);
    decodeXattrBlock(bytes, name);
    if (enable) sealXattrBlock(bytes, { blockNumber: block, seed });
    else {
      verifyXattrBlock(bytes, { blockNumber: block, seed, what: name });
      viewOf(bytes).setUint32(XATTR_BLOCK_AT.checksum, 0, true);
    }
    counts.xattrBlocks++;
    await this.#change(block, bytes);
  }

  async #switchExtentBlock(
    block: number,
    bytes: Uint8Array<ArrayBuffer>,
    ownSeed: number,
    what: string,
  ): Promise<void> {
    const { enable, counts, lacking } = this.#context;
    const name = `${what}, extent block ${block}`;
    this.#claim(block, what);
    const tail = 12 * (1 + viewOf(bytes).getUint16(4, true));
    if (tail + 4 > bytes.length) {
      lacking.extentBlocks++;
      lacking.first ??= name;
      return;
    }
    if (!enable) verifyExtentBlock(bytes, ownSeed, name);
    if (enable) sealExtentBlock(bytes, ownSeed);
    else viewOf(bytes).setUint32(tail, 0, true);
    counts.extentBlocks++;
    await this.#change(block, bytes);
  }

  async #switchDirectory(
    inode: InodeRecord,
    blocks: readonly number[],
    ownSeed: number,
    what: string,
  ): Promise<void> {
    const { enable, volume, lacking, counts } = this.#context;
    const contents = (logical: number) =>
      volume.readBlock(blocks[logical]!, `${what}, directory block ${logical}`);
    const index = new Map<number, Uint8Array<ArrayBuffer>>();
    const hasIndex = (volume.superblock.featureCompat & COMPAT.DIR_INDEX) !== 0 &&
      (inode.flags & INODE_FLAG.INDEX) !== 0;
    if (hasIndex) {
      let wanted = [0];
      let levels = 1 + (contents(0)[0x1e] ?? 0);
      for (let offset = DX_ROOT_COUNT_OFFSET; levels > 0; offset = DX_NODE_COUNT_OFFSET, levels--) {
        const below: number[] = [];
        for (const logical of wanted) {
          const name = `${what}, index block ${logical}`;
          if (logical >= blocks.length || index.has(logical)) {
            throw new InputError(name, "it does not exist, or is pointed to twice");
          }
          const bytes = contents(logical);
          const options = { enable, inodeSeed: ownSeed, what: name };
          const children = switchIndexBlock(bytes, offset, options);
          if (children === undefined) {
            lacking.indexBlocks++;
            lacking.first ??= name;
            return;
          }
          index.set(logical, bytes);
          for (const child of children) below.push(child);
        }
        wanted = below;
      }
    }
    for (let logical = 0; logical < blocks.length; logical++) {
      this.#claim(blocks[logical]!, what);
      const known = index.get(logical);
      const bytes = known ?? contents(logical);
      const name = `${what}, directory block ${logical}`;
      if (!known && !switchLeaf(bytes, { enable, inodeSeed: ownSeed, what: name })) {
        lacking.leaves++;
        lacking.first ??= name;
      }
      counts.directoryBlocks++;
      await this.#change(blocks[logical]!, bytes);
    }
  }

  async #switchOrphanFile(blocks: readonly number[], ownSeed: number, what: string): Promise<void> {
    const { enable, volume } = this.#context;
    for (const block of blocks) {
      const name = `${what}, orphan block ${block}`;
      this.#claim(block, what);
      const bytes = volume.readBlock(block, `${what}, orphan file`);
      const [orphan] = decodeOrphanBlock(bytes, name);
      if (orphan !== undefined) {
        throw new InputError(name, `inode ${orphan} waits to be deleted`, {
          hint: "check it first: e2fsck -f",
        });
      }
      const options = { blockNumber: block, inodeSeed: ownSeed };
      if (enable) sealOrphanBlock(bytes, options);
      else {
        verifyOrphanBlock(bytes, { ...options, what: name });
        viewOf(bytes).setUint32(bytes.length - 4, 0, true);
      }
      await this.#change(block, bytes);
    }
  }

  /** RECOVER is not set, but a journal whose log begins somewhere would be replayed all the same. */
  #refuseFullJournal(block: number): void {
    const { volume, name } = this.#context;
    const bytes = volume.readBlock(block, "journal superblock");
    const journal = decodeJournalSuperblock(bytes.subarray(0, JOURNAL_SUPERBLOCK_SIZE_BYTES));
    if (journal.startBlock === 0) return;
    throw new InputError(name, "its journal holds changes that were not written back", {
      hint: "let e2fsck -f or a mount replay the journal first",
    });
  }

  /** A block that two structures own cannot have the checksums of both. */
  #claim(block: number, what: string): void {
    if (this.#claimed.has(block)) {
      throw new InputError(what, `block ${block} of it is in use elsewhere`, {
        hint: "check it first: e2fsck -f",
      });
    }
    this.#claimed.add(block);
  }

  async #change(block: number, bytes: Uint8Array): Promise<void> {
    await this.#context.change(block * this.#context.volume.blockSizeBytes, bytes);
  }
}

/** Whether the blocks of an inode are looked at: it is in use, and not one of the reserved ones that are empty. */
export function ownsBlocks(slot: Uint8Array, inodeNumber: number): boolean {
  if (inodeNumber === INODE_NUMBER.BAD_BLOCKS) return false;
  const { mode, flags } = decodeInode(slot);
  return mode !== 0 || (flags & INODE_FLAG.EXTENTS) !== 0;
}
