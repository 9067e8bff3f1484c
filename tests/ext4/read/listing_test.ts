import { assertEquals, assertStringIncludes } from "@std/assert";
import { findInode, listNames } from "../../../lib/ext4/read/directory.ts";
import { openFixture, victimOf } from "./read_image.ts";

Deno.test("listNames lists a directory in byte order, and below it when asked", () => {
  const image = openFixture("rare-4k");
  const root = findInode(image, "/", { followsLast: true });
  const flat = [...listNames(image, root, { recursive: false })].map(({ path }) => path);
  assertEquals(flat, [...flat].sort());
  assertEquals(flat.includes("/lost+found"), true);
  assertEquals(flat.includes("/directory/small"), false);
  const deep = [...listNames(image, root, { recursive: true })].map(({ path }) => path);
  assertEquals(deep.slice(0, 4), ["/beyond-4g", "/directory", "/directory/small", "/disk"]);
  assertEquals(deep.length, flat.length + 2);
  const start = findInode(image, "/directory", { followsLast: true });
  const below = [...listNames(image, start, { recursive: true })];
  assertEquals(below.map(({ path }) => path), ["/directory/small"]);
});

Deno.test("listNames ends in a directory that holds itself", () => {
  const victim = victimOf("rare-4k");
  const number = victim.inodeOf("/directory");
  const bytes = victim.bytes;
  // Without checksums, the entry "small" of the inline directory is the directory itself.
  victim.view.setUint32(1024 + 0x64, victim.view.getUint32(1024 + 0x64, true) & ~0x400, true);
  const entry = victim.inodeOffset(number) + 0x28 + 4;
  victim.view.setUint32(entry, number, true);
  bytes[entry + 7] = 2;
  const refusal = victim.refusal((image) => {
    const root = findInode(image, "/", { followsLast: true });
    return [...listNames(image, root, { recursive: true })];
  });
  assertStringIncludes(refusal, `/directory/small: it is a second name of inode ${number}`);
});
