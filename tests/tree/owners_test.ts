import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { InputError, UsageError } from "../../lib/errors.ts";
import { ACL_TAG } from "../../lib/ext4/format/acl.ts";
import type { TarEntry } from "../../lib/tar/entry.ts";
import { checkIdMaps, idMapLines, OwnerMapper, ownerMapper } from "../../lib/tree/owners.ts";

const NAMESPACE = [{ from: 0, to: 100_000, count: 65_536 }];

function entry(choices: Partial<TarEntry>): TarEntry {
  return {
    kind: "directory",
    path: "d",
    linkTarget: "",
    mode: 0o755,
    uid: 0,
    gid: 0,
    mtimeSeconds: 0,
    mtimeNanoseconds: 0,
    deviceMajor: 0,
    deviceMinor: 0,
    xattrs: [],
    payload: undefined,
    headerOffset: 512,
    ...choices,
  };
}

Deno.test("OwnerMapper shifts owners and groups, each by its own map", () => {
  const mapper = new OwnerMapper({
    uidMap: [...NAMESPACE, { from: 65_536, to: 5, count: 1 }],
    gidMap: [{ from: 0, to: 0, count: 10 }],
  });
  const [one, other] = mapper.entries(
    [entry({ uid: 65_535, gid: 9 }), entry({ uid: 65_536 })],
    "l",
    true,
  );
  assertEquals([one!.uid, one!.gid, other!.uid], [165_535, 9, 5]);
  assertEquals(mapper.implied, { uid: 100_000, gid: 0 });
  assertEquals(ownerMapper({ uidMap: [], gidMap: undefined }), undefined);
});

Deno.test("an id that no range holds is an error that names file, layer and id", () => {
  const mapper = new OwnerMapper({ uidMap: NAMESPACE, gidMap: NAMESPACE });
  for (const kind of ["uid", "gid"] as const) {
    const error = assertThrows(
      () => mapper.entries([entry({ path: "srv/x", [kind]: 70_000 })], "layer 1 of 2", true),
      InputError,
    );
    assertStringIncludes(error.message, "srv/x in layer 1 of 2 at offset 512");
    assertStringIncludes(error.message, `its ${kind} 70000`);
  }
  // What makes no file of its own has no owner.
  const spared = [
    entry({ path: "a/.wh.b", kind: "file", uid: 70_000 }),
    entry({ kind: "hardlink", linkTarget: "d", uid: 70_000 }),
  ];
  assertEquals(mapper.entries(spared, "l", true), spared);
  assertThrows(() => mapper.entries(spared, "l", false), InputError);
});

Deno.test("OwnerMapper maps those that ACLs name", () => {
  const acl = new Uint8Array(4 + 5 * 8);
  const view = new DataView(acl.buffer);
  view.setUint32(0, 2, true);
  const lines = [
    [ACL_TAG.USER_OBJ, 0xffffffff],
    [ACL_TAG.USER, 7],
    [ACL_TAG.GROUP_OBJ, 0xffffffff],
    [ACL_TAG.GROUP, 8],
    [ACL_TAG.OTHER, 0xffffffff],
  ] as const;
  lines.forEach(([tag, id], i) => {
    view.setUint16(4 + i * 8, tag, true);
    view.setUint32(8 + i * 8, id, true);
  });
  const name = "system.posix_acl_access";
  const mapper = new OwnerMapper({ uidMap: NAMESPACE, gidMap: NAMESPACE });
  const [mapped] = mapper.entries([entry({ xattrs: [{ name, value: acl }] })], "l", true);
  const found = new DataView(mapped!.xattrs[0]!.value.buffer);
  assertEquals(
    lines.map((_, i) => found.getUint32(8 + i * 8, true)),
    [0xffffffff, 100_007, 0xffffffff, 100_008, 0xffffffff],
  );
  assertEquals(view.getUint32(16, true), 7);
});

Deno.test("OwnerMapper gives file capabilities to the mapped root, as the kernel does", () => {
  // cap_net_raw=ep, as setcap(8) stores it.
  const version2 = Uint8Array.of(1, 0, 0, 2, 0, 0x20, 0, 0, ...new Uint8Array(12));
  const version3 = Uint8Array.of(
    1,
    0,
    0,
    3,
    0,
    0x20,
    0,
    0,
    ...new Uint8Array(12),
    0xa0,
    0x86,
    1,
    0,
  );
  const name = "security.capability";
  const mapped = (value: Uint8Array, to: number) => {
    const mapper = new OwnerMapper({ uidMap: [{ from: 0, to, count: 200_000 }] });
    return mapper.entries([entry({ xattrs: [{ name, value }] })], "l", true)[0]!.xattrs[0]!.value;
  };
  assertEquals(mapped(version2, 100_000), version3);
  assertEquals(mapped(version2, 0), version2);
  assertEquals(mapped(version3, 100_000).slice(20), Uint8Array.of(0x40, 0x0d, 3, 0));
});

Deno.test("checkIdMaps refuses ranges that overlap, and those that are none", () => {
  const bad = [
    [[{ from: 0, to: 0, count: 0 }], "is not a range of ids"],
    [[{ from: 4_294_967_295, to: 0, count: 1 }], "is not a range of ids"],
    [[{ from: 0, to: 4_294_967_000, count: 296 }], "is not a range of ids"],
    [[{ from: 0, to: 0, count: 10 }, { from: 9, to: 100, count: 1 }], "map the same ids"],
    [[{ from: 5, to: 50, count: 10 }, { from: 0, to: 59, count: 5 }], "lead to the same ids"],
  ] as const;
  for (const [ranges, why] of bad) {
    assertThrows(() => checkIdMaps({ gidMap: ranges }), UsageError, why);
  }
  checkIdMaps({ uidMap: [{ from: 10, to: 0, count: 10 }, { from: 0, to: 10, count: 10 }] });
});

Deno.test("idMapLines are the same for maps that are the same", () => {
  const [a, b] = [{ from: 0, to: 10, count: 10 }, { from: 10, to: 0, count: 10 }];
  assertEquals(idMapLines({ uidMap: [a, b] }), idMapLines({ uidMap: [b, a] }));
  assertEquals(idMapLines({ gidMap: [a] }), ["gid-map 0:10:10"]);
});
