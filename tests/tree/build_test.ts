import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { InputError } from "../../lib/errors.ts";
import type { DirectoryNode } from "../../lib/model/node.ts";
import { buildTree } from "../../lib/tree/build.ts";
import { DEFAULT_TREE_LIMITS, TreeBudget, type TreeLimits } from "../../lib/tree/limits.ts";
import { Warnings } from "../../lib/warnings.ts";
import { EDGE_IMAGES } from "../edge_images/cases.ts";
import type { EdgeImage } from "../edge_images/edge_image.ts";
import { assertExpectedTree } from "../edge_images/expect.ts";
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
    assertEquals(countsOf(options.warnings), image.warnings ?? {});
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
