import { assert, assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import type { DirectoryNode } from "../../lib/model/node.ts";
import {
  applyLayer,
  type DeferredLink,
  DeferredLinks,
  missingTarget,
} from "../../lib/tree/apply.ts";
import { emptyTree } from "../../lib/tree/build.ts";
import { type ApplyContext, LayerChanges, TreeIndex } from "../../lib/tree/layer.ts";
import { TreeBudget } from "../../lib/tree/limits.ts";
import { impliedDirectoryAttributes } from "../../lib/tree/nodes.ts";
import { Warnings } from "../../lib/warnings.ts";
import { dir, file } from "../oracle/tree_builder.ts";
import type { SimpleEntry } from "../tar/build.ts";
import { describeTree } from "./describe.ts";
import { DEFAULT_TIME, layerOf } from "./layers.ts";

function link(directory: DirectoryNode, name: string, target: string): DeferredLink {
  return { directory, name, target: [target], what: () => `link ${name}` };
}

/** Settles in one directory; returns the names in the order in which they were placed, and how many were looked up. */
function settle(
  links: DeferredLinks,
  directory: DirectoryNode,
): { placed: string[]; finds: number } {
  const placed: string[] = [];
  let finds = 0;
  links.settle({
    find: ({ target }) => {
      finds++;
      const name = target.join("/");
      return { directory, name, node: directory.children.get(name) };
    },
    add: ({ name }, _target, node) => {
      placed.push(name);
      directory.children.set(name, node);
    },
  });
  return { placed, finds };
}

Deno.test("DeferredLinks places each link after the one it points to", () => {
  const directory = dir({ file: file() });
  const links = new DeferredLinks();
  for (const [name, target] of [["c", "b"], ["x", "c"], ["b", "a"], ["a", "file"]] as const) {
    links.add(link(directory, name, target));
  }
  assertEquals(settle(links, directory), { placed: ["a", "b", "c", "x"], finds: 7 });
});

Deno.test("DeferredLinks looks each target up twice at most", () => {
  const directory = dir({ l0: file() });
  const links = new DeferredLinks();
  for (let i = 1000; i > 0; i--) links.add(link(directory, `l${i}`, `l${i - 1}`));
  assertEquals(settle(links, directory).finds, 1999);
});

Deno.test("DeferredLinks forgets what is cancelled, and keeps the later of two with one name", () => {
  const directory = dir({ one: file("1"), two: file("2") });
  const links = new DeferredLinks();
  links.add(link(directory, "gone", "nowhere"));
  assertEquals(links.has({ directory, name: "gone" }), true);
  links.cancel({ directory, name: "gone" });
  assertEquals(links.has({ directory, name: "gone" }), false);
  links.add(link(directory, "a", "one"));
  links.add(link(directory, "a", "two"));
  assertEquals(settle(links, directory).placed, ["a"]);
  assertEquals(directory.children.get("a"), directory.children.get("two"));
});

Deno.test("DeferredLinks refuses rings and links to nothing", () => {
  const directory = dir();
  for (const pairs of [[["a", "b"], ["b", "a"]], [["a", "a"]], [["a", "nowhere"]]] as const) {
    const links = new DeferredLinks();
    for (const [name, target] of pairs) links.add(link(directory, name, target));
    assertThrows(() => settle(links, directory), InputError, "link a: the hard link's target");
  }
});

Deno.test("missingTarget names the target, neutralised", () => {
  const error = missingTarget(link(dir(), "a", "\x1b[m"));
  assertEquals(
    error.message,
    "link a: the hard link's target \\x1b[m exists neither in this layer nor below",
  );
});

function contextOf(more: Partial<ApplyContext> = {}): ApplyContext {
  return {
    tree: emptyTree(DEFAULT_TIME),
    layerIndex: 0,
    budget: new TreeBudget(),
    warnings: new Warnings(),
    impliedAttributes: impliedDirectoryAttributes(DEFAULT_TIME),
    ...more,
  };
}

function pathsAfter(context: ApplyContext, entries: readonly SimpleEntry[]): string[] {
  applyLayer(layerOf(entries), context);
  return Object.keys(describeTree(context.tree));
}

Deno.test("applyLayer changes the tree in place, layer by layer", () => {
  const context = contextOf();
  assertEquals(pathsAfter(context, [{ path: "a" }, { path: "b" }]), ["/", "/a", "/b"]);
  const next = { ...context, layerIndex: 1 };
  assertEquals(pathsAfter(next, [{ path: ".wh.a" }, { path: "c" }]), ["/", "/b", "/c"]);
});

Deno.test("applyLayer tells the same tree with and without notes for layered mode", () => {
  const layers: SimpleEntry[][] = [
    [{ path: "d/x" }, { path: "s", link: "d" }, { path: "h", kind: "hardlink", link: "d/x" }],
    [{ path: "s/y" }, { path: "s/.wh.x" }, { path: ".wh..wh..opq" }, { path: "d/z" }],
  ];
  const index = new TreeIndex();
  const plain = contextOf();
  const noted = contextOf();
  layers.forEach((entries, layerIndex) => {
    applyLayer(layerOf(entries), { ...plain, layerIndex });
    const changes = new LayerChanges(index, layerIndex);
    applyLayer(layerOf(entries), { ...noted, layerIndex, changes });
  });
  assertEquals(describeTree(noted.tree), describeTree(plain.tree));
});

Deno.test("applyLayer shares attributes of directories that no entry describes", () => {
  const context = contextOf();
  applyLayer(layerOf([{ path: "p/q/f" }]), context);
  const parent = context.tree.root.children.get("p");
  assert(parent?.attributes === context.impliedAttributes);
});

Deno.test("applyLayer places a forward link only when its layer ends", () => {
  const context = contextOf();
  applyLayer(layerOf([{ path: "a", data: "old" }, { path: "b", data: "old" }]), context);
  const entries: SimpleEntry[] = [
    { path: "b", kind: "hardlink", link: "n/a" },
    { path: "c", kind: "hardlink", link: "b" },
    { path: "n/a", data: "new" },
  ];
  applyLayer(layerOf(entries), { ...context, layerIndex: 1 });
  const { "/b": b, "/c": c } = describeTree(context.tree);
  assertEquals([b?.data, b?.firstName, b?.linkCount], ["new", "/b", 3]);
  assertEquals(c?.firstName, "/b");
});

Deno.test("applyLayer lets a path lead through the name of a forward link, as a directory", () => {
  const context = contextOf();
  const entries: SimpleEntry[] = [
    { path: "b", kind: "hardlink", link: "later" },
    { path: "b/x" },
    { path: "later" },
  ];
  assertEquals(pathsAfter(context, entries), ["/", "/b", "/b/x", "/later"]);
  assertEquals(context.warnings.list().map(({ kind }) => kind), ["replacedParent"]);
});

Deno.test("applyLayer takes what was below a forward link's name away at once", () => {
  const context = contextOf();
  applyLayer(layerOf([{ path: "b/old" }]), context);
  const entries: SimpleEntry[] = [
    { path: "b", kind: "hardlink", link: "later" },
    { path: "b/new" },
    { path: "later" },
  ];
  assertEquals(pathsAfter({ ...context, layerIndex: 1 }, entries), [
    "/",
    "/b",
    "/b/new",
    "/later",
  ]);
});

Deno.test("applyLayer names a forward link whose target turns out to be a directory", () => {
  const entries: SimpleEntry[] = [
    { path: "b", kind: "hardlink", link: "d" },
    { path: "d/" },
    { path: "c" },
  ];
  const error = assertThrows(() => applyLayer(layerOf(entries), contextOf()), InputError);
  assertEquals(error.message, "b in layer at offset 0: the hard link's target is a directory");
});

Deno.test("applyLayer makes no directory with a whiteout's name, not even behind a symlink", () => {
  const entries = [{ path: "s", link: "/.wh.d/e" }, { path: "s/f" }];
  assertThrows(() => applyLayer(layerOf(entries), contextOf()), InputError, ".wh.d");
  assertEquals(pathsAfter(contextOf(), [{ path: "s", link: "/.wh.d/e" }]), ["/", "/s"]);
  applyLayer(layerOf(entries, "plain", false), contextOf());
});

Deno.test("applyLayer makes no directory with too long a name behind a symlink", () => {
  const entries = [{ path: "s", link: "n".repeat(256) }, { path: "s/f" }];
  assertThrows(() => applyLayer(layerOf(entries), contextOf()), InputError, "ext4 allows 255");
});

Deno.test("applyLayer under strict warnings stops at the first thing that is dropped or changed", () => {
  const context = contextOf({ warnings: new Warnings(true) });
  const error = assertThrows(
    () => applyLayer(layerOf([{ path: "a" }, { path: "../b" }]), context),
    InputError,
  );
  assertEquals(
    error.message,
    "../b in layer at offset 512: the path ../b was taken as b",
  );
});
