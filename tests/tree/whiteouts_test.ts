import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { walkTree } from "../../lib/model/node.ts";
import { buildTree } from "../../lib/tree/build.ts";
import { impliedDirectoryAttributes, LayerChanges, TreeIndex } from "../../lib/tree/layer.ts";
import { PathWalker, TreeBudget } from "../../lib/tree/paths.ts";
import {
  applyMarkers,
  findMarkers,
  isAufsLinkFile,
  noteOpaqueDirectories,
  refuseWhiteoutName,
} from "../../lib/tree/whiteouts.ts";
import { Warnings } from "../../lib/warnings.ts";
import type { SimpleEntry } from "../tar/build.ts";
import { DEFAULT_TIME, layerOf, layersOf, treeOptions } from "./layers.ts";

function find(...paths: string[]): ReturnType<typeof findMarkers> {
  return findMarkers(layerOf(paths.map((path) => ({ path }))).entries, ({ path }) => path);
}

Deno.test("findMarkers tells whiteouts, opaque markers and files apart", () => {
  const { markers, entryIndexes } = find("a", ".wh.b", "x.wh.y", "d/.wh..wh..opq", "d/.wh..x");
  assertEquals(markers.map(({ directory, name }) => [directory.join("/"), name]), [
    ["", "b"],
    ["d", undefined],
    ["d", ".x"],
  ]);
  assertEquals([...entryIndexes], [1, 3, 4]);
});

Deno.test("findMarkers gives shallow markers first, opaque before whiteouts, in byte order", () => {
  const paths = ["b/c/.wh.x", "b/.wh.z", ".wh.q", "b/.wh..wh..opq", "a/.wh.z", "b/.wh.y"];
  const sorted = [".wh.q", "a/.wh.z", "b/.wh..wh..opq", "b/.wh.y", "b/.wh.z", "b/c/.wh.x"];
  for (const order of [paths, paths.toReversed()]) {
    assertEquals(find(...order).markers.map(({ entry }) => entry.path), sorted);
  }
});

Deno.test("findMarkers sets AUFS metadata aside, in the root only", () => {
  const found = find(
    ".wh..wh.plnk",
    "./.wh..wh.plnk/1.2",
    ".wh..wh.plnk/deep/3.4",
    ".wh..wh.aufs",
    ".wh..wh..opq",
    "d/.wh..wh.aufs",
  );
  assertEquals(found.aufs?.count, 4);
  assertEquals(found.aufs?.first.path, ".wh..wh.plnk");
  assertEquals([...found.aufsLinkFiles], [["1.2", 1], ["3.4", 2]]);
  assertEquals(found.markers.map(({ name }) => name), [undefined, ".wh.aufs"]);
  assertEquals(isAufsLinkFile([".wh..wh.plnk", "1.2"]), true);
  assertEquals(isAufsLinkFile([".wh..wh.plnk"]), false);
  assertEquals(isAufsLinkFile(["d", ".wh..wh.plnk", "1.2"]), false);
});

Deno.test("findMarkers refuses markers without a name and paths through markers", () => {
  for (const path of [".wh.", "d/.wh..", "d/.wh...", "d/.wh."]) {
    assertThrows(() => find(path), InputError, "is not of a file name");
  }
  for (const path of [".wh.d/x", "a/.wh.d/.wh.x"]) {
    assertThrows(() => find(path), InputError, "leads through .wh.d");
  }
});

Deno.test("refuseWhiteoutName lets other names pass", () => {
  for (const name of ["a", ".wh", "wh.a", ".w"]) refuseWhiteoutName(name, () => "entry");
  assertThrows(() => refuseWhiteoutName(".wh.a", () => "entry"), InputError, ".wh.a");
});

Deno.test("findMarkers takes whiteouts of the longest names, and none of longer ones", () => {
  const marker = (length: number) =>
    findMarkers(layerOf([{ path: `.wh.${"n".repeat(length)}` }]).entries, ({ path }) => path);
  assertEquals(marker(255).markers.map(({ name }) => name?.length), [255]);
  assertThrows(() => marker(256), InputError, "ext4 allows");
});

/** Applies a layer's markers, and nothing else of it, to the tree of another layer. */
function apply(
  below: readonly SimpleEntry[],
  layer: readonly SimpleEntry[],
): { paths: string[]; changes: LayerChanges } {
  const tree = buildTree(layersOf([below]), treeOptions());
  const changes = new LayerChanges(new TreeIndex(), 1);
  const { entries } = layerOf(layer);
  const describe = ({ path }: { path: string }) => path;
  const context = {
    tree,
    layerIndex: 1,
    budget: new TreeBudget(),
    warnings: new Warnings(),
    impliedAttributes: impliedDirectoryAttributes(DEFAULT_TIME),
    changes,
  };
  applyMarkers(entries, findMarkers(entries, describe), context, describe);
  return { paths: [...walkTree(tree)].map(({ path }) => path).slice(1), changes };
}

const BELOW: readonly SimpleEntry[] = [
  { path: "d/e/x" },
  { path: "d/y" },
  { path: "s", link: "d/e" },
  { path: "loop", link: "loop" },
];

Deno.test("applyMarkers takes away names, and all names of opaque directories", () => {
  assertEquals(apply(BELOW, [{ path: "d/.wh.e" }]).paths, ["/d", "/d/y", "/loop", "/s"]);
  assertEquals(apply(BELOW, [{ path: "d/.wh..wh..opq" }]).paths, ["/d", "/loop", "/s"]);
  assertEquals(apply(BELOW, [{ path: ".wh..wh..opq" }]).paths, []);
});

Deno.test("applyMarkers goes through symlinks of lower layers", () => {
  const { paths, changes } = apply(BELOW, [{ path: "s/.wh.x" }]);
  assertEquals(paths, ["/d", "/d/e", "/d/y", "/loop", "/s"]);
  assertEquals(changes.usesLowerLayers, true);
});

Deno.test("applyMarkers goes through no symlink that the layer replaces", () => {
  const whole = apply(BELOW, []).paths;
  const marker = { path: "s/.wh..wh..opq" };
  for (const entry of [{ path: "s/" }, { path: "./s" }, { path: "d/../s/" }]) {
    const { paths, changes } = apply(BELOW, [marker, entry]);
    assertEquals(paths, whole);
    assertEquals(changes.usesLowerLayers, false);
  }
  assertEquals(apply(BELOW, [marker, { path: "s", link: "d/e" }]).paths.length, whole.length - 1);
  // A path that makes a loop is no reason to fail before its entry is reached.
  assertEquals(apply(BELOW, [marker, { path: "loop/x" }, { path: "s/" }]).paths, whole);
});

Deno.test("applyMarkers refuses a marker behind a loop", () => {
  assertThrows(() => apply(BELOW, [{ path: "loop/.wh.x" }]), InputError, "255 symlinks");
});

Deno.test("applyMarkers notes which markers hid something", () => {
  const { changes } = apply(BELOW, [{ path: "d/.wh.y" }, { path: "d/.wh.z" }, { path: "n/.wh.z" }]);
  assertEquals(changes.markers.map(({ isHiding }) => isHiding), [true, false, false]);
});

Deno.test("noteOpaqueDirectories marks new directories that have a marker, and sees what was dropped", () => {
  const tree = buildTree(
    layersOf([[{ path: "new/" }, { path: "again/" }, { path: "old/" }]]),
    treeOptions(),
  );
  const { root } = tree;
  const [fresh, again, old] = ["new", "again", "old"].map((name) => {
    const node = root.children.get(name)!;
    if (node.kind !== "directory") throw new Error(name);
    return node;
  });
  const settle = (...paths: string[]) => {
    const changes = new LayerChanges(new TreeIndex(), 1);
    changes.newDirectories.add(fresh!).add(again!);
    const { markers } = findMarkers(layerOf(paths.map((path) => ({ path }))).entries, () => "");
    for (const marker of markers) changes.markers.push({ marker, isHiding: false });
    noteOpaqueDirectories(new PathWalker(root, new TreeBudget()), changes);
    return changes;
  };
  const marked = settle("new/.wh..wh..opq", ".wh.again", "new/.wh.nothing");
  assertEquals([...marked.opaqueDirectories], [again, fresh]);
  assertEquals(marked.usesLowerLayers, false);
  for (const path of ["new/.wh.nothing", "old/.wh..wh..opq", ".wh.old", "nodir/.wh.x"]) {
    const dropped = settle(path);
    assertEquals(dropped.opaqueDirectories.has(old!), false);
    assertEquals(dropped.usesLowerLayers, true, path);
  }
});
