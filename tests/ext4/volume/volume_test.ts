import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { imageGeometry } from "../../../lib/ext4/volume/superblock.ts";
import { Findings } from "../../../lib/ext4/volume/judge.ts";
import { Volume } from "../../../lib/ext4/volume/volume.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import { fixture, FIXTURES } from "../format/fixture_image.ts";
import { openFixture, victimOf } from "../read/read_image.ts";
import { volumeOf, volumeOfBytes } from "./open_volume.ts";

Deno.test("a volume of a cut image ends where the image does, and reads nothing past it", () => {
  const { bytes, superblock } = fixture("csum-4k");
  const whole = volumeOfBytes(bytes);
  assertEquals(whole.endBlock, superblock.blocksCount);
  assertEquals(whole.read(whole.endBlock - 1)?.length, 4096);
  assertEquals(whole.read(whole.endBlock), undefined);
  const cut = volumeOfBytes(bytes.subarray(0, 40_000));
  assertEquals(cut.endBlock, 9);
  assertEquals([cut.read(8, 2), cut.block(9)], [undefined, undefined]);
  assertEquals([cut.read(8)?.length, cut.block(8)?.length], [4096, 4096]);
});

Deno.test("a volume reads a block once while it is kept, and forgets the one least used", () => {
  const { bytes, superblock } = fixture("csum-1k");
  const read: number[] = [];
  const reader = {
    ...memoryReader(bytes),
    readAt(target: Uint8Array, position: number) {
      read.push(position / 1024);
      target.fill(position / 1024);
      return target.length;
    },
  };
  const geometry = imageGeometry(superblock);
  const judge = new Findings(1);
  const volume = new Volume(reader, { superblock, geometry, judge, cacheBytes: 2048 });
  for (const block of [10, 11, 10, 12, 10, 11]) assertEquals(volume.block(block)?.[1023], block);
  assertEquals(read, [10, 11, 12, 11]);
});

Deno.test("descriptorRoom is at the head of group 0 and of backups alone", () => {
  const volume = volumeOf("csum-1k");
  const { superblock } = volume;
  assertEquals(volume.groupCount, 4);
  assertEquals([0, 1, 2, 3].map((group) => volume.descriptorRoom(group).used), [1, 1, 0, 1]);
  assertEquals(volume.descriptorRoom(1).reserved, superblock.reservedGdtBlocks);
  const { group, index } = volume.locateInode(superblock.inodesPerGroup + 1);
  assertEquals({ group, index }, { group: 1, index: 0 });
});

Deno.test("backupGroups are those of the image, however many the superblock makes of it", () => {
  assertEquals(volumeOf("csum-1k").backupGroups(), [1, 3]);
  assertEquals(volumeOf("csum-1k", { featureRoCompat: 0 }).backupGroups(), [1, 2, 3]);
  const two = { featureCompat: 0x200, backupGroups: [3, 3] };
  assertEquals(volumeOf("csum-1k", two).backupGroups(), [3]);
  const { reader, superblock, geometry, judge } = volumeOf("csum-1k");
  const large = { ...geometry, groupCount: 2 ** 29, blocksCount: 2 ** 42 };
  assertEquals(new Volume(reader, { superblock, geometry: large, judge }).backupGroups(), [1, 3]);
});

Deno.test("superblocks, descriptors and their copies are where the fixtures have them", () => {
  for (const name of FIXTURES) {
    const image = fixture(name);
    const volume = volumeOf(name);
    assertEquals(volume.groupCount, image.groupCount, name);
    assertEquals(volume.backupGroups(), image.backupGroups(), name);
    for (const group of volume.backupGroups()) {
      const offset = volume.superblockBlock(group) * volume.blockSizeBytes;
      assertEquals([image.bytes[offset + 0x38], image.bytes[offset + 0x5a]], [0x53, group], name);
    }
    for (let i = 0; i < volume.descriptorBlocks; i++) {
      const first = image.block(volume.descriptorBlock(i)).slice(0, 12);
      // The same bitmaps and tables in every copy, whatever the counts are.
      for (const { block } of volume.descriptorBackups(i)) {
        assertEquals(image.block(block).slice(0, 12), first, name);
      }
    }
  }
});

Deno.test("descriptors follow the superblock, and are in their groups under meta_bg", () => {
  const { reader, superblock: found, geometry: small, judge } = volumeOf("csum-4k");
  const blocksCount = 200 * 32768;
  const geometry = { ...small, blocksCount, blocksPerGroup: 32768, groupCount: 200 };
  const open = (featureRoCompat: number, changes = {}) => {
    const superblock = { ...found, blocksCount, featureRoCompat, ...changes };
    return new Volume({ ...reader, sizeBytes: blocksCount * 4096 }, {
      superblock,
      geometry,
      judge,
    });
  };
  assertEquals(open(1).descriptorBlock(2), 3);
  const meta = { featureIncompat: found.featureIncompat | 0x10, firstMetaBlockGroup: 1 };
  assertEquals([0, 1].map((index) => open(1, meta).descriptorBlock(index)), [1, 64 * 32768]);
  assertEquals(open(0, meta).descriptorBlock(1), 64 * 32768 + 1);
  assertEquals(open(1, meta).descriptorBackups(1), [
    { group: 65, block: 65 * 32768 },
    { group: 127, block: 127 * 32768 },
  ]);
  // Groups whose own descriptors are in them have no copy of the first block.
  const groups = open(1, meta).descriptorBackups(0).map(({ group }) => group);
  assertEquals(groups, [1, 3, 5, 7, 9, 25, 27, 49]);
});

Deno.test("groups are what the fixtures' descriptors say, in both sizes and with both checksums", () => {
  for (const name of ["csum-4k", "csum-1k", "gdt-csum-1k", "plain-4k"]) {
    const image = openFixture(name);
    for (let group = 0; group < image.groupCount; group++) {
      const { descriptor, checksum } = image.findDescriptor(group)!;
      assertEquals(image.group(group).descriptor, descriptor);
      if (name === "plain-4k") assertEquals(checksum, undefined);
      else assertEquals(checksum!.stored, checksum!.computed);
    }
  }
});

Deno.test("groups with a wrong checksum or tables outside of the file system are refused", () => {
  for (const [name, offset] of [["csum-4k", 4096], ["gdt-csum-1k", 2048]] as const) {
    const victim = victimOf(name);
    victim.bytes[offset + 0x0c]! ^= 1;
    const message = victim.refusal((image) => image.group(0));
    assertEquals(
      message.startsWith(`group descriptor (group 0, byte ${offset}): checksum: `),
      true,
    );
  }
  const fields = [["block_bitmap", 0], ["inode_bitmap", 4], ["inode_table", 8]] as const;
  for (const [field, at] of fields) {
    const victim = victimOf("plain-4k");
    for (const wrong of [0, 1_000_000]) {
      victim.view.setUint32(4096 + at, wrong, true);
      const message = victim.refusal((image) => image.group(0));
      const start =
        `group descriptor (group 0, byte 4096): bg_${field}: found ${wrong}, wanted 1 to`;
      assertEquals(message.startsWith(start), true, message);
    }
  }
});

Deno.test("a volume has no inodes but its own", () => {
  const image = openFixture("csum-1k");
  for (const number of [0, image.geometry.inodesCount + 1, 2 ** 32 - 1]) {
    assertThrows(() => image.inode(number), InputError, `inode ${number}: it does not exist`);
  }
});
