import { assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import {
  decodePlacement,
  encodePlacement,
  type LayerPlace,
  type LayerPlacement,
  placeKey,
  placementFileName,
} from "../../lib/bless/layered_placement.ts";
import { sealJson } from "../../lib/bless/sealed_json.ts";
import { InputError } from "../../lib/errors.ts";

const DIFF_ID = `sha256:${"1".repeat(64)}`;
const PLACE: LayerPlace = {
  diffId: DIFF_ID,
  chainKey: "sha256:chain",
  digest: "sha256:stored",
  mediaType: "a/b",
  sizeBytes: 1,
};
const PLACEMENT: LayerPlacement = {
  place: placeKey(PLACE),
  tree: `sha256:${"2".repeat(64)}`,
  facts: { digest: "sha256:x", sizeBytes: 1, uncompressedBytes: 2, entries: 3 },
  warnings: [{ kind: "k", what: ["/\u00e9 in ", ""], why: "why", count: 2 }],
};

Deno.test("placementFileName begins with the layer's name and differs with everything that makes a place", () => {
  const changes: Partial<LayerPlace>[] = [
    {},
    { chainKey: "sha256:other" },
    { digest: undefined },
    { digest: "null" },
    { mediaType: undefined },
    { mediaType: "a/c" },
    { sizeBytes: undefined },
    { sizeBytes: 2 },
  ];
  const names = changes.map((change) => placementFileName({ ...PLACE, ...change }));
  assertEquals(new Set(names).size, changes.length);
  for (const name of names) assertMatch(name, /^1{64}@[0-9a-f]{16}$/);
  assertThrows(() => placementFileName({ ...PLACE, diffId: "sha256:../x" }), InputError);
});

Deno.test("decodePlacement reads what encodePlacement wrote, and names the field that is wrong", () => {
  assertEquals(decodePlacement(encodePlacement(PLACEMENT), "it"), PLACEMENT);
  const cases: [field: string, change: object][] = [
    ["place", { place: 1 }],
    ["tree", { tree: null }],
    ["facts", { facts: 7 }],
    ["facts.entries", { facts: { ...PLACEMENT.facts, entries: -1 } }],
    ["warnings", { warnings: {} }],
    ["warnings[0].kind", { warnings: [{}] }],
    ["warnings[0].what", { warnings: [{ ...PLACEMENT.warnings[0], what: "x" }] }],
  ];
  for (const [field, change] of cases) {
    const bytes = sealJson(2, { ...PLACEMENT, ...change });
    const error = assertThrows(() => decodePlacement(bytes, "it"), InputError);
    assertStringIncludes(error.message, `it: ${field} is `);
  }
});
