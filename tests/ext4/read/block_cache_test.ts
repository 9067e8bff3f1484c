import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { BlockCache } from "../../../lib/ext4/read/block_cache.ts";

Deno.test("BlockCache reads a block once while it is kept, and forgets the one least used", () => {
  const read: number[] = [];
  const reader = {
    sizeBytes: 4096,
    name: "counted",
    readAt(target: Uint8Array, position: number) {
      read.push(position / 1024);
      if (position >= 4096) return 0;
      target.fill(position / 1024);
      return target.length;
    },
    close() {},
  };
  const cache = new BlockCache(reader, 1024, 2048);
  for (const block of [0, 1, 0, 2, 0, 1]) assertEquals(cache.read(block)[1023], block);
  assertEquals(read, [0, 1, 2, 1]);
  assertThrows(() => cache.read(4), InputError, "counted: ends at offset 4096");
});
