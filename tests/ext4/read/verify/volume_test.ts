import { assertEquals } from "@std/assert";
import { imageGeometry } from "../../../../lib/ext4/read/geometry.ts";
import { Volume } from "../../../../lib/ext4/read/verify/volume.ts";
import { memoryReader } from "../../../../lib/io/random_reader.ts";
import { fixture } from "../../format/fixture_image.ts";

Deno.test("a volume of a cut image ends where the image does, and reads nothing past it", () => {
  const { bytes, superblock } = fixture("csum-4k");
  const geometry = imageGeometry(superblock);
  const whole = new Volume(memoryReader(bytes), superblock, geometry);
  assertEquals(whole.endBlock, superblock.blocksCount);
  assertEquals(whole.read(whole.endBlock - 1)?.length, 4096);
  assertEquals(whole.read(whole.endBlock), undefined);
  const cut = new Volume(memoryReader(bytes.subarray(0, 40_000)), superblock, geometry);
  assertEquals(cut.endBlock, 9);
  assertEquals(cut.read(8, 2), undefined);
  assertEquals(cut.read(8)?.length, 4096);
});

Deno.test("descriptorRoom is at the head of group 0 and of backups alone", () => {
  const { bytes, superblock } = fixture("csum-1k");
  const volume = new Volume(memoryReader(bytes), superblock, imageGeometry(superblock));
  assertEquals(volume.groupCount, 4);
  assertEquals([0, 1, 2, 3].map((group) => volume.descriptorRoom(group).used), [1, 1, 0, 1]);
  assertEquals(volume.descriptorRoom(1).reserved, superblock.reservedGdtBlocks);
  assertEquals(volume.placeOfInode(superblock.inodesPerGroup + 1), { group: 1, index: 0 });
});

Deno.test("backupGroups are those of the image, however many the superblock makes of it", () => {
  const { bytes, superblock } = fixture("csum-1k");
  const geometry = imageGeometry(superblock);
  const volume = (change: object) =>
    new Volume(memoryReader(bytes), { ...superblock, ...change }, geometry);
  assertEquals(volume({}).backupGroups(), [1, 3]);
  assertEquals(volume({ featureRoCompat: 0 }).backupGroups(), [1, 2, 3]);
  const two = { featureCompat: 0x200, backupGroups: [3, 3] };
  assertEquals(volume(two).backupGroups(), [3]);
  const large = { ...geometry, groupCount: 2 ** 29, blocksCount: 2 ** 42 };
  const blown = new Volume(memoryReader(bytes), superblock, large);
  assertEquals(blown.backupGroups(), [1, 3]);
});
