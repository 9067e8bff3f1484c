/**
 * The group descriptors, and the blocks that groups need for themselves.
 *
 * @module
 */
import { GROUP_FLAG, INCOMPAT, RO_COMPAT } from "../../format/constants.ts";
import type { GroupDescriptor } from "../../format/group_descriptor.ts";
import {
  decodeGroupDescriptor,
  groupDescriptorChecksum,
  groupDescriptorCrc16,
  storedGroupDescriptorChecksum,
} from "../../format/group_descriptor.ts";
import type { Claims } from "./claims.ts";
import { groupOwner } from "./claims.ts";
import type { GroupState } from "./context.ts";
import type { Findings } from "./findings.ts";
import type { Volume } from "./volume.ts";

const UNINIT_FLAGS = GROUP_FLAG.INODE_UNINIT | GROUP_FLAG.BLOCK_UNINIT;

/** Reads and judges every descriptor that the image holds. */
export function checkDescriptors(volume: Volume, findings: Findings): GroupState[] {
  const groups: GroupState[] = [];
  for (let index = 0; index < volume.descriptorBlocks; index++) {
    const block = volume.descriptorBlock(index);
    const bytes = volume.read(block);
    if (bytes === undefined) {
      findings.add("group descriptor", { group: groups.length, block }, "it is past the end");
      // The rest of the table cannot be there either; groups that the image does not reach are not looked at.
      break;
    }
    for (let i = 0; i < volume.descriptorsPerBlock && groups.length < volume.groupCount; i++) {
      const at = i * volume.descriptorSizeBytes;
      const encoded = bytes.subarray(at, at + volume.descriptorSizeBytes);
      const offset = block * volume.blockSizeBytes + at;
      groups.push(checkDescriptor(volume, findings, { encoded, offset, group: groups.length }));
    }
  }
  return groups;
}

function checkDescriptor(
  volume: Volume,
  findings: Findings,
  stored: { readonly encoded: Uint8Array; readonly offset: number; readonly group: number },
): GroupState {
  const { encoded, offset, group } = stored;
  const place = { group, offset };
  const descriptor = findings.attempt(
    "group descriptor",
    place,
    () => decodeGroupDescriptor(encoded),
  );
  const { inodesPerGroup } = volume.superblock;
  if (descriptor === undefined) {
    return {
      descriptor,
      isIntact: false,
      flags: 0,
      initializedInodes: inodesPerGroup,
      isTableSound: false,
      usedDirectories: 0,
    };
  }
  const isIntact = checkDescriptorChecksum(volume, findings, stored);
  const isTableSound = checkLocations(volume, findings, { descriptor, place, group });
  const flags = volume.hasGroupChecksums ? descriptor.flags : 0;
  if (volume.hasGroupChecksums) checkFlags(volume, findings, { descriptor, place, group });
  else if ((descriptor.flags & UNINIT_FLAGS) !== 0 || descriptor.itableUnusedCount !== 0) {
    findings.add(
      "group descriptor",
      place,
      "marks of what was never used, without group checksums",
    );
  }
  // Counts that a wrong checksum puts in doubt must not hide inodes.
  const isUnused = isIntact && (flags & GROUP_FLAG.INODE_UNINIT) !== 0;
  const unused = volume.hasGroupChecksums && isIntact ? descriptor.itableUnusedCount : 0;
  return {
    descriptor,
    isIntact,
    flags,
    initializedInodes: isUnused ? 0 : Math.max(0, inodesPerGroup - unused),
    isTableSound,
    usedDirectories: 0,
  };
}

function checkDescriptorChecksum(
  volume: Volume,
  findings: Findings,
  stored: { readonly encoded: Uint8Array; readonly offset: number; readonly group: number },
): boolean {
  const { encoded, offset, group } = stored;
  const place = { group, offset };
  const found = storedGroupDescriptorChecksum(encoded);
  if (volume.seed !== undefined) {
    const wanted = groupDescriptorChecksum(encoded, { groupIndex: group, seed: volume.seed });
    return findings.expectChecksum("group descriptor", place, found, wanted);
  }
  if (!volume.hasRoCompat(RO_COMPAT.GDT_CSUM)) return true;
  const { uuid } = volume.superblock;
  const wanted = groupDescriptorCrc16(encoded, { groupIndex: group, uuid });
  return findings.expectChecksum("group descriptor", place, found, wanted);
}

interface Located {
  readonly descriptor: GroupDescriptor;
  readonly place: { readonly group: number; readonly offset: number };
  readonly group: number;
}

/** Bitmaps and table must lie in the file system, and without flex_bg in their group. */
function checkLocations(volume: Volume, findings: Findings, located: Located): boolean {
  const { descriptor, place, group } = located;
  const isFree = volume.hasIncompat(INCOMPAT.FLEX_BG);
  const first = isFree ? volume.superblock.firstDataBlock : volume.groupStart(group);
  const end = isFree
    ? volume.superblock.blocksCount
    : volume.groupStart(group) + volume.groupBlocks(group);
  const check = (problem: string, start: number, count: number): boolean => {
    if (start > 0 && start >= first && start + count <= end) return true;
    findings.add("group descriptor", place, problem, {
      found: start,
      wanted: `${first} to ${end - count}`,
    });
    return false;
  };
  check("bg_block_bitmap", descriptor.blockBitmapBlock, 1);
  check("bg_inode_bitmap", descriptor.inodeBitmapBlock, 1);
  return check("bg_inode_table", descriptor.inodeTableBlock, volume.inodeTableBlocks);
}

function checkFlags(volume: Volume, findings: Findings, located: Located): void {
  const { descriptor, place, group } = located;
  const { flags, itableUnusedCount, freeInodesCount } = descriptor;
  const { inodesPerGroup } = volume.superblock;
  const bad = (problem: string, found: number | string, wanted: number | string) =>
    findings.add("group descriptor", place, problem, { found, wanted });
  if (itableUnusedCount > inodesPerGroup) {
    bad("bg_itable_unused", itableUnusedCount, `at most ${inodesPerGroup}`);
  }
  const isLast = group === volume.groupCount - 1;
  if (isLast && (flags & GROUP_FLAG.BLOCK_UNINIT) !== 0) {
    bad("bg_flags", "BLOCK_UNINIT", "a block bitmap in the last group");
  }
  if (
    (flags & GROUP_FLAG.INODE_UNINIT) !== 0 && freeInodesCount !== inodesPerGroup
  ) {
    bad("bg_free_inodes_count under INODE_UNINIT", freeInodesCount, inodesPerGroup);
  }
}

/** Gives every group its own blocks: superblocks, descriptors, bitmaps, tables. */
export function claimGroupBlocks(
  volume: Volume,
  groups: readonly GroupState[],
  claims: Claims,
): void {
  for (const [group, { descriptor, isTableSound }] of groups.entries()) {
    let next = volume.groupStart(group);
    if (volume.hasSuperblock(group)) claims.claim(next++, 1, groupOwner(group, "superblock"));
    const room = volume.descriptorRoom(group);
    claims.claim(next, room.used, groupOwner(group, "group descriptors"));
    claims.claim(next + room.used, room.reserved, groupOwner(group, "room for group descriptors"));
    if (descriptor === undefined) continue;
    claims.claim(descriptor.blockBitmapBlock, 1, groupOwner(group, "block bitmap"));
    claims.claim(descriptor.inodeBitmapBlock, 1, groupOwner(group, "inode bitmap"));
    if (!isTableSound) continue;
    const { inodeTableBlock } = descriptor;
    claims.claim(inodeTableBlock, volume.inodeTableBlocks, groupOwner(group, "inode table"));
  }
  if (volume.hasIncompat(INCOMPAT.MMP) && volume.contains(volume.superblock.mmpBlock)) {
    claims.claim(volume.superblock.mmpBlock, 1, groupOwner(0, "MMP block"));
  }
}
