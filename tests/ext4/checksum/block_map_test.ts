import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { blocksOfExtents, blocksOfMap, readExtents } from "../../../lib/ext4/checksum/block_map.ts";
import { Volume } from "../../../lib/ext4/checksum/volume.ts";
import { encodeExtentNode } from "../../../lib/ext4/format/extent.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import { fixture } from "../format/fixture_image.ts";

/** A volume whose last blocks may be written over. */
function scratch(): { volume: Volume; bytes: Uint8Array; last: number } {
  const bytes = fixture("csum-1k").bytes.slice();
  const volume = new Volume(memoryReader(bytes));
  return { volume, bytes, last: volume.superblock.blocksCount - 1 };
}

const leaf = (logicalBlock: number, startBlock: number, blockCount = 1) => ({
  logicalBlock,
  startBlock,
  blockCount,
  unwritten: false,
});

Deno.test("readExtents visits blocks from the first to the last, and refuses trees that do not fit", () => {
  const { volume, bytes, last } = scratch();
  const blocks = [last - 1, last];
  const node = (i: number) => bytes.subarray(blocks[i]! * 1024, (blocks[i]! + 1) * 1024);
  encodeExtentNode(node(0), { depth: 0, entriesMax: 84, leaves: [leaf(0, 10, 2)] });
  encodeExtentNode(node(1), { depth: 0, entriesMax: 84, leaves: [leaf(5, 30)] });
  const root = new Uint8Array(60);
  const indexes = [
    { logicalBlock: 0, childBlock: blocks[0]! },
    { logicalBlock: 5, childBlock: blocks[1]! },
  ];
  encodeExtentNode(root, { depth: 1, entriesMax: 4, indexes });
  const seen: number[] = [];
  const leaves = readExtents(volume, root, "inode 12", (block) => seen.push(block));
  assertEquals(seen, blocks);
  assertEquals(leaves, [leaf(0, 10, 2), leaf(5, 30)]);
  assertEquals(blocksOfExtents(leaves, 2, "inode 12"), [10, 11]);
  assertThrows(() => blocksOfExtents(leaves, 3, "inode 12"), InputError, "no block 2");
  assertThrows(() => blocksOfExtents([], 1, "inode 12"), InputError, "no block 0");
  encodeExtentNode(root, { depth: 2, entriesMax: 4, indexes });
  assertThrows(() => readExtents(volume, root, "inode 12", () => {}), InputError, "its depth is 0");
  encodeExtentNode(root, {
    depth: 1,
    entriesMax: 4,
    indexes: [{ logicalBlock: 6, childBlock: last }],
  });
  assertThrows(() => readExtents(volume, root, "inode 12", () => {}), InputError, "begins at 5");
});

Deno.test("blocksOfMap follows direct and indirect blocks", () => {
  const { volume, bytes, last } = scratch();
  const view = new DataView(bytes.buffer);
  const field = new Uint8Array(60);
  const words = new DataView(field.buffer);
  for (let i = 0; i < 12; i++) words.setUint32(4 * i, 100 + i, true);
  words.setUint32(48, last, true);
  bytes.fill(0, last * 1024, (last + 1) * 1024);
  for (let i = 0; i < 3; i++) view.setUint32(last * 1024 + 4 * i, 200 + i, true);
  const blocks = blocksOfMap(volume, field, 15, "inode 12");
  assertEquals(blocks.slice(10), [110, 111, 200, 201, 202]);
  assertThrows(() => blocksOfMap(volume, field, 16, "inode 12"), InputError, "no block 15");
  words.setUint32(48, 0, true);
  assertThrows(() => blocksOfMap(volume, field, 13, "inode 12"), InputError, "no block 12");
});
