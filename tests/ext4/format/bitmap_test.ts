import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { bitmapChecksum, countBits, setBits, testBit } from "../../../lib/ext4/format/bitmap.ts";
import { GROUP_FLAG } from "../../../lib/ext4/format/constants.ts";
import { fixtures } from "./fixture_image.ts";

Deno.test("bitmapChecksum is what mke2fs and the kernel stored for every initialised bitmap", () => {
  let count = 0;
  for (const image of fixtures()) {
    if (image.seed === undefined) continue;
    const { clustersPerGroup, inodesPerGroup } = image.superblock;
    const mask = image.descriptorSizeBytes === 64 ? 0xffffffff : 0xffff;
    for (let group = 0; group < image.groupCount; group++) {
      const descriptor = image.descriptor(group);
      if ((descriptor.flags & GROUP_FLAG.BLOCK_UNINIT) === 0) {
        const bitmap = image.block(descriptor.blockBitmapBlock);
        const checksum = bitmapChecksum(image.seed, bitmap, clustersPerGroup / 8);
        assertEquals((checksum & mask) >>> 0, descriptor.blockBitmapChecksum, image.name);
        count++;
      }
      if ((descriptor.flags & GROUP_FLAG.INODE_UNINIT) === 0) {
        const bitmap = image.block(descriptor.inodeBitmapBlock);
        const checksum = bitmapChecksum(image.seed, bitmap, inodesPerGroup / 8);
        assertEquals((checksum & mask) >>> 0, descriptor.inodeBitmapChecksum, image.name);
        assertEquals(
          inodesPerGroup - countBits(bitmap, inodesPerGroup),
          descriptor.freeInodesCount,
        );
        count++;
      }
    }
  }
  assert(count >= 15, `only ${count} bitmaps`);
});

Deno.test("setBits sets just the bits it is told to", () => {
  fc.assert(fc.property(
    fc.nat(200),
    fc.nat(200),
    fc.uint8Array({ minLength: 50, maxLength: 50 }),
    (firstBit, count, before) => {
      const bitmap = before.slice();
      setBits(bitmap, firstBit, count);
      for (let bit = 0; bit < 400; bit++) {
        const isInside = bit >= firstBit && bit < firstBit + count;
        assertEquals(testBit(bitmap, bit), isInside || testBit(before, bit));
      }
    },
  ));
});

Deno.test("setBits fills a whole bitmap, and nothing", () => {
  const bitmap = new Uint8Array(3);
  setBits(bitmap, 24, 0);
  assertEquals(countBits(bitmap, 24), 0);
  setBits(bitmap, 0, 24);
  assertEquals(bitmap, Uint8Array.of(255, 255, 255));
});

Deno.test("countBits counts the bits before its end", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), fc.nat(320), (bitmap, end) => {
    const bitCount = Math.min(end, bitmap.length * 8);
    let expected = 0;
    for (let bit = 0; bit < bitCount; bit++) if (testBit(bitmap, bit)) expected++;
    assertEquals(countBits(bitmap, bitCount), expected);
  }));
});

Deno.test("bits past the end of a bitmap are refused", () => {
  assertThrows(() => setBits(new Uint8Array(2), 15, 2), Error, "Invariant");
  assertThrows(() => setBits(new Uint8Array(2), -1, 2), Error, "Invariant");
  assertThrows(() => testBit(new Uint8Array(2), 16), Error, "Invariant");
  assertThrows(() => countBits(new Uint8Array(2), 17), Error, "Invariant");
  assertThrows(() => bitmapChecksum(0, new Uint8Array(2), 3), Error, "Invariant");
});
