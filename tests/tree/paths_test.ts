import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import type { DirectoryNode } from "../../lib/model/node.ts";
import { buildTree } from "../../lib/tree/build.ts";
import {
  checkName,
  normalisePath,
  PathWalker,
  TreeBudget,
  type TreeLimits,
  type WalkRules,
} from "../../lib/tree/paths.ts";
import type { SimpleEntry } from "../tar/build.ts";
import { layersOf, treeOptions } from "./layers.ts";

const what = () => "entry";

Deno.test("normalisePath cuts at slashes and leaves out what names nothing", () => {
  for (const path of ["a/b", "./a/b", "a//b/", "a/./b/.", ".//./a/b//"]) {
    assertEquals(normalisePath(path, what), { names: ["a", "b"], clamped: false }, path);
  }
  for (const path of [".", "./", "/", "//", "/.", ""]) {
    assertEquals(normalisePath(path, what), { names: [], clamped: false }, path);
  }
  assertEquals(normalisePath(".../..a/a..", what).names, ["...", "..a", "a.."]);
});

Deno.test("normalisePath keeps paths inside the root and says so", () => {
  const cases: [string, string[]][] = [
    ["/a", ["a"]],
    ["../a", ["a"]],
    ["a/../../b", ["b"]],
    ["a/b/..", ["a"]],
    ["..", []],
    ["/../..", []],
  ];
  for (const [path, names] of cases) {
    assertEquals(normalisePath(path, what), { names, clamped: true }, path);
  }
});

Deno.test("normalisePath and checkName take names of 255 bytes and no more, and no NUL", () => {
  const longest = "n".repeat(255);
  assertEquals(normalisePath(`a/${longest}`, what).names, ["a", longest]);
  checkName(longest, what);
  for (const name of [`${longest}n`, "a\0"]) {
    assertThrows(() => normalisePath(`a/${name}/b`, what), InputError, "entry: the name");
    assertThrows(() => checkName(name, what), InputError, "entry: the name");
  }
});

const RULES: WalkRules = { onGap: () => undefined, onSymlink: () => true };

function rootOf(...entries: SimpleEntry[]): DirectoryNode {
  return buildTree(layersOf([entries]), treeOptions()).root;
}

function walk(
  root: DirectoryNode,
  path: string,
  rules = RULES,
  limits: Partial<TreeLimits> = {},
): DirectoryNode | undefined {
  const names = path.split("/");
  return new PathWalker(root, new TreeBudget(limits)).walk(names, names.length, rules, what);
}

Deno.test("PathWalker walks directories and symlinks, and stays in the root", () => {
  const root = rootOf(
    { path: "a/b/c/" },
    { path: "relative", link: "a/b" },
    { path: "a/absolute", link: "/a//./b/" },
    { path: "a/b/up", link: "../../../../a/b/c" },
    { path: "a/top", link: "/.." },
    { path: "chain", link: "a/top/relative" },
  );
  const directory = walk(root, "a/b/c")!;
  assertEquals(directory.kind, "directory");
  for (const path of ["relative/c", "a/absolute/c", "a/b/up", "chain/c", "a/top/a/b/c"]) {
    assertStrictEquals(walk(root, path), directory, path);
  }
  assertStrictEquals(walk(root, "a/top"), root);
});

Deno.test("PathWalker walks the first names only, as many as it is told", () => {
  const root = rootOf({ path: "a/b/" });
  const walker = new PathWalker(root, new TreeBudget());
  assertStrictEquals(walker.walk(["a", "b"], 0, RULES, what), root);
  assertStrictEquals(walker.walk(["a", "b"], 1, RULES, what), root.children.get("a"));
});

Deno.test("PathWalker asks what to do at a gap, with what is there instead of a directory", () => {
  const root = rootOf({ path: "d/file" }, { path: "s", link: "d/new/file" });
  const gaps: string[] = [];
  const rules: WalkRules = {
    ...RULES,
    onGap: (parent, name, found) => {
      gaps.push(`${name}: ${found?.kind}`);
      return name === "new" ? parent : undefined;
    },
  };
  assertEquals(walk(root, "s/x", rules), undefined);
  assertEquals(gaps, ["new: undefined", "file: file"]);
});

Deno.test("PathWalker gives up where a rule does not follow a symlink", () => {
  const root = rootOf({ path: "d/e/" }, { path: "d/s", link: "e" });
  const seen: string[] = [];
  const rules: WalkRules = {
    ...RULES,
    onSymlink: (parent, name, symlink) => {
      assertStrictEquals(parent, root.children.get("d"));
      seen.push(`${name} -> ${symlink.target}`);
      return false;
    },
  };
  assertEquals(walk(root, "d/s", rules), undefined);
  assertEquals(seen, ["s -> e"]);
});

Deno.test("PathWalker refuses loops and depth, or leads nowhere when it is lenient", () => {
  const root = rootOf(
    { path: "a", link: "b" },
    { path: "b", link: "./a" },
    { path: "self", link: "self/self" },
    { path: "d/d/d/" },
    { path: "r", link: "." },
  );
  const lenient = { ...RULES, lenient: true };
  const cases: [string, Partial<TreeLimits>][] = [
    ["a", {}],
    ["self", {}],
    ["d/d/d", { pathDepth: 3 }],
    ["r/d/d/d", { pathDepth: 3 }],
    ["r/r", { symlinkHops: 1 }],
  ];
  for (const [path, limits] of cases) {
    assertThrows(() => walk(root, path, RULES, limits), InputError, "entry: the path");
    assertEquals(walk(root, path, lenient, limits), undefined, path);
  }
  assertEquals(walk(root, "d/d/d", RULES, { pathDepth: 4 })?.kind, "directory");
  assertEquals(walk(root, "r", RULES, { symlinkHops: 1 })?.kind, "directory");
});
