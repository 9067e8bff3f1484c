import { assertEquals, assertThrows } from "@std/assert";
import { xattrBlockHash, xattrEntryHash, xattrValueHash } from "../../../lib/ext4/format/xattr.ts";

const NOTHING = new Uint8Array(0);

Deno.test("xattrEntryHash rotates by 5 for a character and by 16 for a word", () => {
  // By hand from fs/ext4/xattr.c: "ab" is 0x61 rotated by 5, xor 0x62.
  assertEquals(xattrEntryHash({ suffix: "", value: NOTHING }), 0);
  assertEquals(xattrEntryHash({ suffix: "a", value: NOTHING }), 0x61);
  assertEquals(xattrEntryHash({ suffix: "ab", value: NOTHING }), 0xc42);
  assertEquals(xattrEntryHash({ suffix: "ab", value: Uint8Array.of(1) }), 0x0c420001);
  const value = Uint8Array.of(1, 0, 0, 0x80, 2);
  // The first word turns 0x0c42 into 0x8c420001, the second, padded, that into 0x00018c40.
  assertEquals(xattrEntryHash({ suffix: "ab", value }), 0x00018c40);
});

Deno.test("xattrEntryHash takes the value's hash for a value in an inode", () => {
  const xattr = { suffix: "ab", value: Uint8Array.of(9), valueInode: 12, valueHash: 0xf0000001 };
  assertEquals(xattrEntryHash(xattr), 0xfc420001);
  const { valueHash: _, ...without } = xattr;
  assertThrows(() => xattrEntryHash(without), Error, "Invariant");
});

Deno.test("xattrEntryHash has a signed spelling for characters over 0x7f", () => {
  assertEquals(xattrEntryHash({ suffix: "\x80", value: NOTHING }), 0x80);
  assertEquals(xattrEntryHash({ suffix: "\x80", value: NOTHING }, true), 0xffffff80);
  const plain = { suffix: "abc", value: NOTHING };
  assertEquals(xattrEntryHash(plain), xattrEntryHash(plain, true));
});

Deno.test("xattrBlockHash folds the entries, and is 0 when one of them is", () => {
  assertEquals(xattrBlockHash([]), 0);
  assertEquals(xattrBlockHash([0x12345678]), 0x12345678);
  assertEquals(xattrBlockHash([0x12345678, 1]), 0x56781235);
  assertEquals(xattrBlockHash([0x12345678, 0, 1]), 0);
});

Deno.test("xattrValueHash is CRC-32C from the file system's seed", () => {
  const value = new TextEncoder().encode("123456789");
  assertEquals(xattrValueHash(0xffffffff, value), 0x1cf96d7c);
});
