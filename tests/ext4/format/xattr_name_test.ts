import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { byteStringFromBytes } from "../../../lib/bytes/byte_string.ts";
import { joinXattrName, splitXattrName } from "../../../lib/ext4/format/xattr.ts";

Deno.test("splitXattrName and joinXattrName know ext4's prefixes", () => {
  const table: [string, number, string][] = [
    ["user.a", 1, "a"],
    ["user.system.posix_acl_access", 1, "system.posix_acl_access"],
    ["system.posix_acl_access", 2, ""],
    ["system.posix_acl_default", 3, ""],
    ["trusted.overlay.opaque", 4, "overlay.opaque"],
    ["security.capability", 6, "capability"],
    ["system.data", 7, "data"],
    ["system.posix_acl_access2", 7, "posix_acl_access2"],
    ["system.richacl", 8, ""],
    ["user.\xff", 1, "\xff"],
  ];
  for (const [name, nameIndex, suffix] of table) {
    assertEquals(splitXattrName(name), { nameIndex, suffix });
    assertEquals(joinXattrName(nameIndex, suffix), name);
  }
  for (const name of ["user.", "user", "", "btrfs.compression", "USER.a", "security."]) {
    assertEquals(splitXattrName(name), undefined);
  }
  assertEquals(joinXattrName(0, "a"), undefined);
  assertEquals(joinXattrName(5, "a"), undefined);
  assertEquals(joinXattrName(1, ""), undefined);
  assertEquals(joinXattrName(2, "a"), undefined);
});

Deno.test("a name that splits joins to itself again", () => {
  const prefix = fc.constantFrom(
    "user.",
    "trusted.",
    "security.",
    "system.",
    "system.posix_acl_access",
    "",
  );
  const rest = fc.uint8Array({ maxLength: 20 }).map((bytes) => byteStringFromBytes(bytes));
  fc.assert(fc.property(prefix, rest, (start, end) => {
    const split = splitXattrName(start + end);
    if (split !== undefined) {
      assertEquals(joinXattrName(split.nameIndex, split.suffix), start + end);
    }
  }));
});
