import { assertEquals } from "@std/assert";
import process from "node:process";
import fc from "fast-check";
import type { FileTree } from "../../lib/model/node.ts";
import { walkTree } from "../../lib/model/node.ts";
import { buildTree } from "../../lib/tree/build.ts";
import { tarEntryOf } from "../tar/build.ts";
import { describeTree } from "./describe.ts";
import { DEFAULT_TIME, layersOf, treeOptions } from "./layers.ts";
import { applyToModel, emptyModel, type ModelFile, type PathModel } from "./path_model.ts";
import { randomStacks } from "./random_layers.ts";

const RUN_COUNT = Number(process.env["BLESSFS_PROPERTY_RUNS"] ?? 2000);

Deno.test("buildTree agrees with a model in which a tree is a set of paths", () => {
  fc.assert(
    fc.property(randomStacks, (random) => {
      const model = emptyModel();
      const applied = random
        .map((entries) => entries.filter((entry) => entry.kind !== undefined || !entry.link))
        .map((entries) => applyToModel(model, entries));
      const tree = buildTree(layersOf(applied), treeOptions());
      assertEquals(summary(tree), summaryOfModel(model));
    }),
    { numRuns: RUN_COUNT },
  );
});

function summary(tree: FileTree): unknown {
  const described = describeTree(tree);
  return [...walkTree(tree)].map(({ path }) => {
    const { mode, uid, mtime, data, firstName, linkCount } = described[path || "/"]!;
    return [path, mode, uid, mtime, data, firstName, linkCount];
  });
}

function summaryOfModel(model: PathModel): unknown {
  const sorted = [...model].sort((a, b) => (walkKey(a[0]) < walkKey(b[0]) ? -1 : 1));
  const paths = new Map<ModelFile, string[]>();
  for (const [path, file] of sorted) paths.set(file, [...(paths.get(file) ?? []), `/${path}`]);
  return sorted.map(([path, file]) => {
    const { mode, uid, mtimeSeconds, mtimeNanoseconds } = file.entry ? tarEntryOf(file.entry) : {
      mode: 0o755,
      uid: 0,
      mtimeSeconds: DEFAULT_TIME.seconds,
      mtimeNanoseconds: DEFAULT_TIME.nanoseconds,
    };
    const names = paths.get(file)!;
    const isFile = !file.isDirectory && file.entry?.kind === undefined;
    return [
      path === "" ? "" : `/${path}`,
      mode,
      uid,
      [mtimeSeconds, mtimeNanoseconds],
      isFile ? file.entry?.data : undefined,
      file.isDirectory ? undefined : names[0],
      file.isDirectory ? undefined : names.length,
    ];
  });
}

/** Sorts a directory before what is in it, and that before longer names. */
function walkKey(path: string): string {
  return path.replaceAll("/", "\0");
}
