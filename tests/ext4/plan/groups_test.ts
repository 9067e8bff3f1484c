import { assertEquals, assertThrows } from "@std/assert";
import type { LayoutOptions } from "../../../lib/bless/options.ts";
import { UsageError } from "../../../lib/errors.ts";
import {
  buildGroupTables,
  CHECKSUM_SEED,
  encodeDescriptorTable,
  type GroupLayout,
  makeGeometry,
} from "../../../lib/ext4/plan/groups.ts";
import { file, treeOf } from "../../oracle/tree_builder.ts";
import { MIB, planTree } from "../made_image.ts";

const COMPAT = 0x5c;
const INCOMPAT = 0x60;
const RO_COMPAT = 0x64;

/** The superblock of group 0 as it would be written, by the kernel's offsets. */
function superblock(choices: Partial<LayoutOptions> = {}, xattrBytes = 0): DataView {
  const xattrs = xattrBytes === 0 ? {} : { "user.v": new Uint8Array(xattrBytes) };
  const plan = planTree(treeOf({ "f": file("x", { xattrs }) }), choices);
  const bytes = plan.metadata.find(({ offsetBytes }) => offsetBytes === 1024)!.encode();
  assertEquals(bytes.length, 1024);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

Deno.test("the superblock has the features that were asked for and no others", () => {
  const features = (choices: Partial<LayoutOptions>, xattrBytes = 0) => {
    const view = superblock(choices, xattrBytes);
    return [COMPAT, INCOMPAT, RO_COMPAT].map((at) => view.getUint32(at, true));
  };
  // has_journal, ext_attr, dir_index; filetype, extents, 64bit, flex_bg, csum_seed;
  // sparse_super, large_file, huge_file, dir_nlink, extra_isize, metadata_csum.
  assertEquals(features({}), [0x2c, 0x22c2, 0x46b]);
  assertEquals(features({ journalBytes: 0 }), [0x28, 0x22c2, 0x46b]);
  assertEquals(features({ backups: "none" }), [0x22c, 0x22c2, 0x46a]);
  assertEquals(features({ metadataChecksums: false }), [0x2c, 0x2c2, 0x6b]);
  assertEquals(features({ compat: ["3.10"] }), [0x2c, 0x242, 0x46b]);
  assertEquals(features({ inlineData: true }), [0x2c, 0xa2c2, 0x46b]);
  assertEquals(features({}, 10_000), [0x2c, 0x26c2, 0x46b]);
});

Deno.test("the checksum seed is a constant where there is one, and the UUID's otherwise", () => {
  assertEquals(superblock().getUint32(0x270, true), CHECKSUM_SEED);
  assertEquals(superblock({ compat: ["3.10"] }).getUint32(0x270, true), 0);
  assertEquals(superblock({ metadataChecksums: false }).getUint32(0x270, true), 0);
});

Deno.test("reserved blocks are counted in bytes or in percent, and never more than half", () => {
  const reserved = (reservedBlocks: LayoutOptions["reservedBlocks"]) => {
    const size = { kind: "total", sizeBytes: 100 * MIB } as const;
    return superblock({ reservedBlocks, size }).getUint32(0x08, true);
  };
  assertEquals(reserved({ kind: "percent", percent: 5 }), 1280);
  assertEquals(reserved({ kind: "bytes", bytes: 8191 }), 1);
  assertEquals(reserved({ kind: "bytes", bytes: 50 * MIB }), 12_800);
  assertThrows(() => reserved({ kind: "bytes", bytes: 51 * MIB }), UsageError, "reservedBlocks");
});

Deno.test("the overhead is what the kernel would work out", () => {
  const size = { kind: "total", sizeBytes: 300 * MIB } as const;
  const plan = planTree(treeOf({}), { size });
  const { geometry } = plan;
  const view = superblock({ size });
  const reserved = geometry.reserved.length * (1 + geometry.descriptorBlocks);
  const tables = geometry.groupCount * (2 + geometry.inodeTableBlocks);
  assertEquals(view.getUint32(0x248, true), reserved + tables + 1024);
});

Deno.test("a copy of the journal's map is kept, its size behind it", () => {
  const view = superblock();
  assertEquals(view.getUint8(0xfd), 1);
  assertEquals(view.getUint16(0x10c, true), 0xf30a);
  assertEquals(view.getUint32(0x10c + 16 * 4, true), 4 * MIB);
  assertEquals(superblock({ journalBytes: 0 }).getUint8(0xfd), 0);
});

const BLOCK_UNINIT = 0x2;
const INODE_UNINIT = 0x1;
const INODE_ZEROED = 0x4;

/** Four groups, the last a little short; only the first and a few blocks of the third are used. */
function someLayout(): GroupLayout {
  const geometry = makeGeometry({ wide: true, backups: "sparse" }, 4, 32);
  return {
    geometry,
    totalBlocks: 3 * 32_768 + 1000,
    blockBitmapBlocks: [2, 3, 4, 5],
    inodeBitmapBlocks: [6, 7, 8, 9],
    inodeTableBlocks: [10, 12, 14, 16],
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
    const bitmap = bitmaps.find((each) => each.block === block)!.encode();
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
