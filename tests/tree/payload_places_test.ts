import { assertEquals } from "@std/assert";
import { walkTree } from "../../lib/model/node.ts";
import { notePayloadPlaces } from "../../lib/tree/payload_places.ts";
import { Random } from "../oracle/noise.ts";
import { dir, file, treeOf } from "../oracle/tree_builder.ts";

Deno.test("notePayloadPlaces finds numbers that sort any order back", () => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = new Random(seed);
    const files = Array.from({ length: random.below(30) }, () => file("x"));
    const place = new Map(files.map((node) => [node, random.below(40)]));
    const tree = treeOf(dir(files.map((node, i) => [`${i + 10}`, node] as const)));
    notePayloadPlaces(tree, (node) => place.get(node));
    const wanted = [...files].sort((a, b) => place.get(a)! - place.get(b)!);
    assertEquals([...files].sort((a, b) => a.firstLayer! - b.firstLayer!), wanted);
  }
});

Deno.test("notePayloadPlaces begins no number for files without data or without a place", () => {
  const [a, b, c, d] = [file("a"), file(""), file("c"), file("d")];
  const tree = treeOf({ a, b, c, d });
  const places = new Map([[a, 2], [b, 1], [d, 3]]);
  notePayloadPlaces(tree, (node) => places.get(node));
  const numbers = [...walkTree(tree)].slice(1).map(({ node }) => node.firstLayer);
  assertEquals(numbers, [0, 0, 0, 0]);
});
