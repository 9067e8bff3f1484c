import { assertEquals } from "@std/assert";
import type { FixtureImage } from "../format/fixture_image.ts";
import { problemsOf, viewAt } from "./damage.ts";

function backupOf(image: FixtureImage, group: number): DataView<ArrayBufferLike> {
  return viewAt(image.block(image.firstBlockOfGroup(group)));
}

Deno.test("backups describe the same shape as the primary", async () => {
  const count = await problemsOf("gdt-csum-1k", (image) => {
    backupOf(image, 1).setUint32(4, 99, true);
  });
  assertEquals(count, ["backup superblock: blocksCount"]);
  const sealed = await problemsOf("csum-1k", (image) => {
    backupOf(image, 3).setUint8(0x68, 99);
  });
  assertEquals(sealed, ["backup superblock: checksum", "backup superblock: uuid"]);
  const descriptor = await problemsOf("csum-1k", (image) => {
    viewAt(image.descriptorBytes(2, 1)).setUint32(8, 5, true);
  });
  assertEquals(descriptor, [
    "backup group descriptor: checksum",
    "backup group descriptor: inodeTableBlock",
  ]);
});

Deno.test("a backup may fall behind in counts, times and state", async () => {
  const problems = await problemsOf("gdt-csum-1k", (image) => {
    const backup = backupOf(image, 1);
    for (const at of [0x0c, 0x10, 0x2c, 0x30, 0x34]) backup.setUint8(at, 77);
  });
  assertEquals(problems, []);
});
