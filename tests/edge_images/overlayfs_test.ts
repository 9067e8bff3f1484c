import { assert } from "@std/assert";
import process from "node:process";
import fc from "fast-check";
import type { FileTree } from "../../lib/model/node.ts";
import { buildTree } from "../../lib/tree/build.ts";
import type { TreeLayer } from "../../lib/tree/build.ts";
import { isWhiteoutDevice } from "../../lib/tree/layer.ts";
import { overlayTrees } from "../../lib/tree/overlay.ts";
import { mustRun, withTemporaryDirectory } from "../oracle/command.ts";
import { describeDifference, firstDifference } from "../oracle/compare.ts";
import { viewDirectory } from "../oracle/directory_view.ts";
import { kernelOrNotice, mountReadWrite, unmount } from "../oracle/kernel.ts";
import { notRun } from "../oracle/notice.ts";
import { viewTree } from "../oracle/tree_view.ts";
import { layersOf, treeOptions } from "../tree/layers.ts";
import { randomStacks, withoutRefusedEntries } from "../tree/random_layers.ts";
import { EDGE_IMAGES } from "./cases.ts";
import { unpackTree } from "./unpack.ts";

const RANDOM_STACK_COUNT = Number(process.env["BLESSFS_OVERLAYFS_STACKS"] ?? 25);
const FIRST_UNESCAPING_KERNEL = [6, 7] as const;

Deno.test("the kernel's overlayfs shows the merged tree of every edge image", () => {
  if (!overlayfsOrNotice("edge images as directories under overlayfs")) return;
  withScratchFileSystem((directory) => {
    const wrong = EDGE_IMAGES.flatMap((image) => {
      if ("refused" in image) return [];
      const layers = layersOf(image.layers, image.whiteouts ?? true);
      const difference = differenceFromKernel(layers, `${directory}/${image.name}`);
      return difference === undefined ? [] : [`${image.name}: ${difference}`];
    });
    assert(wrong.length === 0, wrong.join("\n"));
  });
});

Deno.test("the kernel's overlayfs shows the merged tree of random layers", () => {
  if (!overlayfsOrNotice("random layers as directories under overlayfs")) return;
  withScratchFileSystem((directory) => {
    let count = 0;
    fc.assert(
      fc.property(randomStacks, (random) => {
        const stack = withoutRefusedEntries(random, (layers) => buildTree(layers, treeOptions()));
        const difference = differenceFromKernel(layersOf(stack), `${directory}/${count++}`);
        assert(difference === undefined, difference ?? "");
      }),
      { numRuns: RANDOM_STACK_COUNT },
    );
  });
});

function overlayfsOrNotice(what: string): boolean {
  if (!kernelOrNotice(what)) return false;
  const [major = 0, minor = 0] = Deno.osRelease().split(".").map(Number);
  const [wantedMajor, wantedMinor] = FIRST_UNESCAPING_KERNEL;
  if (major > wantedMajor || (major === wantedMajor && minor >= wantedMinor)) return true;
  notRun(what, `Linux ${Deno.osRelease()} cannot show escaped xattrs; that takes 6.7`);
  return false;
}

/** Not every file system takes whiteouts and all xattrs, so the directories lie in an ext4 image. */
function withScratchFileSystem(work: (directory: string) => void): void {
  withTemporaryDirectory((directory) => {
    const image = `${directory}/scratch.ext4`;
    mustRun("mke2fs", ["-q", "-t", "ext4", "-b", "4096", "-N", "20000", image, "128M"]);
    mountReadWrite(image, work);
  });
}

/** Unpacks the trees of the layers, mounts them, and compares; undefined when all is equal. */
function differenceFromKernel(layers: readonly TreeLayer[], directory: string): string | undefined {
  if (layers.length === 0) return undefined;
  Deno.mkdirSync(directory);
  const lower = [...overlayTrees(layers, treeOptions())].map(({ tree, layerIndex }) => {
    const path = `${directory}/${layerIndex}`;
    unpackTree(tree, path);
    return path;
  });
  // Without a directory to write to, the kernel wants two at least.
  Deno.mkdirSync(`${directory}/empty`);
  if (lower.length < 2) lower.unshift(`${directory}/empty`);
  const mountPoint = `${directory}/merged`;
  Deno.mkdirSync(mountPoint);
  const options = `ro,lowerdir=${lower.toReversed().join(":")}`;
  mustRun("mount", ["-t", "overlay", "-o", options, "overlay", mountPoint]);
  try {
    const difference = firstDifference(
      viewDirectory(mountPoint, { directoryLinks: "counted" }),
      viewTree(withoutWhiteoutDevices(buildTree(layers, treeOptions()))),
    );
    return difference && describeDifference(difference);
  } finally {
    unmount(mountPoint);
    Deno.removeSync(directory, { recursive: true });
  }
}

function withoutWhiteoutDevices(tree: FileTree): FileTree {
  const pending = [tree.root];
  for (let directory = pending.pop(); directory; directory = pending.pop()) {
    for (const [name, node] of directory.children) {
      if (isWhiteoutDevice(node)) directory.children.delete(name);
      else if (node.kind === "directory") pending.push(node);
    }
  }
  return tree;
}
