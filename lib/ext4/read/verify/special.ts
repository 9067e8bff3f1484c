/**
 * What few file systems have: lists of orphans, the MMP block, the inode that reserves room to grow.
 *
 * @module
 */
import { inodeSeed } from "../../format/checksum.ts";
import {
  COMPAT,
  INCOMPAT,
  INODE_NUMBER,
  RO_COMPAT,
  SUPERBLOCK_OFFSET_BYTES,
} from "../../format/constants.ts";
import { viewOf } from "../../format/fields.ts";
import { decodeMmpBlock, MMP_SIZE_BYTES, verifyMmpBlock } from "../../format/mmp.ts";
import {
  decodeOrphanBlock,
  storedOrphanBlockChecksum,
  verifyOrphanBlock,
} from "../../format/orphan_file.ts";
import type { Context, KeptInode } from "./context.ts";
import { HERE } from "./findings.ts";

const SUPERBLOCK_PLACE = { offset: SUPERBLOCK_OFFSET_BYTES };
/** The word of i_block that leads to a tree of two levels. */
const DOUBLE_INDIRECT = 13;
const SECTOR_SIZE_BYTES = 512;

/** The list that begins in the superblock, and the file that replaces it. Unmounted, both are empty. */
export function checkOrphans(context: Context): void {
  const { volume, findings } = context;
  const { superblock } = volume;
  const isDirty = volume.hasIncompat(INCOMPAT.RECOVER);
  if (superblock.lastOrphan !== 0 && !isDirty) {
    findings.add("orphan list", SUPERBLOCK_PLACE, "s_last_orphan", {
      found: superblock.lastOrphan,
      wanted: 0,
    });
  }
  if (superblock.lastOrphan > superblock.inodesCount) {
    findings.add("orphan list", SUPERBLOCK_PLACE, "s_last_orphan", {
      found: superblock.lastOrphan,
      wanted: `at most ${superblock.inodesCount}`,
    });
  }
  const isPresent = volume.hasRoCompat(RO_COMPAT.ORPHAN_PRESENT);
  if (isPresent && (!isDirty || !volume.hasCompat(COMPAT.ORPHAN_FILE))) {
    findings.add("superblock", SUPERBLOCK_PLACE, "orphan_present, but it was unmounted");
  }
  if (!volume.hasCompat(COMPAT.ORPHAN_FILE)) return;
  if (!volume.hasCompat(COMPAT.HAS_JOURNAL)) {
    findings.add("superblock", SUPERBLOCK_PLACE, "orphan_file without has_journal");
  }
  const file = context.special.get(superblock.orphanFileInode);
  if (file === undefined) {
    findings.add("superblock", SUPERBLOCK_PLACE, "s_orphan_file_inum", {
      found: superblock.orphanFileInode,
      wanted: "an inode in use",
    });
  } else checkOrphanFile(context, file, isPresent && isDirty);
}

function checkOrphanFile(context: Context, file: KeptInode, mayHaveOrphans: boolean): void {
  const { volume, findings } = context;
  const place = { inode: file.number };
  const seed = volume.seed === undefined
    ? undefined
    : inodeSeed(volume.seed, file.number, file.view.generation);
  let blocks = 0;
  for (const { start, count } of file.runs) {
    blocks += count;
    for (let block = start; block < start + count; block++) {
      checkOrphanBlock(context, { ...place, block }, seed, mayHaveOrphans);
    }
  }
  const wanted = file.view.sizeBytes / volume.blockSizeBytes;
  findings.expect("orphan file", place, "blocks", blocks, wanted);
}

function checkOrphanBlock(
  context: Context,
  place: { readonly inode: number; readonly block: number },
  seed: number | undefined,
  mayHaveOrphans: boolean,
): void {
  const { volume, findings } = context;
  const bytes = volume.read(place.block);
  if (bytes === undefined) {
    findings.add("orphan file", place, "block is past the end");
    return;
  }
  if (seed !== undefined) {
    const options = { blockNumber: place.block, inodeSeed: seed, what: HERE };
    findings.attempt("orphan file", place, () => verifyOrphanBlock(bytes, options));
  } else if (!mayHaveOrphans) {
    findings.expect("orphan file", place, "ob_checksum", storedOrphanBlockChecksum(bytes), 0);
  }
  const orphans = findings.attempt("orphan file", place, () => decodeOrphanBlock(bytes, HERE));
  if (orphans === undefined || orphans.length === 0 || mayHaveOrphans) return;
  findings.add("orphan file", place, "inodes in it", { found: orphans.join(", "), wanted: "none" });
}

/** The block that keeps two machines from mounting the file system at once. */
export function checkMmp(context: Context): void {
  const { volume, findings } = context;
  if (!volume.hasIncompat(INCOMPAT.MMP)) return;
  const block = volume.superblock.mmpBlock;
  const place = { block, offset: block * volume.blockSizeBytes };
  const bytes = volume.contains(block) ? volume.read(block) : undefined;
  if (bytes === undefined) {
    findings.add("superblock", SUPERBLOCK_PLACE, "s_mmp_block", {
      found: block,
      wanted: "a block of the file system",
    });
    return;
  }
  const encoded = bytes.subarray(0, MMP_SIZE_BYTES);
  const { seed } = volume;
  if (seed !== undefined) {
    findings.attempt("mmp block", place, () => verifyMmpBlock(encoded, seed, HERE));
  }
  findings.attempt("mmp block", place, () => decodeMmpBlock(encoded, HERE));
}

/**
 * The inode that owns the room behind the descriptors: its double indirect block leads to the blocks of group 0's room,
 * and each of these lists the blocks at the same place of the backups (resize2fs, lib/ext2fs/res_gdt.c).
 */
export function checkResizeInode(context: Context): void {
  const { volume, findings, special, claims } = context;
  if (!volume.hasCompat(COMPAT.RESIZE_INODE)) return;
  const inode = INODE_NUMBER.RESIZE;
  const view = special.get(inode)?.view;
  if (view === undefined) {
    findings.add("resize inode", { inode }, "it is not in use");
    return;
  }
  for (let i = 0; i < 15; i++) {
    if (i === DOUBLE_INDIRECT || view.blockWord(i) === 0) continue;
    findings.expect("resize inode", { inode }, `i_block[${i}]`, view.blockWord(i), 0);
  }
  const block = view.blockWord(DOUBLE_INDIRECT);
  const backups = volume.backupGroups();
  const reserved = volume.superblock.reservedGdtBlocks;
  const blockCount = 1 + reserved * (1 + backups.length);
  const sectors = blockCount * (volume.blockSizeBytes / SECTOR_SIZE_BYTES);
  findings.expect("resize inode", { inode }, "i_blocks", view.sectorCount, sectors);
  if (!volume.contains(block)) {
    findings.add("resize inode", { inode }, "double indirect block", {
      found: block,
      wanted: "a block of the file system",
    });
    return;
  }
  claims.claim(block, 1, inode);
  checkReservedBlocks(context, block, backups);
}

function checkReservedBlocks(context: Context, block: number, backups: readonly number[]): void {
  const { volume, findings } = context;
  const { superblock, blockSizeBytes } = volume;
  const inode = INODE_NUMBER.RESIZE;
  const bytes = volume.read(block);
  if (bytes === undefined) {
    findings.add("resize inode", { inode, block }, "block is past the end");
    return;
  }
  const { descriptorBlocks } = volume;
  const perBlock = blockSizeBytes / 4;
  const firstRoom = superblock.firstDataBlock + 1 + descriptorBlocks;
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
  const place = { inode: INODE_NUMBER.RESIZE, block };
  const view = viewOf(bytes);
  for (let i = 0; i < wanted.length; i++) {
    const found = view.getUint32(4 * i, true);
    context.findings.expect("resize inode", place, `pointer ${i}`, found, wanted[i]!);
  }
}
