import { assertEquals } from "@std/assert";
import { inodeNamed, problemsOf, viewAt } from "./damage.ts";

Deno.test("the target of a symlink is as long as its inode says", async () => {
  const inInode = await problemsOf("plain-4k", (image) => {
    inodeNamed(image, "short").slot[0x28 + 3] = 0;
  });
  assertEquals(inInode, ["inode: i_size of a symlink"]);
  const inBlock = await problemsOf("plain-4k", (image) => {
    image.fileBlocks(inodeNamed(image, "long")).get(0)!.bytes[70] = 0x74;
  });
  assertEquals(inBlock, ["inode: i_size of a symlink"]);
  const empty = await problemsOf("plain-4k", (image) => {
    viewAt(inodeNamed(image, "short").slot).setUint32(4, 0, true);
  });
  assertEquals(empty.includes("inode: i_size of a symlink"), true);
});
