import { assertEquals } from "@std/assert";
import { InodeView } from "../../../../lib/ext4/read/verify/inode_view.ts";
import { fixtures } from "../../format/fixture_image.ts";

Deno.test("InodeView reads what decodeInode reads, from every inode of the fixtures", () => {
  let count = 0;
  for (const image of fixtures()) {
    for (const { slot, inode } of image.usedInodes()) {
      const view = new InodeView(slot);
      const fields = [
        "mode",
        "uid",
        "gid",
        "sizeBytes",
        "linkCount",
        "sectorCount",
        "flags",
      ] as const;
      assertEquals(fields.map((field) => view[field]), fields.map((field) => inode[field]));
      const more = ["dtime", "generation", "xattrBlock", "versionLow", "extraSizeBytes"] as const;
      assertEquals(more.map((field) => view[field]), more.map((field) => inode[field]));
      assertEquals(view.projectId, inode.projectId);
      assertEquals(view.blockField, inode.blockField);
      assertEquals(view.isBlank, slot.every((byte) => byte === 0));
      count++;
    }
  }
  assertEquals(count > 200, true);
});
