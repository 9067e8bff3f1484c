import { assertEquals } from "@std/assert";
import type { LayoutOptions } from "../../lib/bless/options.ts";
import type { FileTree, TreeNode } from "../../lib/model/node.ts";
import { withTemporaryDirectory } from "../oracle/command.ts";
import { kernelOrNotice } from "../oracle/kernel.ts";
import { sweepCases } from "../oracle/sweeps.ts";
import { dir, file, special, symlink, treeOf } from "../oracle/tree_builder.ts";
import {
  assertAligned,
  assertMounts,
  assertSound,
  KIB,
  LAYOUTS,
  makeBareImage,
  makeImage,
  MIB,
  unreadFile,
} from "./made_image.ts";

/** Makes and checks one image for each way of packing. */
async function checkCase(
  what: string,
  tree: FileTree,
  choices: Partial<LayoutOptions> = {},
): Promise<void> {
  const hasKernel = kernelOrNotice(`mounting: ${what}`);
  await withTemporaryDirectory(async (scratch) => {
    for (const [layout, rules] of Object.entries(LAYOUTS)) {
      try {
        const made = await makeImage(`${scratch}/image`, tree, { ...choices, ...rules });
        assertSound(made);
        if (hasKernel) assertMounts(made);
      } catch (error) {
        throw new Error(`${what}, ${layout}: ${(error as Error).message}`, { cause: error });
      }
    }
  });
}

Deno.test("an image of one group holds every kind of node", async () => {
  const shared = file("one inode, three names", { uid: 1000, gid: 100 });
  const tree = treeOf({
    "bin": dir({ "sh": file({ sizeBytes: 900_001, noise: "all", seed: 1 }, { mode: 0o755 }) }),
    "a": shared,
    "empty": file(""),
    "links": dir({ "b": shared, "c": shared, "dangling": symlink("../nowhere") }),
    "dev": dir({
      "null": special("characterDevice", [1, 3], { mode: 0o666 }),
      "sda": special("blockDevice", [8, 0]),
      "fifo": special("fifo"),
      "socket": special("socket"),
    }, { mode: 0o1777 }),
  });
  await checkCase("one group", tree);
});

Deno.test("an empty tree is an image", async () => {
  await checkCase("empty tree", treeOf({}), { journalBytes: 0 });
});

Deno.test("an image of several groups holds its files whole", async () => {
  const names: [string, TreeNode][] = [];
  for (let i = 0; i < 20; i++) {
    names.push([`file-${i}`, file({ sizeBytes: 7 * MIB + i * 4099, noise: "all", seed: i })]);
    names.push([`small-${i}`, file({ sizeBytes: 1 + i * 997, noise: "all", seed: 100 + i })]);
  }
  await checkCase("several groups", treeOf(names));
});

Deno.test("a file that a backup cuts in two is whole, whatever the sizes around it", async () => {
  for (const beforeBytes of sweepCases([123 * MIB + 4097, 100 * MIB], 2)) {
    const tree = treeOf({
      "1-before": file({ sizeBytes: beforeBytes, noise: "all", seed: 3 }),
      "2-over": file({ sizeBytes: 30 * MIB + 1, noise: "all", seed: 4 }),
      "3-behind": file({ sizeBytes: 70_000, noise: "all", seed: 5 }),
    });
    await checkCase(`cut after ${beforeBytes}`, tree);
  }
});

const STRADDLE_MIB = sweepCases(Array.from({ length: 17 }, (_, i) => 120 + i), 4);

for (const [layout, rules] of Object.entries(LAYOUTS)) {
  Deno.test(`one file of 120 to 136 MiB passes the first backup: ${layout}`, async () => {
    const hasKernel = kernelOrNotice("asking the kernel where straddling files lie");
    await withTemporaryDirectory(async (scratch) => {
      for (const sizeMib of STRADDLE_MIB) {
        for (const extraBytes of [0, 5000]) {
          const tree = treeOf({
            "before": unreadFile(extraBytes + 1),
            "over": unreadFile(sizeMib * MIB + extraBytes),
            "then": unreadFile(70_001, 2),
          });
          const made = await makeBareImage(`${scratch}/image`, tree, rules);
          assertSound(made);
          if (hasKernel) assertAligned(made);
        }
      }
    });
  });
}

Deno.test("straddling files are byte-exact", async () => {
  for (const sizeBytes of sweepCases([124 * MIB + 5000, 136 * MIB - 1], 2)) {
    const tree = treeOf({
      "before": file("x"),
      "over": file({ sizeBytes, noise: "all", seed: 8 }),
      "then": file({ sizeBytes: 70_001, noise: "all", seed: 9 }),
    });
    await checkCase(`straddle of ${sizeBytes}`, tree);
  }
});

Deno.test("inode tables and the names of 30,500 to 31,500 files pass the first backup", async () => {
  await withTemporaryDirectory(async (scratch) => {
    for (const fileCount of sweepCases([31_000, 30_500, 31_500], 3)) {
      const children = Array.from({ length: fileCount }, (_, i): [string, TreeNode] => {
        return [`file-${i}`, file(`content ${i}`)];
      });
      const tree = treeOf({ "many": dir(children) });
      for (const rules of sweepCases(Object.values(LAYOUTS), 3)) {
        const made = await makeBareImage(`${scratch}/image`, tree, rules);
        assertSound(made);
      }
    }
  });
});

Deno.test("files below and above the threshold cross the first backup together", async () => {
  const children: [string, TreeNode][] = [];
  for (let i = 0; i < 2_200; i++) {
    children.push([`f${i}`, unreadFile(i % 3 === 0 ? 150 * KIB + i : 3 * KIB + i * 13, i)]);
  }
  const tree = treeOf(children);
  const hasKernel = kernelOrNotice("asking the kernel where mixed files lie");
  await withTemporaryDirectory(async (scratch) => {
    for (const rules of Object.values(LAYOUTS)) {
      const made = await makeBareImage(`${scratch}/image`, tree, {
        ...rules,
        gridBytes: 128 * KIB,
      });
      assertEquals(made.plan.geometry.groupCount > 1, true);
      assertSound(made);
      if (hasKernel) assertAligned(made);
    }
  });
});

/** Enough of a file for it to have a block in every cell of every group up to this one. */
function sparseUpTo(group: number): FileTree {
  const sizeBytes = (group * 128 + 20) * MIB;
  const noise = Array.from(
    { length: group * 128 + 20 },
    (_, i) => [i * MIB, 4096] as const,
  );
  return treeOf({
    "sparse": file({ sizeBytes, noise, seed: 11 }),
    "then": file({ sizeBytes: 130 * KIB, noise: "all", seed: 12 }),
  });
}

for (const group of sweepCases([1, 3, 5, 7, 9, 25, 27], 3)) {
  Deno.test(`payload passes the backup in group ${group}`, async () => {
    const hasKernel = kernelOrNotice(`mounting images with payload around group ${group}`);
    await withTemporaryDirectory(async (scratch) => {
      const path = `${scratch}/image`;
      for (const [layout, rules] of Object.entries(LAYOUTS)) {
        // Without alignment holes take no room, so there the file has none.
        const isDense = layout === "none";
        const dense = treeOf({ "dense": unreadFile((group * 128 + 20) * MIB) });
        const made = isDense
          ? await makeBareImage(path, dense, rules)
          : await makeImage(path, sparseUpTo(group), { ...rules, gridBytes: 1 * MIB });
        assertEquals(made.plan.geometry.groupCount > group, true);
        assertSound(made);
        if (hasKernel) assertAligned(made);
        if (hasKernel && layout === "resync") assertMounts(made);
      }
    });
  });
}

Deno.test("files of whole cells, a block and a byte more and less, lie alone in their cells", async () => {
  const children: [string, TreeNode][] = [];
  for (const cellBytes of [64 * KIB, 128 * KIB]) {
    for (const cellCount of [1, 2, 3, 8]) {
      for (const offBytes of [-4097, -4096, -4095, -1, 0, 1, 4095, 4096, 4097]) {
        const sizeBytes = cellCount * cellBytes + offBytes;
        const seed = children.length;
        children.push([`f-${seed}-${sizeBytes}`, file({ sizeBytes, noise: "all", seed })]);
        children.push([`f-${seed}-small`, file({ sizeBytes: 100 + seed, noise: "all", seed })]);
      }
    }
  }
  for (const gridBytes of sweepCases([4 * KIB, 64 * KIB, 128 * KIB, 1 * MIB], 2)) {
    await checkCase(`cells of ${gridBytes}`, treeOf(children), { gridBytes });
  }
});
