import { assertEquals, assertRejects } from "@std/assert";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { diffSources, exportTar } from "../../lib/bless/export.ts";
import { blessMerged } from "../../lib/bless/merged.ts";
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { InputError } from "../../lib/errors.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { makeImage } from "../ext4/made_image.ts";
import { hasCommand, mustRun } from "../oracle/command.ts";
import { describeDifference, firstDifference } from "../oracle/compare.ts";
import { viewDirectory } from "../oracle/directory_view.ts";
import { isRoot } from "../oracle/libc_user.ts";
import { notRun } from "../oracle/notice.ts";
import { dir, file, special, symlink, treeOf } from "../oracle/tree_builder.ts";
import { viewTree } from "../oracle/tree_view.ts";
import { writeOciLayout } from "../source/build_layout.ts";
import { testOptions, withDirectory } from "../source/helpers.ts";
import { buildTar } from "../tar/build.ts";

Deno.test("diffSources compares a source with an image, and the layer turns one into the other", async () => {
  await withDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    const lower = buildTar([
      { path: "./", mtime: 9 },
      { path: "a", data: "a", mtime: 5 },
      { path: "b", data: "b", mtime: 5 },
    ]);
    writeOciLayout(at("oci"), { layers: [lower] });
    const after = treeOf(
      dir({ b: file("b", { mtime: 5 }), sparse: file({ sizeBytes: 1 << 20, parts: [] }) }, {
        mtime: 9,
      }),
    );
    await makeImage(at("image"), after);
    const compared = await diffSources({
      ...testOptions(),
      before: `oci:${at("oci")}`,
      after: at("image"),
      sink: createFileSink(at("layer")),
    });
    assertEquals([compared.added, compared.removed, compared.changed], [1, 1, 0]);
    assertEquals([compared.isEqual, compared.entries.whiteouts], [false, 1]);
    const layer = new Uint8Array(readFileSync(at("layer")));
    assertEquals(compared.sizeBytes, layer.length);
    // No sparse files in layers, for the sake of other tools.
    assertEquals(layer.length > 1 << 20, true);
    writeOciLayout(at("oci2"), { layers: [lower, layer] });
    const { progress, warnings } = testOptions();
    await blessMerged({
      progress,
      warnings,
      source: `oci:${at("oci2")}`,
      layout: MERGED_DEFAULTS,
      sink: createFileSink(at("image2")),
    });
    const again = await diffSources({
      ...testOptions(),
      before: at("image2"),
      after: at("image"),
    });
    assertEquals([again.isEqual, again.sizeBytes], [true, null]);
  });
});

Deno.test("diffSources leaves nothing behind when a source is bad", async () => {
  await withDirectory(async (directory) => {
    await makeImage(join(directory, "image"), treeOf({}));
    await assertRejects(
      () =>
        diffSources({
          ...testOptions(),
          before: join(directory, "image"),
          after: join(directory, "none"),
          sink: createFileSink(join(directory, "layer")),
        }),
      InputError,
    );
    assertEquals(readdirSync(directory), ["image"]);
  });
});

Deno.test("diffSources writes a layer that umoci unpacks to the second tree", async () => {
  const what = "a layer of a difference against umoci";
  if (!hasCommand("umoci")) return notRun(what, "umoci is not installed");
  if (!isRoot()) return notRun(what, "unpacking owners needs root");
  await withDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    const [linked, joined] = [file("linked"), file("joined")];
    const before = treeOf({
      gone: dir({ a: file("a") }),
      full: dir({ a: file("a"), b: file("b"), c: dir({ d: file("d") }) }),
      becomesFile: dir({ a: file("a") }),
      becomesDirectory: file("x"),
      mode: file("mode"),
      xattr: file("xattr", { xattrs: { "user.gone": "1" } }),
      first: linked,
      second: linked,
      apart: file("joined"),
      same: file("same"),
    });
    const after = treeOf({
      full: dir({ n: file("n") }),
      becomesFile: file("y"),
      becomesDirectory: dir({ b: symlink("../same") }),
      mode: file("mode", { mode: 0o4711, uid: 3 }),
      xattr: file("xattr"),
      first: file("linked"),
      second: file("linked"),
      apart: joined,
      joined,
      same: file("same"),
      device: special("characterDevice", [1, 3]),
    });
    await makeImage(at("a"), before);
    await makeImage(at("b"), after);
    await exportTar({ ...testOptions(), source: at("a"), sink: createFileSink(at("lower")) });
    const sink = createFileSink(at("upper"));
    await diffSources({ ...testOptions(), before: at("a"), after: at("b"), sink });
    const layers = ["lower", "upper"].map((name) => new Uint8Array(readFileSync(at(name))));
    writeOciLayout(at("oci"), { layers });
    mustRun("umoci", ["unpack", "--image", `${at("oci")}:latest`, at("bundle")]);
    const found = viewDirectory(`${at("bundle")}/rootfs`, { directoryLinks: "counted" });
    const difference = firstDifference(found, viewTree(after));
    assertEquals(difference && describeDifference(difference), undefined);
  });
});
