import { assert, assertEquals, assertThrows } from "@std/assert";
import { readPrimarySuperblock, Volume } from "../../../lib/ext4/checksum/volume.ts";
import { InputError } from "../../../lib/errors.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import { fixture, FIXTURES } from "../format/fixture_image.ts";

Deno.test("Volume finds superblocks and descriptors where the fixtures have them", () => {
  for (const name of FIXTURES) {
    const image = fixture(name);
    const volume = new Volume(memoryReader(image.bytes));
    assertEquals(volume.groupCount, image.groupCount, name);
    assertEquals(volume.backupSuperblocks().map(({ group }) => group), image.backupGroups(), name);
    for (const { group, offsetBytes } of volume.backupSuperblocks()) {
      assertEquals(image.bytes[offsetBytes + 0x38], 0x53, name);
      assertEquals(image.bytes[offsetBytes + 0x5a], group, name);
    }
    for (let i = 0; i * volume.descriptorsPerBlock < volume.groupCount; i++) {
      const blocks = volume.descriptorBlocks(i).map((block) => image.block(block));
      // The same places in every copy, whatever the counts are.
      for (const block of blocks) assertEquals(block.slice(0, 12), blocks[0]!.slice(0, 12), name);
    }
    assertEquals(readPrimarySuperblock(volume.reader), volume.encodedSuperblock);
  }
});

Deno.test("Volume does not read outside of the file system", () => {
  const volume = new Volume(memoryReader(fixture("csum-1k").bytes));
  const { blocksCount } = volume.superblock;
  assert(volume.readBlock(blocksCount - 1, "last").length === 1024);
  for (const block of [0, -1, blocksCount]) {
    assertThrows(() => volume.readBlock(block, "a block"), InputError, "is not within 1 to");
  }
});
