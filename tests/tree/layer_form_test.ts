import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { buildTree } from "../../lib/tree/build.ts";
import {
  layerItems,
  opaqueItem,
  refuseMarkerName,
  whiteoutItem,
} from "../../lib/tree/layer_form.ts";
import { overlayTrees } from "../../lib/tree/overlay.ts";
import { Warnings } from "../../lib/warnings.ts";
import { dir, file, special, treeOf } from "../oracle/tree_builder.ts";
import type { SimpleEntry } from "../tar/build.ts";
import { describeTree } from "./describe.ts";
import { layersOf, treeOptions } from "./layers.ts";
import { layerOfItems } from "./tar_round_trip.ts";

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
