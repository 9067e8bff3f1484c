import { assertEquals, assertStringIncludes } from "@std/assert";
import type { Ext4Image } from "../../../lib/ext4/read/image.ts";
import { readDirectory } from "../../../lib/ext4/read/directory.ts";
import { DirectoryBlocks } from "../../../lib/ext4/read/directory_blocks.ts";
import type { Victim } from "./read_image.ts";
import { openFixture, victimOf } from "./read_image.ts";

function namesOf(image: Ext4Image, number: number): string[] {
  return readDirectory(image, image.inode(number)).names.map(({ name }) => name).sort();
}

/** Where the only block of the root's begins. */
function rootOffset(victim: Victim): number {
  const { what } = new DirectoryBlocks(victim.open(), victim.open().inode(2)).read(0);
  return Number(/directory block (\d+)/.exec(what)![1]) * victim.open().geometry.blockSizeBytes;
}

Deno.test("readDirectory reads linear, hashed and inline directories", () => {
  const many = (count: number, width: number) =>
    Array.from({ length: count }, (_, i) => `${i * 7919}`.padStart(width, "0")).sort();
  for (
    const [name, count, width] of [
      ["csum-4k", 400, 100],
      ["plain-4k", 400, 100],
      ["csum-1k", 900, 250],
      ["gdt-csum-1k", 900, 250],
    ] as const
  ) {
    const number = victimOf(name).inodeOf("/many");
    assertEquals(namesOf(openFixture(name), number), many(count, width));
  }
  const rare = openFixture("rare-4k");
  assertEquals(namesOf(rare, victimOf("rare-4k").inodeOf("/inline")), ["a"]);
  const { parentInodeNumber, names } = readDirectory(rare, rare.inode(2));
  assertEquals(parentInodeNumber, 2);
  assertEquals(names.find(({ name }) => name === "pipe")?.kind, "fifo");
});

Deno.test("readDirectory refuses a wrong checksum", () => {
  const victim = victimOf("csum-4k");
  victim.bytes[rootOffset(victim) + 30]! ^= 1;
  const refusal = victim.refusal((image) => readDirectory(image, image.inode(2)));
  assertStringIncludes(refusal, "(block 0 of inode 2): its checksum is 0x");
});

Deno.test("readDirectory refuses names and records that no directory has", () => {
  const cases: [message: string, damage: (victim: Victim, at: number) => void][] = [
    ['does not begin with "." and ".."', (v, at) => v.bytes[at + 8] = 0x78],
    ['does not begin with "." and ".."', (v, at) => v.bytes[at + 12 + 8] = 0x78],
    ['its "." is inode 3', (v, at) => v.view.setUint32(at, 3, true)],
    ["is 13 bytes long", (v, at) => v.view.setUint16(at + 12 + 4, 13, true)],
    ["is 65532 bytes long", (v, at) => v.view.setUint16(at + 24 + 4, 65532, true)],
    ["has the file type 9", (v, at) => v.bytes[at + 24 + 7] = 9],
    ["has the file type 0, not 1 to 7", (v, at) => v.bytes[at + 24 + 7] = 0],
    ['has the name "lost/found"', (v, at) => v.bytes[at + 24 + 8 + 4] = 0x2f],
    ['has "." among its names', (v, at) => {
      v.bytes[at + 24 + 6] = 1;
      v.bytes[at + 24 + 8] = 0x2e;
    }],
    // lost+found, then directory, is made lost+found a second time.
    ['it has the name "lost+found" twice', (v, at) => {
      v.bytes.copyWithin(at + 44 + 6, at + 24 + 6, at + 44);
    }],
  ];
  for (const [message, damage] of cases) {
    const victim = victimOf("plain-4k");
    damage(victim, rootOffset(victim));
    const refusal = victim.refusal((image) => readDirectory(image, image.inode(2)));
    assertStringIncludes(refusal, message);
  }
});

Deno.test("readDirectory refuses files, encrypted directories and more names than it may", () => {
  const victim = victimOf("plain-4k");
  const file = victim.inodeOf("/empty");
  const many = victim.inodeOf("/many");
  assertEquals(
    victim.refusal((image) => readDirectory(image, image.inode(file))),
    `inode ${file}: it is a file`,
  );
  assertEquals(
    victim.refusal((image) => readDirectory(image, image.inode(many), { maxChildCount: 399 })),
    `inode ${many}: it has more than 399 names`,
  );
  victim.bytes[victim.inodeOffset(many) + 0x21]! |= 0x08;
  assertStringIncludes(
    victim.refusal((image) => readDirectory(image, image.inode(many))),
    "the directory is encrypted",
  );
});

Deno.test("readDirectory refuses an inline directory whose size is another", () => {
  const victim = victimOf("rare-4k");
  const image = victim.open();
  const inode = image.inode(victim.inodeOf("/inline"));
  const wrong = { ...inode, record: { ...inode.record, sizeBytes: 64 } };
  assertStringIncludes(
    victim.refusal((opened) => readDirectory(opened, wrong)),
    "its size is 64 bytes, but it keeps 60 in itself",
  );
});
