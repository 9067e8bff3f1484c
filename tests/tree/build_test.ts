import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { InputError } from "../../lib/errors.ts";
import type { DirectoryNode } from "../../lib/model/node.ts";
import {
  applyLayer,
  buildTree,
  type DeferredLink,
  DeferredLinks,
  emptyTree,
  missingTarget,
} from "../../lib/tree/build.ts";
import {
  type ApplyContext,
  impliedDirectoryAttributes,
  LayerChanges,
  TreeIndex,
} from "../../lib/tree/layer.ts";
import { DEFAULT_TREE_LIMITS, TreeBudget, type TreeLimits } from "../../lib/tree/paths.ts";
import { Warnings } from "../../lib/warnings.ts";
import { EDGE_IMAGES } from "../edge_images/cases.ts";
import type { EdgeImage } from "../edge_images/edge_image.ts";
import { assertExpectedTree } from "../edge_images/expect.ts";
import { dir, file } from "../oracle/tree_builder.ts";
import type { SimpleEntry } from "../tar/build.ts";
import { describeTree } from "./describe.ts";
import { DEFAULT_TIME, layerOf, layersOf, treeOptions } from "./layers.ts";
import { randomStacks, withoutRefusedEntries } from "./random_layers.ts";

for (const image of EDGE_IMAGES) {
  Deno.test(`buildTree does as the edge image ${image.name} says`, () => {
    const options = treeOptions();
    const build = () => buildTree(layersOf(image.layers, image.whiteouts ?? true), options);
    if ("refused" in image) assertThrows(build, InputError, image.refused);
    else assertExpectedTree(build(), image.expected);
    assertEquals(countsOf(options.warnings!), image.warnings ?? {});
    if (image.warnings) assertStrictRefuses(image);
  });
}

Deno.test("buildTree has edge images of different names, and enough of them", () => {
  assertEquals(new Set(EDGE_IMAGES.map(({ name }) => name)).size, EDGE_IMAGES.length);
  assert(EDGE_IMAGES.length >= 45);
});

Deno.test("buildTree gives the root and implied directories the default time", () => {
  const { "/": root, "/p": implied } = describeTree(
    buildTree(layersOf([[{ path: "p/f", mtime: 9 }]]), treeOptions()),
  );
  const time = [DEFAULT_TIME.seconds, DEFAULT_TIME.nanoseconds] as const;
  assertEquals([root?.mode, root?.uid, root?.mtime], [0o755, 0, time]);
  assertEquals(implied?.mtime, time);
});

Deno.test("buildTree says which entry of which layer gave a node its attributes", () => {
  const { root } = buildTree(
    layersOf([[{ path: "d/" }, { path: "d/x" }], [{ path: "p/y" }, { path: "d/", mode: 0o700 }]]),
    treeOptions(),
  );
  const directory = root.children.get("d") as DirectoryNode;
  assertEquals(directory.origin, { layerIndex: 1, entryIndex: 1 });
  assertEquals(directory.children.get("x")!.origin, { layerIndex: 0, entryIndex: 1 });
  assertEquals(root.children.get("p")!.origin, { layerIndex: 1, entryIndex: 0 });
});

Deno.test("buildTree keeps one node for all names of a hard link", () => {
  const { root } = buildTree(
    layersOf([[{ path: "a" }], [{ path: "b", kind: "hardlink", link: "a" }]]),
    treeOptions(),
  );
  assertStrictEquals(root.children.get("a"), root.children.get("b"));
});

Deno.test("buildTree puts xattrs in byte order, the later of two with one name", () => {
  const layer = layerOf([{ path: "f" }]);
  const value = (text: string) => new TextEncoder().encode(text);
  const xattrs = [
    { name: "user.b", value: value("1") },
    { name: "user.a", value: value("2") },
    { name: "user.b", value: value("3") },
  ];
  const entries = [{ ...layer.entries[0]!, xattrs }];
  const { root } = buildTree([{ ...layer, entries }], treeOptions());
  assertEquals(root.children.get("f")!.attributes.xattrs, [
    { name: "user.a", value: value("2") },
    { name: "user.b", value: value("3") },
  ]);
});

Deno.test("buildTree refuses names and targets with a NUL", () => {
  for (const entry of [{ path: "a\0b" }, { path: "s", link: "t\0" }]) {
    assertThrows(() => buildTree(layersOf([[entry]]), treeOptions()), InputError, "NUL");
  }
});

Deno.test("buildTree names entry, layer and offset, with nothing in it that a terminal obeys", () => {
  const error = assertThrows(
    () =>
      buildTree(
        layersOf([[{ path: "a" }, { path: "\x1b[2J", link: "", kind: "symlink" }]]),
        treeOptions(),
      ),
    InputError,
  );
  assertEquals(error.message, "\\x1b[2J in layer 0 at offset 512: the symlink has no target");
});

Deno.test("buildTree shortens a path that is too long for a message", () => {
  const path = `${"x/".repeat(5000)}..`;
  const error = assertThrows(
    () => buildTree(layersOf([[{ path }]]), treeOptions({ limits: { pathDepth: 10 } })),
    InputError,
  );
  assert(error.message.length < 500);
});

Deno.test("buildTree gives the same tree wherever a layer's whiteouts stand in it", () => {
  const isMarker = ({ path }: SimpleEntry) => path.includes(".wh.");
  fc.assert(
    fc.property(randomStacks, fc.infiniteStream(fc.nat()), (random, numbers) => {
      const stack = withoutRefusedEntries(random, (layers) => buildTree(layers, treeOptions()));
      const shuffled = stack.map((entries) => {
        const others = entries.filter((entry) => !isMarker(entry));
        for (const marker of entries.filter(isMarker)) {
          others.splice(numbers.next().value! % (others.length + 1), 0, marker);
        }
        return others;
      });
      assertEquals(
        describeTree(buildTree(layersOf(shuffled), treeOptions())),
        describeTree(buildTree(layersOf(stack), treeOptions())),
      );
    }),
    { numRuns: 1000 },
  );
});

Deno.test("buildTree resolves many forward links, in whatever order, without trying all of them again", () => {
  const count = 30_000;
  const links = Array.from({ length: count }, (_, i): SimpleEntry => ({
    path: `l${i}`,
    kind: "hardlink",
    link: i + 1 < count ? `l${i + 1}` : "file",
  }));
  const { root } = buildTree(layersOf([[...links, { path: "file" }]]), treeOptions());
  assertEquals(new Set(root.children.values()).size, 1);
  assertEquals(root.children.size, count + 1);
});

function countsOf(warnings: Warnings): Record<string, number> {
  return Object.fromEntries(warnings.list().map(({ kind, count }) => [kind, count]));
}

/** With strict warnings, what is dropped or changed is an error. */
function assertStrictRefuses(image: EdgeImage): void {
  const options = treeOptions({ warnings: new Warnings(true) });
  assertThrows(() => buildTree(layersOf(image.layers), options), InputError);
}

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
