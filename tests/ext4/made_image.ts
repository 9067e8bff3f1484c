/**
 * Makes images for tests of the writer, and checks them: against e2fsck, against their own plan, and with the kernel.
 *
 * @module
 */
import type { LayoutOptions } from "../../lib/bless/options.ts";
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { planImage } from "../../lib/bless/plan_image.ts";
import type { ImagePlan } from "../../lib/ext4/plan/image_plan.ts";
import { writeImage } from "../../lib/ext4/write/write_image.ts";
import { createFileSink, NODE_FILE_OPERATIONS } from "../../lib/io/file_sink.ts";
import type { ImageSink } from "../../lib/io/sink.ts";
import { BLOCK_SIZE_BYTES, type FileNode, type FileTree } from "../../lib/model/node.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";
import type { WarningSummary } from "../../lib/warnings.ts";
import { Warnings } from "../../lib/warnings.ts";
import { assertBackupsEqual } from "../oracle/backups.ts";
import { assertGridCongruent } from "../oracle/congruence.ts";
import type { E2fsckSummary } from "../oracle/e2fsck.ts";
import { assertE2fsckClean } from "../oracle/e2fsck.ts";
import { mountReadOnly } from "../oracle/kernel.ts";
import { assertKernelTree } from "../oracle/kernel_tree.ts";
import { noiseReader } from "../oracle/noise.ts";
import { file } from "../oracle/tree_builder.ts";
import { assertPlanOnDisk } from "./plan_on_disk.ts";

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
/** A block group in bytes. */
export const GROUP_BYTES = 128 * MIB;
/** What the UUIDs of test images are derived from. */
export const CONTENT_DIGEST = `sha256:${"5a".repeat(32)}`;
const TIMESTAMP = 1_700_000_000;

/** How files are packed, as the three ways that every case is tried in. */
export const LAYOUTS: Readonly<Record<string, Partial<LayoutOptions>>> = {
  none: { alignThresholdBytes: Infinity },
  tight: { packing: { kind: "tight" } },
  resync: { packing: { kind: "resync", meanBytes: 256 * KIB, lowBytes: 64 * KIB } },
};

/** An image and what it was made of. */
export interface MadeImage {
  readonly path: string;
  readonly tree: FileTree;
  readonly options: LayoutOptions;
  readonly plan: ImagePlan;
  readonly warnings: readonly WarningSummary[];
}

/** Plans an image; options not given are those of merged images. */
export function planTree(
  tree: FileTree,
  choices: Partial<LayoutOptions> = {},
  warnings: Warnings = new Warnings(),
): ImagePlan {
  return planImage(tree, {
    layout: { ...MERGED_DEFAULTS, ...choices },
    contentDigest: CONTENT_DIGEST,
    timestamp: TIMESTAMP,
    warnings,
  });
}

/** A file that replaces what was there, and whose bytes need not survive the machine. */
function quickSink(path: string): ImageSink {
  const files = { ...NODE_FILE_OPERATIONS, sync: () => Promise.resolve() };
  return createFileSink(path, { force: true, files });
}

/** Plans and writes an image. */
export async function makeImage(
  path: string,
  tree: FileTree,
  choices: Partial<LayoutOptions> = {},
): Promise<MadeImage> {
  const warnings = new Warnings();
  const plan = planTree(tree, choices, warnings);
  await writeImage(plan, quickSink(path), { progress: NO_PROGRESS });
  const options = { ...MERGED_DEFAULTS, ...choices };
  return { path, tree, options, plan, warnings: warnings.list() };
}

/** Plans an image and writes everything but payload, which e2fsck never looks at: for files of gigabytes. */
export async function makeBareImage(
  path: string,
  tree: FileTree,
  choices: Partial<LayoutOptions> = {},
): Promise<MadeImage> {
  const warnings = new Warnings();
  const plan = planTree(tree, choices, warnings);
  const sink = quickSink(path);
  for (const { offsetBytes, encode } of plan.metadata) await sink.write(encode(), offsetBytes);
  await sink.finish(plan.totalBlocks * BLOCK_SIZE_BYTES);
  const options = { ...MERGED_DEFAULTS, ...choices };
  return { path, tree, options, plan, warnings: warnings.list() };
}

/** A file without holes whose bytes are only made when they are read: for images of which payload is not. */
export function unreadFile(sizeBytes: number, seed = 1): FileNode {
  const blockCount = Math.ceil(sizeBytes / BLOCK_SIZE_BYTES);
  const payload = {
    sizeBytes,
    segments: [{ fileOffset: 0, storeOffset: 0, lengthBytes: sizeBytes }],
    dataRuns: [{ startBlock: 0, blockCount }],
    // Any number will do that differs from file to file: the bytes are not looked at.
    contentHash: Math.imul(seed, 0x9e3779b1) >>> 0,
    store: noiseReader(sizeBytes, seed),
  };
  return { ...file(), payload };
}

/** Everything that can be told without mounting. */
export function assertSound(made: MadeImage): E2fsckSummary {
  const summary = assertE2fsckClean(made.path);
  assertPlanOnDisk(made.path, made.plan);
  assertBackupsEqual(made.path);
  const usedBlocks = made.plan.usedRanges.reduce((sum, range) => sum + range.blockCount, 0);
  const found = [summary.blockCount, summary.usedBlocks, summary.inodeCount - summary.usedInodes];
  const wanted = [made.plan.totalBlocks, usedBlocks, made.plan.summary.freeInodes];
  if (found.join() !== wanted.join()) {
    throw new Error(`blocks, used blocks, free inodes: found ${found}, wanted ${wanted}`);
  }
  return summary;
}

/** Whether the kernel sees the tree, can write to it, and finds aligned files on the grid. */
export function assertMounts(made: MadeImage): void {
  assertKernelTree(made.path, made.tree);
  assertAligned(made);
}

/** Whether the kernel finds aligned files on the grid, and them alone in their cells where that is asked for. */
export function assertAligned(made: MadeImage): number {
  const { options } = made;
  const rule = {
    gridBytes: options.gridBytes,
    thresholdBytes: options.alignThresholdBytes,
    isolates: options.packing.kind === "resync",
  };
  return mountReadOnly(made.path, (mountPoint) => assertGridCongruent(mountPoint, rule));
}
