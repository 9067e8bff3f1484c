import { assertEquals, assertThrows } from "@std/assert";
import { type LayoutOptions, MERGED_DEFAULTS } from "../../../lib/bless/options.ts";
import { InputError } from "../../../lib/errors.ts";
import { allocate, type Allocation, InodeBlockTable } from "../../../lib/ext4/plan/allocation.ts";
import { draftInodes, FileDraft } from "../../../lib/ext4/plan/inode_drafts.ts";
import { resolveSettings } from "../../../lib/ext4/plan/settings.ts";
import type { FileTree, TreeNode } from "../../../lib/model/node.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { file, symlink, treeOf } from "../../oracle/tree_builder.ts";
import { GIB, MIB, unreadFile } from "../made_image.ts";

const BLOCKS_PER_GROUP = 32_768;

function lay(tree: FileTree, choices: Partial<LayoutOptions> = {}): Allocation {
  const inodes = draftInodes(tree, {
    seed: 5,
    metadataChecksums: true,
    inlineData: false,
    valueInodesRefusedBy: undefined,
    warnings: new Warnings(),
  });
  const files = inodes.nodes.filter((draft) => draft instanceof FileDraft);
  const identity = { derivedUuid: new Uint8Array(16), timestamp: 0 };
  const settings = resolveSettings({ ...MERGED_DEFAULTS, ...choices }, identity);
  return allocate({ inodes, files }, settings);
}

/** Every run of blocks that anything has, so that they can be held against each other. */
function allRuns(layout: Allocation): [number, number][] {
  const { geometry } = layout;
  const inodeCount = geometry.groupCount * geometry.inodesPerGroup;
  const inodes = Array.from({ length: inodeCount + 1 }, (_, i) => layout.inodeBlocks.get(i));
  return [
    ...geometry.reserved.map((range) => [range.startBlock, range.blockCount] as [number, number]),
    ...[...layout.blockBitmapBlocks, ...layout.inodeBitmapBlocks, ...layout.xattrBlocks].map(
      (block) => [block, 1] as [number, number],
    ),
    ...layout.inodeTableBlocks.map(
      (block) => [block, geometry.inodeTableBlocks] as [number, number],
    ),
    ...[...inodes, layout.journal].filter((blocks) => blocks !== undefined).flatMap(
      ({ leaves, treeBlocks }) => [
        ...leaves.map((leaf) => [leaf.startBlock, leaf.blockCount] as [number, number]),
        ...treeBlocks.map((block) => [block, 1] as [number, number]),
      ],
    ),
  ];
}

function richTree(fileMib: number): FileTree {
  const children = Array.from({ length: 300 }, (_, i): [string, TreeNode] => {
    const xattrs = { "user.v": new Uint8Array(800).fill(i) };
    return [`f${i}`, file(`${i}`, { xattrs })];
  });
  return treeOf([...children, ["large", unreadFile(fileMib * MIB)], [
    "l",
    symlink("x".repeat(99)),
  ]]);
}

Deno.test("InodeBlockTable gives back what was set, by number", () => {
  const table = new InodeBlockTable();
  const leaves = [{ logicalBlock: 0, blockCount: 1, startBlock: 9 }];
  table.set(12, { leaves, treeBlocks: [3, 4] });
  table.set(2, { leaves, treeBlocks: [] });
  assertEquals(table.get(12), { leaves, treeBlocks: [3, 4] });
  assertEquals([table.get(3), table.get(13)], [undefined, undefined]);
  assertEquals([...table.withTrees()], [[12, { leaves, treeBlocks: [3, 4] }]]);
});

Deno.test("allocate gives every block to one thing, and usedRanges are just those", () => {
  for (const backups of ["sparse", "none"] as const) {
    for (const journalBytes of [0, 4 * MIB, 125 * MIB, 140 * MIB]) {
      for (const fileMib of [1, 128, 500]) {
        const layout = lay(richTree(fileMib), { backups, journalBytes });
        const runs = allRuns(layout).sort((a, b) => a[0] - b[0]);
        let end = 0;
        let blocks = 0;
        for (const [startBlock, blockCount] of runs) {
          assertEquals(startBlock >= end, true, `block ${startBlock} twice`);
          end = startBlock + blockCount;
          blocks += blockCount;
        }
        assertEquals(blocks, layout.usedRanges.reduce((sum, range) => sum + range.blockCount, 0));
        assertEquals(end <= layout.totalBlocks, true);
        const groups = Math.ceil(layout.totalBlocks / BLOCKS_PER_GROUP);
        assertEquals(layout.geometry.groupCount, groups);
      }
    }
  }
});

Deno.test("allocate makes an exact image end on the grid behind its content", () => {
  const layout = lay(treeOf({ "f": file("x") }), { journalBytes: 0 });
  assertEquals(layout.totalBlocks % 32, 0);
  assertEquals(layout.totalBlocks - layout.placement.endBlock < 32, true);
});

Deno.test("allocate keeps to a size in blocks, and refuses one that is too small or too large", () => {
  const size = (sizeBytes: number) => ({ size: { kind: "total", sizeBytes } as const });
  const tree = treeOf({ "f": file("x") });
  assertEquals(lay(tree, size(10 * GIB - 4095)).totalBlocks, (10 * GIB) / 4096);
  assertThrows(() => lay(tree, size(1 * MIB)), InputError, "too few");
  const long = treeOf({ "a": unreadFile(15 * 1024 * GIB), "b": unreadFile(2 * 1024 * GIB) });
  assertThrows(() => lay(long), InputError, "at most 17592186044416");
});

Deno.test("allocate says a least size that is enough, whatever size was asked for first", () => {
  const tree = treeOf({ "f": unreadFile(300 * MIB) });
  const size = (sizeBytes: number) => ({ size: { kind: "total", sizeBytes } as const });
  const { message } = assertThrows(() => lay(tree, size(1 * MIB)), InputError, "too few");
  const leastBytes = Number(/needs (\d+) bytes/.exec(message)![1]);
  assertEquals(lay(tree, size(leastBytes)).totalBlocks * 4096, leastBytes);
  assertThrows(() => lay(tree, size(leastBytes - 4096)), InputError, `needs ${leastBytes}`);
});

Deno.test("allocate refuses a size that ends in a group without room for its backup", () => {
  const size = { kind: "total", sizeBytes: 128 * MIB + 4096 } as const;
  assertThrows(() => lay(treeOf({}), { size }), InputError, "end in a block group of 4096");
});

Deno.test("allocate refuses more inodes and blocks than their words hold", () => {
  assertThrows(() => lay(treeOf({}), { inodeCount: 2 ** 32 - 1 }), InputError, "4294967295");
  const size = { kind: "total", sizeBytes: 2 ** 44 } as const;
  assertThrows(() => lay(treeOf({}), { size, compat: ["3.10"] }), InputError, "at most");
});

Deno.test("allocate never ends in a last group without room for its backups", () => {
  for (let freeMib = 100; freeMib < 160; freeMib++) {
    const size = { kind: "free", freeBytes: freeMib * MIB } as const;
    for (const gridBytes of [4096, 131_072]) {
      const { totalBlocks, geometry } = lay(treeOf({}), { size, gridBytes });
      const last = geometry.reserved.at(-1)!;
      assertEquals(last.startBlock + last.blockCount <= totalBlocks, true);
    }
  }
});

Deno.test("allocate keeps a journal whole that fits between two backups", () => {
  const pieces = (journalBytes: number) => lay(treeOf({}), { journalBytes }).journal!.leaves.length;
  assertEquals(pieces(4 * MIB), 1);
  assertEquals(pieces(128 * MIB - 8192), 1);
  assertEquals(pieces(128 * MIB), 2);
});
