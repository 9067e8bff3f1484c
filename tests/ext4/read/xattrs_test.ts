import { assertEquals, assertStringIncludes } from "@std/assert";
import { byteStringFromBytes } from "../../../lib/bytes/byte_string.ts";
import { BlockBudget, type Ext4Image } from "../../../lib/ext4/read/image.ts";
import { XattrReader } from "../../../lib/ext4/read/content.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { victimOf } from "./read_image.ts";

function readXattrs(image: Ext4Image, number: number, warnings = new Warnings(true)) {
  return new XattrReader(image).read(image.inode(number), warnings, () => "here");
}

Deno.test("XattrReader reads attributes from the inode, from a block and from value inodes", () => {
  const victim = victimOf("rare-4k");
  const image = victim.open();
  const xattrs = readXattrs(image, victim.inodeOf("/xattrs-block"));
  assertEquals(xattrs.map(({ name, value }) => [name, value.length]), [
    ["security.selinux", 36],
    ["trusted.overlay.opaque", 1],
    ["user.beside", 100],
    ["user.in_an_inode", 4096],
    ["user.large", 300],
    ["user.z", 2],
  ]);
  assertEquals(byteStringFromBytes(xattrs[4]!.value), "v".repeat(300));
  const stored = new XattrReader(image).stored(image.inode(victim.inodeOf("/xattrs-block")));
  assertEquals(stored.filter(({ location }) => location === "inode").map(({ suffix }) => suffix), [
    "data",
    "overlay.opaque",
    "z",
  ]);
  assertEquals(stored.filter(({ valueInode }) => valueInode !== undefined).length, 1);
});

Deno.test("XattrReader gives ACLs in the format of system calls", () => {
  for (const name of ["csum-4k", "plain-4k", "csum-1k"]) {
    const victim = victimOf(name);
    const [acl] = readXattrs(victim.open(), victim.inodeOf("/xattrs-acl"));
    assertEquals(acl!.name, "system.posix_acl_access");
    assertEquals([...acl!.value.subarray(0, 8)], [2, 0, 0, 0, 1, 0, 6, 0]);
    assertEquals(acl!.value.length, 44);
  }
});

Deno.test("XattrReader reads a shared block and value once", () => {
  const victim = victimOf("kernel");
  const image = victim.open();
  const budget = new BlockBudget(1);
  const reader = new XattrReader(image, budget);
  const read = (path: string) =>
    reader.read(image.inode(victim.inodeOf(path)), new Warnings(true), () => path);
  assertEquals(read("/shared-one"), read("/shared-two"));
  assertEquals(read("/shared-one")[1]?.value.length, 300);
});

Deno.test("XattrReader drops names that nobody can ask for, and says so", () => {
  const victim = victimOf("plain-4k");
  const number = victim.inodeOf("/xattrs-inode");
  const area = victim.inodeOffset(number) + 160;
  victim.bytes[area + 4 + 1] = 77;
  const warnings = new Warnings();
  const names = readXattrs(victim.open(), number, warnings).map(({ name }) => name);
  assertEquals(names.length, 1);
  assertEquals(warnings.list().map(({ kind }) => kind), ["unsupportedXattr"]);
});

Deno.test("XattrReader refuses blocks, values and ACLs that are damaged", () => {
  const blockOf = (name: string, path: string) => {
    const victim = victimOf(name);
    const number = victim.inodeOf(path);
    const block = victim.open().inode(number).record.xattrBlock;
    return { victim, number, block, offset: block * 4096 };
  };
  {
    const { victim, number, block, offset } = blockOf("csum-4k", "/xattrs-block");
    victim.bytes[offset + 2000]! ^= 1;
    const refusal = victim.refusal((image) => readXattrs(image, number));
    assertStringIncludes(
      refusal,
      `attribute block (block ${block}, byte ${offset}): checksum: found 0x`,
    );
  }
  {
    const { victim, number, offset } = blockOf("plain-4k", "/xattrs-block");
    victim.bytes[offset + 4095]! ^= 1;
    const refusal = victim.refusal((image) => readXattrs(image, number));
    assertStringIncludes(refusal, "the hash of attribute 1:");
  }
  {
    const victim = victimOf("plain-4k");
    const number = victim.inodeOf("/xattrs-acl");
    const area = victim.inodeOffset(number) + 160;
    const at = area + 4 + victim.view.getUint16(area + 4 + 2, true);
    victim.bytes[at + 4] = 3;
    const refusal = victim.refusal((image) => readXattrs(image, number));
    assertEquals(refusal, `ACL of inode ${number}: its tag 0x3 is unknown`);
  }
});

Deno.test("XattrReader refuses a value inode that is none, or has another value", () => {
  const victim = victimOf("rare-4k");
  const number = victim.inodeOf("/xattrs-block");
  const image = victim.open();
  const stored = new XattrReader(image).stored(image.inode(number));
  const { valueInode } = stored.find((xattr) => xattr.valueInode !== undefined)!;
  // The value lies in a block of its own.
  const value = victim.bytes.findIndex((_, i, bytes) => {
    return i % 4096 === 0 && bytes[i] === 0x78 && bytes[i + 4095] === 0x78;
  });
  victim.bytes[value] = 0x79;
  const refusal = victim.refusal((opened) => readXattrs(opened, number));
  assertStringIncludes(
    refusal,
    `attribute value (inode ${valueInode}): hash of the value: found 0x`,
  );
});
