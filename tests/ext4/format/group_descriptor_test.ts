import fc from "fast-check";
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  bitmapChecksum,
  countBits,
  decodeGroupDescriptor,
  editGroupDescriptor,
  encodeGroupDescriptor,
  groupDescriptorChecksum,
  groupDescriptorCrc16,
  groupHasSuperblock,
  isSparseBackupGroup,
  setBits,
  storedGroupDescriptorChecksum,
  testBit,
} from "../../../lib/ext4/format/group_descriptor.ts";
import { GROUP_FLAG, RO_COMPAT } from "../../../lib/ext4/format/constants.ts";
import { fixture, fixtures } from "./fixture_image.ts";

const CHECKSUM_OFFSET = 0x1e;

Deno.test("group descriptors and their backups come back byte for byte", () => {
  let count = 0;
  for (const image of fixtures()) {
    const isCrc16 = (image.superblock.featureRoCompat & RO_COMPAT.GDT_CSUM) !== 0;
    for (const copyGroup of [0, ...image.backupGroups()]) {
      for (let groupIndex = 0; groupIndex < image.groupCount; groupIndex++) {
        const bytes = image.descriptorBytes(groupIndex, copyGroup).slice();
        const encoded = encodeGroupDescriptor(decodeGroupDescriptor(bytes), {
          groupIndex,
          sizeBytes: image.descriptorSizeBytes,
          seed: image.seed,
        });
        if (isCrc16) {
          encoded.set(bytes.subarray(CHECKSUM_OFFSET, CHECKSUM_OFFSET + 2), CHECKSUM_OFFSET);
        }
        assertEquals(encoded, bytes, `${image.name} group ${groupIndex} in ${copyGroup}`);
        count++;
      }
    }
  }
  assert(count >= 25, `only ${count} descriptors`);
});

Deno.test("groupDescriptorCrc16 is what mke2fs stored under uninit_bg", () => {
  const image = fixture("gdt-csum-1k");
  assertEquals(image.groupCount, 3);
  for (let groupIndex = 0; groupIndex < image.groupCount; groupIndex++) {
    const bytes = image.descriptorBytes(groupIndex);
    const computed = groupDescriptorCrc16(bytes, { groupIndex, uuid: image.superblock.uuid });
    assertEquals(storedGroupDescriptorChecksum(bytes), computed);
  }
});

Deno.test("groupDescriptorChecksum covers the group's number and leaves its own field out", () => {
  const bytes = fixture("csum-4k").descriptorBytes(0).slice();
  const checksum = groupDescriptorChecksum(bytes, { groupIndex: 0, seed: 0x94361cb2 });
  assertEquals(checksum, storedGroupDescriptorChecksum(bytes));
  assert(checksum !== groupDescriptorChecksum(bytes, { groupIndex: 1, seed: 0x94361cb2 }));
  bytes.fill(0xff, CHECKSUM_OFFSET, CHECKSUM_OFFSET + 2);
  assertEquals(groupDescriptorChecksum(bytes, { groupIndex: 0, seed: 0x94361cb2 }), checksum);
});

Deno.test("low and high halves of a descriptor are where struct ext4_group_desc has them", () => {
  const bytes = encodeGroupDescriptor({
    blockBitmapBlock: 0xa1a2_01020304,
    inodeBitmapBlock: 0xb1b2_05060708,
    inodeTableBlock: 0xc1c2_090a0b0c,
    freeBlocksCount: 0xd1d2_0d0e,
    freeInodesCount: 0xe1e2_0f10,
    usedDirectoriesCount: 0xf1f2_1112,
    flags: 0x1314,
    blockBitmapChecksum: 0xa3a4_1516,
    inodeBitmapChecksum: 0xb3b4_1718,
    itableUnusedCount: 0xc3c4_191a,
  }, { groupIndex: 0, sizeBytes: 64, seed: undefined });
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  assertEquals(
    hex,
    "04030201080706050c0b0a090e0d100f12111413" + "00000000" + "161518171a19" + "0000" +
      "a2a10000b2b10000c2c10000d2d1e2e1f2f1c4c3" + "00000000" + "a4a3b4b3" + "00000000",
  );
});

const DESCRIPTOR = {
  blockBitmapBlock: fc.nat(2 ** 31 - 1),
  inodeBitmapBlock: fc.nat(2 ** 31 - 1),
  inodeTableBlock: fc.nat(2 ** 31 - 1),
  freeBlocksCount: fc.nat(0xffff),
  freeInodesCount: fc.nat(0xffff),
  usedDirectoriesCount: fc.nat(0xffff),
  flags: fc.nat(7),
  blockBitmapChecksum: fc.nat(0xffff),
  inodeBitmapChecksum: fc.nat(0xffff),
  itableUnusedCount: fc.nat(0xffff),
};

Deno.test("group descriptors of both sizes survive a round trip", () => {
  fc.assert(fc.property(fc.record(DESCRIPTOR), fc.boolean(), (descriptor, isLarge) => {
    const sizeBytes = isLarge ? 64 : 32;
    const wide = isLarge
      ? {
        ...descriptor,
        inodeTableBlock: 2 ** 48,
        freeBlocksCount: 0x12345,
        blockBitmapChecksum: 0xfedcba98,
      }
      : descriptor;
    const bytes = encodeGroupDescriptor(wide, { groupIndex: 3, sizeBytes, seed: 5 });
    assertEquals(bytes.length, sizeBytes);
    assertEquals(decodeGroupDescriptor(bytes), wide);
  }));
});

Deno.test("encodeGroupDescriptor cuts bitmap checksums to 16 bits in 32 bytes, and nothing else", () => {
  const descriptor = fixture("csum-4k").descriptor(0);
  const options = { groupIndex: 0, sizeBytes: 32, seed: 1 } as const;
  const bytes = encodeGroupDescriptor({ ...descriptor, blockBitmapChecksum: 0xfedc1234 }, options);
  assertEquals(decodeGroupDescriptor(bytes).blockBitmapChecksum, 0x1234);
  const high = { ...descriptor, inodeTableBlock: 2 ** 32 };
  assertThrows(() => encodeGroupDescriptor(high, options), Error, "inodeTableBlock");
});

Deno.test("encodeGroupDescriptor without a seed stores no checksum", () => {
  const descriptor = fixture("plain-4k").descriptor(0);
  const bytes = encodeGroupDescriptor(descriptor, {
    groupIndex: 0,
    sizeBytes: 64,
    seed: undefined,
  });
  assertEquals(storedGroupDescriptorChecksum(bytes), 0);
});

Deno.test("editGroupDescriptor keeps what no field names, and seals with either checksum", () => {
  for (const sizeBytes of [32, 64] as const) {
    const encoded = new Uint8Array(sizeBytes).map((_, i) => i === 0x14 ? 9 : 0);
    const options = { groupIndex: 3, seed: 5 };
    const edited = editGroupDescriptor(encoded, { blockBitmapChecksum: 0xabcd1234 }, {
      groupIndex: 3,
      seal: { kind: "crc32c", seed: 5 },
    });
    assertEquals(edited[0x14], 9);
    const stored = decodeGroupDescriptor(edited).blockBitmapChecksum;
    assertEquals(stored, sizeBytes === 64 ? 0xabcd1234 : 0x1234);
    assertEquals(storedGroupDescriptorChecksum(edited), groupDescriptorChecksum(edited, options));
    const uuid = new Uint8Array(16).fill(1);
    const old = editGroupDescriptor(edited, {}, { groupIndex: 3, seal: { kind: "crc16", uuid } });
    const crc16 = groupDescriptorCrc16(old, { groupIndex: 3, uuid });
    assertEquals(storedGroupDescriptorChecksum(old), crc16);
  }
});

type Words = Parameters<typeof groupHasSuperblock>[0];

function wordsOf(words: Partial<Words> = {}): Words {
  return { featureCompat: 0, featureRoCompat: 0, backupGroups: [0, 0], ...words };
}

Deno.test("isSparseBackupGroup is true of 1 and of the powers of 3, 5 and 7, however large", () => {
  for (const group of [1, 3, 5, 7, 49, 343, 3 ** 19, 5 ** 13, 7 ** 11]) {
    assertEquals(isSparseBackupGroup(group), true, `${group}`);
  }
  for (const group of [0, 2, 15, 21, 35, 3 ** 19 + 1, 5 ** 13 - 1]) {
    assertEquals(isSparseBackupGroup(group), false, `${group}`);
  }
});

Deno.test("groupHasSuperblock knows all three ways of keeping backups", () => {
  const groupsOf = (superblock: Words): number[] =>
    Array.from({ length: 60 }, (_, group) => group)
      .filter((group) => groupHasSuperblock(superblock, group));
  assertEquals(groupsOf(wordsOf()).length, 60);
  const sparse = wordsOf({ featureRoCompat: 0x1 });
  assertEquals(groupsOf(sparse), [0, 1, 3, 5, 7, 9, 25, 27, 49]);
  const sparse2 = wordsOf({ featureCompat: 0x200, backupGroups: [1, 40] });
  assertEquals(groupsOf(sparse2), [0, 1, 40]);
});

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
