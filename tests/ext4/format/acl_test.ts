import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { InputError } from "../../../lib/errors.ts";
import {
  ACL_TAG,
  aclEntries,
  type AclEntry,
  aclFromDisk,
  aclToDisk,
} from "../../../lib/ext4/format/acl.ts";
import { decodeInodeXattrs } from "../../../lib/ext4/format/xattr.ts";
import { fixture } from "./fixture_image.ts";

const NO_ID = 0xffffffff;
const { USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER } = ACL_TAG;

/** An ACL in the system call format. */
function systemCallAcl(
  entries: readonly (readonly [tag: number, permissions: number, id?: number])[],
  version = 2,
): Uint8Array {
  const value = new Uint8Array(4 + 8 * entries.length);
  const view = new DataView(value.buffer);
  view.setUint32(0, version, true);
  entries.forEach(([tag, permissions, id], i) => {
    view.setUint16(4 + 8 * i, tag, true);
    view.setUint16(6 + 8 * i, permissions, true);
    view.setUint32(8 + 8 * i, id ?? NO_ID, true);
  });
  return value;
}

Deno.test("aclToDisk makes what debugfs made of the same ACL, and aclFromDisk turns it back", () => {
  const acl = systemCallAcl([[USER_OBJ, 6], [USER, 4, 1000], [GROUP_OBJ, 4], [MASK, 4], [
    OTHER,
    0,
  ]]);
  let count = 0;
  for (const name of ["csum-4k", "csum-1k", "plain-4k"]) {
    for (const { inode } of fixture(name).usedInodes()) {
      const stored = decodeInodeXattrs(inode.xattrArea, name).find(({ nameIndex }) =>
        nameIndex === 2
      );
      if (stored === undefined) continue;
      assertEquals(aclToDisk(acl), stored.value.slice());
      assertEquals(aclFromDisk(stored.value), acl.slice());
      count++;
    }
  }
  assertEquals(count, 3);
});

Deno.test("aclEntries lists an ACL", () => {
  const value = systemCallAcl([[USER_OBJ, 7], [GROUP_OBJ, 5], [OTHER, 4]]);
  assertEquals(aclEntries(value), [
    { tag: USER_OBJ, permissions: 7 },
    { tag: GROUP_OBJ, permissions: 5 },
    { tag: OTHER, permissions: 4 },
  ]);
});

Deno.test("a header alone is no ACL, in both formats", () => {
  const none = systemCallAcl([]);
  assertEquals(aclEntries(none), []);
  assertEquals(aclToDisk(none), Uint8Array.of(1, 0, 0, 0));
  assertEquals(aclFromDisk(Uint8Array.of(1, 0, 0, 0)), none.slice());
});

Deno.test("ACLs that the kernel refuses are refused", () => {
  const base = [[USER_OBJ, 6], [GROUP_OBJ, 4], [OTHER, 0]] as const;
  const [owner, group, other] = base;
  const refused: [string, Uint8Array][] = [
    ["too few for its version", new Uint8Array(3)],
    ["its version is 1, not 2", systemCallAcl(base, 1)],
    ["its last entry has only 7 bytes", systemCallAcl(base).slice(0, -1)],
    ["no entry of tag 0x1", systemCallAcl([group, other])],
    ["no entry of tag 0x4", systemCallAcl([owner, other])],
    ["no entry of tag 0x20", systemCallAcl([owner, group])],
    ["tag 0x1 follows 0x4", systemCallAcl([group, owner, other])],
    ["tag 0x3 is unknown", systemCallAcl([owner, [3, 4], group, other])],
    ["tag 0x1 is there twice", systemCallAcl([owner, owner, group, other])],
    ["permissions 8", systemCallAcl([[USER_OBJ, 8], group, other])],
    ["has the id -1", systemCallAcl([owner, [USER, 4, NO_ID], group, [MASK, 4], other])],
    ["has no mask", systemCallAcl([owner, [USER, 4, 5], group, other])],
    ["has no mask", systemCallAcl([owner, group, [GROUP, 4, 5], other])],
    [
      "tag 0x2 with id 5 is there twice",
      systemCallAcl([owner, [USER, 4, 5], [USER, 6, 5], group, [MASK, 7], other]),
    ],
  ];
  for (const [message, value] of refused) {
    assertThrows(() => aclToDisk(value), InputError, message);
  }
});

Deno.test("ids may repeat as user and group, and need no order", () => {
  const value = systemCallAcl([
    [USER_OBJ, 6],
    [USER, 4, 9],
    [USER, 4, 5],
    [GROUP_OBJ, 4],
    [GROUP, 4, 5],
    [MASK, 4],
    [OTHER, 0],
  ]);
  assertEquals(aclEntries(value).map(({ id }) => id).filter((id) => id !== undefined), [9, 5, 5]);
  assertEquals(aclFromDisk(aclToDisk(value)), value.slice());
});

Deno.test("aclFromDisk refuses another version and cut entries", () => {
  const disk = aclToDisk(
    systemCallAcl([[USER_OBJ, 6], [USER, 4, 1000], [GROUP_OBJ, 4], [MASK, 4], [OTHER, 0]]),
  );
  for (let length = 0; length < disk.length; length++) {
    if (length === 4) continue;
    assertThrows(() => aclFromDisk(disk.slice(0, length)), InputError, "ACL: ");
  }
  disk[0] = 2;
  assertThrows(() => aclFromDisk(disk), InputError, "its version is 2, not 1");
});

Deno.test("valid ACLs survive the way to disk and back", () => {
  const ids = fc.uniqueArray(fc.integer({ min: 0, max: 0xfffffffe }), { maxLength: 20 });
  fc.assert(fc.property(ids, ids, fc.nat(7), (users, groups, permissions) => {
    const value = systemCallAcl([
      [USER_OBJ, permissions],
      ...users.map((id) => [USER, permissions, id] as const),
      [GROUP_OBJ, permissions],
      ...groups.map((id) => [GROUP, permissions, id] as const),
      [MASK, permissions],
      [OTHER, permissions],
    ]);
    const disk = aclToDisk(value);
    assertEquals(disk.length, 4 + 4 * 4 + 8 * (users.length + groups.length));
    assertEquals(aclFromDisk(disk), value.slice());
  }));
});

Deno.test("random bytes never fail but with InputError", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.constantFrom(1, 2), (rest, version) => {
      const value = Uint8Array.of(version, 0, 0, 0, ...rest);
      let entries: AclEntry[] = [];
      try {
        entries = version === 2 ? aclEntries(value) : aclEntries(aclFromDisk(value));
      } catch (error) {
        assert(error instanceof InputError, String(error));
      }
      assert(entries.every(({ permissions }) => permissions <= 7));
    }),
  );
});
