import { assertEquals } from "@std/assert";
import type { ImagePlan } from "../../../lib/ext4/plan/image_plan.ts";
import { dir, file, special, symlink, treeOf } from "../../oracle/tree_builder.ts";
import { planTree, unreadFile } from "../made_image.ts";

Deno.test("summarize counts each inode of a kind once, however many names it has", () => {
  const shared = file("x");
  const tree = treeOf({
    "a": shared,
    "d": dir({ "b": shared, "l": symlink("x"), "fifo": special("fifo") }),
    "disk": special("blockDevice", [8, 0]),
  });
  const { files, directories, symlinks, specialFiles } = planTree(tree).summary;
  assertEquals([files, directories, symlinks, specialFiles], [1, 2, 1, 2]);
});

Deno.test("summarize takes what alignment leaves free for padding, and backups for none", () => {
  const choices = { journalBytes: 0, backups: "sparse" } as const;
  const small = planTree(treeOf({ "a": unreadFile(70_000), "b": unreadFile(131_072) }), choices);
  // The first file leaves 14 blocks of its cell of 32.
  assertEquals(small.summary.paddingBytes, 14 * 4096);
  const none = { ...choices, alignThresholdBytes: Infinity };
  const tight = planTree(treeOf({ "a": unreadFile(200 * 2 ** 20) }), none);
  assertEquals(tight.geometry.reserved.length, 2);
  assertEquals(tight.summary.paddingBytes, 0);
});

Deno.test("summarize adds used blocks up, and hands counts through", () => {
  const plan: ImagePlan = planTree(treeOf({ "f": file("x") }));
  const { sizeBytes, usedBytes, inodes, freeInodes, alignedFiles } = plan.summary;
  assertEquals(sizeBytes, plan.totalBlocks * 4096);
  const used = plan.usedRanges.reduce((sum, { blockCount }) => sum + blockCount, 0);
  assertEquals(usedBytes, used * 4096);
  assertEquals([inodes, freeInodes, alignedFiles], [16, 16 - 11, 0]);
});
