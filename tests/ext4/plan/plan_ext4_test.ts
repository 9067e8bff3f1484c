import { assertEquals } from "@std/assert";
import { MERGED_DEFAULTS } from "../../../lib/bless/options.ts";
import { displayName } from "../../../lib/bytes/byte_string.ts";
import { planExt4 } from "../../../lib/ext4/plan/plan_ext4.ts";
import { resolveSettings } from "../../../lib/ext4/plan/settings.ts";
import type { PayloadOrder } from "../../../lib/layout/placement.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { dir, file, special, symlink, treeOf } from "../../oracle/tree_builder.ts";
import { withTemporaryDirectory } from "../../oracle/command.ts";
import { assertE2fsckClean } from "../../oracle/e2fsck.ts";
import { makeImage, planTree, unreadFile } from "../made_image.ts";

const IDENTITY = { derivedUuid: new Uint8Array(16).fill(9), timestamp: 5 };

function plan(inlineData = false) {
  const settings = resolveSettings({ ...MERGED_DEFAULTS, inlineData }, IDENTITY);
  const tree = treeOf({
    "small": file("a few bytes"),
    "empty": file(""),
    "large": file({ sizeBytes: 200_001, noise: "all", seed: 1 }),
    "sparse": file({ sizeBytes: 900_000, noise: [[0, 10], [500_000, 10]], seed: 2 }),
    "d": dir({ "l": symlink("x".repeat(80)) }),
  });
  return planExt4(tree, settings, new Warnings());
}

Deno.test("planExt4 gives metadata and payload in ascending order, each as long as it says", () => {
  const { metadata, payload, totalBlocks } = plan();
  let end = 0;
  for (const { offsetBytes, sizeBytes, encode } of metadata) {
    assertEquals(offsetBytes >= end, true);
    assertEquals(encode().length, sizeBytes);
    end = offsetBytes + sizeBytes;
  }
  assertEquals(end <= payload[0]!.startBlock * 4096, true);
  let nextBlock = 0;
  for (const { startBlock, blockCount } of payload) {
    assertEquals(startBlock >= nextBlock, true);
    nextBlock = startBlock + blockCount;
  }
  assertEquals(nextBlock <= totalBlocks, true);
});

Deno.test("planExt4 puts large files on the grid and leaves holes unwritten", () => {
  const { files, payload } = plan();
  const layoutOf = (path: string) => files.find(({ draft }) => draft.path === path)!;
  assertEquals(layoutOf("/large").isAligned, true);
  assertEquals(layoutOf("/large").extents[0]!.startBlock % 32, 0);
  assertEquals(layoutOf("/small").isAligned, false);
  assertEquals(layoutOf("/empty").extents, []);
  const sparse = layoutOf("/sparse").extents;
  assertEquals(sparse.map(({ logicalBlock, blockCount }) => [logicalBlock, blockCount]), [
    [0, 1],
    [122, 1],
  ]);
  assertEquals(payload.reduce((sum, { blockCount }) => sum + blockCount, 0), 1 + 49 + 2);
});

Deno.test("planExt4 leaves inline files out of the payload", () => {
  const { files, summary } = plan(true);
  assertEquals(files.some(({ draft }) => draft.path === "/small"), false);
  assertEquals(summary.files, 4);
});

Deno.test("planImage orders payload by path, by first layer, or by layer and place in it; inode numbers stay the same", () => {
  const [a, b, c] = [file("of the second layer"), file("late"), file("early")];
  const tree = treeOf({ a, b, d: dir({ c }) });
  a.origin = { layerIndex: 1, entryIndex: 0 };
  b.origin = { layerIndex: 0, entryIndex: 9 };
  c.origin = { layerIndex: 0, entryIndex: 2 };
  a.firstLayer = 1;
  const orderOf = (payloadOrder?: PayloadOrder) => {
    const { files, payload } = planTree(tree, payloadOrder ? { payloadOrder } : {});
    assertEquals(
      payload.map(({ startBlock }) => startBlock),
      payload.map(({ startBlock }) => startBlock).toSorted((a, b) => a - b),
    );
    return files.map(({ draft }) => `${draft.inodeNumber} ${displayName(draft.path)}`);
  };
  assertEquals(orderOf("path"), ["11 /a", "12 /b", "14 /d/c"]);
  assertEquals(orderOf("first-layer"), ["12 /b", "14 /d/c", "11 /a"]);
  assertEquals(orderOf(), orderOf("first-layer"));
  assertEquals(orderOf("layer"), ["14 /d/c", "12 /b", "11 /a"]);
});

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

Deno.test("summarize counts the blocks in use as e2fsck does, and hands counts through", async () => {
  await withTemporaryDirectory(async (scratch) => {
    for (const journalBytes of [0, 4 * 2 ** 20]) {
      const tree = treeOf({
        "f": file("x"),
        "long": file({ sizeBytes: 300_000, noise: "all", seed: 1 }),
      });
      const { plan, path } = await makeImage(`${scratch}/image`, tree, { journalBytes });
      const { sizeBytes, usedBytes, inodes, freeInodes, alignedFiles } = plan.summary;
      const found = assertE2fsckClean(path);
      assertEquals([sizeBytes, usedBytes], [found.blockCount * 4096, found.usedBlocks * 4096]);
      assertEquals([inodes, freeInodes], [found.inodeCount, found.inodeCount - found.usedInodes]);
      assertEquals([inodes, freeInodes, alignedFiles], [16, 16 - 12, 1]);
    }
  });
});
