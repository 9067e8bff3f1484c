import { assertEquals } from "@std/assert";
import { displayName } from "../../lib/bytes/byte_string.ts";
import { type FileTree, walkTree } from "../../lib/model/node.ts";
import { buildTree } from "../../lib/tree/build.ts";
import { rankPayloads } from "../../lib/tree/layer.ts";
import { Random } from "../oracle/noise.ts";
import { dir, file, treeOf } from "../oracle/tree_builder.ts";
import type { SimpleEntry } from "../tar/build.ts";
import { layersOf, treeOptions } from "./layers.ts";

function firstLayers(...layers: (readonly SimpleEntry[])[]): Record<string, number | undefined> {
  const tree: FileTree = buildTree(layersOf(layers), treeOptions());
  return Object.fromEntries(
    [...walkTree(tree)].slice(1).map(({ path, node }) => [displayName(path), node.firstLayer]),
  );
}

Deno.test("FirstLayers tells the layer that a path came with, though another replaced its file", () => {
  assertEquals(
    firstLayers(
      [{ path: "a" }, { path: "b" }],
      [{ path: "b" }, { path: "c" }],
      [{ path: "c" }, { path: "b" }, { path: "d" }],
    ),
    { "/a": 0, "/b": 0, "/c": 1, "/d": 2 },
  );
});

Deno.test("FirstLayers remembers names that whiteouts took away, through layers without them", () => {
  assertEquals(
    firstLayers(
      [{ path: "a" }, { path: "d/x" }, { path: "d/e/y" }, { path: "o/z" }],
      [{ path: ".wh.a" }, { path: ".wh.d" }, { path: "o/.wh..wh..opq" }, { path: "o/new" }],
      [{ path: "b" }],
      [{ path: "a" }, { path: "d/x" }, { path: "d/e/y" }, { path: "d/new" }, { path: "o/z" }],
    ),
    {
      "/a": 0,
      "/b": 2,
      "/d": 0,
      "/d/e": 0,
      "/d/e/y": 0,
      "/d/new": 3,
      "/d/x": 0,
      "/o": 0,
      "/o/new": 1,
      "/o/z": 0,
    },
  );
});

Deno.test("FirstLayers remembers names of a directory that was taken away twice", () => {
  const away = [{ path: ".wh.d" }];
  assertEquals(
    firstLayers([{ path: "d/x" }], away, [{ path: "d/y" }], away, [
      { path: "d/x" },
      { path: "d/y" },
      { path: "d/z" },
    ]),
    { "/d": 0, "/d/x": 0, "/d/y": 2, "/d/z": 4 },
  );
});

Deno.test("FirstLayers takes the lowest layer of all names of a node, whatever had the name", () => {
  assertEquals(
    firstLayers(
      [{ path: "was-link", kind: "symlink", link: "x" }, { path: "was-directory/x" }],
      [
        { path: "f" },
        { path: "was-link", kind: "hardlink", link: "f" },
        { path: "was-directory" },
        { path: "late", kind: "hardlink", link: "later" },
        { path: "later" },
      ],
      [{ path: "late2", kind: "hardlink", link: "later" }],
    ),
    { "/f": 0, "/was-link": 0, "/was-directory": 0, "/late": 1, "/later": 1, "/late2": 1 },
  );
});

Deno.test("rankPayloads finds numbers that sort any order back", () => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = new Random(seed);
    const files = Array.from({ length: random.below(30) }, () => file("x"));
    const place = new Map(files.map((node) => [node, random.below(40)]));
    const tree = treeOf(dir(files.map((node, i) => [`${i + 10}`, node] as const)));
    rankPayloads(tree, (node) => place.get(node));
    const wanted = [...files].sort((a, b) => place.get(a)! - place.get(b)!);
    assertEquals([...files].sort((a, b) => a.firstLayer! - b.firstLayer!), wanted);
  }
});

Deno.test("rankPayloads begins no number for files without data or without a place", () => {
  const [a, b, c, d] = [file("a"), file(""), file("c"), file("d")];
  const tree = treeOf({ a, b, c, d });
  const places = new Map([[a, 2], [b, 1], [d, 3]]);
  rankPayloads(tree, (node) => places.get(node));
  const numbers = [...walkTree(tree)].slice(1).map(({ node }) => node.firstLayer);
  assertEquals(numbers, [0, 0, 0, 0]);
});
