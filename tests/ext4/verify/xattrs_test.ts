import { assertEquals } from "@std/assert";
import { readFileSync } from "node:fs";
import { verifyImage } from "../../../lib/ext4/verify/verify.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import { withTemporaryDirectory } from "../../oracle/command.ts";
import { file, treeOf } from "../../oracle/tree_builder.ts";
import { FixtureImage } from "../format/fixture_image.ts";
import { makeImage } from "../made_image.ts";
import { assertUndamaged } from "./undamaged.ts";
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

Deno.test("a value counts the blocks that name it, not the inodes that share them", async () => {
  const xattrs = { "user.value": "v".repeat(5000) };
  const tree = treeOf({ a: file("1", { xattrs }), b: file("2", { xattrs }) });
  await withTemporaryDirectory(async (scratch) => {
    const path = `${scratch}/shared.ext4`;
    await makeImage(path, tree, { journalBytes: 0, metadataChecksums: false });
    await assertUndamaged("one value", path);
    const image = new FixtureImage("shared", new Uint8Array(readFileSync(path)));
    const value = image.usedInodes().find(({ inode }) => (inode.flags & 0x200000) !== 0)!;
    viewAt(value.slot).setUint32(0x24, 9, true); // l_i_version
    const { findings } = await verifyImage(memoryReader(image.bytes));
    assertEquals(findings.map(({ problem }) => problem), ["references"]);
  });
});
