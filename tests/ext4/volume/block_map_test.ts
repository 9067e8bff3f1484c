import { assertEquals, assertStringIncludes } from "@std/assert";
import { inodeSeed } from "../../../lib/ext4/format/checksum.ts";
import { sealExtentBlock } from "../../../lib/ext4/format/extent.ts";
import { blockRuns, filePayload } from "../../../lib/ext4/read/content.ts";
import type { Ext4Image } from "../../../lib/ext4/read/image.ts";
import { type MapBlock, physicalBlock, readRuns } from "../../../lib/ext4/volume/block_map.ts";
import type { Volume } from "../../../lib/ext4/volume/volume.ts";
import { readPayload } from "../../../lib/model/node.ts";
import { Random } from "../../oracle/noise.ts";
import { openFixture, type Victim, victimOf, victimOfMke2fs } from "../read/read_image.ts";

const BYTES = new Random(5).bytes(900_001);
/** i_block in an inode, and its three pointers to blocks of pointers. */
const BLOCK_FIELD = 0x28;
const LEVEL_AT = [48, 52, 56].map((offset) => BLOCK_FIELD + offset);

function mapBlocksOf(image: Ext4Image, number: number): MapBlock[] {
  const blocks: MapBlock[] = [];
  const runs = blockRuns(image, image.inode(number), { onMapBlock: (b) => void blocks.push(b) });
  assertEquals(runs.length > 0, true);
  return blocks;
}

function readMap(number: number): (image: Ext4Image) => unknown {
  return (image) => blockRuns(image, image.inode(number));
}

Deno.test("runs come from extents, and none of what is kept in the inode", () => {
  const victim = victimOf("plain-4k");
  const image = victim.open();
  const holes = blockRuns(image, image.inode(victim.inodeOf("/holes")));
  assertEquals(holes.length, 9);
  assertEquals(holes[1]!.logicalBlock, 2);
  const rare = openFixture("rare-4k");
  const inline = victimOf("rare-4k").inodeOf("/inline-with-xattr");
  assertEquals(blockRuns(rare, rare.inode(inline)), []);
});

Deno.test("an inode that maps more blocks than there are is refused", () => {
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
  const refusal = victim.refusal(readMap(number));
  const wanted = "blocks that it maps: found 1200, wanted at most the 1024 of the file system";
  assertStringIncludes(refusal, `inode ${number}: ${wanted}`);
});

Deno.test("a tree of two levels is followed, and its blocks are named", () => {
  const victim = victimOf("csum-1k");
  const image = victim.open();
  const number = victim.inodeOf("/holes");
  const runs = blockRuns(image, image.inode(number));
  assertEquals(runs.length, 450);
  assertEquals(runs.map(({ logicalBlock }) => logicalBlock), runs.map((_, i) => 2 * i));
  assertEquals(runs.every(({ blockCount, unwritten }) => blockCount === 1 && !unwritten), true);
  const depths = mapBlocksOf(image, number).map(({ depth }) => depth);
  assertEquals([depths[0], depths.filter((depth) => depth === 0).length > 4], [1, true]);
});

Deno.test("a wrong checksum in any block of a tree is refused", () => {
  const probe = victimOf("csum-1k");
  const number = probe.inodeOf("/holes");
  for (const { blockNumber } of mapBlocksOf(openFixture("csum-1k"), number)) {
    const victim = victimOf("csum-1k");
    victim.bytes[blockNumber * 1024 + 17]! ^= 0x40;
    const refusal = victim.refusal(readMap(number));
    assertStringIncludes(refusal, `extent tree (inode ${number}, block ${blockNumber}): `);
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

Deno.test("extent trees that are no trees are refused", () => {
  const cases: [string, (victim: Victim, offset: number, leaf: number) => void][] = [
    // The index block points to itself.
    [
      "eh_depth: found 1, wanted 0",
      (v, offset) => v.view.setUint32(offset + 16, offset / 1024, true),
    ],
    // To the leaf of its neighbour.
    [
      "first logical block of a node",
      (v, offset) => v.view.setUint32(offset + 16, v.view.getUint32(offset + 28, true), true),
    ],
    [
      "pointer to a block of the tree: found 4294967295",
      (v, offset) => v.view.setUint32(offset + 16, 0xffffffff, true),
    ],
    ["its magic number is", (v, _, leaf) => v.view.setUint16(leaf * 1024, 0, true)],
    ["entries at depth 0", (v, _, leaf) => v.view.setUint16(leaf * 1024 + 2, 99, true)],
    // The first extent is longer than the way to the second.
    ["before 3", (v, _, leaf) => v.view.setUint16(leaf * 1024 + 16, 3, true)],
    ["blocks of data: found 0 to 0", (v, _, leaf) => v.view.setUint32(leaf * 1024 + 20, 0, true)],
    // The last extent reaches into the next leaf.
    ["logical block of an extent", (v, _, leaf) => {
      const last = leaf * 1024 + 12 * v.view.getUint16(leaf * 1024 + 2, true);
      v.view.setUint16(last + 4, 3, true);
    }],
  ];
  for (const [message, damage] of cases) assertStringIncludes(damageIndex(damage), message);
});

function makeVictim(): { victim: Victim; number: number; slot: number } {
  const victim = victimOfMke2fs(["-t", "ext2", "-b", "1024"], { file: BYTES });
  const number = victim.inodeOf("/file");
  return { victim, number, slot: victim.inodeOffset(number) };
}

Deno.test("direct, single and double pointers lead to the bytes of the file", () => {
  const { victim, number } = makeVictim();
  const image = victim.open();
  const depths: number[] = [];
  const onMapBlock = ({ depth }: { readonly depth: number }) => void depths.push(depth);
  const runs = blockRuns(image, image.inode(number), { onMapBlock });
  assertEquals(runs.reduce((sum, run) => sum + run.blockCount, 0), 879);
  assertEquals(depths, [0, 1, 0, 0, 0]);
  const found = new Uint8Array(BYTES.length);
  readPayload(filePayload(image, image.inode(number)), found, 0);
  assertEquals(found.every((byte, i) => byte === BYTES[i]), true);
});

Deno.test("pointers out of the file system are refused at every level", () => {
  const { victim, number, slot } = makeVictim();
  const single = victim.view.getUint32(slot + LEVEL_AT[0]!, true);
  for (const offset of [slot + BLOCK_FIELD, ...LEVEL_AT.map((at) => slot + at), single * 1024]) {
    const before = victim.view.getUint32(offset, true);
    victim.view.setUint32(offset, 4096, true);
    assertStringIncludes(victim.refusal(readMap(number)), "found 4096");
    victim.view.setUint32(offset, before, true);
  }
});

Deno.test("pointers that lead in circles come to an end", () => {
  const { victim, number, slot } = makeVictim();
  const double = victim.view.getUint32(slot + LEVEL_AT[1]!, true);
  // A block of pointers of all levels that has nothing but itself.
  for (let i = 0; i < 256; i++) victim.view.setUint32(double * 1024 + 4 * i, double, true);
  for (const at of LEVEL_AT) victim.view.setUint32(slot + at, double, true);
  assertStringIncludes(victim.refusal(readMap(number)), "the 4096 of the file system");
});

Deno.test("physicalBlock finds a block in runs, and none in holes", () => {
  const runs = [
    { logicalBlock: 0, startBlock: 100, blockCount: 2, unwritten: false },
    { logicalBlock: 5, startBlock: 50, blockCount: 1, unwritten: false },
  ];
  assertEquals([0, 1, 2, 5, 6].map((logical) => physicalBlock(runs, logical)), [
    100,
    101,
    undefined,
    50,
    undefined,
  ]);
});

Deno.test("readRuns leaves holes and unwritten runs zero", () => {
  const blocks = (start: number, count: number) => new Uint8Array(count * 4).fill(start);
  const volume = { blockSizeBytes: 4, read: blocks } as unknown as Volume;
  const runs = [
    { logicalBlock: 1, startBlock: 7, blockCount: 1, unwritten: false },
    { logicalBlock: 2, startBlock: 8, blockCount: 1, unwritten: true },
    { logicalBlock: 3, startBlock: 9, blockCount: 5, unwritten: false },
  ];
  const bytes = readRuns(volume, runs, 15);
  assertEquals([...bytes!], [0, 0, 0, 0, 7, 7, 7, 7, 0, 0, 0, 0, 9, 9, 9]);
});
