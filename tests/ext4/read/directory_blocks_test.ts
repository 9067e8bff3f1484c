import { assertEquals, assertStringIncludes } from "@std/assert";
import { DirectoryBlocks } from "../../../lib/ext4/read/directory_blocks.ts";
import { victimOf } from "./read_image.ts";

Deno.test("DirectoryBlocks finds every block by its logical number", () => {
  const victim = victimOf("plain-4k");
  const image = victim.open();
  const inode = image.inode(victim.inodeOf("/many"));
  const blocks = new DirectoryBlocks(image, inode);
  assertEquals(blocks.blockCount * 4096, inode.record.sizeBytes);
  assertEquals(blocks.ownedBlockCount >= blocks.blockCount, true);
  for (let i = 0; i < blocks.blockCount; i++) {
    const { bytes, what } = blocks.read(i);
    assertEquals(bytes.length, 4096);
    assertStringIncludes(what, `(block ${i} of inode ${inode.number})`);
  }
});

Deno.test("DirectoryBlocks refuses holes, blocks never written, and another number than the size says", () => {
  const cases: [offset: number, value: number, message: string][] = [
    // The size, the first logical block, the length of the extent of inode 2.
    [0x04, 8192, "the directory has 1 blocks, but its size says 2"],
    [0x28 + 12, 1, "the directory has a hole at its block 0"],
    [0x28 + 16, 0x8001, "its block 0 was never written"],
  ];
  for (const [offset, value, message] of cases) {
    const victim = victimOf("plain-4k");
    const at = victim.inodeOffset(2) + offset;
    if (offset === 0x28 + 16) victim.view.setUint16(at, value, true);
    else victim.view.setUint32(at, value, true);
    const refusal = victim.refusal((image) => new DirectoryBlocks(image, image.inode(2)));
    assertEquals(refusal, `inode 2: ${message}`);
  }
});
