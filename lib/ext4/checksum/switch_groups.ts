/**
 * The checksums of groups: bitmaps, descriptors with their copies, and inode tables.
 *
 * @module
 */
import { readExactly } from "../../io/random_reader.ts";
import { bitmapChecksum, testBit } from "../format/bitmap.ts";
import { checkChecksum } from "../format/checksum.ts";
import { GROUP_FLAG, INCOMPAT, RO_COMPAT } from "../format/constants.ts";
import type { GroupDescriptor } from "../format/group_descriptor.ts";
import {
  editGroupDescriptor,
  groupDescriptorChecksum,
  groupDescriptorCrc16,
  storedGroupDescriptorChecksum,
} from "../format/group_descriptor.ts";
import { MMP_SIZE_BYTES, sealMmpBlock, verifyMmpBlock } from "../format/mmp.ts";
import type { SwitchContext } from "./switch_context.ts";
import { InodeSwitch, ownsBlocks } from "./switch_inodes.ts";
import type { VolumeGroup } from "./volume.ts";

const UNINIT = GROUP_FLAG.INODE_UNINIT | GROUP_FLAG.BLOCK_UNINIT;
/** An inode table is read and written in pieces of about this size. */
const TABLE_PIECE_BYTES = 256 << 10;

/** Switches everything but the superblocks. */
export async function switchGroups(
  context: SwitchContext,
  progress: (bytes: number) => void,
): Promise<void> {
  const { volume } = context;
  if ((volume.superblock.featureIncompat & INCOMPAT.MMP) !== 0) await switchMmpBlock(context);
  const inodes = new InodeSwitch(context);
  const descriptors: Uint8Array[] = [];
  for (const group of volume.groups) {
    descriptors.push(switchDescriptor(context, group));
    await switchInodeTable(context, group, inodes, progress);
    context.counts.groups++;
  }
  await writeDescriptors(context, descriptors);
}

/** Whether flags and counts of unused inodes in descriptors mean anything: only where descriptors have checksums. */
function hasGroupChecksums(context: SwitchContext): boolean {
  const { featureRoCompat } = context.volume.superblock;
  return (featureRoCompat & (RO_COMPAT.GDT_CSUM | RO_COMPAT.METADATA_CSUM)) !== 0;
}

function isUninit(context: SwitchContext, group: VolumeGroup, flag: number): boolean {
  return hasGroupChecksums(context) && (group.descriptor.flags & flag) !== 0;
}

function switchDescriptor(context: SwitchContext, group: VolumeGroup): Uint8Array {
  const { volume, enable, seed } = context;
  const { uuid } = volume.superblock;
  const groupIndex = group.index;
  if (hasGroupChecksums(context)) {
    checkChecksum(
      `${context.name}: descriptor of group ${groupIndex}`,
      storedGroupDescriptorChecksum(group.encoded),
      enable
        ? groupDescriptorCrc16(group.encoded, { groupIndex, uuid })
        : groupDescriptorChecksum(group.encoded, { groupIndex, seed }),
    );
  }
  const { clustersPerGroup, inodesPerGroup } = volume.superblock;
  const bitmaps: Partial<GroupDescriptor> = {
    ...switchBitmap(context, group, "block", clustersPerGroup / 8),
    ...switchBitmap(context, group, "inode", inodesPerGroup / 8),
  };
  // Without checksums nothing in a descriptor says that a part is not in use: all of it was read and is right.
  const flags: Partial<GroupDescriptor> = hasGroupChecksums(context) ? {} : {
    flags: (group.descriptor.flags & ~UNINIT) | GROUP_FLAG.INODE_ZEROED,
    itableUnusedCount: 0,
  };
  return editGroupDescriptor(group.encoded, { ...bitmaps, ...flags }, {
    groupIndex,
    seal: enable ? { kind: "crc32c", seed } : { kind: "crc16", uuid },
  });
}

/** The checksum of a bitmap, which the descriptor has. One that was never written has none. */
function switchBitmap(
  context: SwitchContext,
  group: VolumeGroup,
  kind: "block" | "inode",
  usedBytes: number,
): Partial<GroupDescriptor> {
  const { volume, enable, seed } = context;
  const isBlock = kind === "block";
  const flag = isBlock ? GROUP_FLAG.BLOCK_UNINIT : GROUP_FLAG.INODE_UNINIT;
  if (isUninit(context, group, flag)) return {};
  const { descriptor } = group;
  const what = `${kind} bitmap of group ${group.index}`;
  const block = isBlock ? descriptor.blockBitmapBlock : descriptor.inodeBitmapBlock;
  const computed = bitmapChecksum(seed, volume.readBlock(block, what), usedBytes);
  const mask = volume.descriptorSizeBytes === 64 ? 0xffffffff : 0xffff;
  const stored = isBlock ? descriptor.blockBitmapChecksum : descriptor.inodeBitmapChecksum;
  if (!enable) checkChecksum(`${context.name}: ${what}`, stored, (computed & mask) >>> 0);
  const checksum = enable ? computed : 0;
  return isBlock ? { blockBitmapChecksum: checksum } : { inodeBitmapChecksum: checksum };
}

async function switchInodeTable(
  context: SwitchContext,
  group: VolumeGroup,
  inodes: InodeSwitch,
  progress: (bytes: number) => void,
): Promise<void> {
  if (isUninit(context, group, GROUP_FLAG.INODE_UNINIT)) return;
  const { volume } = context;
  const { inodesPerGroup, inodeSizeBytes } = volume.superblock;
  const { descriptor } = group;
  const unused = hasGroupChecksums(context)
    ? Math.min(descriptor.itableUnusedCount, inodesPerGroup)
    : 0;
  const bitmap = volume.readBlock(
    descriptor.inodeBitmapBlock,
    `inode bitmap of group ${group.index}`,
  );
  const tableOffset = descriptor.inodeTableBlock * volume.blockSizeBytes;
  const perPiece = TABLE_PIECE_BYTES / inodeSizeBytes;
  volume.readBlock(descriptor.inodeTableBlock, `inode table of group ${group.index}`);
  for (let first = 0; first < inodesPerGroup - unused; first += perPiece) {
    const count = Math.min(perPiece, inodesPerGroup - unused - first);
    const piece = new Uint8Array(count * inodeSizeBytes);
    const offsetBytes = tableOffset + first * inodeSizeBytes;
    readExactly(volume.reader, piece, offsetBytes);
    let changedEnd = 0;
    for (let i = 0; i < count; i++) {
      const slot = piece.subarray(i * inodeSizeBytes, (i + 1) * inodeSizeBytes);
      if (slot.every((byte) => byte === 0)) continue;
      const inodeNumber = group.index * inodesPerGroup + first + i + 1;
      const isUsed = testBit(bitmap, first + i) && ownsBlocks(slot, inodeNumber);
      await inodes.switch(slot, inodeNumber, isUsed);
      changedEnd = (i + 1) * inodeSizeBytes;
    }
    if (changedEnd > 0) await context.change(offsetBytes, piece.subarray(0, changedEnd));
    progress(piece.length);
  }
}

/** Writes the descriptors and all their copies. */
async function writeDescriptors(
  context: SwitchContext,
  descriptors: readonly Uint8Array[],
): Promise<void> {
  const { volume } = context;
  const { descriptorsPerBlock, descriptorSizeBytes } = volume;
  for (let i = 0; i * descriptorsPerBlock < descriptors.length; i++) {
    const part = descriptors.slice(i * descriptorsPerBlock, (i + 1) * descriptorsPerBlock);
    const bytes = new Uint8Array(part.length * descriptorSizeBytes);
    part.forEach((descriptor, j) => bytes.set(descriptor, j * descriptorSizeBytes));
    for (const block of volume.descriptorBlocks(i)) {
      await context.change(block * volume.blockSizeBytes, bytes);
    }
  }
}

async function switchMmpBlock(context: SwitchContext): Promise<void> {
  const { volume, enable, seed } = context;
  const { mmpBlock } = volume.superblock;
  const bytes = volume.readBlock(mmpBlock, "MMP block").subarray(0, MMP_SIZE_BYTES);
  if (!enable) verifyMmpBlock(bytes, seed, `${context.name}: MMP block ${mmpBlock}`);
  sealMmpBlock(bytes, enable ? seed : undefined);
  await context.change(mmpBlock * volume.blockSizeBytes, bytes);
}
