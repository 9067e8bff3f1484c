import { assertEquals } from "@std/assert";
import { inodeChecksum, storedInodeChecksum } from "../../../../lib/ext4/format/inode.ts";
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
      assertEquals(view.isBlankAt(0), slot.every((byte) => byte === 0));
      assertEquals(view.storedChecksum, storedInodeChecksum(slot));
      const options = { inodeNumber: 12, seed: 0x94361cb2 };
      const before = slot.slice();
      const checksums = new Uint32Array(1);
      view.computeChecksums(options.seed, 12, checksums);
      assertEquals([...checksums], [inodeChecksum(slot, options)]);
      assertEquals(slot, before);
      count++;
    }
  }
  assertEquals(count > 200, true);
});

Deno.test("InodeView moves from slot to slot, and a copy stays where it is", () => {
  const table = new Uint8Array(3 * 256).map((_, i) => (i >> 8) + 1);
  const view = new InodeView(table, 256);
  assertEquals(view.slotSizeBytes, 256);
  const modes = [0, 1, 2].map((index) => {
    view.moveTo(index);
    return view.mode;
  });
  assertEquals(modes, [0x101, 0x202, 0x303]);
  view.moveTo(1);
  const copy = view.copy();
  view.moveTo(2);
  assertEquals([copy.mode, copy.slot, copy.blockField.length], [0x202, table.slice(256, 512), 60]);
  table.fill(0, 256);
  assertEquals([0, 1, 2].map((index) => view.isBlankAt(index)), [false, true, true]);
  assertEquals([copy.isBlankAt(0), copy.mode], [false, 0x202]);
});
