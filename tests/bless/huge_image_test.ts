import { assert, assertEquals } from "@std/assert";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { diffSources, exportTar } from "../../lib/bless/export.ts";
import { blessMerged } from "../../lib/bless/merged.ts";
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { makeImage } from "../ext4/made_image.ts";
import { mustRun } from "../oracle/command.ts";
import { file, treeOf } from "../oracle/tree_builder.ts";
import { testOptions, withDirectory } from "../source/helpers.ts";

const TIB = 2 ** 40;
const IMAGE_BYTES = 4 * TIB;
const DATA = new Uint8Array(5000).fill(7);
/** To read the lengths of these in full would take hours. */
const TREE = treeOf({
  hole: file({ sizeBytes: 3 * TIB, parts: [] }),
  small: file("small"),
  sparse: file({ sizeBytes: 2 * TIB + 1, parts: [[TIB, DATA]] }),
});

Deno.test("export, diff and bless take a huge image as long as its data takes, and lose nothing", async () => {
  await withDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    const layout = { ...MERGED_DEFAULTS, size: { kind: "total", sizeBytes: IMAGE_BYTES } } as const;
    await makeImage(at("image"), TREE, layout);
    assertEquals(statSync(at("image")).size, IMAGE_BYTES);
    // Not as it was blessed any more, so that its content names it.
    mustRun("tune2fs", ["-C", "1", at("image")]);
    const source = `ext4:${at("image")}`;
    const sinkTo = (name: string) => createFileSink(at(name), { force: true });
    await exportTar({ ...testOptions(), source, sink: sinkTo("tar") });
    await exportTar({ ...testOptions(), source, layer: true, sink: sinkTo("layer") });
    assert(statSync(at("tar")).size + statSync(at("layer")).size < 100_000);
    for (const [from, to] of [[source, "one"], [`tar:${at("tar")}`, "other"]] as const) {
      await blessMerged({
        ...testOptions(),
        source: from,
        layout: MERGED_DEFAULTS,
        sink: sinkTo(to),
      });
    }
    assertEquals(readFileSync(at("one")).compare(readFileSync(at("other"))), 0);
    for (const after of ["one", "tar", "layer"]) {
      const { isEqual } = await diffSources({ ...testOptions(), before: source, after: at(after) });
      assertEquals(isEqual, true, after);
    }
  });
});
