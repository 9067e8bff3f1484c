import { assertEquals, assertStringIncludes } from "@std/assert";
import { type Ext4Image, openExt4Image, uncheckedInode } from "../../../lib/ext4/read/image.ts";
import { readDirectory } from "../../../lib/ext4/read/directory.ts";
import { blockRuns } from "../../../lib/ext4/read/content.ts";
import { readTree } from "../../../lib/ext4/read/tree.ts";
import { physicalBlock } from "../../../lib/ext4/volume/block_map.ts";
import { readIndex } from "../../../lib/ext4/volume/htree.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { openFixture, type Victim, victimOf } from "./read_image.ts";

function namesOf(image: Ext4Image, number: number): string[] {
  return readDirectory(image, image.inode(number)).names.map(({ name }) => name).sort();
}

/** Where the only block of the root's begins. */
function rootOffset(victim: Victim): number {
  const image = victim.open();
  return blockRuns(image, image.inode(2))[0]!.startBlock * image.blockSizeBytes;
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
  victim.bytes[rootOffset(victim) + 24 + 8]! ^= 1;
  const refusal = victim.refusal((image) => readDirectory(image, image.inode(2)));
  assertStringIncludes(refusal, "checksum: found 0x");
});

Deno.test("readDirectory refuses names and records that no directory has", () => {
  const cases: [message: string, damage: (victim: Victim, at: number) => void][] = [
    ['first entry, not "." of the directory: found "x" 2', (v, at) => v.bytes[at + 8] = 0x78],
    ['second entry, not ".." of a parent: found "x." 2', (v, at) => v.bytes[at + 12 + 8] = 0x78],
    ['found "." 3, wanted "." 2', (v, at) => v.view.setUint32(at, 3, true)],
    ["is 13 bytes long", (v, at) => v.view.setUint16(at + 12 + 4, 13, true)],
    ["is 65532 bytes long", (v, at) => v.view.setUint16(at + 24 + 4, 65532, true)],
    ["has the file type 9", (v, at) => v.bytes[at + 24 + 7] = 9],
    ['has the name "lost/found"', (v, at) => v.bytes[at + 24 + 8 + 4] = 0x2f],
    ['entry "." is there twice', (v, at) => {
      v.bytes[at + 24 + 6] = 1;
      v.bytes[at + 24 + 8] = 0x2e;
    }],
    // lost+found, then directory, is made lost+found a second time.
    ['entry "lost+found" is there twice', (v, at) => {
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
    "i_flags: ENCRYPT without the feature",
  );
});

Deno.test("readDirectory refuses an inline directory whose size is another", () => {
  const victim = victimOf("rare-4k");
  const image = victim.open();
  const inode = image.inode(victim.inodeOf("/inline"));
  const slot = inode.view.slot.slice();
  slot[4] = 64;
  const wrong = uncheckedInode(image, inode.number, slot);
  assertStringIncludes(
    victim.refusal((opened) => readDirectory(opened, wrong)),
    "i_size of inline data: found 64, wanted 60",
  );
});

/** Where a block of a directory begins. */
function blockOffset(victim: Victim, number: number, logicalBlock: number): number {
  const image = victim.open();
  const block = physicalBlock(blockRuns(image, image.inode(number)), logicalBlock)!;
  return block * image.blockSizeBytes;
}

Deno.test("readIndex has every block of a directory but its own once, with rising hashes", () => {
  for (const name of ["plain-4k", "csum-4k", "csum-1k", "gdt-csum-1k", "kernel"]) {
    const number = victimOf(name).inodeOf("/many");
    const image = openFixture(name);
    const inode = image.inode(number);
    const runs = blockRuns(image, inode);
    const { leaves, indexBlocks } = readIndex(image, { view: inode.view, runs })!;
    const blockCount = inode.record.sizeBytes / image.blockSizeBytes;
    assertEquals(leaves.size + indexBlocks.size, blockCount);
    assertEquals(indexBlocks.size > 1, name.endsWith("1k"));
    const ranges = [...leaves.values()];
    assertEquals([ranges[0]!.low, ranges.at(-1)!.high], [0, Infinity]);
    ranges.forEach(({ low, high }, i) => {
      assertEquals(low <= high, true);
      if (i > 0) assertEquals(ranges[i - 1]!.high, low);
    });
  }
});

const COUNT_AT = 0x20;

Deno.test("an index that is no tree over the directory is refused", () => {
  const cases: [message: string, damage: (victim: Victim, root: number) => void][] = [
    ["second pointer to logical block: found 1", (v, root) => {
      v.view.setUint32(root + COUNT_AT + 12, v.view.getUint32(root + COUNT_AT + 4, true), true);
    }],
    [
      "pointer to logical block: found 0",
      (v, root) => v.view.setUint32(root + COUNT_AT + 4, 0, true),
    ],
    [
      "pointer to logical block: found 4096",
      (v, root) => v.view.setUint32(root + COUNT_AT + 4, 4096, true),
    ],
    ["it does not lead to logical block", (v, root) => {
      v.view.setUint16(root + COUNT_AT + 2, v.view.getUint16(root + COUNT_AT + 2, true) - 1, true);
    }],
    [
      "is not in the order of hashes",
      (v, root) => v.view.setUint32(root + COUNT_AT + 8, 0xffffffff, true),
    ],
    ["its hash version 7", (v, root) => v.bytes[root + 0x1c] = 7],
    ["indirect_levels: found 2, wanted at most 1", (v, root) => v.bytes[root + 0x1e] = 2],
    ['first entry, not "." of the directory', (v, root) => v.view.setUint32(root, 11, true)],
    ["its limit is 3 entries", (v, root) => v.view.setUint16(root + COUNT_AT, 3, true)],
  ];
  for (const [message, damage] of cases) {
    const victim = victimOf("plain-4k");
    const number = victim.inodeOf("/many");
    damage(victim, blockOffset(victim, number, 0));
    const refusal = victim.refusal((image) => readDirectory(image, image.inode(number)));
    assertStringIncludes(refusal, message);
  }
});

Deno.test("a name in a block for other hashes is refused", () => {
  const victim = victimOf("plain-4k");
  const number = victim.inodeOf("/many");
  const root = blockOffset(victim, number, 0);
  // Two leaves change places in the index.
  const [first, second] = [root + COUNT_AT + 4, root + COUNT_AT + 12];
  const block = victim.view.getUint32(first, true);
  victim.view.setUint32(first, victim.view.getUint32(second, true), true);
  victim.view.setUint32(second, block, true);
  const refusal = victim.refusal((image) => readDirectory(image, image.inode(number)));
  assertStringIncludes(refusal, 'hash of "');
});

Deno.test("a directory with holes, unwritten blocks or another size is refused", () => {
  const cases: [offset: number, value: number, message: string][] = [
    // The size, the first logical block, the length of the extent of inode 2.
    [0x04, 8192, "inode 2: i_size: found 8192, wanted 4096"],
    [0x28 + 12, 1, "inode 2: i_size: found 4096, wanted 8192"],
    [0x28 + 16, 0x8001, "block is unwritten"],
  ];
  for (const [offset, value, message] of cases) {
    const victim = victimOf("plain-4k");
    const at = victim.inodeOffset(2) + offset;
    if (offset === 0x28 + 16) victim.view.setUint16(at, value, true);
    else victim.view.setUint32(at, value, true);
    const refusal = victim.refusal((image) => readDirectory(image, image.inode(2)));
    assertStringIncludes(refusal, message);
  }
});

Deno.test("an entry of type 0 takes the type of its inode", async () => {
  const victim = victimOf("plain-4k");
  victim.bytes[rootOffset(victim) + 24 + 7] = 0;
  const reader = memoryReader(victim.bytes);
  const strictly = openExt4Image(reader, { warnings: new Warnings(true) });
  const names = readDirectory(strictly, strictly.inode(2)).names;
  assertEquals(names.find(({ name }) => name === "lost+found")?.kind, undefined);
  const warnings = new Warnings();
  const tree = await readTree(openExt4Image(reader, { warnings }), { warnings });
  assertEquals([tree.root.children.has("directory"), warnings.list()], [true, []]);
});
