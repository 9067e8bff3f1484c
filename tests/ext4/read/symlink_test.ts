import { assertEquals, assertStringIncludes } from "@std/assert";
import { readSymlink } from "../../../lib/ext4/read/content.ts";
import { isFastSymlink } from "../../../lib/ext4/volume/content.ts";
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

Deno.test("readSymlink refuses targets that are too long, too short, or have a NUL", () => {
  const cases: [path: string, offset: number, word: number, message: string][] = [
    ["/short", 0x04, 0, "i_size of a symlink: found 0, wanted 1 to 4095"],
    ["/short", 0x04, 7, "i_size of a symlink: found 7, wanted 6"],
    ["/short", 0x04, 5, "i_size of a symlink: found 5, wanted 6"],
    ["/short", 0x20, 0x80000, "its magic number is"],
    ["/long", 0x04, 4096, "i_size of a symlink: found 4096, wanted 1 to 4095"],
    ["/long", 0x04, 71, "i_size of a symlink: found 71, wanted 70"],
  ];
  for (const [path, offset, word, message] of cases) {
    const victim = victimOf("plain-4k");
    const number = victim.inodeOf(path);
    victim.view.setUint32(victim.inodeOffset(number) + offset, word, true);
    const refusal = victim.refusal((image) => readSymlink(image, image.inode(number)));
    assertStringIncludes(refusal, message);
  }
});
