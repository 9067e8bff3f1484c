/**
 * Random stacks of layers for property tests: few names, so that layers meet, and every kind of entry.
 *
 * @module
 */
import fc from "fast-check";
import { InputError } from "../../lib/errors.ts";
import type { TreeLayer } from "../../lib/tree/build.ts";
import type { SimpleEntry } from "../tar/build.ts";
import { layerOf } from "./layers.ts";

const name = fc.constantFrom("a", "b", "c");
const names = fc.array(name, { minLength: 1, maxLength: 3 });
const path = names.map((parts) => parts.join("/"));
const directoryPath = fc.oneof(
  { weight: 1, arbitrary: fc.constant("") },
  { weight: 4, arbitrary: path.map((text) => `${text}/`) },
);
const looks = fc.record({
  mode: fc.constantFrom(0o644, 0o755, 0o4711),
  uid: fc.constantFrom(0, 1000),
  mtime: fc.constantFrom(0, 7, [8, 9] as const),
});
const xattrs = fc.constantFrom<Readonly<Record<string, string>>>(
  {},
  {},
  {},
  { "user.k": "v" },
  { "trusted.overlay.opaque": "y" },
  {
    "trusted.overlay.redirect": "/a",
    "trusted.overlay.overlay.opaque": "y",
    "user.overlay.x": "1",
  },
);
const linkTarget = fc.tuple(fc.constantFrom("", "", "/", "../", "./"), path).map((p) => p.join(""));

const file = fc.record({ path, data: fc.constantFrom("", "1", "22", "333"), xattrs });
const directory = fc.record({ path: path.map((text) => `${text}/`), xattrs });
const symlink = fc.record({ path, link: linkTarget });
const hardlink = fc.record({ kind: fc.constant("hardlink" as const), path, link: path });
const device = fc.record({
  kind: fc.constant("characterDevice" as const),
  path,
  major: fc.constantFrom(0, 1),
  minor: fc.constant(0),
});
const root = fc.record({ path: fc.constantFrom("./", "/"), xattrs });
const whiteout = fc.tuple(directoryPath, name).map(([parent, gone]) => ({
  path: `${parent}.wh.${gone}`,
}));
const opaque = directoryPath.map((parent) => ({ path: `${parent}.wh..wh..opq` }));

const described = fc
  .tuple(
    fc.oneof(
      { weight: 8, arbitrary: file },
      { weight: 6, arbitrary: directory },
      { weight: 3, arbitrary: symlink },
      { weight: 5, arbitrary: hardlink },
      { weight: 1, arbitrary: device },
      { weight: 1, arbitrary: root },
    ),
    looks,
  )
  .map(([entry, look]): SimpleEntry => ({ ...look, ...entry }));

/** One layer's entries. */
export const randomEntries: fc.Arbitrary<SimpleEntry[]> = fc.array(
  fc.oneof(
    { weight: 10, arbitrary: described },
    { weight: 4, arbitrary: whiteout },
    { weight: 1, arbitrary: opaque },
  ),
  { maxLength: 9 },
);

/** The entries of some layers. */
export const randomStacks: fc.Arbitrary<SimpleEntry[][]> = fc.array(randomEntries, {
  minLength: 1,
  maxLength: 5,
});

/**
 * Leaves out the entries that make `build` fail (links to nothing, loops), so that the rest can be looked at.
 * Entries keep their offsets in the messages, by which the culprits are known.
 */
export function withoutRefusedEntries(
  stack: readonly (readonly SimpleEntry[])[],
  build: (layers: readonly TreeLayer[]) => unknown,
): SimpleEntry[][] {
  const kept = stack.map((entries) => [...entries]);
  while (true) {
    try {
      build(kept.map((entries, i) => layerOf(entries, `layer ${i}`)));
      return kept;
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      const place = /in layer (\d+) at offset (\d+)/.exec(error.message);
      if (!place) throw error;
      kept[Number(place[1])]!.splice(Number(place[2]) / 512, 1);
    }
  }
}
