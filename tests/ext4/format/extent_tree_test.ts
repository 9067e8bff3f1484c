import { assertEquals } from "@std/assert";
import { encodeExtentTree, extentTreeBlockCount } from "../../../lib/ext4/format/extent.ts";

const BLOCK_BYTES = 4096;

Deno.test("extentTreeBlockCount counts every level below the root", () => {
  const counts = [[0, 0], [4, 0], [5, 1], [340, 1], [341, 2], [1360, 4], [1361, 6]] as const;
  for (const [leafCount, blocks] of counts) {
    assertEquals(extentTreeBlockCount(leafCount), blocks, `${leafCount} extents`);
  }
  assertEquals(extentTreeBlockCount(462_400), 1360 + 4);
  assertEquals(extentTreeBlockCount(462_401), 1361 + 5 + 1);
});

/** Follows a tree by hand (header of 12 bytes, entries of 12) and lists the logical block of each leaf. */
function leavesOf(node: Uint8Array, blockOf: (number: number) => Uint8Array): number[] {
  const view = new DataView(node.buffer, node.byteOffset, node.byteLength);
  assertEquals(view.getUint16(0, true), 0xf30a);
  const entryCount = view.getUint16(2, true);
  const depth = view.getUint16(6, true);
  return Array.from({ length: entryCount }, (_, i) => 12 + 12 * i).flatMap((at) => {
    if (depth === 0) return [view.getUint32(at, true)];
    const child = leavesOf(blockOf(view.getUint32(at + 4, true)), blockOf);
    // An index names the first block below it.
    assertEquals(view.getUint32(at, true), child[0]);
    return child;
  });
}

Deno.test("encodeExtentTree gives trees of which every leaf can be reached in order", () => {
  for (const leafCount of [0, 1, 4, 5, 340, 341, 1360, 1361, 3000]) {
    const leaves = Array.from({ length: leafCount }, (_, i) => {
      return { logicalBlock: 2 * i, blockCount: 1, startBlock: 10_000 + 3 * i };
    });
    const treeBlocks = Array.from(
      { length: extentTreeBlockCount(leafCount) },
      (_, i) => 500 + 7 * i,
    );
    for (const seed of [undefined, 1234]) {
      const { root, blocks } = encodeExtentTree(leaves, treeBlocks, seed);
      assertEquals(root.length, 60);
      assertEquals(blocks.length, treeBlocks.length * BLOCK_BYTES);
      const blockOf = (number: number) => {
        const at = treeBlocks.indexOf(number) * BLOCK_BYTES;
        return blocks.subarray(at, at + BLOCK_BYTES);
      };
      assertEquals(leavesOf(root, blockOf), leaves.map(({ logicalBlock }) => logicalBlock));
      const tails = treeBlocks.map((_, i) =>
        new DataView(blocks.buffer).getUint32(i * BLOCK_BYTES + 4092, true)
      );
      assertEquals(tails.every((tail) => (tail !== 0) === (seed !== undefined)), true);
    }
  }
});
