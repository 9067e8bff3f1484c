import { assertEquals } from "@std/assert";
import { problemsOf, viewAt } from "./damage.ts";

Deno.test("an unmounted file system has no orphans", async () => {
  const list = await problemsOf("plain-4k", ({ bytes }) => viewAt(bytes).setUint8(1024 + 0xe8, 12));
  assertEquals(list, ["orphan list: s_last_orphan"]);
  const file = await problemsOf("rare-4k", (image) => {
    const { orphanFileInode } = image.superblock;
    const used = image.usedInodes().find(({ number }) => number === orphanFileInode)!;
    viewAt(image.fileBlocks(used).get(0)!.bytes).setUint32(0, 12, true);
  });
  assertEquals(file[0]!.startsWith("orphan file: its checksum is"), true, `${file}`);
  assertEquals(file.slice(1), ["orphan file: inodes in it"]);
});

Deno.test("the MMP block has its magic number and its checksum", async () => {
  const problems = await problemsOf("mmp", (image) => {
    image.block(image.superblock.mmpBlock)[0]! ^= 1;
  });
  assertEquals(problems.length, 2);
  assertEquals(problems.every((each) => each.startsWith("mmp block: its ")), true);
});

Deno.test("the resize inode leads to the room behind the descriptors and to nothing else", async () => {
  const inode = await problemsOf("csum-4k", (image) => {
    viewAt(image.inodeSlot(7)).setUint32(0x28, 5, true);
  });
  assertEquals(inode.includes("resize inode: i_block[0]"), true);
  const list = await problemsOf("csum-4k", (image) => {
    viewAt(image.block(2)).setUint32(4000, 1, true);
  });
  assertEquals(list, ["resize inode: pointer 1000"]);
});
