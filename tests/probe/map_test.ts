import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { blessMerged } from "../../lib/bless/merged.ts";
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { openFileReader } from "../../lib/io/random_reader.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";
import { Warnings } from "../../lib/warnings.ts";
import { type ImageMap, mapImage, mapPicture } from "../../probe/map.ts";
import { withTars } from "./sources.ts";

const KIB = 1024;
const LOOK = { gridBytes: 128 * KIB, alignThresholdBytes: 64 * KIB };

async function mapped(source: string, path: string): Promise<ImageMap> {
  await blessMerged({
    source,
    layout: MERGED_DEFAULTS,
    sink: createFileSink(path),
    warnings: new Warnings(),
    progress: NO_PROGRESS,
  });
  const reader = openFileReader(path);
  try {
    return await mapImage(reader, path, LOOK);
  } finally {
    reader.close();
  }
}

Deno.test("mapImage tells metadata, large files, small files and free cells apart", async () => {
  await withTars(async ([source], directory) => {
    const { cells } = await mapped(source!, join(directory, "a.ext4"));
    const count = (kind: string) => cells.filter((cell) => cell.kind === kind).length;
    // 700 KiB in six cells, and 200 KiB of a sparse file in two.
    assertEquals(count("aligned"), 8);
    const large = cells.filter(({ kind }) => kind === "aligned");
    assertEquals(new Set(large.map(({ file }) => file)).size, 2);
    // Forty files of three blocks and one of five: cells of up to ten files.
    assert(count("packed") >= 4 && count("packed") <= 8, `${count("packed")}`);
    assert(count("metadata") >= 1 && count("hole") >= 1);
    for (const { kind, filled, digest } of cells) {
      assertEquals([filled === 0, digest === undefined], Array(2).fill(kind === "hole"));
    }
  });
});

Deno.test("mapPicture shows every cell in use, and marks those that several images have", async () => {
  await withTars(async ([first, second], directory) => {
    const maps = [
      await mapped(first!, join(directory, "a.ext4")),
      await mapped(second!, join(directory, "b.ext4")),
    ];
    const alone = mapPicture(maps.slice(0, 1));
    assert(!alone.includes("<circle") && !alone.includes("another image"));
    const both = mapPicture(maps);
    const digests = maps.map(({ cells }) => cells.flatMap(({ digest }) => digest ?? []));
    const shared = digests.flatMap((own, i) =>
      own.filter((digest) => digests[1 - i]!.includes(digest))
    );
    assert(shared.length >= 16, "both have the large files");
    // One more is in the legend.
    assertEquals(both.match(/<circle/g)!.length, 1 + shared.length);
    assertStringIncludes(both, "of them in another image too");
    const hostile = mapPicture([{ ...maps[0]!, name: "<b>&" }]);
    assertStringIncludes(hostile, "&lt;b&gt;&amp;");
  });
});
