import { assertEquals } from "@std/assert";
import process from "node:process";
import fc from "fast-check";
import { buildTree } from "../../lib/tree/build.ts";
import { type OverlayTree, overlayTrees } from "../../lib/tree/overlay.ts";
import type { SimpleEntry } from "../tar/build.ts";
import { describeTree, withoutWhiteoutDevices } from "./describe.ts";
import { layersOf, treeOptions } from "./layers.ts";
import { randomEntries, randomStacks, withoutRefusedEntries } from "./random_layers.ts";
import { stackTrees } from "./stack.ts";

const RUN_COUNT = Number(process.env["BLESSFS_PROPERTY_RUNS"] ?? 1000);

Deno.test("overlayTrees stacked by overlayfs' rules shows the merged tree, attribute for attribute", () => {
  fc.assert(
    fc.property(randomStacks, (random) => {
      const stack = withoutRefusedEntries(random, (layers) => buildTree(layers, treeOptions()));
      const { tree, linkCounts } = stackTrees(overlayTreesOf(stack).map((layer) => layer.tree));
      const merged = buildTree(layersOf(stack), treeOptions());
      assertEquals(describeTree(tree, linkCounts), withoutWhiteoutDevices(merged));
    }),
    { numRuns: RUN_COUNT },
  );
});

Deno.test("overlayTrees returns the tree that buildTree makes, and warns of the same", () => {
  fc.assert(
    fc.property(randomStacks, (random) => {
      const stack = withoutRefusedEntries(random, (layers) => buildTree(layers, treeOptions()));
      const forLayers = treeOptions();
      const forTree = treeOptions();
      const generator = overlayTrees(layersOf(stack), forLayers);
      let step = generator.next();
      while (!step.done) step = generator.next();
      const merged = buildTree(layersOf(stack), forTree);
      assertEquals(describeTree(step.value), describeTree(merged));
      assertEquals(
        forLayers.warnings!.list().filter(({ kind }) => kind !== "whiteoutDevice"),
        forTree.warnings!.list(),
      );
    }),
    { numRuns: RUN_COUNT / 10 },
  );
});

Deno.test("overlayTrees makes equal trees of a self-contained layer whatever is below it", () => {
  let compared = 0;
  fc.assert(
    fc.property(randomStacks, randomStacks, randomEntries, (below, otherBelow, entries) => {
      const one = topTree(below, entries);
      const other = topTree(otherBelow, one.entries);
      // What one stack refuses, the other must not be compared with.
      if (other.entries.length !== one.entries.length) return;
      if (!one.top.isSelfContained || !other.top.isSelfContained) return;
      compared++;
      assertEquals(describeTree(one.top.tree), describeTree(other.top.tree));
    }),
    { numRuns: RUN_COUNT },
  );
  if (compared < RUN_COUNT / 10) {
    throw new Error(`only ${compared} of ${RUN_COUNT} layers were self-contained`);
  }
});

function topTree(
  below: readonly SimpleEntry[][],
  entries: readonly SimpleEntry[],
): { top: OverlayTree; entries: readonly SimpleEntry[] } {
  const stack = withoutRefusedEntries(
    [...below, [...entries]],
    (layers) => buildTree(layers, treeOptions()),
  );
  return { top: overlayTreesOf(stack).at(-1)!, entries: stack.at(-1)! };
}

function overlayTreesOf(stack: readonly (readonly SimpleEntry[])[]): OverlayTree[] {
  return [...overlayTrees(layersOf(stack), treeOptions())];
}
