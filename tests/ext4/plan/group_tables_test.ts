import { assertEquals } from "@std/assert";
import { buildGroupTables, encodeDescriptorTable } from "../../../lib/ext4/plan/group_tables.ts";
import { makeGeometry } from "../../../lib/ext4/plan/geometry.ts";
import { InodeBlockTable, type Layout } from "../../../lib/ext4/plan/layout.ts";

const BLOCK_UNINIT = 0x2;
const INODE_UNINIT = 0x1;
const INODE_ZEROED = 0x4;

/** Four groups, the last a little short; only the first and a few blocks of the third are used. */
function someLayout(): Layout {
  const geometry = makeGeometry({
    groupCount: 4,
    inodeCount: 4 * 32,
    wide: true,
    backups: "sparse",
  });
  return {
    geometry,
    totalBlocks: 3 * 32_768 + 1000,
    blockBitmapBlocks: [2, 3, 4, 5],
    inodeBitmapBlocks: [6, 7, 8, 9],
    inodeTableBlocks: [10, 12, 14, 16],
    journal: undefined,
    inodeBlocks: new InodeBlockTable(),
    xattrBlocks: [],
    placement: { extents: [], startBlock: 32, endBlock: 32, alignedCount: 0 },
    usedRanges: [
      { startBlock: 0, blockCount: 18 },
      { startBlock: 32_768, blockCount: 2 },
      { startBlock: 70_000, blockCount: 5 },
      { startBlock: 3 * 32_768, blockCount: 2 },
    ],
  };
}

Deno.test("buildGroupTables counts blocks, inodes and directories by group", () => {
  const options = { seed: 1, lastInodeNumber: 40, directoryInodes: [2, 11, 33, 34, 40] };
  const tables = buildGroupTables(someLayout(), options);
  assertEquals(
    tables.descriptors.map((d) => [d.freeBlocksCount, d.freeInodesCount, d.usedDirectoriesCount]),
    [[32_750, 0, 2], [32_766, 24, 3], [32_763, 32, 0], [998, 32, 0]],
  );
  assertEquals(tables.freeBlocksCount, 32_750 + 32_766 + 32_763 + 998);
  assertEquals(tables.freeInodesCount, 88);
});

Deno.test("groups without anything of their own are left uninitialised, where checksums tell so", () => {
  const options = { lastInodeNumber: 40, directoryInodes: [2] };
  const checked = buildGroupTables(someLayout(), { ...options, seed: 1 });
  assertEquals(checked.descriptors.map(({ flags }) => flags), [
    INODE_ZEROED,
    INODE_ZEROED | BLOCK_UNINIT,
    INODE_ZEROED | INODE_UNINIT,
    // The last group has an end to mark, so its bitmap is written.
    INODE_ZEROED | INODE_UNINIT,
  ]);
  assertEquals(checked.bitmaps.length, 3 + 2);
  const plain = buildGroupTables(someLayout(), { ...options, seed: undefined });
  assertEquals(plain.descriptors.map(({ flags }) => flags), [0, 0, 0, 0]);
  assertEquals(plain.bitmaps.length, 8);
});

Deno.test("bitmaps have bits set for used blocks and for what is past the end", () => {
  const options = { seed: 1, lastInodeNumber: 40, directoryInodes: [2] };
  const { bitmaps } = buildGroupTables(someLayout(), options);
  const bits = (block: number) => {
    const bitmap = bitmaps.find(({ offsetBytes }) => offsetBytes === block * 4096)!.encode();
    assertEquals(bitmap.length, 4096);
    const set: number[] = [];
    for (let i = 0; i < 32_768; i++) if ((bitmap[i >> 3]! >> (i & 7)) & 1) set.push(i);
    return set;
  };
  assertEquals(bits(2), Array.from({ length: 18 }, (_, i) => i));
  const inThird = 70_000 - 2 * 32_768;
  assertEquals(bits(4), Array.from({ length: 5 }, (_, i) => inThird + i));
  assertEquals(bits(5).slice(0, 4), [0, 1, 1000, 1001]);
  assertEquals(bits(5).length, 2 + 32_768 - 1000);
  // 32 inodes a group: 8 of the second are used, and the bits of no inode are set.
  assertEquals(bits(7).length, 8 + 32_768 - 32);
});

Deno.test("encodeDescriptorTable fills whole blocks and seals with the group's number", () => {
  const layout = someLayout();
  const options = { seed: 1, lastInodeNumber: 40, directoryInodes: [2] };
  const tables = buildGroupTables(layout, options);
  const table = encodeDescriptorTable(layout, tables, 1);
  const view = new DataView(table.buffer);
  assertEquals(table.length, 4096);
  assertEquals([0, 1, 2, 3].map((group) => view.getUint32(group * 64, true)), [2, 3, 4, 5]);
  const checksums = [0, 1, 2, 3].map((group) => view.getUint16(group * 64 + 0x1e, true));
  assertEquals(new Set(checksums).size, 4);
  assertEquals(table.subarray(4 * 64).every((byte) => byte === 0), true);
});
