import { assertEquals, assertGreater, assertMatch, assertRejects } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import {
  BLOCK_SIZE_BYTES,
  type FileNode,
  type FileTree,
  type TreeNode,
} from "../../lib/model/node.ts";
import { mustRun, withTemporaryDirectory } from "../oracle/command.ts";
import { assertE2fsckClean } from "../oracle/e2fsck.ts";
import { kernelOrNotice } from "../oracle/kernel.ts";
import { noiseReader } from "../oracle/noise.ts";
import { sweepCases } from "../oracle/sweeps.ts";
import { file, treeOf } from "../oracle/tree_builder.ts";
import type { MadeImage } from "./made_image.ts";
import {
  assertAligned,
  assertMounts,
  assertSound,
  GIB,
  GROUP_BYTES,
  KIB,
  LAYOUTS,
  makeBareImage,
  makeImage,
  unreadFile,
} from "./made_image.ts";

const TIB = 1024 * GIB;
/** The longest file of 4 KiB blocks that the kernel reads to its end. */
const FILE_BYTES_MAX = (2 ** 32 - 1) * BLOCK_SIZE_BYTES;

/** A file with a block in every second place, so that nothing can be mapped together. */
function fragmentedFile(extentCount: number): FileNode {
  const sizeBytes = extentCount * 2 * BLOCK_SIZE_BYTES;
  const payload = {
    sizeBytes,
    segments: [{ fileOffset: 0, storeOffset: 0, lengthBytes: sizeBytes }],
    dataRuns: Array.from({ length: extentCount }, (_, i) => ({ startBlock: 2 * i, blockCount: 1 })),
    contentHash: 1,
    store: noiseReader(sizeBytes, 1),
  };
  return { ...file(), payload };
}

/** The deepest level that debugfs finds in a file's extent tree. */
function extentDepth(image: string, path: string): number {
  const dump = mustRun("debugfs", ["-R", `dump_extents ${path}`, image]);
  let depth = 0;
  for (const match of dump.matchAll(/^ *\d+\/ *(\d+) /gm)) {
    depth = Math.max(depth, Number(match[1]));
  }
  return depth;
}

const EXTENTS_OF_DEPTH: readonly (readonly [depth: number, extentCounts: readonly number[]])[] = [
  [0, [1, 4]],
  [1, [5, 340, 341, 1360]],
  [2, [1361, 4 * 340 + 341, 115_600]],
  [3, [462_401]],
];

for (const [depth, extentCounts] of EXTENTS_OF_DEPTH) {
  Deno.test(`extent trees of depth ${depth} are sound`, async () => {
    const hasKernel = kernelOrNotice("mapping fragmented files");
    await withTemporaryDirectory(async (scratch) => {
      for (const extentCount of extentCounts) {
        for (const metadataChecksums of depth < 3 ? [true, false] : [true]) {
          const tree = treeOf({ "f": fragmentedFile(extentCount), "g": fragmentedFile(3) });
          const choices = { metadataChecksums, gridBytes: 4 * KIB };
          const made = await makeBareImage(`${scratch}/image`, tree, choices);
          assertE2fsckClean(made.path);
          assertEquals(extentDepth(made.path, "/f"), depth);
          if (hasKernel && depth < 3) assertAligned(made);
        }
      }
    });
  });
}

Deno.test("files whose extents are on the grid are byte-exact at every depth up to 2", async () => {
  const hasKernel = kernelOrNotice("reading fragmented files");
  await withTemporaryDirectory(async (scratch) => {
    for (const rules of Object.values(LAYOUTS)) {
      const children = [4, 5, 341, 1361].map((extentCount): [string, TreeNode] => {
        const noise = Array.from({ length: extentCount }, (_, i) => [i * 12_288, 4000] as const);
        return [`f${extentCount}`, file({ sizeBytes: extentCount * 12_288, noise, seed: 1 })];
      });
      const choices = { ...rules, gridBytes: 16 * KIB };
      const made = await makeImage(`${scratch}/image`, treeOf(children), choices);
      assertSound(made);
      if (hasKernel) assertMounts(made);
    }
  });
});

Deno.test("extents are as long as ext4 allows, 32,768 blocks", async () => {
  await withTemporaryDirectory(async (scratch) => {
    for (const blockCount of [32_767, 32_768, 32_769, 3 * 32_768 + 1]) {
      const tree = treeOf({ "f": unreadFile(blockCount * BLOCK_SIZE_BYTES) });
      const choices = { backups: "none", journalBytes: 0 } as const;
      const made = await makeBareImage(`${scratch}/image`, tree, choices);
      assertSound(made);
      const counts = made.plan.files[0]!.extents.map((extent) => extent.blockCount);
      assertEquals(counts.length, Math.ceil(blockCount / 32_768));
      assertEquals(counts[0], Math.min(blockCount, 32_768));
    }
  });
});

Deno.test("sparse files reach up to the last byte of 16 TiB", async () => {
  const hasKernel = kernelOrNotice("reading sparse files of 16 TiB");
  const sizes = [2 * TIB, 8 * TIB + 1, 16 * TIB - 8192, FILE_BYTES_MAX];
  const children = sizes.map((sizeBytes, i): [string, TreeNode] => {
    const noise = [[0, 10], [sizeBytes / 2 - (sizeBytes / 2) % 4096, 9000], [
      sizeBytes - 1,
      1,
    ]] as const;
    return [`f${i}`, file({ sizeBytes, noise, seed: i })];
  });
  children.push(["hole", file({ sizeBytes: FILE_BYTES_MAX, parts: [] })]);
  await withTemporaryDirectory(async (scratch) => {
    for (const rules of Object.values(LAYOUTS)) {
      const made = await makeImage(`${scratch}/image`, treeOf(children), rules);
      assertSound(made);
      if (hasKernel) assertMounts(made);
    }
    const tooLong = treeOf({ "f": file({ sizeBytes: FILE_BYTES_MAX + 1, parts: [] }) });
    const error = await assertRejects(() => makeImage(`${scratch}/none`, tooLong), InputError);
    assertMatch(error.message, /\/f: has \d+ bytes: ext4 files have at most/);
  });
});

Deno.test("a file of more than 2 TiB of blocks counts them past 32 bits (HUGE_FILE)", async () => {
  await withTemporaryDirectory(async (scratch) => {
    const tree = treeOf({ "huge": unreadFile(2 * TIB + 5 * GIB), "small": unreadFile(1) });
    const made = await makeBareImage(`${scratch}/image`, tree, { alignThresholdBytes: Infinity });
    assertE2fsckClean(made.path);
    const stat = mustRun("debugfs", ["-R", "stat /huge", made.path]);
    const sectors = Number(/Blockcount: (\d+)/.exec(stat)![1]);
    assertGreater(sectors, 2 ** 32);
    assertGreater(sectors, (2 * TIB + 5 * GIB) / 512);
  });
});

Deno.test("a file system past 2^32 blocks is refused in words", async () => {
  await withTemporaryDirectory(async (scratch) => {
    const tree = treeOf({ "a": unreadFile(12 * TIB), "b": unreadFile(8 * TIB) });
    const error = await assertRejects(() => makeBareImage(`${scratch}/image`, tree), InputError);
    assertMatch(error.message, /needs \d+ bytes: .* at most 17592186044416/);
  });
});

/** Times at the ends of what fits, and on either side of each epoch. */
const TIMES = [
  -(2 ** 31),
  -1,
  0,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 32 + 2 ** 31,
  2 ** 33 + 2 ** 31 - 1,
  2 ** 34 - 2 ** 31 - 1,
];

function attributesTree(): FileTree {
  const children: [string, TreeNode][] = [];
  TIMES.forEach((seconds, i) => {
    for (const nanoseconds of [0, 1, 999_999_999]) {
      const choices = { mtime: [seconds, nanoseconds] as const };
      children.push([`time-${i}-${nanoseconds}`, file("t", choices)]);
    }
  });
  for (const id of [0, 1, 65_534, 65_535, 65_536, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 2]) {
    children.push([`uid-${id}`, file("u", { uid: id })]);
    children.push([`gid-${id}`, file("g", { gid: id, mode: 0o6755 })]);
  }
  for (const length of [1, 2, 254, 255]) children.push(["n".repeat(length), file("name")]);
  children.push(["\xff\xfe not UTF-8 \x01\n\t", file("name")]);
  return treeOf(children);
}

Deno.test("times, owners and names at the ends of their ranges come back", async () => {
  const hasKernel = kernelOrNotice("reading times, owners and names");
  await withTemporaryDirectory(async (scratch) => {
    const made = await makeImage(`${scratch}/image`, attributesTree());
    assertSound(made);
    if (hasKernel) assertMounts(made);
  });
});

Deno.test("times out of range are clamped and counted, owners out of range are refused", async () => {
  await withTemporaryDirectory(async (scratch) => {
    const tree = treeOf({
      "early": file("", { mtime: -(2 ** 31) - 1 }),
      "late": file("", { mtime: [2 ** 34 - 2 ** 31, 5] }),
    });
    const made: MadeImage = await makeImage(`${scratch}/image`, tree);
    assertEquals(made.warnings.map(({ kind, count }) => [kind, count]), [["clampedTime", 2]]);
    assertMatch(made.warnings[0]!.message, /^\/early: its time, -2147483649 seconds/);
    assertSound(made);
    for (const id of [-1, 2 ** 32 - 1, 2 ** 32, 1.5]) {
      const owned = treeOf({ "f": file("", { uid: id }) });
      await assertRejects(() => makeImage(`${scratch}/none`, owned), InputError, "has owner");
    }
  });
});

Deno.test("many files of a block each fill group after group", async () => {
  const fileCount = 34_000;
  const children = Array.from(
    { length: fileCount },
    (_, i): [string, TreeNode] => [`f${i}`, unreadFile(1 + (i % 4096), i)],
  );
  await withTemporaryDirectory(async (scratch) => {
    for (const [layout, rules] of sweepCases(Object.entries(LAYOUTS), 2)) {
      const made = await makeBareImage(`${scratch}/image`, treeOf(children), rules);
      assertSound(made);
      assertGreater(made.plan.totalBlocks * BLOCK_SIZE_BYTES, GROUP_BYTES, layout);
      assertEquals(made.plan.summary.files, fileCount);
      // Packing to boundaries may cost some room, never as much as half.
      assertGreater(fileCount * BLOCK_SIZE_BYTES, made.plan.summary.paddingBytes * 2, layout);
    }
  });
});
