/**
 * Rebuilds of an image, each laid out like the one before, from trees that change a little every time.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { readFileSync } from "node:fs";
import { type LayoutOptions, MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { planImage } from "../../lib/bless/plan_image.ts";
import { type LikeReport, openPrevious } from "../../lib/bless/previous_image.ts";
import { verifyImage } from "../../lib/ext4/verify/verify.ts";
import { writeImage } from "../../lib/ext4/write/write_image.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { openFileReader } from "../../lib/io/random_reader.ts";
import { subtractRanges } from "../../lib/layout/blocks.ts";
import {
  BLOCK_SIZE_BYTES,
  type DirectoryNode,
  type FileTree,
  type TreeNode,
  walkTree,
} from "../../lib/model/node.ts";
import { assertE2fsckClean } from "../oracle/e2fsck.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";
import { Warnings } from "../../lib/warnings.ts";
import { assertMounts, assertSound, type MadeImage } from "../ext4/made_image.ts";
import { mountReadOnly } from "../oracle/kernel.ts";
import { assertGridCongruent } from "../oracle/congruence.ts";
import type { Random } from "../oracle/noise.ts";
import { dir, file, symlink, treeOf } from "../oracle/tree_builder.ts";
import { testOptions } from "../source/helpers.ts";

/** An image that was laid out like another one. */
export interface RebuiltImage extends MadeImage {
  readonly like: LikeReport;
}

/** Plans and writes an image of a tree, laid out like the image at `previous`. */
export async function rebuild(
  path: string,
  tree: FileTree,
  previous: string,
  choices: Partial<LayoutOptions> & { readonly keepStale?: boolean } = {},
): Promise<RebuiltImage> {
  const { keepStale = false, ...layoutChoices } = choices;
  const layout = { ...MERGED_DEFAULTS, ...layoutChoices };
  const timestamp = 1_700_000_000;
  const opened = await openPrevious({ like: previous, keepStale }, {
    ...testOptions(),
    layout,
    timestamp,
  });
  try {
    const warnings = new Warnings();
    const contentDigest = `sha256:${"6b".repeat(32)}`;
    const { continuation, onBytes, report } = opened!;
    const plan = planImage(tree, { layout, contentDigest, timestamp, warnings, continuation });
    await writeImage(plan, createFileSink(path, { force: true }), {
      progress: NO_PROGRESS,
      onBytes,
    });
    const made = { path, tree, options: layout, plan, warnings: warnings.list() };
    return { ...made, like: report(plan.kept!) };
  } finally {
    opened!.close();
  }
}

/** Everything that can be told of a rebuilt image; the last steps need the rights to mount. */
export async function assertRebuilt(made: RebuiltImage, mounts: boolean): Promise<void> {
  if (made.like.staleBytes === 0) assertSound(made);
  else assertE2fsckClean(made.path);
  assertEquals(freeDataBytes(made), made.like.staleBytes);
  const reader = openFileReader(made.path, { what: "an image" });
  try {
    const { gridBytes, alignThresholdBytes: thresholdBytes } = made.options;
    const isAligned = thresholdBytes !== Infinity;
    const layout = isAligned ? { gridBytes, thresholdBytes } : undefined;
    const report = await verifyImage(reader, { layout, requireLayout: isAligned });
    assertEquals(report.findings, []);
  } finally {
    reader.close();
  }
  if (!mounts) return;
  if (made.options.packing.kind !== "tight" && made.options.alignThresholdBytes !== Infinity) {
    const { gridBytes, alignThresholdBytes: thresholdBytes } = made.options;
    const rule = { gridBytes, thresholdBytes, isolates: true };
    mountReadOnly(made.path, (mountPoint) => assertGridCongruent(mountPoint, rule));
  }
  assertMounts(made);
}

/** Bytes of free blocks that are not all zeros. */
function freeDataBytes({ path, plan }: MadeImage): number {
  const image = readFileSync(path);
  assertEquals(image.length, plan.totalBlocks * BLOCK_SIZE_BYTES);
  const all = [{ startBlock: 0, blockCount: plan.totalBlocks }];
  let bytes = 0;
  for (const { startBlock, blockCount } of subtractRanges(all, plan.usedRanges)) {
    for (let block = startBlock; block < startBlock + blockCount; block++) {
      const at = block * BLOCK_SIZE_BYTES;
      if (image.subarray(at, at + BLOCK_SIZE_BYTES).some((byte) => byte !== 0)) {
        bytes += BLOCK_SIZE_BYTES;
      }
    }
  }
  return bytes;
}

/** A tree with small files, large ones, a hashed directory, links and attributes. */
export function firstTree(random: Random, fileCount: number): FileTree {
  const directories = Array.from({ length: 6 }, () => dir());
  for (let i = 0; i < fileCount; i++) {
    const content = random.bytes(random.between(1, random.chance(0.1) ? 200_000 : 30_000));
    random.pick(directories).children.set(`file-${i}`, file(content));
  }
  const names = Array.from({ length: 300 }, (_, i) => [`name-${i}`, file(`${i}`)] as const);
  const shared = file("shared", { xattrs: { "user.long": "x".repeat(300) } });
  return treeOf({
    ...Object.fromEntries(directories.map((each, i) => [`d${i}`, each])),
    "many": dir(names),
    "one": shared,
    "two": shared,
    "long": symlink("t/".repeat(100)),
    "sparse": file({
      sizeBytes: 900_000,
      parts: [[8192, random.bytes(4096)], [500_000, random.bytes(9000)]],
    }),
  });
}

/** A copy in which a share of the files is changed, removed, renamed or new. */
export function changedTree(tree: FileTree, random: Random, share: number): FileTree {
  const copies = new Map<TreeNode, TreeNode>();
  const copyOf = (node: TreeNode): TreeNode => {
    const known = copies.get(node);
    if (known !== undefined) return known;
    const copy = node.kind === "directory"
      ? { ...node, children: new Map([...node.children].map(([name, at]) => [name, copyOf(at)])) }
      : { ...node };
    copies.set(node, copy);
    return copy;
  };
  const root = copyOf(tree.root) as DirectoryNode;
  for (const { node } of [...walkTree({ root })]) {
    if (node.kind === "directory") changeNames(node, random, share);
  }
  return treeOf(root);
}

function changeNames(directory: DirectoryNode, random: Random, share: number): void {
  for (const [name, node] of [...directory.children]) {
    if (!random.chance(share)) continue;
    if (node.kind === "directory" && random.chance(0.8)) continue;
    const action = random.below(6);
    if (action === 0) directory.children.delete(name);
    if (action === 1) {
      directory.children.delete(name);
      directory.children.set(`${name}-renamed`, node);
    }
    if (action === 2) {
      directory.children.set(`${name}-new`, file(random.bytes(random.between(1, 90_000))));
    }
    if (action === 3) {
      directory.children.set(name, symlink("elsewhere/".repeat(random.between(1, 20))));
    }
    if (action >= 4 && node.kind === "file") {
      const sizeBytes = Math.max(0, node.payload.sizeBytes + random.between(-9000, 9000));
      directory.children.set(
        name,
        file(random.bytes(Math.min(sizeBytes, 300_000)), { mtime: random.below(2 ** 31) }),
      );
    }
  }
}
