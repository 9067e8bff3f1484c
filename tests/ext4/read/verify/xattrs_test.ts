import { assertEquals } from "@std/assert";
import { inodeNamed, problemsOf, viewAt } from "./damage.ts";

Deno.test("an attribute block is held against its owners", async () => {
  const problems = await problemsOf("plain-4k", (image) => {
    const { inode } = inodeNamed(image, "xattrs-block");
    viewAt(image.block(inode.xattrBlock)).setUint32(4, 9, true);
  });
  assertEquals(problems, ["attribute block: h_refcount"]);
});

Deno.test("hashes of attributes are computed again", async () => {
  const problems = await problemsOf("plain-4k", (image) => {
    const { inode } = inodeNamed(image, "xattrs-block");
    const block = image.block(inode.xattrBlock);
    block[block.length - 1]! ^= 0xff;
  });
  assertEquals(problems.length, 1);
  assertEquals(problems[0]!.startsWith("attribute block: the hash of attribute"), true);
});

Deno.test("a value in an inode has the hash that the inode says", async () => {
  const problems = await problemsOf("rare-4k", (image) => {
    const value = image.usedInodes().find(({ inode }) => (inode.flags & 0x200000) !== 0)!;
    image.fileBlocks(value).get(0)!.bytes[0]! ^= 1;
  });
  assertEquals(problems.includes("attribute value: hash of the value"), true);
});
