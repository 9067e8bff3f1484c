import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { InputError } from "../../../lib/errors.ts";
import { RO_COMPAT } from "../../../lib/ext4/format/constants.ts";
import type { Superblock } from "../../../lib/ext4/format/superblock.ts";
import {
  decodeSuperblock,
  defaultSuperblock,
  editSuperblock,
  encodeSuperblock,
  metadataSeed,
  storedSuperblockChecksum,
  superblockChecksum,
} from "../../../lib/ext4/format/superblock.ts";
import { fixture, fixtures } from "./fixture_image.ts";

Deno.test("superblocks and their backups come back byte for byte", () => {
  let backupCount = 0;
  for (const image of fixtures()) {
    const copies = image.backupGroups().map((group) =>
      image.block(image.firstBlockOfGroup(group)).subarray(0, 1024)
    );
    backupCount += copies.length;
    for (const bytes of [image.bytes.subarray(1024, 2048), ...copies]) {
      assertEquals(encodeSuperblock(decodeSuperblock(bytes)), bytes.slice(), image.name);
    }
  }
  assert(backupCount >= 4, `only ${backupCount} backups`);
});

Deno.test("superblockChecksum is what mke2fs and the kernel stored, in backups too", () => {
  for (const image of fixtures()) {
    if (image.seed === undefined) continue;
    for (const group of [0, ...image.backupGroups()]) {
      const start = group === 0 ? 1024 : image.firstBlockOfGroup(group) * image.blockSizeBytes;
      const bytes = image.bytes.subarray(start, start + 1024);
      assertEquals(decodeSuperblock(bytes).blockGroupNumber, group);
      assertEquals(superblockChecksum(bytes), storedSuperblockChecksum(bytes));
    }
  }
});

Deno.test("decodeSuperblock reads what dumpe2fs says", () => {
  const superblock = fixture("csum-1k").superblock;
  assertEquals(superblock.blocksCount, 26 * 1024);
  assertEquals(superblock.firstDataBlock, 1);
  assertEquals(superblock.blocksPerGroup, 8192);
  assertEquals(superblock.mkfsTime, 1700000000);
  assertEquals(superblock.maxMountCount, -1);
  assertEquals(new TextDecoder().decode(superblock.volumeName), "fixture");
  assertEquals(superblock.hashSeed, [0xaaaaaaaa, 0xccccbbbb, 0xeeeedddd, 0xeeeeeeee]);
  assertEquals(superblock.journalBackupType, 1);
  assertEquals(superblock.inodeSizeBytes, 256);
  assertEquals(superblock.journalBlocks[16], 1024 * 1024);
});

Deno.test("the high parts that debugfs cannot set are where struct ext4_super_block has them", () => {
  const bytes = encodeSuperblock({
    ...defaultSuperblock(),
    reservedUid: 0x1_0002,
    reservedGid: 0x3_0004,
    writeTime: 5 * 2 ** 32,
    mountTime: 6 * 2 ** 32,
    mkfsTime: 7 * 2 ** 32,
    lastCheckTime: 8 * 2 ** 32,
    firstErrorTime: 9 * 2 ** 32,
    lastErrorTime: 10 * 2 ** 32,
    firstErrorCode: 11,
    lastErrorCode: 12,
    encoding: 0x0d0e,
    encodingFlags: 0x0f10,
    orphanFileInode: 17,
    checksumType: 18,
  });
  assertEquals(
    bytes.subarray(0x274, 0x288),
    Uint8Array.of(5, 6, 7, 8, 9, 10, 11, 12, 0x0e, 0x0d, 0x10, 0x0f, 17, 0, 0, 0, 1, 0, 3, 0),
  );
  assertEquals(bytes.subarray(0x50, 0x54), Uint8Array.of(2, 0, 4, 0));
  assertEquals(bytes[0x175], 18);
});

Deno.test("metadataSeed is derived from the UUID, stored, or absent", () => {
  assertEquals(metadataSeed(fixture("csum-4k").superblock), 0x94361cb2);
  assertEquals(fixture("bigalloc-4k").superblock.checksumSeed, 0x94361cb2);
  const moved = { ...fixture("bigalloc-4k").superblock, uuid: new Uint8Array(16) };
  assertEquals(metadataSeed(moved), 0x94361cb2);
  assertEquals(metadataSeed(fixture("plain-4k").superblock), undefined);
});

Deno.test("encodeSuperblock fills in the checksum exactly with METADATA_CSUM", () => {
  const without = encodeSuperblock(defaultSuperblock());
  assertEquals(storedSuperblockChecksum(without), 0);
  const superblock = { ...defaultSuperblock(), featureRoCompat: RO_COMPAT.METADATA_CSUM };
  const bytes = encodeSuperblock(superblock);
  assertEquals(storedSuperblockChecksum(bytes), superblockChecksum(bytes));
});

Deno.test("decodeSuperblock refuses another magic number", () => {
  const bytes = encodeSuperblock(defaultSuperblock());
  bytes[0x38] = 0;
  assertThrows(() => decodeSuperblock(bytes), InputError, "magic number is 0xef00, not 0xef53");
});

Deno.test("decodeSuperblock refuses 64-bit numbers over 2^53", () => {
  const bytes = encodeSuperblock(defaultSuperblock());
  bytes.fill(0xff, 0x150, 0x154);
  assertThrows(() => decodeSuperblock(bytes), InputError, "is over 9007199254740991");
});

Deno.test("encodeSuperblock refuses values that do not fit their field", () => {
  const refused: Partial<Superblock>[] = [
    { inodesCount: 2 ** 32 },
    { inodesCount: -1 },
    { logGroupsPerFlex: 256 },
    { raidStride: 65536 },
    { maxMountCount: -0x8001 },
    { inodesCount: 0.5 },
    { blocksCount: Number.MAX_SAFE_INTEGER + 1 },
    { maxMountCount: 0x8000 },
    { writeTime: 2 ** 40 },
    { uuid: new Uint8Array(15) },
    { volumeName: new Uint8Array(17) },
    { hashSeed: [1, 2, 3] },
  ];
  for (const fields of refused) {
    assertThrows(
      () => encodeSuperblock({ ...defaultSuperblock(), ...fields }),
      Error,
      Object.keys(fields)[0] ?? "",
    );
  }
});

Deno.test("every field of a superblock survives a round trip by itself", () => {
  const neutral = defaultSuperblock();
  for (const name of Object.keys(neutral) as (keyof Superblock)[]) {
    const value = neutral[name];
    const changed = typeof value === "number"
      ? 1
      : value instanceof Uint8Array
      ? new Uint8Array(value.length || 16).fill(7)
      : value.map((_, i) => i + 1);
    const bytes = encodeSuperblock({ ...neutral, [name]: changed });
    assertEquals(decodeSuperblock(bytes), { ...neutral, [name]: changed }, name);
  }
});

Deno.test("numbers in two parts survive a round trip", () => {
  fc.assert(fc.property(
    fc.maxSafeNat(),
    fc.nat(2 ** 31 - 1),
    fc.maxSafeNat(),
    (blocksCount, reservedUid, time) => {
      const superblock = {
        ...defaultSuperblock(),
        blocksCount,
        reservedUid,
        writeTime: time % 2 ** 40,
        kbytesWritten: blocksCount,
      };
      assertEquals(decodeSuperblock(encodeSuperblock(superblock)), superblock);
    },
  ));
});

Deno.test("editSuperblock changes what is named and keeps every other byte", () => {
  const encoded = encodeSuperblock({ ...defaultSuperblock(), featureRoCompat: 0x400, state: 1 });
  // A place that no field names.
  encoded[0x300] = 7;
  const edited = editSuperblock(encoded, { state: 2, featureRoCompat: 0x10 });
  const wanted = encoded.slice();
  wanted[0x3a] = 2;
  wanted.set([0x10, 0], 0x64);
  wanted.fill(0, 0x3fc);
  assertEquals(edited, wanted);
  const back = editSuperblock(edited, { state: 1, featureRoCompat: 0x400 });
  assertEquals(storedSuperblockChecksum(back), superblockChecksum(back));
});
