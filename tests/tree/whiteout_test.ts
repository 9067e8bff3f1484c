import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { findMarkers, isAufsLinkFile, refuseWhiteoutName } from "../../lib/tree/whiteout.ts";
import { layerOf } from "./layers.ts";

function find(...paths: string[]): ReturnType<typeof findMarkers> {
  return findMarkers(layerOf(paths.map((path) => ({ path }))).entries, ({ path }) => path);
}

Deno.test("findMarkers tells whiteouts, opaque markers and files apart", () => {
  const { markers, entryIndexes } = find("a", ".wh.b", "x.wh.y", "d/.wh..wh..opq", "d/.wh..x");
  assertEquals(markers.map(({ directory, name }) => [directory.join("/"), name]), [
    ["", "b"],
    ["d", undefined],
    ["d", ".x"],
  ]);
  assertEquals([...entryIndexes], [1, 3, 4]);
});

Deno.test("findMarkers gives shallow markers first, opaque before whiteouts, in byte order", () => {
  const paths = ["b/c/.wh.x", "b/.wh.z", ".wh.q", "b/.wh..wh..opq", "a/.wh.z", "b/.wh.y"];
  const sorted = [".wh.q", "a/.wh.z", "b/.wh..wh..opq", "b/.wh.y", "b/.wh.z", "b/c/.wh.x"];
  for (const order of [paths, paths.toReversed()]) {
    assertEquals(find(...order).markers.map(({ entry }) => entry.path), sorted);
  }
});

Deno.test("findMarkers sets AUFS metadata aside, in the root only", () => {
  const found = find(
    ".wh..wh.plnk",
    "./.wh..wh.plnk/1.2",
    ".wh..wh.plnk/deep/3.4",
    ".wh..wh.aufs",
    ".wh..wh..opq",
    "d/.wh..wh.aufs",
  );
  assertEquals(found.aufs?.count, 4);
  assertEquals(found.aufs?.first.path, ".wh..wh.plnk");
  assertEquals([...found.aufsLinkFiles], [["1.2", 1], ["3.4", 2]]);
  assertEquals(found.markers.map(({ name }) => name), [undefined, ".wh.aufs"]);
  assertEquals(isAufsLinkFile([".wh..wh.plnk", "1.2"]), true);
  assertEquals(isAufsLinkFile([".wh..wh.plnk"]), false);
  assertEquals(isAufsLinkFile(["d", ".wh..wh.plnk", "1.2"]), false);
});

Deno.test("findMarkers refuses markers without a name and paths through markers", () => {
  for (const path of [".wh.", "d/.wh..", "d/.wh...", "d/.wh."]) {
    assertThrows(() => find(path), InputError, "must name a file");
  }
  for (const path of [".wh.d/x", "a/.wh.d/.wh.x"]) {
    assertThrows(() => find(path), InputError, "leads through .wh.d");
  }
});

Deno.test("refuseWhiteoutName lets other names pass", () => {
  for (const name of ["a", ".wh", "wh.a", ".w"]) refuseWhiteoutName(name, () => "entry");
  assertThrows(() => refuseWhiteoutName(".wh.a", () => "entry"), InputError, ".wh.a");
});

Deno.test("findMarkers takes whiteouts of the longest names, and none of longer ones", () => {
  const marker = (length: number) =>
    findMarkers(layerOf([{ path: `.wh.${"n".repeat(length)}` }]).entries, ({ path }) => path);
  assertEquals(marker(255).markers.map(({ name }) => name?.length), [255]);
  assertThrows(() => marker(256), InputError, "ext4 allows");
});
