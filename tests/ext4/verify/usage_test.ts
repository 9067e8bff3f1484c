import { assertEquals } from "@std/assert";
import {
  BlockUsage,
  describeOwner,
  groupOwner,
  INODE_TRAIT,
  InodeCounts,
} from "../../../lib/ext4/verify/context.ts";
import { volumeOf } from "../volume/open_volume.ts";

Deno.test("BlockUsage gives each block to one owner and remembers the second", () => {
  const usage = new BlockUsage(volumeOf("csum-1k"));
  assertEquals(usage.mark(100, 50, 12), true);
  assertEquals(usage.mark(149, 2, 13), false);
  assertEquals(usage.shared, [{ block: 149, owner: 13 }]);
  assertEquals([99, 100, 149, 150, 151].map((block) => usage.has(block)), [
    false,
    true,
    true,
    true,
    false,
  ]);
});

Deno.test("blocks past the end of the image are left out, and shared ones are bounded", () => {
  const usage = new BlockUsage(volumeOf("csum-1k"));
  assertEquals(usage.mark(26_000, 100_000, 12), true);
  assertEquals(usage.mark(20_000, 1_000_000, 13), false);
  assertEquals(usage.sharedCount, 26 * 1024 - 26_000);
  assertEquals(usage.shared.length, 624);
});

Deno.test("the first owners of watched blocks are written down", () => {
  const watched = new Map<number, number | undefined>([[24, undefined], [25, undefined]]);
  const usage = new BlockUsage(volumeOf("csum-1k"), watched);
  usage.mark(16, 16, 7);
  usage.mark(25, 1, 8);
  assertEquals([...watched], [[24, 7], [25, 7]]);
});

Deno.test("describeOwner names inodes and parts of groups", () => {
  assertEquals(describeOwner(12), "inode 12");
  assertEquals(describeOwner(groupOwner(0, "superblock")), "superblock of group 0");
  assertEquals(describeOwner(groupOwner(9, "inode table")), "inode table of group 9");
});

Deno.test("InodeCounts knows types, links and names of inodes of all groups", () => {
  const volume = volumeOf("csum-1k");
  const { inodesPerGroup } = volume.geometry;
  const inodes = new InodeCounts(volume);
  const far = inodesPerGroup + 9;
  inodes.add(2, 0o40755, 3, INODE_TRAIT.INDEXED);
  inodes.add(far, 0o100600, 1, INODE_TRAIT.VALUE | INODE_TRAIT.HIDDEN);
  inodes.refer(2);
  inodes.refer(2);
  inodes.refer(5 * inodesPerGroup); // in a group without a used inode: not counted
  assertEquals([0, 1, 2, far].map((inode) => inodes.nextUnsettled(inode)), [2, 2, far, 0]);
  const settled = far + 1;
  inodes.add(settled, 0o100644, 2, INODE_TRAIT.NONE);
  inodes.refer(settled);
  assertEquals(inodes.nextUnsettled(far), settled);
  inodes.refer(settled);
  assertEquals(inodes.nextUnsettled(far), 0);
  assertEquals([inodes.type(2), inodes.linkCount(2), inodes.references(2)], [0x4000, 3, 2]);
  assertEquals([inodes.is(2, INODE_TRAIT.INDEXED), inodes.is(far, INODE_TRAIT.INDEXED)], [
    true,
    false,
  ]);
  assertEquals(inodes.is(far, INODE_TRAIT.VALUE) && inodes.is(far, INODE_TRAIT.HIDDEN), true);
  assertEquals(inodes.is(far + 2, INODE_TRAIT.USED), false);
  const bitmap = new Uint8Array(inodesPerGroup / 8);
  inodes.markUsed(1, bitmap);
  assertEquals([bitmap[0], bitmap[1]], [0, 3]);
});
