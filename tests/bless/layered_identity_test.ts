import { assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import {
  chainKeys,
  layerFileName,
  treeDigest,
  treeFileName,
} from "../../lib/bless/layered_records.ts";
import { contentDigestOf } from "../../lib/bless/plan_image.ts";
import { InputError } from "../../lib/errors.ts";
import { digestOf } from "../../lib/bytes/digest.ts";
import { overlayTrees } from "../../lib/tree/overlay.ts";
import type { SimpleEntry } from "../tar/build.ts";
import { layersOf, treeOptions } from "../tree/layers.ts";

const A = digestOf(new TextEncoder().encode("a"));
const B = digestOf(new TextEncoder().encode("b"));
const C = digestOf(new TextEncoder().encode("c"));

function layers(...diffIds: (string | undefined)[]) {
  return diffIds.map((diffId) => ({ diffId, whiteouts: true }));
}

function sha256(text: string): string {
  return digestOf(new TextEncoder().encode(text));
}

Deno.test("chainKeys gives the chain ids of the image specification", () => {
  const ab = sha256(`${A} ${B}`);
  assertEquals(chainKeys(layers(A, B, C)), [A, ab, sha256(`${ab} ${C}`)]);
  assertEquals(chainKeys([]), []);
});

Deno.test("chainKeys tells a layer without whiteouts from the same with them", () => {
  const [plain, plainTop] = chainKeys([{ diffId: A, whiteouts: false }, {
    diffId: B,
    whiteouts: true,
  }]);
  const [usual, usualTop] = chainKeys(layers(A, B));
  assertNotEquals(plain, usual);
  assertNotEquals(plainTop, usualTop);
});

Deno.test("chainKeys ends where a diff id is not known", () => {
  assertEquals(chainKeys(layers(A, undefined, C)), [A, undefined, undefined]);
});

Deno.test("file names are made of checked digests only", () => {
  assertEquals(layerFileName(A), A.slice("sha256:".length));
  assertEquals(treeFileName(B, A), `${layerFileName(B)}-${A.slice(7, 23)}`);
  assertThrows(() => treeFileName(B, "sha256:../../etc/passwd"), InputError);
  assertThrows(() => layerFileName("sha256:../../etc/passwd"), InputError);
});

Deno.test("contentDigestOf depends on the layers and their order", () => {
  assertEquals(contentDigestOf([A, B]), sha256(`${A}\n${B}\n`));
  assertNotEquals(contentDigestOf([A, B]), contentDigestOf([B, A]));
});

type Layer = readonly SimpleEntry[];

/** Of the tree of the topmost layer; the diff ids of the layers are what they hold. */
function topDigest(...layers: Layer[]): string {
  const diffIds = layers.map((layer) => JSON.stringify(layer));
  const trees = [...overlayTrees(layersOf(layers), treeOptions())];
  return treeDigest(trees.at(-1)!.tree, diffIds.at(-1)!, (i) => diffIds[i]!);
}

const ROOT: SimpleEntry = { path: "./", mode: 0o755 };

Deno.test("treeDigest differs with everything that the image shows", () => {
  const variants: Layer[] = [
    [],
    [{ path: "a", data: "1" }],
    [{ path: "b", data: "1" }],
    [{ path: "a", data: "1", mode: 0o600 }],
    [{ path: "a", data: "1", uid: 1 }],
    [{ path: "a", data: "1", gid: 1 }],
    [{ path: "a", data: "1", mtime: 1 }],
    [{ path: "a", data: "1", xattrs: { "user.a": "1" } }],
    [{ path: "a", data: "1", xattrs: { "user.a": "2" } }],
    [{ path: "a", data: "1" }, { path: "b", data: "1" }],
    [{ path: "a", data: "1" }, { path: "b", kind: "hardlink", link: "a" }],
    [{ path: "a", link: "x" }],
    [{ path: "a", link: "y" }],
    [{ path: "a/" }],
    [{ path: "a", kind: "fifo" }],
  ];
  // One diff id for all: only the trees shall tell them apart.
  const digests = variants.map((layer) => {
    const [{ tree } = { tree: undefined }] = overlayTrees(layersOf([layer]), treeOptions());
    return treeDigest(tree!, "sha256:one", () => "sha256:one");
  });
  assertEquals(new Set(digests).size, variants.length);
});

Deno.test("treeDigest is the same on layers from which nothing is taken, and differs with what is taken", () => {
  const own: Layer = [ROOT, { path: "d/" }, { path: "d/f", data: "1" }];
  const base: Layer = [{ path: "./", mode: 0o700 }, { path: "x", data: "1" }];
  const other: Layer = [{ path: "y", data: "2" }];
  assertEquals(topDigest(base, own), topDigest(own));
  assertEquals(topDigest(other, base, own), topDigest(own));
  const leaning: Layer = [ROOT, { path: "e/f", data: "1" }];
  const on = (mode: number): Layer => [{ path: "e/", mode }];
  assertNotEquals(topDigest(on(0o700), leaning), topDigest(on(0o750), leaning));
  assertEquals(topDigest(on(0o700), leaning), topDigest(base, on(0o700), leaning));
});

Deno.test("treeDigest tells the content of files of lower layers that are taken along", () => {
  const linking: Layer = [ROOT, { path: "h", kind: "hardlink", link: "a" }];
  const below = (data: string): Layer => [{ path: "a", data }];
  assertNotEquals(topDigest(below("1"), linking), topDigest(below("2"), linking));
  assertEquals(
    topDigest(below("1"), linking),
    topDigest([{ path: "b", data: "3" }], below("1"), linking),
  );
});

Deno.test("treeDigest differs with the layer, though the trees be the same", () => {
  const [{ tree } = { tree: undefined }] = overlayTrees(layersOf([[ROOT]]), treeOptions());
  assertNotEquals(treeDigest(tree!, "sha256:a", () => ""), treeDigest(tree!, "sha256:b", () => ""));
});
