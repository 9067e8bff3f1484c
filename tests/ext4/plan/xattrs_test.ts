import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { INODE_XATTR_CAPACITY_BYTES, XattrPlanner } from "../../../lib/ext4/plan/xattrs.ts";
import type { TreeNode } from "../../../lib/model/node.ts";
import { Warnings } from "../../../lib/warnings.ts";
import type { AttributeChoices } from "../../oracle/tree_builder.ts";
import { dir, file, symlink } from "../../oracle/tree_builder.ts";

function planner(valueInodesRefusedBy?: string, warnings = new Warnings()) {
  let next = 50;
  const takeInodeNumber = () => next++;
  return new XattrPlanner({ seed: 1, warnings, takeInodeNumber, valueInodesRefusedBy });
}

function withXattrs(xattrs: AttributeChoices["xattrs"]): TreeNode {
  return file("", { xattrs: xattrs! });
}

Deno.test("attributes stay in the inode up to the last byte that fits", () => {
  // A header of 4, an entry of 16 and its name padded to 4, 4 of end; values are padded to 4.
  const lengthMax = INODE_XATTR_CAPACITY_BYTES - 4 - 16 - 4 - 4;
  const inside = planner().plan({
    path: "/f",
    node: withXattrs({ "user.v": new Uint8Array(lengthMax) }),
  });
  assertEquals([inside.inInode.length, inside.block], [1, undefined]);
  const outside = planner().plan({
    path: "/f",
    node: withXattrs({ "user.v": new Uint8Array(lengthMax + 1) }),
  });
  assertEquals([outside.inInode.length, outside.block?.xattrs.length], [0, 1]);
});

Deno.test("equal sets share a block, and a block is full at 1,024 inodes", () => {
  const shared = planner();
  const node = withXattrs({ "user.v": new Uint8Array(500) });
  for (let i = 0; i < 1025; i++) shared.plan({ path: `/f${i}`, node });
  shared.plan({ path: "/other", node: withXattrs({ "user.v": new Uint8Array(501) }) });
  assertEquals(shared.blocks.map(({ referenceCount }) => referenceCount), [1024, 1, 1]);
});

Deno.test("values that fit no block go into inodes, which blocks and not inodes refer to", () => {
  const shared = planner();
  const large = { "user.large": new Uint8Array(5000), "user.small": new Uint8Array(200) };
  const first = shared.plan({ path: "/a", node: withXattrs(large) });
  shared.plan({ path: "/b", node: withXattrs(large) });
  const [block] = shared.blocks;
  assertEquals(block?.referenceCount, 2);
  assertEquals(first.block, block);
  const references = () => shared.valueInodes.map((value) => value.referenceCount);
  assertEquals([shared.valueInodes[0]?.inodeNumber, ...references()], [50, 1]);
  shared.plan({
    path: "/c",
    node: withXattrs({ "user.large": new Uint8Array(5000), "user.c": "c".repeat(200) }),
  });
  assertEquals(references(), [2]);
  shared.plan({ path: "/d", node: withXattrs({ "user.d": new Uint8Array(6000) }) });
  assertEquals(references(), [2, 1]);
});

Deno.test("where there are no value inodes, too much is refused with its size", () => {
  const node = withXattrs({ "user.v": new Uint8Array(5000) });
  assertThrows(
    () => planner("GRUB").plan({ path: "/f", node }),
    InputError,
    "/f: its extended attributes need",
  );
});

Deno.test("names without a place in ext4 are counted and left out", () => {
  const warnings = new Warnings();
  const node = withXattrs({
    "other.name": "x",
    "system.data": "x",
    "system.richacl": "x",
    [`user.${"n".repeat(250)}`]: "k",
    [`user.${"n".repeat(251)}`]: "x",
    "user.kept": "k",
    "user.large": new Uint8Array(65_537),
  });
  const { inInode, block } = planner(undefined, warnings).plan({ path: "/f", node });
  assertEquals(inInode.map(({ suffix }) => suffix), ["kept"]);
  assertEquals(block?.xattrs.map(({ suffix }) => suffix.length), [250]);
  assertEquals(warnings.list().map(({ kind, count }) => [kind, count]), [["unsupportedXattr", 5]]);
  const strict = planner(undefined, new Warnings(true));
  assertThrows(() => strict.plan({ path: "/f", node }), InputError);
});

Deno.test("an access ACL decides the mode, and is dropped where the mode says it all", () => {
  const acl = (...entries: [number, number, number][]) => {
    const bytes = new Uint8Array(4 + entries.length * 8);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, 2, true);
    entries.forEach(([tag, permissions, id], i) => {
      view.setUint16(4 + i * 8, tag, true);
      view.setUint16(6 + i * 8, permissions, true);
      view.setUint32(8 + i * 8, id, true);
    });
    return bytes;
  };
  const none = 0xffffffff;
  const minimal = acl([1, 7, none], [4, 5, none], [32, 4, none]);
  const named = acl([1, 6, none], [2, 7, 1000], [4, 0, none], [16, 4, none], [32, 0, none]);
  const plan = (node: TreeNode, warnings = new Warnings()) =>
    planner(undefined, warnings).plan({ path: "/f", node });
  const access = (value: Uint8Array) => ({ "system.posix_acl_access": value });
  const small = plan(file("", { mode: 0o4600, xattrs: access(minimal) }));
  assertEquals([small.mode, small.inInode.length], [0o4754, 0]);
  const extended = plan(file("", { mode: 0o600, xattrs: access(named) }));
  assertEquals([extended.mode, extended.inInode.length], [0o640, 1]);
  // Version 1, entries of 4 bytes, and of 8 where there is an id.
  assertEquals(extended.inInode[0]!.value.length, 4 + 4 * 4 + 8);
  // A header without entries says that there is no ACL: the mode stays.
  const empty = plan(file("", { mode: 0o644, xattrs: access(acl()) }));
  assertEquals([empty.mode, empty.inInode.length], [0o644, 0]);
  const warnings = new Warnings();
  plan(symlink("t", { xattrs: access(named) }), warnings);
  plan(file("", { xattrs: { "system.posix_acl_default": named } }), warnings);
  assertEquals(warnings.list()[0]?.count, 2);
  const directory = plan(dir({}, { xattrs: { "system.posix_acl_default": minimal } }));
  assertEquals(directory.inInode.length, 1);
  const damaged = file("", { xattrs: access(named.subarray(0, 7)) });
  assertThrows(() => plan(damaged), InputError, "posix_acl_access");
});
