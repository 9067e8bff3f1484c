import process from "node:process";
import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { walkTree } from "../../lib/model/node.ts";
import { buildTree } from "../../lib/tree/build.ts";
import {
  layerItems,
  NodeNamer,
  opaqueItem,
  refuseMarkerName,
  ROOT_ENTRY_PATH,
  treeItems,
  whiteoutItem,
} from "../../lib/tree/tar.ts";
import { overlayTrees } from "../../lib/tree/overlay.ts";
import { Warnings } from "../../lib/warnings.ts";
import { describeDifference, firstDifference } from "../oracle/compare.ts";
import { Random } from "../oracle/noise.ts";
import { randomTree } from "../oracle/random_tree.ts";
import { dir, file, special, symlink, treeOf } from "../oracle/tree_builder.ts";
import { viewTree } from "../oracle/tree_view.ts";
import type { SimpleEntry } from "../tar/build.ts";
import { copyTree } from "./changed_tree.ts";
import { describeTree } from "./describe.ts";
import { layersOf, treeOptions } from "./layers.ts";
import { layerOfItems } from "./tar_round_trip.ts";

const TREE_COUNT = Number(process.env["BLESSFS_TREE_SEEDS"] ?? 4);

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
  for (let seed = 1; comparedCount < TREE_COUNT; seed++) {
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
});

Deno.test("NodeNamer gives the number of the first layer to files with data alone", () => {
  const namer = new NodeNamer(new Warnings());
  const [full, empty] = [file("x"), file("")];
  full.firstLayer = 2;
  empty.firstLayer = 2;
  assertEquals(namer.itemOf("/full", full)?.entry.firstLayer, 2);
  assertEquals(namer.itemOf("/empty", empty)?.entry.firstLayer, undefined);
});

const LOWER: SimpleEntry[] = [
  { path: "gone" },
  { path: "opaque/" },
  { path: "opaque/a" },
  { path: "kept/" },
  { path: "kept/a" },
];
const UPPER: SimpleEntry[] = [
  { path: ".wh.gone" },
  { path: "opaque/.wh..wh..opq" },
  { path: "opaque/b" },
  { path: "kept/.wh.a" },
  { path: "new", xattrs: { "trusted.overlay.metacopy": "x", "user.y": "z" } },
  { path: "link", kind: "hardlink", link: "new" },
];

Deno.test("layerItems give an OCI layer that becomes the same tree for overlayfs again", async () => {
  const [lower, upper] = layersOf([LOWER, UPPER]);
  const treeOfTop = (top: typeof upper) =>
    [...overlayTrees([lower!, top!], treeOptions())].at(-1)!.tree;
  const tree = treeOfTop(upper);
  const items = [...layerItems(tree, new Warnings(true))];
  const whiteouts = items.map(({ entry }) => entry.path).filter((path) => path.includes(".wh."));
  assertEquals(whiteouts, [".wh.gone", "kept/.wh.a", "opaque/.wh..wh..opq"]);
  const again = treeOfTop(await layerOfItems(items, true));
  assertEquals(describeTree(again), describeTree(tree));
  // And on the lower layer it gives what the layer itself gives.
  const merged = buildTree([lower!, await layerOfItems(items, true)], treeOptions());
  assertEquals([...merged.root.children.keys()].sort(), ["kept", "link", "new", "opaque"]);
});

Deno.test("layerItems refuse what a layer cannot say", () => {
  const refuse = (children: Parameters<typeof treeOf>[0], why: string) =>
    assertThrows(
      () => [...layerItems(treeOf(children), new Warnings())],
      InputError,
      why,
    );
  refuse({ ".wh.name": file() }, "would be whiteouts");
  refuse({ ".wh.name": special("characterDevice") }, "would be whiteouts");
  refuse({ a: dir({}, { xattrs: { "trusted.overlay.redirect": "/b" } }) }, "no meaning in a layer");
});

Deno.test("whiteoutItem and opaqueItem are empty files with the names of the specification", () => {
  assertEquals(whiteoutItem("/a/b").entry.path, "a/.wh.b");
  assertEquals(whiteoutItem("/b").entry.path, ".wh.b");
  assertEquals(opaqueItem("/a").entry.path, "a/.wh..wh..opq");
  assertThrows(() => whiteoutItem("/a/.wh.b"), InputError);
  assertThrows(() => refuseMarkerName("/.wh."), InputError);
  assertThrows(() => refuseMarkerName("/.wh.directory/name"), InputError);
  refuseMarkerName("/a.wh./b");
});
