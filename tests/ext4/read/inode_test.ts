import { assertEquals, assertStringIncludes } from "@std/assert";
import {
  hasFlag,
  isReservedInode,
  kindOfMode,
  unjudgedInode,
} from "../../../lib/ext4/read/inode.ts";
import { openFixture, victimOf } from "./read_image.ts";

Deno.test("kindOfMode knows the seven types and no other", () => {
  const kinds = Array.from({ length: 16 }, (_, type) => kindOfMode((type << 12) | 0o7777));
  assertEquals(kinds.map((kind) => kind?.[0] ?? "-").join(""), "-fc-d-b-f-s-s---");
});

Deno.test("checkInode refuses a wrong checksum, in full and in half", () => {
  for (const name of ["csum-4k", "csum-1k"]) {
    const victim = victimOf(name);
    victim.bytes[victim.inodeOffset(2) + 0x18]! ^= 1;
    assertStringIncludes(victim.refusal((image) => image.inode(2)), "inode 2: its checksum is 0x");
  }
});

Deno.test("checkInode refuses what no inode in use has", () => {
  const wrong: [offset: number, word: number, message: string][] = [
    [0x00, 0x000001a4, "its mode 0644 has no known file type"],
    [0x18, 0x00000000, "it is pointed to, but has no links"],
    [0x14, 0x00000001, "it is in use, but has a time of deletion, 1"],
    [0x20, 0x10080000, "inline data, for which the feature is not set"],
    [0x20, 0x00200000, "an attribute value, for which the feature is not set"],
    [0x68, 0x7fffffff, "it points to 1 blocks at 2147483647"],
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
  const victim = victimOf("plain-4k");
  victim.view.setUint32(victim.inodeOffset(2) + 4, 4095, true);
  assertStringIncludes(
    victim.refusal((image) => image.inode(2)),
    "its size of 4095 bytes is not 1 to",
  );
});

Deno.test("isReservedInode leaves the root out, and unjudgedInode takes anything", () => {
  const image = openFixture("plain-4k");
  assertEquals([1, 2, 8, 10, 11].map((number) => isReservedInode(image, number)), [
    true,
    false,
    true,
    true,
    false,
  ]);
  const { record } = image.inode(2);
  const inode = unjudgedInode(image, 60, { ...record, mode: 0, flags: 0x80000 });
  assertEquals([inode.kind, hasFlag(inode, 0x80000), hasFlag(inode, 0x1000)], [
    "socket",
    true,
    false,
  ]);
});
