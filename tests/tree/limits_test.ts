import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { buildTree } from "../../lib/tree/build.ts";
import { DEFAULT_TREE_LIMITS, TreeBudget, type TreeLimits } from "../../lib/tree/limits.ts";
import type { SimpleEntry } from "../tar/build.ts";
import { layersOf, treeOptions } from "./layers.ts";

const LIMIT_CASES: {
  limits: Partial<TreeLimits>;
  inside: SimpleEntry[];
  outside: SimpleEntry[];
  message: string;
}[] = [
  {
    limits: { treeNodes: 3 },
    inside: [{ path: "p/a" }, { path: "b" }],
    outside: [{ path: "p/a" }, { path: "b" }, { path: "c" }],
    message: "more than 3 entries and implied directories",
  },
  {
    limits: { treeNodes: 3 },
    inside: [{ path: "p/q/a" }],
    outside: [{ path: "p/q/r/a" }],
    message: "more than 3 entries and implied directories",
  },
  {
    limits: { pathDepth: 3 },
    inside: [{ path: "a/b/c" }],
    outside: [{ path: "a/b/c/d" }],
    message: "more than 3 names deep",
  },
  {
    limits: { pathDepth: 3 },
    inside: [{ path: "a/b/" }, { path: "s", link: "a/b" }, { path: "s/c" }],
    outside: [{ path: "a/b/" }, { path: "s", link: "a/b" }, { path: "s/c/d" }],
    message: "more than 3 names deep",
  },
  {
    limits: { symlinkHops: 2 },
    inside: [{ path: "r", link: "." }, { path: "r/r/f" }],
    outside: [{ path: "r", link: "." }, { path: "r/r/r/f" }],
    message: "more than 2 symlinks, the last one r: a loop?",
  },
  {
    limits: { symlinkSteps: 4 },
    inside: [{ path: "r", link: "./." }, { path: "r/f" }, { path: "r/g" }],
    outside: [{ path: "r", link: "./." }, { path: "r/f" }, { path: "r/g" }, { path: "r/h" }],
    message: "more than 4 components in all",
  },
  {
    limits: { directoryNames: 2 },
    inside: [{ path: "a" }, { path: "d/b" }, { path: "a" }],
    outside: [{ path: "a" }, { path: "d/b" }, { path: "c" }],
    message: "more than 2 names",
  },
];

Deno.test("buildTree accepts what is just inside each limit and refuses what is just outside", () => {
  for (const { limits, inside, outside, message } of LIMIT_CASES) {
    buildTree(layersOf([inside]), treeOptions({ limits }));
    assertThrows(
      () => buildTree(layersOf([outside]), treeOptions({ limits })),
      InputError,
      message,
    );
  }
});

Deno.test("buildTree bounds whiteouts as it bounds entries", () => {
  const markers = ["a", "b", "c"].map((name) => ({ path: `.wh.${name}` }));
  buildTree(layersOf([markers]), treeOptions({ limits: { treeNodes: 3 } }));
  assertThrows(
    () => buildTree(layersOf([markers]), treeOptions({ limits: { treeNodes: 2 } })),
    InputError,
  );
});

Deno.test("TreeBudget has the defaults where nothing else is given", () => {
  assertEquals(new TreeBudget().limits, DEFAULT_TREE_LIMITS);
  assertEquals(new TreeBudget({ pathDepth: 3 }).limits, {
    ...DEFAULT_TREE_LIMITS,
    pathDepth: 3,
  });
});

Deno.test("TreeBudget counts over all layers", () => {
  const budget = new TreeBudget({ treeNodes: 2, symlinkSteps: 5 });
  budget.countNode(() => "a");
  budget.countNode(() => "b");
  assertThrows(() => budget.countNode(() => "c"), InputError, "c: the layers have more than 2");
  budget.countSymlinkSteps(5, () => "d");
  assertThrows(() => budget.countSymlinkSteps(1, () => "e"), InputError, "e: the layers' paths");
});
