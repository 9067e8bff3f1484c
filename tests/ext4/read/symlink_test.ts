import { assertEquals, assertStringIncludes } from "@std/assert";
import { readSymlink } from "../../../lib/ext4/read/content.ts";
import { openExt4Image } from "../../../lib/ext4/read/image.ts";
import { isFastSymlink } from "../../../lib/ext4/volume/content.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { victimOf } from "./read_image.ts";

Deno.test("readSymlink reads targets from i_block, from a block and from inline data", () => {
  for (
    const [name, path, target, isFast] of [
      ["plain-4k", "/short", "target", true],
      ["plain-4k", "/long", "t".repeat(70), false],
      ["rare-4k", "/long", "t".repeat(70), false],
      ["kernel", "/long", "t".repeat(70), false],
    ] as const
  ) {
    const victim = victimOf(name);
    const image = victim.open();
    const inode = image.inode(victim.inodeOf(path));
    assertEquals([readSymlink(image, inode), isFastSymlink(inode.view)], [target, isFast]);
  }
});

Deno.test("readSymlink refuses short targets that do not end where the size says", () => {
  const cases: [path: string, offset: number, word: number, message: string][] = [
    ["/short", 0x04, 0, "i_size of a symlink: found 0, wanted 6"],
    ["/short", 0x04, 7, "i_size of a symlink: found 7, wanted 6"],
    ["/short", 0x04, 5, "i_size of a symlink: found 5, wanted 6"],
    ["/short", 0x04, 60, "i_size of a symlink: found 60, wanted 6"],
    ["/short", 0x20, 0x10, "IMMUTABLE or APPEND"],
  ];
  for (const [path, offset, word, message] of cases) {
    const victim = victimOf("plain-4k");
    const number = victim.inodeOf(path);
    victim.view.setUint32(victim.inodeOffset(number) + offset, word, true);
    const refusal = victim.refusal((image) => readSymlink(image, image.inode(number)));
    assertStringIncludes(refusal, message);
  }
});

Deno.test("readSymlink takes of a long target what is before the first NUL, as far as the size goes", () => {
  const cases: [sizeBytes: number, length: number][] = [[4096, 70], [71, 70], [65, 65], [20, 20]];
  for (const [sizeBytes, length] of cases) {
    const victim = victimOf("plain-4k");
    const number = victim.inodeOf("/long");
    victim.view.setUint32(victim.inodeOffset(number) + 0x04, sizeBytes, true);
    const warnings = new Warnings();
    const image = openExt4Image(memoryReader(victim.bytes), { warnings });
    assertEquals(readSymlink(image, image.inode(number)), "t".repeat(length), `${sizeBytes}`);
    assertEquals(warnings.list()[0]?.kind, "damagedMetadata");
  }
});
