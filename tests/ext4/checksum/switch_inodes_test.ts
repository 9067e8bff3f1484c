import { assertEquals } from "@std/assert";
import { ownsBlocks } from "../../../lib/ext4/checksum/switch_inodes.ts";
import { INODE_FLAG } from "../../../lib/ext4/format/constants.ts";
import { defaultInode, encodeInode } from "../../../lib/ext4/format/inode.ts";

Deno.test("ownsBlocks passes over bad blocks and reserved inodes that are empty", () => {
  const slotOf = (mode: number, flags: number) => {
    const slot = new Uint8Array(256);
    encodeInode({ ...defaultInode(), mode, flags }, slot, { inodeNumber: 1, seed: undefined });
    return slot;
  };
  assertEquals(ownsBlocks(slotOf(0, 0), 5), false);
  assertEquals(ownsBlocks(slotOf(0, INODE_FLAG.EXTENTS), 8), true);
  assertEquals(ownsBlocks(slotOf(0o100644, 0), 12), true);
  assertEquals(ownsBlocks(slotOf(0o100644, 0), 1), false);
});
