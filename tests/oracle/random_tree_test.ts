import { assertEquals } from "@std/assert";
import type { FileTree } from "../../lib/model/node.ts";
import { walkTree } from "../../lib/model/node.ts";
import { mustRun, withTemporaryDirectory } from "./command.ts";
import { firstDifference } from "./compare.ts";
import { kernelOrNotice, mountReadWrite } from "./kernel.ts";
import { assertKernelTree } from "./kernel_tree.ts";
import { materializeTree } from "./materialize.ts";
import { Random } from "./noise.ts";
import type { RandomTreeLimits } from "./random_tree.ts";
import { needsOf, randomTree } from "./random_tree.ts";
import { viewTree } from "./tree_view.ts";

const LIMITS: RandomTreeLimits = {
  gridBytes: 128 * 1024,
  contentBytesMax: 4 * 2 ** 20,
  allowsLong: false,
  allowsBig: true,
  valueBytesMax: 200_000,
};

Deno.test("randomTree gives the same tree for the same seed, and others for others", () => {
  const make = (seed: number) => viewTree(randomTree(new Random(seed), LIMITS));
  let differentCount = 0;
  for (let seed = 0; seed < 10; seed++) {
    assertEquals(firstDifference(make(seed), make(seed), { sameHoles: true }), undefined);
    if (firstDifference(make(seed), make(seed + 1))) differentCount++;
  }
  assertEquals(differentCount, 10);
});

/**
 * What a kernel would not make of a tree as it is, though an image may hold it: at the ends of its range, utimensat
 * drops the nanoseconds; and e2fsck 1.47 takes the blocks of a value in an inode of its own for blocks of a symlink
 * that has none, unless the symlink also has a block of attributes.
 */
function avoidWhatTheKernelChanges(tree: FileTree): void {
  for (const { node } of walkTree(tree)) {
    const { mtimeSeconds, xattrs } = node.attributes;
    if (mtimeSeconds === -(2 ** 31) || mtimeSeconds === 2 ** 34 - 2 ** 31 - 1) {
      node.attributes = { ...node.attributes, mtimeNanoseconds: 0 };
    }
    if (node.kind === "symlink") {
      const short = xattrs.filter(({ value }) => value.length < 500);
      node.attributes = { ...node.attributes, xattrs: short };
    }
  }
}

Deno.test("randomTree makes trees that the kernel can hold and shows as they are", () => {
  if (!kernelOrNotice("making random trees with the kernel")) return;
  for (let seed = 100; seed < 106; seed++) {
    withTemporaryDirectory((scratch) => {
      const tree = randomTree(new Random(seed), LIMITS);
      avoidWhatTheKernelChanges(tree);
      const image = `${scratch}/kernel.ext4`;
      const sizeBytes = Math.ceil(needsOf(tree).contentBytes * 2) + 64 * 2 ** 20;
      const inodes = ["-I", "256", "-N", "20000"];
      const features = ["-O", "metadata_csum,64bit,ea_inode"];
      const size = String(Math.ceil(sizeBytes / 1024));
      mustRun("mke2fs", [
        "-q",
        "-t",
        "ext4",
        "-b",
        "4096",
        ...inodes,
        ...features,
        image,
        `${size}K`,
      ]);
      mountReadWrite(image, (mountPoint) => materializeTree(tree, mountPoint));
      assertKernelTree(image, tree);
    });
  }
});
