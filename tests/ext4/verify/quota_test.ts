import { assertEquals } from "@std/assert";
import type { FixtureImage } from "../format/fixture_image.ts";
import { problemsOf, viewAt } from "./damage.ts";

/** The file of the users' quotas. */
function userQuotas(image: FixtureImage): Uint8Array[] {
  const { userQuotaInode } = image.superblock;
  const used = image.usedInodes().find(({ number }) => number === userQuotaInode)!;
  return [...image.fileBlocks(used).values()].map(({ bytes }) => bytes);
}

Deno.test("quota files say what was counted", async () => {
  const header = await problemsOf("rare-4k", (image) => {
    viewAt(userQuotas(image)[0]!).setUint32(0, 1, true);
  });
  assertEquals(header, ["quota file: magic number"]);
  const usage = await problemsOf("rare-4k", (image) => {
    // The first leaf is block 5 of 1 KiB; its first entry begins behind 16 bytes.
    const view = viewAt(userQuotas(image)[1]!);
    for (const at of [24, 48]) {
      const place = 1024 + 16 + at;
      view.setUint32(place, view.getUint32(place, true) + 5, true);
    }
  });
  assertEquals(usage.length, 2);
  assertEquals(usage.every((each) => /^quota file: (inodes|bytes) of user \d+$/.test(each)), true);
  const pointer = await problemsOf("rare-4k", (image) => {
    viewAt(userQuotas(image)[0]!).setUint32(1024, 0xffff, true);
  });
  assertEquals(pointer.some((each) => each.startsWith("quota file: pointer 0 of block 1")), true);
});
