import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { draftInodes } from "../../../lib/ext4/plan/inode_drafts.ts";
import {
  checkAttributes,
  journalRecord,
  nodeRecord,
  valueRecord,
} from "../../../lib/ext4/plan/inode_records.ts";
import type { TreeNode } from "../../../lib/model/node.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { dir, file, special, symlink, treeOf } from "../../oracle/tree_builder.ts";

const NO_BLOCKS = {
  seed: undefined,
  blocks: undefined,
  xattrBlock: 0,
  blockField: new Uint8Array(60),
};
const EXTENTS = 0x80000;
const EA_INODE = 0x200000;
const INLINE = 0x10000000;

function drafts(node: TreeNode, inlineData = false) {
  const { nodes, values } = draftInodes(treeOf({ "x": node }), {
    seed: 5,
    metadataChecksums: true,
    inlineData,
    valueInodesRefusedBy: undefined,
    warnings: new Warnings(),
  });
  return { draft: nodes[1]!, value: values[0] };
}

function record(node: TreeNode, inlineData = false) {
  return nodeRecord(drafts(node, inlineData).draft, NO_BLOCKS);
}

Deno.test("nodeRecord gives every kind of node its type, owner, times and permissions", () => {
  const choices = { mode: 0o7654, uid: 70_000, gid: 80_000, mtime: [-5, 6] as const };
  const modes = [
    [file("", choices), 0o100000],
    [dir({}, choices), 0o040000],
    [symlink("t", choices), 0o120000],
    [special("characterDevice", [1, 3], choices), 0o020000],
    [special("blockDevice", [1, 3], choices), 0o060000],
    [special("fifo", [0, 0], choices), 0o010000],
    [special("socket", [0, 0], choices), 0o140000],
  ] as const;
  for (const [node, type] of modes) {
    const { mode, uid, gid, mtime, ctime, crtime, linkCount } = record(node);
    assertEquals([mode, uid, gid], [type | 0o7654, 70_000, 80_000]);
    assertEquals([mtime, ctime, crtime], Array(3).fill({ seconds: -5, nanoseconds: 6 }));
    assertEquals(linkCount, node.kind === "directory" ? 2 : 1);
  }
});

Deno.test("nodeRecord keeps short targets, devices and inline bytes in i_block", () => {
  const words = (node: TreeNode, inlineData = false) => {
    const { blockField } = record(node, inlineData);
    const view = new DataView(blockField.buffer, blockField.byteOffset, blockField.length);
    return [view.getUint32(0, true), view.getUint32(4, true)];
  };
  assertEquals(words(special("characterDevice", [1, 3])), [0x103, 0]);
  assertEquals(words(special("blockDevice", [255, 255])), [0xffff, 0]);
  assertEquals(words(special("blockDevice", [259, 0x12345])), [0, 0x12310345]);
  assertEquals(words(special("blockDevice", [4095, 0xfffff])), [0, 0xffffffff]);
  assertEquals(words(symlink("abcd")), [0x64636261, 0]);
  assertEquals(words(file("abcdefgh"), true), [0x64636261, 0x68676665]);
  assertEquals(record(file("abc"), true).flags, INLINE);
  assertEquals(record(file("abc")).flags, EXTENTS);
  assertEquals(record(symlink("abc")).flags & EXTENTS, 0);
});

Deno.test("sizes and sectors count content, tree blocks and attribute blocks", () => {
  const leaves = [{ logicalBlock: 0, blockCount: 3, startBlock: 50 }];
  const blocks = { leaves, treeBlocks: [60] };
  const { draft } = drafts(file("x".repeat(9000)));
  const { sizeBytes, sectorCount } = nodeRecord(draft, { ...NO_BLOCKS, blocks, xattrBlock: 99 });
  assertEquals([sizeBytes, sectorCount], [9000, (3 + 1 + 1) * 8]);
  // An owner pays for values in inodes of their own.
  const { draft: owner, value } = drafts(file("", { xattrs: { "user.v": new Uint8Array(9000) } }));
  const charged = nodeRecord(owner, { ...NO_BLOCKS, xattrBlock: 99 });
  assertEquals(charged.sectorCount, (1 + 3) * 8);
  const stored = valueRecord(value!, { ...NO_BLOCKS, blocks });
  assertEquals(stored.flags, EXTENTS | EA_INODE);
  assertEquals([stored.sizeBytes, stored.versionLow, stored.ctime.seconds], [9000, 1, 0]);
});

Deno.test("journalRecord is a plain file of root's", () => {
  const leaves = [{ logicalBlock: 0, blockCount: 1024, startBlock: 50 }];
  const blocks = { leaves, treeBlocks: [] };
  const settings = { journalBlocks: 1024, timestamp: 77 };
  const journal = journalRecord(8, settings, { ...NO_BLOCKS, blocks });
  assertEquals([journal.mode, journal.linkCount, journal.uid], [0o100600, 1, 0]);
  assertEquals([journal.sizeBytes, journal.sectorCount], [4 * 2 ** 20, 8192]);
  assertEquals(journal.mtime, { seconds: 77, nanoseconds: 0 });
});

Deno.test("checkAttributes clamps and counts times, and refuses owners and devices", () => {
  const warnings = new Warnings();
  for (const seconds of [-(2 ** 31) - 1, -(2 ** 31), 0, 2 ** 34 - 2 ** 31 - 1, 2 ** 34 - 2 ** 31]) {
    checkAttributes([drafts(file("", { mtime: seconds })).draft], warnings);
  }
  checkAttributes([drafts(file("", { mtime: 0x280000000 })).draft], warnings);
  const counts = warnings.list().map(({ kind, count }) => [kind, count]);
  assertEquals(counts.find(([kind]) => kind === "clampedTime"), ["clampedTime", 2]);
  assertEquals(counts.find(([kind]) => kind === "suspectTime")?.[0], "suspectTime");
  assertEquals(record(file("", { mtime: 1e12 })).mtime, {
    seconds: 2 ** 34 - 2 ** 31 - 1,
    nanoseconds: 999_999_999,
  });
  const refused = [
    file("", { uid: 2 ** 32 - 1 }),
    file("", { gid: -1 }),
    special("blockDevice", [4096, 0]),
    special("characterDevice", [0, 0x100000]),
  ];
  for (const node of refused) {
    assertThrows(() => checkAttributes([drafts(node).draft], warnings), InputError, "/x: ");
  }
});
