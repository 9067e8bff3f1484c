import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { memoryReader } from "../../lib/io/random_reader.ts";
import { buildTree } from "../../lib/tree/build.ts";
import type { TreeLayer } from "../../lib/tree/build.ts";
import { buildTar } from "../tar/build.ts";
import { readTar } from "../tar/read.ts";
import { treeOptions } from "../tree/layers.ts";
import { EDGE_IMAGES } from "./cases.ts";
import type { EdgeImage } from "./edge_image.ts";
import { assertExpectedTree } from "./expect.ts";

Deno.test("every edge image gives its tree, or is refused, when it is written as tars and read again", () => {
  for (const image of EDGE_IMAGES) {
    const build = () => buildTree(readLayers(image), treeOptions());
    if ("refused" in image) {
      const error = assertThrows(build, InputError);
      // What no tree can have may be refused by the reader already, in its own words.
      assertEquals(error.message.length > 0, true, image.name);
    } else assertExpectedTree(build(), image.expected);
  }
});

function readLayers(image: EdgeImage): TreeLayer[] {
  return image.layers.map((entries, i) => {
    const tar = buildTar(entries);
    return {
      entries: readTar(tar).entries,
      store: memoryReader(tar),
      whiteouts: image.whiteouts ?? true,
      name: `layer ${i}`,
    };
  });
}
