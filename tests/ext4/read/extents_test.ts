import { assertEquals, assertStringIncludes } from "@std/assert";
import { inodeSeed } from "../../../lib/ext4/format/checksum.ts";
import { sealExtentBlock } from "../../../lib/ext4/format/extent.ts";
import { blockRuns } from "../../../lib/ext4/read/block_map.ts";
import { extentRuns } from "../../../lib/ext4/read/extents.ts";
import type { Ext4Image } from "../../../lib/ext4/read/image.ts";
import type { MapBlock } from "../../../lib/ext4/read/types.ts";
import { openFixture, type Victim, victimOf } from "./read_image.ts";

function mapBlocksOf(image: Ext4Image, number: number): MapBlock[] {
  const blocks: MapBlock[] = [];
  const runs = extentRuns(image, image.inode(number), { onMapBlock: (b) => void blocks.push(b) });
  assertEquals([...runs].length > 0, true);
  return blocks;
}

function readMap(number: number): (image: Ext4Image) => void {
  return (image) => {
    for (const _ of blockRuns(image, image.inode(number)));
  };
}

Deno.test("extentRuns follows a tree of two levels, and names its blocks", () => {
  const victim = victimOf("csum-1k");
  const image = victim.open();
  const number = victim.inodeOf("/holes");
  const runs = [...extentRuns(image, image.inode(number), {})];
  assertEquals(runs.length, 450);
  assertEquals(runs.map(({ logicalBlock }) => logicalBlock), runs.map((_, i) => 2 * i));
  assertEquals(runs.every(({ blockCount, unwritten }) => blockCount === 1 && !unwritten), true);
  const depths = mapBlocksOf(image, number).map(({ depth }) => depth);
  assertEquals([depths[0], depths.filter((depth) => depth === 0).length > 4], [1, true]);
});

Deno.test("extentRuns refuses a wrong checksum in any block of the tree", () => {
  const probe = victimOf("csum-1k");
  const number = probe.inodeOf("/holes");
  for (const { blockNumber } of mapBlocksOf(openFixture("csum-1k"), number)) {
    const victim = victimOf("csum-1k");
    victim.bytes[blockNumber * 1024 + 17]! ^= 0x40;
    const refusal = victim.refusal(readMap(number));
    assertStringIncludes(refusal, `extent block ${blockNumber} of inode ${number}`);
  }
});

/** Damages the first index block of /holes and gives it a right checksum. */
function damageIndex(damage: (victim: Victim, offset: number, leaf: number) => void): string {
  const victim = victimOf("csum-1k");
  const number = victim.inodeOf("/holes");
  const image = victim.open();
  const [index, leaf] = mapBlocksOf(image, number);
  const offset = index!.blockNumber * 1024;
  damage(victim, offset, leaf!.blockNumber);
  for (const { blockNumber } of [index!, leaf!]) {
    const block = victim.bytes.subarray(blockNumber * 1024, (blockNumber + 1) * 1024);
    sealExtentBlock(block, inodeSeed(image.seed!, number, image.inode(number).record.generation));
  }
  return victim.refusal(readMap(number));
}

Deno.test("extentRuns refuses trees that are no trees", () => {
  const cases: [string, (victim: Victim, offset: number, leaf: number) => void][] = [
    // The index block points to itself.
    ["its depth is 1, not 0", (v, offset) => v.view.setUint32(offset + 16, offset / 1024, true)],
    // To the leaf of its neighbour.
    [
      "but its index says 0",
      (v, offset) => v.view.setUint32(offset + 16, v.view.getUint32(offset + 28, true), true),
    ],
    [
      "it points to 1 blocks at 4294967295",
      (v, offset) => v.view.setUint32(offset + 16, 0xffffffff, true),
    ],
    ["its magic number is", (v, _, leaf) => v.view.setUint16(leaf * 1024, 0, true)],
    ["entries at depth 0", (v, _, leaf) => v.view.setUint16(leaf * 1024 + 2, 99, true)],
    // The first extent is longer than the way to the second.
    ["before 3", (v, _, leaf) => v.view.setUint16(leaf * 1024 + 16, 3, true)],
    ["it points to block 0", (v, _, leaf) => v.view.setUint32(leaf * 1024 + 20, 0, true)],
    // The last extent reaches into the next leaf.
    ["it maps logical blocks", (v, _, leaf) => {
      const last = leaf * 1024 + 12 * v.view.getUint16(leaf * 1024 + 2, true);
      v.view.setUint16(last + 4, 3, true);
    }],
  ];
  for (const [message, damage] of cases) assertStringIncludes(damageIndex(damage), message);
});
