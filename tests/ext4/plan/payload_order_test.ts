import { assertEquals } from "@std/assert";
import { displayName } from "../../../lib/bytes/byte_string.ts";
import type { PayloadOrder } from "../../../lib/ext4/plan/settings.ts";
import { dir, file, treeOf } from "../../oracle/tree_builder.ts";
import { planTree } from "../made_image.ts";

Deno.test("planImage orders payload by path, by first layer, or by layer and place in it; inode numbers stay the same", () => {
  const [a, b, c] = [file("of the second layer"), file("late"), file("early")];
  const tree = treeOf({ a, b, d: dir({ c }) });
  a.origin = { layerIndex: 1, entryIndex: 0 };
  b.origin = { layerIndex: 0, entryIndex: 9 };
  c.origin = { layerIndex: 0, entryIndex: 2 };
  a.firstLayer = 1;
  const orderOf = (payloadOrder?: PayloadOrder) => {
    const { files, payload } = planTree(tree, payloadOrder ? { payloadOrder } : {});
    assertEquals(
      payload.map(({ startBlock }) => startBlock),
      payload.map(({ startBlock }) => startBlock).toSorted((a, b) => a - b),
    );
    return files.map(({ draft }) => `${draft.inodeNumber} ${displayName(draft.path)}`);
  };
  assertEquals(orderOf("path"), ["11 /a", "12 /b", "14 /d/c"]);
  assertEquals(orderOf("first-layer"), ["12 /b", "14 /d/c", "11 /a"]);
  assertEquals(orderOf(), orderOf("first-layer"));
  assertEquals(orderOf("layer"), ["14 /d/c", "12 /b", "11 /a"]);
});
