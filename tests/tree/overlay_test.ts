import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import type { FileTree, NodeAttributes } from "../../lib/model/node.ts";
import { buildTree } from "../../lib/tree/build.ts";
import { hasPrivateXattrs, overlayAttributes, overlayTrees } from "../../lib/tree/overlay.ts";
import { Warnings } from "../../lib/warnings.ts";
import { EDGE_IMAGES } from "../edge_images/cases.ts";
import type { SimpleEntry } from "../tar/build.ts";
import { describeTree, withoutWhiteoutDevices } from "./describe.ts";
import { DEFAULT_TIME, layersOf, treeOptions } from "./layers.ts";
import { stackTrees } from "./stack.ts";

for (const image of EDGE_IMAGES) {
  Deno.test(`overlayTrees gives a stack that shows the edge image ${image.name}`, () => {
    const layers = layersOf(image.layers, image.whiteouts ?? true);
    const make = () => [...overlayTrees(layers, treeOptions())].map(({ tree }) => tree);
    if ("refused" in image) {
      assertThrows(make, InputError, image.refused);
      return;
    }
    if (layers.length === 0) {
      assertEquals(make(), []);
      return;
    }
    const { tree, linkCounts } = stackTrees(make());
    const merged = buildTree(layers, treeOptions());
    const shown = describeTree(tree, linkCounts);
    assertEquals(shown, image.stackDiffers ? withoutWhiteoutDevices(merged) : describeTree(merged));
  });
}

/** The trees of the layers, each name with a word for what it is. */
function sketches(layers: readonly (readonly SimpleEntry[])[]): Record<string, string>[] {
  return [...overlayTrees(layersOf(layers), treeOptions())].map(({ tree }) => sketch(tree));
}

function sketch(tree: FileTree): Record<string, string> {
  return Object.fromEntries(
    Object.entries(describeTree(tree)).filter(([path]) => path !== "/").map(([path, name]) => {
      if (name.device?.join() === "0,0" && name.kind === "characterDevice") {
        return [path, "whiteout"];
      }
      const isOpaque = name.xattrs["trusted.overlay.opaque"] === "y";
      return [path, isOpaque ? "opaque" : name.data ?? name.kind];
    }),
  );
}

function selfContained(layers: readonly (readonly SimpleEntry[])[]): boolean[] {
  return [...overlayTrees(layersOf(layers), treeOptions())].map((layer) => layer.isSelfContained);
}

const D_X: readonly SimpleEntry[] = [{ path: "d/", mtime: 1 }, { path: "d/x", data: "x" }];

Deno.test("overlayTrees hides a name by a 0:0 device without attributes", () => {
  const [, top] = [...overlayTrees(layersOf([D_X, [{ path: ".wh.d" }]]), treeOptions())];
  assertEquals(describeTree(top!.tree)["/d"], {
    kind: "characterDevice",
    mode: 0,
    uid: 0,
    gid: 0,
    mtime: [DEFAULT_TIME.seconds, DEFAULT_TIME.nanoseconds],
    xattrs: {},
    device: [0, 0],
    firstName: "/d",
    linkCount: 1,
  });
});

Deno.test("overlayTrees leaves out whiteouts that would show as ghosts", () => {
  assertEquals(sketches([[{ path: ".wh.a" }, { path: "d/.wh.b" }, ...D_X]]), [
    { "/d": "directory", "/d/x": "x" },
  ]);
  assertEquals(
    sketches([D_X, [{ path: "d/" }, { path: "d/.wh..wh..opq" }, { path: "d/.wh.x" }]])[1],
    { "/d": "opaque" },
  );
  assertEquals(sketches([D_X, [{ path: "n/" }, { path: "n/.wh.x" }]])[1], { "/n": "directory" });
  assertEquals(sketches([D_X, [{ path: "d/.wh.nope" }]])[1], {});
  assertEquals(sketches([D_X, [{ path: ".wh.d" }], [{ path: ".wh.d" }]])[2], {});
});

Deno.test("overlayTrees leaves out whiteouts of what is a whiteout to overlayfs already", () => {
  const device = { path: "d/n", kind: "characterDevice" } as const;
  assertEquals(sketches([[...D_X, device], [{ path: "d/.wh.n" }]]), [
    { "/d": "directory", "/d/x": "x" },
    {},
  ]);
  assertEquals(sketches([D_X, [{ ...device, path: "d/x" }]])[1], {
    "/d": "directory",
    "/d/x": "whiteout",
  });
});

Deno.test("overlayTrees makes a directory opaque that is whited out and there again", () => {
  const again = [{ path: "d/" }, { path: "d/y", data: "y" }];
  const wanted = { "/d": "opaque", "/d/y": "y" };
  assertEquals(sketches([D_X, [{ path: ".wh.d" }, ...again]])[1], wanted);
  assertEquals(sketches([D_X, [...again, { path: ".wh.d" }]])[1], wanted);
});

Deno.test("overlayTrees marks no directory that replaces a file, for the file hides what is below", () => {
  assertEquals(sketches([D_X, [{ path: "d", data: "f" }], [{ path: "d/" }]]), [
    { "/d": "directory", "/d/x": "x" },
    { "/d": "f" },
    { "/d": "directory" },
  ]);
});

Deno.test("overlayTrees hides the names of an opaque root one by one", () => {
  assertEquals(
    sketches([[...D_X, { path: "a" }, { path: "b" }], [
      { path: ".wh..wh..opq" },
      { path: "d/y", data: "y" },
      { path: "b", data: "b" },
    ]])[1],
    { "/a": "whiteout", "/b": "b", "/d": "opaque", "/d/y": "y" },
  );
});

Deno.test("overlayTrees gives directories without an entry the attributes that they have below", () => {
  const below = { path: "p/", mode: 0o700, uid: 3, mtime: 7, xattrs: { "user.k": "v" } };
  const [, top] = [
    ...overlayTrees(
      layersOf([[{ path: "./", mode: 0o711 }, below], [{ path: "p/f" }]]),
      treeOptions(),
    ),
  ];
  const { "/": root, "/p": parent } = describeTree(top!.tree);
  assertEquals(root?.mode, 0o711);
  assertEquals(
    [parent?.mode, parent?.uid, parent?.mtime, parent?.xattrs],
    [0o700, 3, [7, 0], { "user.k": "v" }],
  );
});

Deno.test("overlayTrees puts what is written through a lower symlink where the symlink leads", () => {
  const below = [{ path: "usr/lib/" }, { path: "lib", link: "usr/lib" }];
  assertEquals(sketches([below, [{ path: "lib/f", data: "f" }, { path: "lib/.wh.g" }]])[1], {
    "/usr": "directory",
    "/usr/lib": "directory",
    "/usr/lib/f": "f",
  });
});

Deno.test("overlayTrees takes all names of a file into the layer that adds, replaces or removes one", () => {
  const below: SimpleEntry[] = [
    { path: "a", data: "1" },
    { path: "b", kind: "hardlink", link: "a" },
  ];
  const linked = [...overlayTrees(
    layersOf([below, [{ path: "c", kind: "hardlink", link: "a" }]]),
    treeOptions(),
  )];
  const { "/c": c, ...others } = describeTree(linked[1]!.tree);
  assertEquals([c?.data, c?.linkCount, c?.firstName], ["1", 3, "/a"]);
  assertEquals(Object.keys(others), ["/", "/a", "/b"]);
  assertEquals(sketches([below, [{ path: ".wh.a" }]])[1], { "/a": "whiteout", "/b": "1" });
  assertEquals(sketches([below, [{ path: "a", data: "2" }]])[1], { "/a": "2", "/b": "1" });
  assertEquals(sketches([below, [{ path: "x", data: "2" }]])[1], { "/x": "2" });
});

Deno.test("overlayTrees escapes the xattrs of overlayfs and drops those that get too long", () => {
  const suffix = "x".repeat(255 - "trusted.overlay.overlay.".length);
  const options = treeOptions();
  const [bottom] = [
    ...overlayTrees(
      layersOf([[
        {
          path: "f",
          xattrs: {
            "trusted.overlay.metacopy": "",
            "trusted.overlay.overlay.opaque": "y",
            "trusted.overlayed": "1",
            "user.overlay.opaque": "y",
          },
        },
        { path: "g", xattrs: { [`trusted.overlay.${suffix}`]: "1" } },
        { path: "h", xattrs: { [`trusted.overlay.${suffix}x`]: "1" } },
      ]]),
      options,
    ),
  ];
  const { "/f": f, "/g": g, "/h": h } = describeTree(bottom!.tree);
  assertEquals(f?.xattrs, {
    "trusted.overlay.overlay.metacopy": "",
    "trusted.overlay.overlay.overlay.opaque": "y",
    "trusted.overlayed": "1",
    "user.overlay.opaque": "y",
  });
  assertEquals(g?.xattrs, { [`trusted.overlay.overlay.${suffix}`]: "1" });
  assertEquals(h?.xattrs, {});
  assertEquals(options.warnings!.list().map(({ kind, count }) => [kind, count]), [
    ["unsupportedXattr", 1],
  ]);
});

Deno.test("overlayTrees warns of 0:0 devices in the input", () => {
  const options = treeOptions();
  const device = { path: "n", kind: "characterDevice" } as const;
  const trees = [
    ...overlayTrees(layersOf([[device, { ...device, path: "m", minor: 1 }]]), options),
  ];
  assertEquals(sketch(trees[0]!.tree), { "/m": "characterDevice" });
  assertEquals(options.warnings!.list().map(({ kind, count }) => [kind, count]), [
    ["whiteoutDevice", 1],
  ]);
});

Deno.test("overlayTrees calls a layer self-contained unless the layers below had a say", () => {
  assertEquals(selfContained([D_X, [{ path: ".wh.d" }, { path: "n/" }]]), [true, true]);
  const opaque = [{ path: "d/" }, { path: "d/.wh..wh..opq" }, { path: "d/y" }];
  assertEquals(selfContained([opaque, opaque]), [true, true]);
  const layersWithASay: SimpleEntry[][] = [
    [{ path: "d/y" }],
    [{ path: ".wh.nope" }],
    [{ path: ".wh..wh..opq" }],
    [{ path: "n", kind: "hardlink", link: "d/x" }],
    [{ path: "d/" }, { path: "d/x", kind: "hardlink", link: "d/x" }],
    [{ path: "s/y" }],
    [{ path: "d" }, { path: "d/" }],
    [{ path: "n", kind: "characterDevice" }],
  ];
  for (const top of layersWithASay) {
    assertEquals(selfContained([[...D_X, { path: "s", link: "d" }], top]), [true, false]);
  }
});

function attributesWith(...names: string[]): NodeAttributes {
  return {
    mode: 0o750,
    uid: 1,
    gid: 2,
    mtimeSeconds: 3,
    mtimeNanoseconds: 4,
    xattrs: names.map((name) => ({ name, value: new Uint8Array([1]) })),
  };
}

function namesOf({ xattrs }: NodeAttributes): string[] {
  return xattrs.map(({ name }) => name);
}

Deno.test("overlayAttributes leaves attributes alone that mean nothing to overlayfs", () => {
  const attributes = attributesWith("security.x", "trusted.overlay", "trusted.x", "user.overlay.x");
  assertEquals(hasPrivateXattrs(attributes), false);
  assertStrictEquals(overlayAttributes(attributes, false, () => "f", new Warnings()), attributes);
});

Deno.test("overlayAttributes escapes what overlayfs keeps for itself, and marks opaque ones", () => {
  const attributes = attributesWith("trusted.a", "trusted.overlay.", "trusted.overlay.opaque");
  assertEquals(hasPrivateXattrs(attributes), true);
  const warnings = new Warnings(true);
  assertEquals(namesOf(overlayAttributes(attributes, false, () => "f", warnings)), [
    "trusted.a",
    "trusted.overlay.overlay.",
    "trusted.overlay.overlay.opaque",
  ]);
  const opaque = overlayAttributes(attributes, true, () => "f", warnings);
  assertEquals(namesOf(opaque), [
    "trusted.a",
    "trusted.overlay.opaque",
    "trusted.overlay.overlay.",
    "trusted.overlay.overlay.opaque",
  ]);
  assertEquals(opaque.xattrs[1]!.value, new TextEncoder().encode("y"));
  assertEquals({ ...opaque, xattrs: [] }, { ...attributes, xattrs: [] });
});

Deno.test("overlayAttributes drops a name that gets longer than the kernel takes, and counts it", () => {
  const warnings = new Warnings();
  const longest = `trusted.overlay.${"x".repeat(255 - "trusted.overlay.overlay.".length)}`;
  const escaped = overlayAttributes(
    attributesWith(longest, `${longest}x`),
    false,
    () => "f",
    warnings,
  );
  assertEquals(escaped.xattrs.map(({ name }) => name.length), [255]);
  assertEquals(warnings.list().map(({ kind, count }) => [kind, count]), [["unsupportedXattr", 1]]);
});
