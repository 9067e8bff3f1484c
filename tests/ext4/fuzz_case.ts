/**
 * One image of the fuzzer: a random tree and random options from one seed, the image that comes of them, and every
 * check that there is.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { LayoutOptions } from "../../lib/bless/options.ts";
import { planImage } from "../../lib/bless/plan_image.ts";
import type { ImagePlan } from "../../lib/ext4/plan/image_plan.ts";
import { writeImage } from "../../lib/ext4/write/write_image.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { BLOCK_SIZE_BYTES, type FileTree } from "../../lib/model/node.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";
import { Warnings } from "../../lib/warnings.ts";
import { assertBackupsEqual } from "../oracle/backups.ts";
import { assertGridCongruent } from "../oracle/congruence.ts";
import { assertE2fsckClean } from "../oracle/e2fsck.ts";
import { mountReadOnly } from "../oracle/kernel.ts";
import { assertKernelTree } from "../oracle/kernel_tree.ts";
import { closeDescriptor, dataRanges, openDirectory, openNameAt } from "../oracle/libc.ts";
import { Random } from "../oracle/noise.ts";
import { randomConditions, randomOptions } from "../oracle/random_options.ts";
import { needsOf, randomTree } from "../oracle/random_tree.ts";

const MIB = 1024 * 1024;
const CONTENT_DIGEST = `sha256:${"5a".repeat(32)}`;
const TIMESTAMP = 1_700_000_000;

/** What a seed stands for. */
export interface FuzzCase {
  readonly tree: FileTree;
  readonly options: LayoutOptions;
}

/** The tree and the options of a seed. */
export function makeCase(seed: number): FuzzCase {
  const random = new Random(seed);
  const conditions = randomConditions(random);
  const isOld = conditions.compat !== undefined;
  const tree = randomTree(random, {
    gridBytes: conditions.gridBytes,
    contentBytesMax: random.pick([1, 8, 8, 24]) * MIB,
    allowsLong: true,
    // Without the feature ea_inode, the values of an inode have to fit in one block with their names.
    allowsBig: !isOld,
    valueBytesMax: isOld ? 1500 : 400_000,
  });
  return { tree, options: randomOptions(random, conditions, needsOf(tree)) };
}

/** The options of a case in one line. */
export function describeCase({ options }: FuzzCase): string {
  return JSON.stringify(options);
}

/** Plans and writes the image of a case. */
export async function writeCase(image: string, fuzzCase: FuzzCase): Promise<ImagePlan> {
  const plan = planCase(fuzzCase);
  await writeImage(plan, createFileSink(image), { progress: NO_PROGRESS });
  return plan;
}

/** A digest of every write that the image of a case takes, its place included. */
export async function digestCase(fuzzCase: FuzzCase): Promise<string> {
  const hash = createHash("sha256");
  const sink = {
    write: (bytes: Uint8Array, offset: number) => void hash.update(`${offset}:`).update(bytes),
    finish: (sizeBytes: number) => void hash.update(`end ${sizeBytes}`),
    abort: () => {},
  };
  await writeImage(planCase(fuzzCase), sink, { progress: NO_PROGRESS });
  return hash.digest("hex");
}

function planCase(fuzzCase: FuzzCase): ImagePlan {
  return planImage(fuzzCase.tree, {
    layout: fuzzCase.options,
    contentDigest: CONTENT_DIGEST,
    timestamp: TIMESTAMP,
    // Nothing of a random tree may be changed or dropped.
    warnings: new Warnings(true),
  });
}

/** Everything that can be checked without mounting. */
export function checkUnmounted(image: string, plan: ImagePlan): void {
  const summary = assertE2fsckClean(image);
  const usedBlocks = plan.usedRanges.reduce((sum, range) => sum + range.blockCount, 0);
  expectEqual("block count", summary.blockCount, plan.totalBlocks);
  expectEqual("used blocks", summary.usedBlocks, usedBlocks);
  expectEqual("free inodes", summary.inodeCount - summary.usedInodes, plan.summary.freeInodes);
  expectEqual("file size", Deno.statSync(image).size, plan.totalBlocks * BLOCK_SIZE_BYTES);
  assertBackupsEqual(image);
  checkPadding(image, plan);
}

/** Everything that the kernel can tell. */
export function checkMounted(image: string, { tree, options }: FuzzCase): void {
  assertKernelTree(image, tree);
  const rule = {
    gridBytes: options.gridBytes,
    thresholdBytes: options.alignThresholdBytes,
    isolates: options.packing.kind === "resync",
  };
  mountReadOnly(image, (mountPoint) => assertGridCongruent(mountPoint, rule));
}

function expectEqual(what: string, found: number, wanted: number): void {
  if (found !== wanted) throw new Error(`${what}: found ${found}, wanted ${wanted}`);
}

/** What is no hole in the image file is in use. */
function checkPadding(image: string, plan: ImagePlan): void {
  const directory = openDirectory(image.slice(0, image.lastIndexOf("/")));
  const descriptor = openNameAt(directory, image.slice(image.lastIndexOf("/") + 1));
  try {
    let next = 0;
    for (const [start, end] of dataRanges(descriptor, plan.totalBlocks * BLOCK_SIZE_BYTES)) {
      for (let at = start; at < end;) {
        const block = Math.floor(at / BLOCK_SIZE_BYTES);
        while (next < plan.usedRanges.length && endOf(plan.usedRanges[next]!) <= block) next++;
        const range = plan.usedRanges[next];
        if (range === undefined || range.startBlock > block) {
          throw new Error(`block ${block}: is written, but not in use`);
        }
        at = endOf(range) * BLOCK_SIZE_BYTES;
      }
    }
  } finally {
    closeDescriptor(descriptor);
    closeDescriptor(directory);
  }
}

function endOf(range: { readonly startBlock: number; readonly blockCount: number }): number {
  return range.startBlock + range.blockCount;
}
