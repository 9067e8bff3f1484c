import { assertEquals } from "@std/assert";
import { Claims, describeOwner, groupOwner } from "../../../../lib/ext4/read/verify/claims.ts";
import { Volume } from "../../../../lib/ext4/read/verify/volume.ts";
import { imageGeometry } from "../../../../lib/ext4/read/geometry.ts";
import { memoryReader } from "../../../../lib/io/random_reader.ts";
import { fixture } from "../../format/fixture_image.ts";

function volumeOf(name: string): Volume {
  const { bytes, superblock } = fixture(name);
  return new Volume(memoryReader(bytes), superblock, imageGeometry(superblock));
}

Deno.test("claims give each block to one owner and remember the second", () => {
  const claims = new Claims(volumeOf("csum-1k"));
  assertEquals(claims.claim(100, 50, 12), true);
  assertEquals(claims.claim(149, 2, 13), false);
  assertEquals(claims.conflicts, [{ block: 149, owner: 13 }]);
  assertEquals([99, 100, 149, 150, 151].map((block) => claims.has(block)), [
    false,
    true,
    true,
    true,
    false,
  ]);
});

Deno.test("claims past the end of the image are left out, and conflicts are bounded", () => {
  const claims = new Claims(volumeOf("csum-1k"));
  assertEquals(claims.claim(26_000, 100_000, 12), true);
  assertEquals(claims.claim(20_000, 1_000_000, 13), false);
  assertEquals(claims.conflictCount, 26 * 1024 - 26_000);
  assertEquals(claims.conflicts.length, 624);
});

Deno.test("claims write down the first owners of watched blocks", () => {
  const watched = new Map<number, number | undefined>([[24, undefined], [25, undefined]]);
  const claims = new Claims(volumeOf("csum-1k"), watched);
  claims.claim(16, 16, 7);
  claims.claim(25, 1, 8);
  assertEquals([...watched], [[24, 7], [25, 7]]);
});

Deno.test("describeOwner names inodes and parts of groups", () => {
  assertEquals(describeOwner(12), "inode 12");
  assertEquals(describeOwner(groupOwner(0, "superblock")), "superblock of group 0");
  assertEquals(describeOwner(groupOwner(9, "inode table")), "inode table of group 9");
});
