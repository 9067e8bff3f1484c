import { assertEquals, assertStringIncludes } from "@std/assert";
import { readGroupDescriptor } from "../../../lib/ext4/read/group_table.ts";
import { openFixture, victimOf } from "./read_image.ts";

Deno.test("GroupTable has what the fixtures' descriptors say, in both sizes and with both checksums", () => {
  for (const name of ["csum-4k", "csum-1k", "gdt-csum-1k", "plain-4k"]) {
    const image = openFixture(name);
    for (let group = 0; group < image.geometry.groupCount; group++) {
      const { descriptor, checksum } = readGroupDescriptor(image, group);
      assertEquals(image.groupDescriptor(group), descriptor);
      assertEquals(checksum === undefined, name === "plain-4k");
      assertEquals(checksum?.stored, checksum?.computed);
    }
  }
});

Deno.test("GroupTable refuses a wrong checksum and tables outside of the file system", () => {
  for (const [name, offset] of [["csum-4k", 4096], ["gdt-csum-1k", 2048]] as const) {
    const victim = victimOf(name);
    victim.bytes[offset + 0x0c]! ^= 1;
    const message = victim.refusal((image) => image.groupDescriptor(0));
    assertStringIncludes(message, "descriptor of group 0: its checksum is 0x");
  }
  for (
    const [field, at] of [["block_bitmap", 0], ["inode_bitmap", 4], ["inode_table", 8]] as const
  ) {
    const victim = victimOf("plain-4k");
    for (const wrong of [0, 1_000_000]) {
      victim.view.setUint32(4096 + at, wrong, true);
      const message = victim.refusal((image) => image.groupDescriptor(0));
      assertStringIncludes(message, `descriptor of group 0: bg_${field} is ${wrong}, not within`);
    }
  }
});

Deno.test("GroupTable says how many inodes were ever used, and none else is handed out", () => {
  const image = openFixture("csum-4k");
  const { itableUnusedCount } = image.groupDescriptor(0);
  const last = image.geometry.inodesPerGroup - itableUnusedCount;
  const victim = victimOf("csum-4k");
  const message = victim.refusal((opened) => opened.inode(last + 1));
  assertEquals(
    message,
    `inode ${last + 1}: it is in use, but only the first ${last} inodes of group 0 ever were`,
  );
});
