import { assertEquals } from "@std/assert";
import { MERGED_DEFAULTS } from "../../../lib/bless/options.ts";
import { planExt4 } from "../../../lib/ext4/plan/plan_ext4.ts";
import { resolveSettings } from "../../../lib/ext4/plan/settings.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { dir, file, symlink, treeOf } from "../../oracle/tree_builder.ts";

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
