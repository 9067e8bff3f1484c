import { assertEquals } from "@std/assert";
import { hasCommand, mustRun, withTemporaryDirectory } from "../../oracle/command.ts";
import { notRun } from "../../oracle/notice.ts";
import { problemsOf, viewAt } from "./damage.ts";
import { assertUndamaged } from "./undamaged.ts";

Deno.test("bitmaps equal what is in use, bit by bit", async () => {
  const marked = await problemsOf("plain-4k", (image) => {
    image.block(image.descriptor(0).blockBitmapBlock)[100]! |= 0x80;
  });
  assertEquals(marked, ["block bitmap: marked as used, but not in use"]);
  const unmarked = await problemsOf("plain-4k", (image) => {
    image.block(image.descriptor(0).inodeBitmapBlock)[0]! ^= 1;
  });
  assertEquals(unmarked, ["inode bitmap: in use, but not marked as used"]);
  const padding = await problemsOf("plain-4k", (image) => {
    image.block(image.descriptor(0).inodeBitmapBlock)[4095] = 0;
  });
  assertEquals(padding, ["inode bitmap: byte 4095, behind the bits of the group"]);
});

Deno.test("counts of free things are counted again", async () => {
  const group = await problemsOf("plain-4k", (image) => {
    const view = viewAt(image.descriptorBytes(0));
    for (const at of [0x0c, 0x0e, 0x10]) view.setUint16(at, view.getUint16(at, true) + 1, true);
  });
  assertEquals(group, [
    "group descriptor: bg_free_blocks_count",
    "group descriptor: bg_free_inodes_count",
    "group descriptor: bg_used_dirs_count",
  ]);
});

Deno.test("reserved inodes are in use in every group that has some of them", async () => {
  if (!hasCommand("mke2fs")) return notRun("groups of eight inodes", "there is no mke2fs");
  await withTemporaryDirectory(async (scratch) => {
    const path = `${scratch}/small.ext4`;
    const size = ["-b", "4096", "-I", "1024", "-N", "8", "-g", "1024"];
    mustRun("mke2fs", ["-q", "-t", "ext4", ...size, path, "40M"]);
    await assertUndamaged("eight inodes a group", path);
  });
});
