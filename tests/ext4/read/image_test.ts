import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import { BlockBudget, openExt4Image } from "../../../lib/ext4/read/image.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { unpackFixture } from "../format/fixture_image.ts";
import { openFixture, victimOf } from "./read_image.ts";

Deno.test("openExt4Image opens every fixture but that with nonsense in it", () => {
  for (const name of ["csum-4k", "csum-1k", "plain-4k", "plain-64k", "bigalloc-4k"]) {
    assertEquals(openFixture(name).inode(2).kind, "directory");
  }
  assertThrows(() => openFixture("fields"), InputError, "superblock: s_");
});

Deno.test("openExt4Image refuses an image that ends before its file system", () => {
  const bytes = unpackFixture("csum-4k");
  const short = memoryReader(bytes.subarray(0, bytes.length - 1), "short");
  assertThrows(
    () => openExt4Image(short, { warnings: new Warnings() }),
    InputError,
    "short: it has 16777215 bytes, but its file system has 16777216",
  );
});

Deno.test("openExt4Image tells when a machine uses the image", () => {
  const victim = victimOf("mmp");
  const mmpBlock = victim.open().superblock.mmpBlock;
  const bytes = victim.bytes.slice();
  bytes[mmpBlock * 4096 + 4]! ^= 1;
  const reader = memoryReader(bytes, "mmp");
  // A mount for reading does not look at a block that is damaged.
  const damaged = new Warnings();
  openExt4Image(reader, { warnings: damaged });
  assertStringIncludes(damaged.list()[0]!.message, "mmp block");
  assertThrows(() => openExt4Image(reader, { warnings: new Warnings(true) }), InputError, "mmp");
  // Without checksums, so that the number can be another.
  const view = new DataView(bytes.buffer);
  view.setUint32(1024 + 0x64, view.getUint32(1024 + 0x64, true) & ~0x400, true);
  const warnings = new Warnings();
  openExt4Image(memoryReader(bytes), { warnings });
  assertEquals(warnings.list().map(({ kind }) => kind), ["inUse"]);
});

Deno.test("Ext4Image closes its reader", () => {
  let isClosed = false;
  const reader = {
    ...memoryReader(unpackFixture("plain-4k")),
    close: () => void (isClosed = true),
  };
  openExt4Image(reader, { warnings: new Warnings() }).close();
  assertEquals(isClosed, true);
});

Deno.test("BlockBudget lets inodes own as many blocks as there are, and no more", () => {
  const budget = new BlockBudget(100);
  budget.add(60, "inode 12");
  budget.add(40, "inode 13");
  assertThrows(
    () => budget.add(1, "inode 14"),
    InputError,
    "inode 14: with it, 101 blocks have owners: the file system has 100",
  );
});
