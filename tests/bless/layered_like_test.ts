import { assert, assertEquals, assertRejects } from "@std/assert";
import { readFileSync, writeFileSync } from "node:fs";
import { blessLayered, type BlessLayeredOptions } from "../../lib/bless/layered.ts";
import { InputError, UsageError } from "../../lib/errors.ts";
import { assertE2fsckClean } from "../oracle/e2fsck.ts";
import { Random } from "../oracle/noise.ts";
import { writeOciLayout } from "../source/build_layout.ts";
import { testOptions, withDirectory } from "../source/helpers.ts";
import { buildTar } from "../tar/build.ts";

/** A layer of small files, one of them with other content, and one removed, in every version. */
function layer(seed: number, version: number): Uint8Array {
  const random = new Random(seed);
  const files = Array.from({ length: 200 }, (_, i) => {
    const data = random.bytes(random.between(100, 9000));
    if (i === version) data.fill(version);
    return { path: `lib-${seed}/file-${i}`, data, mtime: 5 };
  });
  files.splice(10 + version, 1);
  return buildTar([{ path: `lib-${seed}/`, mtime: 5 }, ...files]);
}

async function bless(
  scratch: string,
  name: string,
  layers: Uint8Array[],
  more: Partial<BlessLayeredOptions> = {},
) {
  writeOciLayout(`${scratch}/${name}`, { layers });
  return await blessLayered({
    ...testOptions(),
    source: `oci:${scratch}/${name}:latest`,
    outputDir: `${scratch}/layers`,
    ...more,
  });
}

Deno.test("a new layer is laid out like the one that it replaces, in the same directory or another", async () => {
  await withDirectory(async (scratch) => {
    const directory = `${scratch}/layers`;
    const first = await bless(scratch, "1", [layer(1, 0), layer(2, 0)]);
    const [base, app] = first.layers;
    const newApp = await bless(scratch, "2", [layer(1, 0), layer(2, 1)], { like: directory });
    assertEquals([newApp.layers[0]!.isReused, newApp.layers[0]!.like], [true, undefined]);
    const like = newApp.layers[1]!.like!;
    assertEquals([like.previous, like.afresh, like.placedFiles], [app!.file, null, 3]);
    assert(like.keptFiles >= 190);
    // Both layers have successors: the lowest one is that of the lowest.
    const both = await bless(scratch, "3", [layer(1, 2), layer(2, 2)], {
      like: directory,
      outputDir: `${scratch}/other`,
      keepStale: true,
    });
    assertEquals(both.layers.map((each) => each.like?.previous), [
      base!.file,
      newApp.layers[1]!.file,
    ]);
    assert(both.layers.every((each) => each.like!.staleBytes > 0));
    for (const { file } of newApp.layers) assertE2fsckClean(`${directory}/${file}`);
    for (const { file } of both.layers) assertE2fsckClean(`${scratch}/other/${file}`);
    // What is used again is reported as it was made.
    const again = await bless(scratch, "2", [layer(1, 0), layer(2, 1)], { like: directory });
    assertEquals(again.reusedLayers, 2);
    assertEquals(again.layers[1]!.like, like);
  });
});

Deno.test("equal previous layers give equal images, and what is no such directory is refused", async () => {
  await withDirectory(async (scratch) => {
    await bless(scratch, "1", [layer(1, 0)]);
    const like = `${scratch}/layers`;
    const images = [];
    for (const name of ["a", "b"]) {
      const outputDir = `${scratch}/${name}`;
      const { layers } = await bless(scratch, "2", [layer(1, 3)], { like, outputDir });
      images.push(readFileSync(`${outputDir}/${layers[0]!.file}`));
    }
    assert(images[0]!.equals(images[1]!));
    const outputDir = `${scratch}/c`;
    const refused = async (
      options: Partial<BlessLayeredOptions>,
      error: typeof InputError | typeof UsageError,
      why: string,
    ) => {
      await assertRejects(
        () => bless(scratch, "2", [layer(1, 3)], { outputDir, ...options }),
        error as typeof InputError,
        why,
      );
    };
    await refused({ like: `${scratch}/missing` }, InputError, "directory of layers");
    writeFileSync(`${scratch}/image.json`, '{"kind": "something else", "layers": []}');
    await refused({ like: scratch }, InputError, "directory of layers");
    writeFileSync(
      `${scratch}/image.json`,
      '{"kind": "blessfs layered image", "layers": [{"diffId": "x", "file": "../../etc/passwd"}]}',
    );
    await refused({ like: scratch }, InputError, "not a file beside it");
    await refused({ keepStale: true }, UsageError, "keepStale");
    assertEquals([...Deno.readDirSync(scratch)].some(({ name }) => name === "c"), false);
  });
});
