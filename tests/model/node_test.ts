import { assertEquals } from "@std/assert";
import type { DirectoryNode, NodeAttributes, SymlinkNode } from "../../lib/model/node.ts";
import { sortedChildren, sortedNames, walkTree } from "../../lib/model/node.ts";

const attributes: NodeAttributes = {
  mode: 0o755,
  uid: 0,
  gid: 0,
  mtimeSeconds: 0,
  mtimeNanoseconds: 0,
  xattrs: [],
};
const origin = { layerIndex: 0, entryIndex: 0 };

function directory(children: [string, DirectoryNode | SymlinkNode][]): DirectoryNode {
  return { kind: "directory", attributes, origin, children: new Map(children) };
}

const link: SymlinkNode = { kind: "symlink", attributes, origin, target: "x" };

Deno.test("sortedChildren goes by bytes, not by language", () => {
  const node = directory([["b", link], ["\xe4", link], ["B", link], ["a", link]]);
  assertEquals(sortedChildren(node).map(([name]) => name), ["B", "a", "b", "\xe4"]);
});

Deno.test("walkTree visits a directory before its children and every name once", () => {
  const root = directory([["b", link], ["a", directory([["z", link], ["y", directory([])]])]]);
  const paths = [...walkTree({ root })].map(({ path }) => path);
  assertEquals(paths, ["", "/a", "/a/y", "/a/z", "/b"]);
});

Deno.test("walkTree has no limit of depth", () => {
  let root = directory([]);
  for (let i = 0; i < 3000; i++) root = directory([["d", root]]);
  assertEquals([...walkTree({ root })].length, 3001);
});

Deno.test("sortedNames leaves names in order as they are, and sorts others by bytes", () => {
  for (
    const given of [[], ["a"], ["B", "a", "a.b", "a/", "\xe4"], ["\xe4", "a", "B"], ["a", "B"]]
  ) {
    const names = new Set(given);
    assertEquals(sortedNames(names.keys()), given.toSorted());
    assertEquals([...names], given);
  }
});
