import { assertEquals } from "@std/assert";
import { describeEntry, LayerChanges, shortenPath, TreeIndex } from "../../lib/tree/layer.ts";
import { dir, file } from "../oracle/tree_builder.ts";
import { layerOf } from "./layers.ts";

Deno.test("describeEntry names path, layer and offset", () => {
  const { entries } = layerOf([{ path: "a" }, { path: "b/\xff\n" }]);
  assertEquals(describeEntry(entries[1]!, "sha256:00"), "b/\\xff\\x0a in sha256:00 at offset 512");
});

Deno.test("shortenPath leaves 240 bytes as they are and cuts longer paths in the middle", () => {
  const path = Array.from({ length: 300 }, (_, i) => String.fromCharCode(65 + i % 50)).join("");
  assertEquals(shortenPath(path.slice(0, 240)), path.slice(0, 240));
  const short = shortenPath(path);
  assertEquals(short.length, 240);
  assertEquals(short, `${path.slice(0, 120)}...${path.slice(-117)}`);
});

Deno.test("LayerChanges keeps what a name was before its first change", () => {
  const before = file();
  const directory = dir({ a: before });
  const changes = new LayerChanges(new TreeIndex(), 1);
  changes.noteName(directory, "a");
  directory.children.delete("a");
  changes.noteName(directory, "a");
  changes.noteName(directory, "b");
  assertEquals(changes.changedNames.get(directory), new Map([["a", before], ["b", undefined]]));
  assertEquals(changes.hasName({ directory, name: "b" }), true);
  assertEquals(changes.hasName({ directory, name: "c" }), false);
});

Deno.test("LayerChanges knows whether something of a lower layer was used", () => {
  const below = { ...file(), origin: { layerIndex: 0, entryIndex: 3 } };
  const own = { ...file(), origin: { layerIndex: 1, entryIndex: 3 } };
  const changes = new LayerChanges(new TreeIndex(), 1);
  changes.noteUse(own);
  assertEquals(changes.usesLowerLayers, false);
  changes.noteUse(below);
  assertEquals(changes.usesLowerLayers, true);
});

Deno.test("TreeIndex keeps the names that a node still has, and says when it lost one", () => {
  const node = file();
  const sub = dir({ b: node });
  const root = dir({ a: node, sub, c: node });
  const index = new TreeIndex();
  const changes = new LayerChanges(index, 0);
  changes.noteNewDirectory(sub, { directory: root, name: "sub" });
  const [a, b, c] = [
    { directory: root, name: "a" },
    { directory: sub, name: "b" },
    { directory: root, name: "c" },
  ];
  changes.noteLink(node, a, b);
  changes.noteLink(node, a, c);
  changes.noteLink(node, a, c);
  assertEquals(index.refreshLinkedNames(root), [{ names: [a, b, c], lostName: false }]);
  root.children.set("c", file());
  assertEquals(index.refreshLinkedNames(root), [{ names: [a, b], lostName: true }]);
  assertEquals(index.refreshLinkedNames(root), [{ names: [a, b], lostName: false }]);
  // The name in the directory is as it was, but the directory is gone.
  root.children.delete("sub");
  assertEquals(index.refreshLinkedNames(root), [{ names: [a], lostName: true }]);
  assertEquals(index.refreshLinkedNames(root), []);
});
