/**
 * What few file systems have: lists of orphans, the MMP block, the inode that reserves room to grow.
 *
 * @module
 */
import {
  COMPAT,
  INCOMPAT,
  INODE_NUMBER,
  RO_COMPAT,
  SUPERBLOCK_OFFSET_BYTES,
} from "../format/constants.ts";
import { viewOf } from "../format/fields.ts";
import {
  decodeMmpBlock,
  decodeOrphanBlock,
  MMP_SIZE_BYTES,
  storedOrphanBlockChecksum,
  verifyMmpBlock,
  verifyOrphanBlock,
} from "../format/special_blocks.ts";
import type { Context, KeptInode } from "./context.ts";
import { seedOf } from "../volume/inode.ts";
import { HERE } from "../volume/judge.ts";

const SUPERBLOCK_LOCATION = { offset: SUPERBLOCK_OFFSET_BYTES };
/** The word of i_block that leads to a tree of two levels. */
const DOUBLE_INDIRECT = 13;
const SECTOR_SIZE_BYTES = 512;

/** The list that begins in the superblock, and the file that relocations it. Unmounted, both are empty. */
export function checkOrphans(context: Context): void {
  const { volume, judge } = context;
  const { superblock } = volume;
  if (superblock.lastOrphan !== 0) {
    judge.expect("orphan list", SUPERBLOCK_LOCATION, "s_last_orphan", superblock.lastOrphan, 0);
  }
  if (superblock.lastOrphan > superblock.inodesCount) {
    judge.report("orphan list", SUPERBLOCK_LOCATION, "s_last_orphan", {
      found: superblock.lastOrphan,
      wanted: `at most ${superblock.inodesCount}`,
    });
  }
  const isPresent = volume.hasRoCompat(RO_COMPAT.ORPHAN_PRESENT);
  if (isPresent) judge.report("superblock", SUPERBLOCK_LOCATION, "orphan_present");
  if (!volume.hasCompat(COMPAT.ORPHAN_FILE)) return;
  if (!volume.hasCompat(COMPAT.HAS_JOURNAL)) {
    judge.report("superblock", SUPERBLOCK_LOCATION, "orphan_file without has_journal");
  }
  const file = context.special.get(superblock.orphanFileInode);
  if (file === undefined) {
    judge.report("superblock", SUPERBLOCK_LOCATION, "s_orphan_file_inum", {
      found: superblock.orphanFileInode,
      wanted: "an inode in use",
    });
  } else checkOrphanFile(context, file);
}

function checkOrphanFile(context: Context, file: KeptInode): void {
  const { volume, judge } = context;
  const location = { inode: file.view.number };
  const seed = seedOf(volume, file.view);
  let blocks = 0;
  for (const { startBlock, blockCount } of file.runs) {
    blocks += blockCount;
    for (let block = startBlock; block < startBlock + blockCount; block++) {
      checkOrphanBlock(context, { ...location, block }, seed);
    }
  }
  const wanted = file.view.sizeBytes / volume.blockSizeBytes;
  judge.expect("orphan file", location, "blocks", blocks, wanted);
}

function checkOrphanBlock(
  context: Context,
  location: { readonly inode: number; readonly block: number },
  seed: number | undefined,
): void {
  const { volume, judge } = context;
  const bytes = volume.read(location.block);
  if (bytes === undefined) {
    judge.report("orphan file", location, "block is past the end");
    return;
  }
  if (seed !== undefined) {
    const options = { blockNumber: location.block, inodeSeed: seed, what: HERE };
    judge.attempt("orphan file", location, () => verifyOrphanBlock(bytes, options));
  } else {
    judge.expect("orphan file", location, "ob_checksum", storedOrphanBlockChecksum(bytes), 0);
  }
  const orphans = judge.attempt("orphan file", location, () => decodeOrphanBlock(bytes, HERE));
  if (orphans === undefined || orphans.length === 0) return;
  judge.report("orphan file", location, "inodes in it", {
    found: orphans.join(", "),
    wanted: "none",
  });
}

/** The block that keeps two machines from mounting the file system at once. */
export function checkMmp(context: Context): void {
  const { volume, judge } = context;
  if (!volume.hasIncompat(INCOMPAT.MMP)) return;
  const block = volume.superblock.mmpBlock;
  const location = { block, offset: block * volume.blockSizeBytes };
  const bytes = volume.contains(block) ? volume.read(block) : undefined;
  if (bytes === undefined) {
    judge.report("superblock", SUPERBLOCK_LOCATION, "s_mmp_block", {
      found: block,
      wanted: "a block of the file system",
    });
    return;
  }
  const encoded = bytes.subarray(0, MMP_SIZE_BYTES);
  const { seed } = volume;
  if (seed !== undefined) {
    judge.attempt("mmp block", location, () => verifyMmpBlock(encoded, seed, HERE));
  }
  judge.attempt("mmp block", location, () => decodeMmpBlock(encoded, HERE));
}

/**
 * The inode that owns the room behind the descriptors: its double indirect block leads to the blocks of group 0's room,
 * and each of these lists the blocks at the same location of the backups (resize2fs, lib/ext2fs/res_gdt.c).
 */
export function checkResizeInode(context: Context): void {
  const { volume, judge, special, usage } = context;
  if (!volume.hasCompat(COMPAT.RESIZE_INODE)) return;
  const inode = INODE_NUMBER.RESIZE;
  const view = special.get(inode)?.view;
  if (view === undefined) {
    judge.report("resize inode", { inode }, "it is not in use");
    return;
  }
  for (let i = 0; i < 15; i++) {
    if (i === DOUBLE_INDIRECT || view.blockWord(i) === 0) continue;
    judge.expect("resize inode", { inode }, `i_block[${i}]`, view.blockWord(i), 0);
  }
  const block = view.blockWord(DOUBLE_INDIRECT);
  const backups = volume.backupGroups();
  const reserved = volume.superblock.reservedGdtBlocks;
  const blockCount = 1 + reserved * (1 + backups.length);
  const clusterBytes = volume.geometry.clusterBlocks * volume.blockSizeBytes;
  const sectors = blockCount * (clusterBytes / SECTOR_SIZE_BYTES);
  judge.expect("resize inode", { inode }, "i_blocks", view.sectorCount, sectors);
  if (!volume.contains(block)) {
    judge.report("resize inode", { inode }, "double indirect block", {
      found: block,
      wanted: "a block of the file system",
    });
    return;
  }
  usage.mark(block, 1, inode);
  checkReservedBlocks(context, block, backups);
}

function checkReservedBlocks(context: Context, block: number, backups: readonly number[]): void {
  const { volume, judge } = context;
  const { superblock, blockSizeBytes } = volume;
  const inode = INODE_NUMBER.RESIZE;
  const bytes = volume.read(block);
  if (bytes === undefined) {
    judge.report("resize inode", { inode, block }, "block is past the end");
    return;
  }
  const { descriptorBlocks } = volume;
  const perBlock = blockSizeBytes / 4;
  const firstRoom = volume.descriptorBlock(0) + descriptorBlocks;
  const { reservedGdtBlocks, blocksPerGroup } = superblock;
  const wantedPointers = new Uint32Array(perBlock);
  for (let i = 0; i < reservedGdtBlocks; i++) {
    wantedPointers[(descriptorBlocks + i) % perBlock] = firstRoom + i;
  }
  checkPointers(context, block, bytes, wantedPointers);
  for (let room = firstRoom; room < firstRoom + reservedGdtBlocks; room++) {
    const list = volume.read(room);
    if (list === undefined) return;
    const wanted = new Uint32Array(perBlock);
    backups.slice(0, perBlock).forEach((group, i) => wanted[i] = room + group * blocksPerGroup);
    checkPointers(context, room, list, wanted);
  }
}

function checkPointers(
  context: Context,
  block: number,
  bytes: Uint8Array,
  wanted: Uint32Array,
): void {
  const location = { inode: INODE_NUMBER.RESIZE, block };
  const view = viewOf(bytes);
  for (let i = 0; i < wanted.length; i++) {
    const found = view.getUint32(4 * i, true);
    context.judge.expect("resize inode", location, `pointer ${i}`, found, wanted[i]!);
  }
}
