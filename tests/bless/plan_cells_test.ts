import { assertEquals } from "@std/assert";
import { differingCells } from "../../lib/bless/plan_cells.ts";
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { planImage } from "../../lib/bless/plan_image.ts";
import { writeImage } from "../../lib/ext4/write/write_image.ts";
import type { FileTree } from "../../lib/model/node.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";
import { Warnings } from "../../lib/warnings.ts";
import { dir, file, treeOf } from "../oracle/tree_builder.ts";

const GRIDS = [4096, 65_536, 131_072];

function planOf(tree: FileTree, gridBytes: number, content: string) {
  return planImage(tree, {
    layout: { ...MERGED_DEFAULTS, gridBytes, inlineData: content === "inline" },
    contentDigest: content,
    timestamp: 0,
    warnings: new Warnings(),
  });
}

async function bytesOf(tree: FileTree, gridBytes: number, content: string): Promise<Uint8Array> {
  const plan = planOf(tree, gridBytes, content);
  const image = new Uint8Array(plan.totalBlocks * 4096);
  const sink = {
    write: (bytes: Uint8Array, offset: number) => image.set(bytes, offset),
    finish: () => {},
    abort: () => {},
  };
  await writeImage(plan, sink, { progress: NO_PROGRESS });
  return image;
}

function countDifferent(a: Uint8Array, b: Uint8Array, cellBytes: number): number {
  let count = 0;
  for (let at = 0; at < Math.max(a.length, b.length); at += cellBytes) {
    const byteAt = (image: Uint8Array, i: number) => image[i] ?? 0;
    let isSame = true;
    for (let i = at; i < at + cellBytes && isSame; i++) isSame = byteAt(a, i) === byteAt(b, i);
    if (!isSame) count++;
  }
  return count;
}

/** Names give sizes, so that both trees have equal files. */
function sample(more: Parameters<typeof dir>[0] = {}): FileTree {
  const names = ["a", "bb", "ccc", "dddd", "eeeee"];
  const files = names.map((name, i) =>
    [name, file(name.repeat(3000 * (i + 1) * (i + 1)))] as const
  );
  return treeOf({ ...Object.fromEntries(files), ...more });
}

Deno.test("differingCells counts what comparing the written images counts", async () => {
  const others: [string, FileTree, string][] = [
    ["equal", sample(), "one"],
    ["another UUID", sample(), "two"],
    ["more", sample({ "b-more": file("x".repeat(300_000)), z: dir({ y: file("y") }) }), "three"],
    ["less", treeOf({ a: file("a".repeat(3000)) }), "four"],
    ["inline", sample({ small: file("small") }), "inline"],
  ];
  for (const gridBytes of GRIDS) {
    const image = await bytesOf(sample(), gridBytes, "one");
    for (const [name, tree, content] of others) {
      const other = await bytesOf(tree, gridBytes, content);
      const wanted = countDifferent(image, other, gridBytes);
      const plans = [planOf(sample(), gridBytes, "one"), planOf(tree, gridBytes, content)] as const;
      assertEquals(await differingCells(plans[0], plans[1]), wanted, `${name}, ${gridBytes}`);
    }
  }
});
