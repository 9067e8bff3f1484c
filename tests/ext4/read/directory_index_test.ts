import { assertEquals, assertStringIncludes } from "@std/assert";
import { readDirectory } from "../../../lib/ext4/read/directory.ts";
import { DirectoryBlocks } from "../../../lib/ext4/read/directory_blocks.ts";
import { checkLeafHashes, readIndex } from "../../../lib/ext4/read/directory_index.ts";
import type { Victim } from "./read_image.ts";
import { openFixture, victimOf } from "./read_image.ts";

const COUNT_AT = 0x20;

function blockOffset(victim: Victim, number: number, logicalBlock: number): number {
  const image = victim.open();
  const { what } = new DirectoryBlocks(image, image.inode(number)).read(logicalBlock);
  return Number(/directory block (\d+)/.exec(what)![1]) * image.geometry.blockSizeBytes;
}

Deno.test("readIndex has every block of a directory but its own once, with rising hashes", () => {
  for (const name of ["plain-4k", "csum-4k", "csum-1k", "gdt-csum-1k", "kernel"]) {
    const number = victimOf(name).inodeOf("/many");
    const image = openFixture(name);
    const inode = image.inode(number);
    const blocks = new DirectoryBlocks(image, inode);
    const { leaves, parentInodeNumber } = readIndex(image, inode, blocks);
    assertEquals(parentInodeNumber, 2);
    const isTwoLevels = name.endsWith("1k");
    assertEquals(leaves.length < blocks.blockCount - 1, isTwoLevels);
    assertEquals(leaves[0]!.fromHash, 0);
    leaves.forEach((leaf, i) => {
      assertEquals(leaf.fromHash <= leaf.toHash, true);
      if (i > 0) assertEquals(leaf.fromHash - leaves[i - 1]!.toHash <= 2, true);
    });
    assertEquals(leaves.at(-1)!.toHash, 0xfffffffe);
  }
});

Deno.test("readIndex refuses an index that is no tree over the directory", () => {
  const cases: [message: string, damage: (victim: Victim, root: number) => void][] = [
    ["points to its block 1 twice", (v, root) => {
      v.view.setUint32(root + COUNT_AT + 12, v.view.getUint32(root + COUNT_AT + 4, true), true);
    }],
    ["points to its block 0 twice", (v, root) => v.view.setUint32(root + COUNT_AT + 4, 0, true)],
    [
      "its index points to block 4096 of",
      (v, root) => v.view.setUint32(root + COUNT_AT + 4, 4096, true),
    ],
    ["its index has", (v, root) => {
      v.view.setUint16(root + COUNT_AT + 2, v.view.getUint16(root + COUNT_AT + 2, true) - 1, true);
    }],
    [
      "is not in the order of hashes",
      (v, root) => v.view.setUint32(root + COUNT_AT + 8, 0xffffffff, true),
    ],
    ["its hash version 7", (v, root) => v.bytes[root + 0x1c] = 7],
    ["its index has 2 levels, over 1", (v, root) => v.bytes[root + 0x1e] = 2],
    ['its "." is inode 11', (v, root) => v.view.setUint32(root, 11, true)],
    ["its limit is 3 entries", (v, root) => v.view.setUint16(root + COUNT_AT, 3, true)],
  ];
  for (const [message, damage] of cases) {
    const victim = victimOf("plain-4k");
    const number = victim.inodeOf("/many");
    damage(victim, blockOffset(victim, number, 0));
    const refusal = victim.refusal((image) => readDirectory(image, image.inode(number)));
    assertStringIncludes(refusal, message);
  }
});

Deno.test("checkLeafHashes refuses a name in a block for other hashes", () => {
  const victim = victimOf("plain-4k");
  const number = victim.inodeOf("/many");
  const image = victim.open();
  const inode = image.inode(number);
  const index = readIndex(image, inode, new DirectoryBlocks(image, inode));
  const [first, second] = index.leaves;
  const offset = blockOffset(victim, number, first!.logicalBlock);
  const size = victim.view.getUint16(offset + 4, true);
  const entry = { inodeNumber: 12, recordLength: size, name: "0".repeat(100), fileType: 1 };
  const fits = index.leaves.filter((leaf) => {
    try {
      checkLeafHashes(image, inode, index, leaf, [entry]);
      return true;
    } catch {
      return false;
    }
  });
  assertEquals(fits.length, 1);
  // Two leaves change places in the index.
  const root = blockOffset(victim, number, 0);
  victim.view.setUint32(root + COUNT_AT + 4, second!.logicalBlock, true);
  victim.view.setUint32(root + COUNT_AT + 12, first!.logicalBlock, true);
  const refusal = victim.refusal((opened) => readDirectory(opened, opened.inode(number)));
  assertStringIncludes(refusal, "is not within those of its block");
});
