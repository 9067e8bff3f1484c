import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { RO_COMPAT } from "../../../lib/ext4/format/constants.ts";
import {
  decodeGroupDescriptor,
  editGroupDescriptor,
  encodeGroupDescriptor,
  groupDescriptorChecksum,
  groupDescriptorCrc16,
  storedGroupDescriptorChecksum,
} from "../../../lib/ext4/format/group_descriptor.ts";
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
