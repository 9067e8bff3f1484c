import { assertEquals, assertStringIncludes } from "@std/assert";
import { viewOf } from "../../../lib/ext4/format/fields.ts";
import { inodeChecksum, sealInode, storedInodeChecksum } from "../../../lib/ext4/format/inode.ts";
import { InodeView, isReservedInode, kindOfMode } from "../../../lib/ext4/volume/inode.ts";
import { fixtures } from "../format/fixture_image.ts";
import { victimOf } from "../read/read_image.ts";
import { volumeOf } from "./open_volume.ts";

Deno.test("InodeView reads what decodeInode reads, from every inode of the fixtures", () => {
  let count = 0;
  for (const image of fixtures()) {
    for (const { slot, inode } of image.usedInodes()) {
      const view = new InodeView(slot, 12);
      const fields = [
        "mode",
        "uid",
        "gid",
        "sizeBytes",
        "linkCount",
        "sectorCount",
        "flags",
        "dtime",
        "generation",
        "xattrBlock",
        "versionLow",
        "extraSizeBytes",
        "projectId",
      ] as const;
      assertEquals(fields.map((field) => view[field]), fields.map((field) => inode[field]));
      assertEquals(view.blockField, inode.blockField);
      assertEquals(view.isBlankAt(0), slot.every((byte) => byte === 0));
      assertEquals(view.storedChecksum, storedInodeChecksum(slot));
      const options = { inodeNumber: 12, seed: 0x94361cb2 };
      const before = slot.slice();
      const checksums = new Uint32Array(1);
      view.computeChecksums(options.seed, checksums);
      assertEquals([...checksums], [inodeChecksum(slot, options)]);
      assertEquals(slot, before);
      count++;
    }
  }
  assertEquals(count > 200, true);
});

Deno.test("InodeView moves from slot to slot, and a copy stays where it is", () => {
  const table = new Uint8Array(3 * 256).map((_, i) => (i >> 8) + 1);
  const view = new InodeView(table, 12, 256);
  assertEquals(view.slotSizeBytes, 256);
  const modes = [0, 1, 2].map((index) => {
    view.moveTo(index);
    return [view.number, view.mode];
  });
  assertEquals(modes, [[12, 0x101], [13, 0x202], [14, 0x303]]);
  view.moveTo(1);
  const copy = view.copy();
  view.moveTo(2);
  assertEquals([copy.number, copy.mode, copy.slot, copy.blockField.length], [
    13,
    0x202,
    table.slice(256, 512),
    60,
  ]);
  table.fill(0, 256);
  assertEquals([0, 1, 2].map((index) => view.isBlankAt(index)), [false, true, true]);
  assertEquals([copy.isBlankAt(0), copy.mode], [false, 0x202]);
});

Deno.test("areChecksumsRight is true for right ones alone, and passes over blank slots", () => {
  const [seed, slotSizeBytes, count] = [0x94361cb2, 256, 9];
  const table = new Uint8Array(count * slotSizeBytes).map((_, i) => (i * 7919) >>> 5);
  const slotAt = (index: number) => table.subarray(256 * index, 256 * (index + 1));
  for (let index = 0; index < count; index++) {
    viewOf(slotAt(index)).setUint16(0x80, 32, true);
    sealInode(slotAt(index), { inodeNumber: 12 + index, seed });
  }
  slotAt(4).fill(0);
  const areRight = (some = count) =>
    new InodeView(table, 12, slotSizeBytes).areChecksumsRight(seed, some);
  assertEquals([areRight(), areRight(1), areRight(0)], [true, true, true]);
  for (const at of [0x00, 0x64, 0x7c, 0x82, 0xff]) {
    for (const index of [0, 3, 8]) {
      table[256 * index + at]! ^= 0x10;
      assertEquals(areRight(), false);
      table[256 * 5 + at]! ^= 0x10;
      assertEquals(areRight(), false);
      table[256 * 5 + at]! ^= 0x10;
      table[256 * index + at]! ^= 0x10;
    }
  }
  assertEquals(areRight(), true);
  // Without i_checksum_hi a slot has half a checksum, which tells too little.
  viewOf(slotAt(2)).setUint16(0x80, 0, true);
  sealInode(slotAt(2), { inodeNumber: 14, seed });
  assertEquals(areRight(), false);
});

Deno.test("kindOfMode knows the seven types and no other", () => {
  const kinds = Array.from({ length: 16 }, (_, type) => kindOfMode((type << 12) | 0o7777));
  assertEquals(kinds.map((kind) => kind?.[0] ?? "-").join(""), "-fc-d-b-f-s-s---");
});

Deno.test("isReservedInode leaves the root out", () => {
  const volume = volumeOf("plain-4k");
  const reserved = [1, 2, 8, 10, 11].map((number) => isReservedInode(volume, number));
  assertEquals(reserved, [true, false, true, true, false]);
});

Deno.test("an inode with a wrong checksum is refused, in full and in half", () => {
  for (const name of ["csum-4k", "csum-1k"]) {
    const victim = victimOf(name);
    victim.bytes[victim.inodeOffset(2) + 0x18]! ^= 1;
    assertStringIncludes(victim.refusal((image) => image.inode(2)), "inode 2: checksum: found 0x");
  }
});

Deno.test("what no inode in use has is named", () => {
  const wrong: [offset: number, word: number, message: string][] = [
    [0x00, 0x000001a4, "type: found mode 0644"],
    [0x18, 0x00000000, "it has a name, but no links"],
    [0x14, 0x00000001, "i_dtime of an inode with links: found 1"],
    [0x20, 0x10080000, "i_flags: EXTENTS beside INLINE_DATA"],
    [0x20, 0x10000000, "i_flags: INLINE_DATA without the feature"],
    [0x84, 0xfffffffc, "its ctime has 1073741823 nanoseconds"],
    [0x80, 0x00000063, "i_extra_isize is 99"],
  ];
  for (const [offset, word, message] of wrong) {
    const victim = victimOf("plain-4k");
    const number = victim.inodeOf("/empty");
    victim.view.setUint32(victim.inodeOffset(number) + offset, word, true);
    const refusal = victim.refusal((image) => image.inode(number));
    assertStringIncludes(refusal, `inode ${number}: `);
    assertStringIncludes(refusal, message);
  }
});
