import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { InputError, InterruptedError } from "../../../lib/errors.ts";
import type { Ext4Image } from "../../../lib/ext4/read/image.ts";
import { blockRuns } from "../../../lib/ext4/read/content.ts";
import { readTree, type ReadTreeOptions } from "../../../lib/ext4/read/tree.ts";
import { sortedChildren, walkTree } from "../../../lib/model/node.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { openFixture, type Victim, victimOf, victimOfMke2fs } from "./read_image.ts";

function read(image: Ext4Image, options: Partial<ReadTreeOptions> = {}) {
  return readTree(image, { warnings: new Warnings(true), ...options });
}

/** Where the entry of a name in the root's block begins. */
function entryOffset(victim: Victim, name: string): number {
  const image = victim.open();
  const block = blockRuns(image, image.inode(2))[0]!.startBlock;
  const at = new TextDecoder("latin1").decode(image.block(block)).indexOf(name) - 8;
  return block * image.geometry.blockSizeBytes + at;
}

Deno.test("readTree gives hard links as one node, and origins in the order of a walk", async () => {
  const { root } = await read(openFixture("csum-4k"));
  const many = root.children.get("many")!;
  assertEquals(many.kind, "directory");
  const nodes = new Set(many.kind === "directory" ? many.children.values() : []);
  assertEquals([...nodes], [root.children.get("empty")!]);
  const seen = new Set([...walkTree({ root })].map(({ node }) => node));
  const indexes = [...seen].map(({ origin }) => origin.entryIndex);
  assertEquals(indexes, [...new Set(indexes)].sort((a, b) => a - b));
  for (const [name] of sortedChildren(root)) assertEquals(name.includes("/"), false);
});

Deno.test("readTree leaves out a lost+found as mke2fs makes it, unless told to keep it", async () => {
  const options = ["-t", "ext4", "-b", "1024"];
  const plain = victimOfMke2fs(options, { file: new Uint8Array(1) });
  assertEquals([...(await read(plain.open())).root.children.keys()], ["file"]);
  const kept = await read(plain.open(), { lostAndFound: "keep" });
  assertEquals([...kept.root.children.keys()], ["file", "lost+found"]);
  const changed = victimOfMke2fs(["-t", "ext4", "-O", "^metadata_csum"], {});
  const number = changed.inodeOf("/lost+found");
  changed.view.setUint16(changed.inodeOffset(number), 0o40755, true);
  assertEquals([...(await read(changed.open())).root.children.keys()], ["lost+found"]);
});

Deno.test("readTree reads the bytes of files when it is asked to", async () => {
  const { root } = await read(openFixture("csum-1k"), { scanContent: true });
  const holes = root.children.get("holes")!;
  assertEquals(holes.kind === "file" && holes.payload.dataRuns.length, 1);
});

Deno.test("readTree refuses circles, second names of directories and wrong link counts", async () => {
  const cases: [message: string, damage: (victim: Victim) => void][] = [
    // /directory is the root.
    [
      "/directory: it is inode 2, the directory /",
      (v) => v.view.setUint32(entryOffset(v, "directory"), 2, true),
    ],
    // /many is /directory.
    ["/many: it is inode", (v) => {
      v.view.setUint32(entryOffset(v, "many"), v.inodeOf("/directory"), true);
    }],
    ["/pipe: it is the reserved inode 8", (v) => v.view.setUint32(entryOffset(v, "pipe"), 8, true)],
    ['type of "pipe": found fifo, wanted file', (v) => {
      v.view.setUint32(entryOffset(v, "pipe"), v.inodeOf("/empty"), true);
    }],
    [
      "inode 2: i_links_count: found 9, wanted",
      (v) => v.view.setUint16(v.inodeOffset(2) + 0x1a, 9, true),
    ],
    [
      ": i_links_count: found 2, wanted 1",
      (v) => v.view.setUint16(v.inodeOffset(v.inodeOf("/holes")) + 0x1a, 2, true),
    ],
    ["inode 2: the root is a file", (v) => {
      v.view.setUint16(v.inodeOffset(2), 0o100755, true);
    }],
    ['parent in "..": found 11, wanted 2', (v) => {
      const image = v.open();
      const [run] = blockRuns(image, image.inode(v.inodeOf("/directory")));
      v.view.setUint32(run!.startBlock * 4096 + 12, 11, true);
    }],
  ];
  for (const [message, damage] of cases) {
    const victim = victimOf("plain-4k");
    damage(victim);
    const error = await assertRejects(() => read(victim.open()), InputError);
    assertStringIncludes(error.message, message);
  }
});

Deno.test("readTree keeps to its limits, and stops when it is told to", async () => {
  const image = openFixture("plain-4k");
  const limits: [object, string][] = [
    [{ maxNameCount: 100 }, "it has more than 100 names"],
    [{ maxChildCount: 399 }, "it has more than 399 names"],
    [{ maxPathDepth: 0 }, "it is more than 0 directories deep"],
    [{ maxSegmentCount: 3 }, "runs of data"],
  ];
  for (const [limit, message] of limits) {
    const error = await assertRejects(() => read(image, { limits: limit }), InputError);
    assertStringIncludes(error.message, message);
  }
  const large = openFixture("csum-1k");
  const signal = AbortSignal.abort();
  const fast = read(large, { signal, scanContent: true });
  assertEquals((await Promise.allSettled([fast]))[0].status, "fulfilled");
  const many = victimOfMke2fs(
    ["-t", "ext4", "-N", "2000"],
    Object.fromEntries(Array.from({ length: 1100 }, (_, i) => [`${i}`, new Uint8Array()])),
  );
  await assertRejects(() => read(many.open(), { signal }), InterruptedError);
});
