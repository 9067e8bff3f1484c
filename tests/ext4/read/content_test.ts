import { assertEquals, assertStringIncludes } from "@std/assert";
import { byteStringFromBytes } from "../../../lib/bytes/byte_string.ts";
import {
  inlineBytes,
  inlineContent,
  isBareHole,
  isInlineData,
  isInlineHole,
  readContent,
} from "../../../lib/ext4/read/content.ts";
import { victimOf } from "./read_image.ts";

Deno.test("readContent reads blocks, and what an inode keeps in itself", () => {
  const blocks = victimOf("plain-4k");
  const image = blocks.open();
  const small = readContent(image, image.inode(blocks.inodeOf("/times")), 100);
  assertEquals(byteStringFromBytes(small), "hello\n");
  const holes = readContent(image, image.inode(blocks.inodeOf("/holes")), 1e6);
  assertEquals([holes.length, holes[0], holes[4096], holes[65541]], [65542, 104, 0, 10]);
  const inline = victimOf("rare-4k");
  const rare = inline.open();
  const inode = rare.inode(inline.inodeOf("/inline-with-xattr"));
  assertEquals(byteStringFromBytes(readContent(rare, inode, 100)), "w".repeat(100));
  assertEquals(inlineContent(inode).rest.length, 40);
  assertEquals(inlineBytes(inode).length, 100);
});

Deno.test("readContent refuses what is larger than it may be", () => {
  const victim = victimOf("plain-4k");
  const number = victim.inodeOf("/holes");
  const refusal = victim.refusal((image) => readContent(image, image.inode(number), 65541));
  assertEquals(refusal, `inode ${number}: its size is 65542 bytes, over 65541`);
});

Deno.test("inlineBytes refuses a size over what is kept, and flags without the bytes", () => {
  const victim = victimOf("rare-4k");
  const image = victim.open();
  const inode = image.inode(victim.inodeOf("/inline-with-xattr"));
  const long = { ...inode, record: { ...inode.record, sizeBytes: 101 } };
  assertStringIncludes(
    victim.refusal(() => inlineBytes(long)),
    "its size is 101 bytes, but it keeps only 100 in itself",
  );
  const bare = { ...inode, record: { ...inode.record, xattrArea: new Uint8Array(96) } };
  assertStringIncludes(victim.refusal(() => inlineBytes(bare)), "it has no system.data");
});

Deno.test("isInlineData takes no other attribute for the inline one", () => {
  assertEquals(isInlineData({ nameIndex: 7, suffix: "data" }), true);
  assertEquals(isInlineData({ nameIndex: 1, suffix: "data" }), false);
  assertEquals(isInlineData({ nameIndex: 7, suffix: "dat" }), false);
});

Deno.test("isInlineHole knows a file without data that is larger than its inode", () => {
  const victim = victimOf("rare-4k");
  const image = victim.open();
  const inode = image.inode(victim.inodeOf("/inline-with-xattr"));
  const long = { ...inode, record: { ...inode.record, sizeBytes: 2 ** 33 } };
  assertEquals([isInlineHole(inode), isInlineHole(long)], [false, false]); // it has data
  const zeros = [new Uint8Array(60), new Uint8Array(4)];
  assertEquals([isBareHole(64, zeros), isBareHole(65, zeros)], [false, true]);
  zeros[1]![3] = 1;
  assertEquals(isBareHole(65, zeros), false);
});
