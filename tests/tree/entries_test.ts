import { assert, assertEquals } from "@std/assert";
import { walkTree } from "../../lib/model/node.ts";
import { buildTree } from "../../lib/tree/build.ts";
import { NodeNamer, ROOT_ENTRY_PATH, treeItems } from "../../lib/tree/entries.ts";
import { Warnings } from "../../lib/warnings.ts";
import { describeDifference, firstDifference } from "../oracle/compare.ts";
import { Random } from "../oracle/noise.ts";
import { randomTree } from "../oracle/random_tree.ts";
import { dir, file, special, symlink, treeOf } from "../oracle/tree_builder.ts";
import { viewTree } from "../oracle/tree_view.ts";
import { copyTree } from "./changed_tree.ts";
import { treeOptions } from "./layers.ts";
import { layerOfItems } from "./tar_round_trip.ts";

Deno.test("treeItems names the root, directories first, and links by their first name", () => {
  const linked = file("x");
  const tree = treeOf({ b: dir({ c: linked }), a: symlink("b"), d: linked, s: special("socket") });
  const warnings = new Warnings();
  const items = [...treeItems(tree, warnings)];
  assertEquals(items.map(({ entry }) => [entry.kind, entry.path, entry.linkTarget]), [
    ["directory", ROOT_ENTRY_PATH, ""],
    ["symlink", "a", "b"],
    ["directory", "b/", ""],
    ["file", "b/c", ""],
    ["hardlink", "d", "b/c"],
  ]);
  assertEquals(warnings.list().map(({ kind }) => kind), ["skippedSocket"]);
});

Deno.test("treeItems through a tar give any tree back", async () => {
  let comparedCount = 0;
  for (let seed = 1; seed <= 20; seed++) {
    const tree = copyTree(randomTree(new Random(seed), {
      gridBytes: 131_072,
      contentBytesMax: 1 << 20,
      allowsLong: false,
      allowsBig: true,
      valueBytesMax: 100_000,
    }));
    // To compare the holes of the longest files takes a minute.
    const isLong = [...walkTree(tree)].some(({ node }) =>
      node.kind === "file" &&
      (node.payload.sizeBytes > 2 ** 24 || node.payload.segments.length > 99)
    );
    if (isLong) continue;
    comparedCount++;
    const layer = await layerOfItems(treeItems(tree, new Warnings(true)), false);
    const made = buildTree([layer], treeOptions({ warnings: new Warnings(true) }));
    const difference = firstDifference(viewTree(made), viewTree(tree), { sameHoles: true });
    assertEquals(difference && describeDifference(difference), undefined, `seed ${seed}`);
  }
  assert(comparedCount > 3);
});

Deno.test("NodeNamer gives the number of the first layer to files with data alone", () => {
  const namer = new NodeNamer(new Warnings());
  const [full, empty] = [file("x"), file("")];
  full.firstLayer = 2;
  empty.firstLayer = 2;
  assertEquals(namer.itemOf("/full", full)?.entry.firstLayer, 2);
  assertEquals(namer.itemOf("/empty", empty)?.entry.firstLayer, undefined);
});
