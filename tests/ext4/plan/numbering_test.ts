import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { numberTree, storedLinkCount } from "../../../lib/ext4/plan/numbering.ts";
import type { TreeNode } from "../../../lib/model/node.ts";
import { dir, file, treeOf } from "../../oracle/tree_builder.ts";

Deno.test("numberTree numbers nodes in path order, whatever the order they came in", () => {
  const shared = file("x");
  const forwards = treeOf([["a", dir({ "z": shared })], ["b", shared], ["a.b", dir()]]);
  const backwards = treeOf([["a.b", dir()], ["b", shared], ["a", dir({ "z": shared })]]);
  for (const tree of [forwards, backwards]) {
    const { nodes, nextInodeNumber } = numberTree(tree);
    assertEquals(
      nodes.map(({ path, inodeNumber, linkCount }) => [path, inodeNumber, linkCount]),
      [["", 2, 4], ["/a", 11, 2], ["/a/z", 12, 2], ["/a.b", 13, 2]],
    );
    assertEquals(nextInodeNumber, 14);
  }
});

Deno.test("numberTree knows parents and every node's number", () => {
  const inner = file("x");
  const tree = treeOf({ "d": dir({ "f": inner }) });
  const { nodes, inodeNumberOf } = numberTree(tree);
  assertEquals(nodes.map(({ parentInodeNumber }) => parentInodeNumber), [2, 2, 11]);
  assertEquals([inodeNumberOf(tree.root), inodeNumberOf(inner)], [2, 12]);
});

Deno.test("numberTree refuses a directory with two names and a file with too many", () => {
  const twice = dir();
  const tree = treeOf({ "a": twice, "b": twice });
  assertThrows(() => numberTree(tree), InputError, "/b: is a second name of a directory");
  const shared = file("x");
  const names = Array.from({ length: 65_001 }, (_, i): [string, TreeNode] => [`${i}`, shared]);
  assertThrows(() => numberTree(treeOf(names)), InputError, "more than 65000 hard links");
});

Deno.test("storedLinkCount says 1 for a directory past the limit", () => {
  const numbered = (node: TreeNode, linkCount: number) => ({ node, linkCount });
  assertEquals(storedLinkCount(numbered(dir(), 65_000)), 65_000);
  assertEquals(storedLinkCount(numbered(dir(), 65_001)), 1);
  assertEquals(storedLinkCount(numbered(file("x"), 65_000)), 65_000);
});
