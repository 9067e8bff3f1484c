import { assertEquals, assertStringIncludes } from "@std/assert";
import { blockRuns } from "../../../lib/ext4/read/block_map.ts";
import { openFixture, victimOf } from "./read_image.ts";

Deno.test("blockRuns gives the runs of extents, and none of what is kept in the inode", () => {
  const victim = victimOf("plain-4k");
  const image = victim.open();
  const holes = [...blockRuns(image, image.inode(victim.inodeOf("/holes")))];
  assertEquals(holes.length, 9);
  assertEquals(holes[1]!.logicalBlock, 2);
  const rare = openFixture("rare-4k");
  const inline = victimOf("rare-4k").inodeOf("/inline-with-xattr");
  assertEquals([...blockRuns(rare, rare.inode(inline))], []);
});

Deno.test("blockRuns refuses an inode that maps more blocks than there are", () => {
  const victim = victimOf("plain-4k");
  const number = victim.inodeOf("/holes");
  const root = victim.inodeOffset(number) + 0x28;
  // Four extents of 300 blocks each, all in the same place, in an image of 1024 blocks.
  victim.view.setUint16(root + 2, 4, true);
  victim.view.setUint16(root + 6, 0, true);
  for (let i = 0; i < 4; i++) {
    const at = root + 12 + 12 * i;
    victim.view.setUint32(at, 1000 * i, true);
    victim.view.setUint16(at + 4, 300, true);
    victim.view.setUint16(at + 6, 0, true);
    victim.view.setUint32(at + 8, 100, true);
  }
  const refusal = victim.refusal((image) => [...blockRuns(image, image.inode(number))]);
  assertStringIncludes(refusal, `inode ${number}: it maps 1200 blocks: the file system has 1024`);
});
