import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import {
  ascendingNumbers,
  draftInodes,
  type DraftOptions,
  inlineDataXattr,
  NodeDraft,
  numberTree,
} from "../../../lib/ext4/plan/inode_drafts.ts";
import type { FileTree, TreeNode } from "../../../lib/model/node.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { dir, file, symlink, treeOf } from "../../oracle/tree_builder.ts";

Deno.test("numberTree numbers nodes in path order, whatever the order they came in", () => {
  const shared = file("x");
  const forwards = treeOf([["a", dir({ "z": shared })], ["b", shared], ["a.b", dir()]]);
  const backwards = treeOf([["a.b", dir()], ["b", shared], ["a", dir({ "z": shared })]]);
  for (const tree of [forwards, backwards]) {
    assertEquals(
      numberTree(tree, ascendingNumbers()).map((
        { path, inodeNumber, linkCount },
      ) => [path, inodeNumber, linkCount]),
      [["", 2, 4], ["/a", 11, 2], ["/a/z", 12, 2], ["/a.b", 13, 2]],
    );
  }
});

Deno.test("numberTree knows parents and every node's number", () => {
  const inner = file("x");
  const tree = treeOf({ "d": dir({ "f": inner }), "e": inner });
  const nodes = numberTree(tree, ascendingNumbers());
  assertEquals(nodes.map(({ parentInodeNumber }) => parentInodeNumber), [2, 2, 11]);
  assertEquals(nodes.map(({ node, inodeNumber }) => [node, inodeNumber]), [
    [tree.root, 2],
    [tree.root.children.get("d"), 11],
    [inner, 12],
  ]);
});

Deno.test("numberTree refuses a directory with two names and a file with too many", () => {
  const twice = dir();
  const tree = treeOf({ "a": twice, "b": twice });
  assertThrows(
    () => numberTree(tree, ascendingNumbers()),
    InputError,
    "/b: is a second name of a directory",
  );
  const shared = file("x");
  const names = Array.from({ length: 65_001 }, (_, i): [string, TreeNode] => [`${i}`, shared]);
  const number = () => numberTree(treeOf(names), ascendingNumbers());
  assertThrows(number, InputError, "more than 65000 hard links");
});

Deno.test("linkCount is 1 for a directory past the limit", () => {
  const counts = (node: TreeNode, linkCount: number) => {
    const draft = new NodeDraft(11, node, undefined, "x");
    while (--linkCount > (node.kind === "directory" ? 1 : 0)) draft.addLink();
    return draft.linkCount;
  };
  assertEquals([counts(dir(), 65_000), counts(dir(), 65_001)], [65_000, 1]);
  assertEquals(counts(file("x"), 65_000), 65_000);
});

function draft(tree: FileTree, choices: Partial<DraftOptions> = {}) {
  return draftInodes(tree, {
    seed: 5,
    metadataChecksums: true,
    inlineData: false,
    valueInodesRefusedBy: undefined,
    warnings: new Warnings(),
    ...choices,
  });
}

function nodeDraft(tree: FileTree, path: string, choices: Partial<DraftOptions> = {}): NodeDraft {
  return draft(tree, choices).nodes.find((node) => node.path === path)!;
}

Deno.test("draftInodes puts nodes first and attribute values behind them", () => {
  const xattrs = { "user.large": new Uint8Array(5000) };
  const tree = treeOf({ "a": file("x", { xattrs }), "d": dir({ "b": file("y", { xattrs }) }) });
  const { nodes, values, lastInodeNumber } = draft(tree);
  assertEquals(nodes.map(({ inodeNumber }) => inodeNumber), [2, 11, 12, 13]);
  assertEquals(values.map(({ inodeNumber }) => inodeNumber), [14]);
  assertEquals(lastInodeNumber, 14);
  assertEquals(draft(treeOf({})).lastInodeNumber, 10);
});

Deno.test("directories and long symlinks have content of their own, short symlinks have none", () => {
  const many = Array.from({ length: 500 }, (_, i): [string, TreeNode] => [`entry-${i}`, file("")]);
  const tree = treeOf({
    "d": dir({ "f": file("") }),
    "hashed": dir(many),
    "fast": symlink("t".repeat(59)),
    "slow": symlink("t".repeat(60)),
    "f": file("content"),
  });
  assertEquals(nodeDraft(tree, "/d").content?.blockCount, 1);
  assertEquals(nodeDraft(tree, "/d").isIndexed, false);
  assertEquals(nodeDraft(tree, "/hashed").isIndexed, true);
  assertEquals(nodeDraft(tree, "/fast").content, undefined);
  const slow = nodeDraft(tree, "/slow").content!;
  assertEquals(slow.encode().indexOf(0), 60);
  assertEquals(slow.encode().length, 4096);
  assertEquals(nodeDraft(tree, "/f").content, undefined);
});

Deno.test("only files that fit beside their attributes are inline, and only where asked for", () => {
  const tree = treeOf({
    "empty": file(""),
    "small": file("x".repeat(60)),
    "beside": file("x".repeat(100), { xattrs: { "user.a": "a".repeat(30) } }),
    "large": file("x".repeat(200)),
  });
  const inline = (path: string, inlineData: boolean) =>
    nodeDraft(tree, path, { inlineData }).isInline;
  const paths = ["/empty", "/small", "/beside", "/large"];
  assertEquals(paths.map((path) => inline(path, true)), [false, true, false, false]);
  assertEquals(paths.map((path) => inline(path, false)), [false, false, false, false]);
});

Deno.test("inlineDataXattr holds what i_block does not", () => {
  const { nameIndex, suffix, value } = inlineDataXattr(
    Uint8Array.from({ length: 70 }, (_, i) => i),
  );
  assertEquals([nameIndex, suffix], [7, "data"]);
  assertEquals([...value], [60, 61, 62, 63, 64, 65, 66, 67, 68, 69]);
  assertEquals(inlineDataXattr(new Uint8Array(3)).value.length, 0);
});

Deno.test("draftInodes refuses targets and sizes that ext4 has no room for", () => {
  assertThrows(() => draft(treeOf({ "l": symlink("") })), InputError, "/l: its target has 0 bytes");
  const long = symlink("t".repeat(4096));
  assertThrows(() => draft(treeOf({ "l": long })), InputError, "wanted 1 to 4095");
  const huge = file({ sizeBytes: 2 ** 44 - 4095, parts: [] });
  assertThrows(() => draft(treeOf({ "f": huge })), InputError, "ext4 files have at most");
  draft(treeOf({ "f": file({ sizeBytes: 2 ** 44 - 4096, parts: [] }) }));
});
