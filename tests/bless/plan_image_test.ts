import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { LAYERED_DEFAULTS, MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import type { OpenedImage } from "../../lib/source/source.ts";
import {
  checkLeastSize,
  deriveUuid,
  FORMAT_VERSION,
  layerReport,
  planImage,
} from "../../lib/bless/plan_image.ts";
import { imageReport, sourceReport } from "../../lib/bless/report.ts";
import { formatUuid } from "../../lib/bytes/digest.ts";
import { InputError, UsageError } from "../../lib/errors.ts";
import { resolveSettings } from "../../lib/ext4/plan/settings.ts";
import { memoryReader } from "../../lib/io/random_reader.ts";
import { Warnings } from "../../lib/warnings.ts";
import { dir, file, symlink, treeOf } from "../oracle/tree_builder.ts";
import { join } from "node:path";
import { blessMerged } from "../../lib/bless/merged.ts";
import { nullSink } from "../../lib/io/sink.ts";
import { withTemporaryDirectory } from "../oracle/command.ts";
import { writeOciLayout } from "../source/build_layout.ts";
import { noise, sampleTar, testOptions } from "../source/helpers.ts";
import { buildTar } from "../tar/build.ts";

const BASE = {
  layout: MERGED_DEFAULTS,
  contentDigest: "sha256:00",
  timestamp: 1,
};

Deno.test("deriveUuid gives equal content equal UUIDs of version 8", () => {
  const uuid = formatUuid(deriveUuid({ contentDigest: "sha256:00" }));
  assertEquals(
    /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(uuid),
    true,
  );
  assertEquals(formatUuid(deriveUuid({ contentDigest: "sha256:00" })), uuid);
  assertNotEquals(formatUuid(deriveUuid({ contentDigest: "sha256:01" })), uuid);
});

Deno.test("planImage derives the UUID from the content unless one is given", () => {
  const tree = treeOf({ "f": file("x") });
  const uuidOf = (uuid: string | undefined) =>
    planImage(tree, { ...BASE, layout: { ...MERGED_DEFAULTS, uuid }, warnings: new Warnings() })
      .summary.uuid;
  assertEquals(uuidOf(undefined), formatUuid(deriveUuid({ contentDigest: "sha256:00" })));
  const given = "01234567-89ab-4def-8123-456789abcdef";
  assertEquals(uuidOf(given), given);
});

Deno.test("planImage counts what it changes and refuses what it cannot hold", () => {
  const warnings = new Warnings();
  planImage(treeOf({ "f": file("x", { mtime: 1e12 }) }), { ...BASE, warnings });
  assertEquals(warnings.list().map(({ kind }) => kind), ["clampedTime"]);
  const long = treeOf({ "l": symlink("t".repeat(5000)) });
  assertThrows(() => planImage(long, { ...BASE, warnings }), InputError, "/l: ");
  const layout = { ...MERGED_DEFAULTS, gridBytes: 5 };
  assertThrows(() => planImage(treeOf({}), { ...BASE, layout, warnings }), UsageError, "gridBytes");
});

const IDENTITY = { derivedUuid: new Uint8Array(16), timestamp: 0 };

Deno.test("the defaults are options that every check accepts", () => {
  const merged = resolveSettings(MERGED_DEFAULTS, IDENTITY);
  assertEquals([merged.gridBlocks, merged.journalBlocks, merged.backups], [32, 1024, "sparse"]);
  const layered = resolveSettings(LAYERED_DEFAULTS, IDENTITY);
  assertEquals([layered.gridBlocks, layered.journalBlocks, layered.backups], [32, 0, "none"]);
});

Deno.test("a layer differs from a merged image in journal, backups and order of payload alone", () => {
  const { journalBytes, backups, ...layered } = LAYERED_DEFAULTS;
  assertEquals([journalBytes, backups], [0, "none"]);
  const { payloadOrder, ...merged } = MERGED_DEFAULTS;
  assertEquals(payloadOrder, "first-layer");
  assertEquals({ ...layered, journalBytes: 4 * 2 ** 20, backups: "sparse" }, merged);
});

Deno.test("imageReport has the counts of the plan and what writing found out", () => {
  const tree = treeOf({ "d": dir({ "f": file({ sizeBytes: 70_000, noise: "all", seed: 1 }) }) });
  const plan = planImage(tree, {
    layout: MERGED_DEFAULTS,
    contentDigest: "sha256:00",
    timestamp: 0,
    warnings: new Warnings(),
  });
  const report = imageReport(plan, { cellBytes: 12_345 });
  assertEquals(report.uuid, formatUuid(deriveUuid({ contentDigest: "sha256:00" })));
  assertEquals(report.cellBytes, 12_345);
  assertEquals([report.files, report.directories, report.alignedFiles], [1, 2, 1]);
  assertEquals(report.sizeBytes, plan.totalBlocks * 4096);
  assertEquals(JSON.parse(JSON.stringify(report)), report);
});

Deno.test("layerReport says null where a layer has no media type", () => {
  const layer = {
    name: "layer",
    digest: "sha256:aa",
    diffId: "sha256:bb",
    mediaType: undefined,
    sizeBytes: 10,
    uncompressedBytes: 20,
    statedUuid: undefined,
    whiteouts: true,
    entries: [],
    store: memoryReader(new Uint8Array(20), "layer"),
  };
  assertEquals(layerReport(layer), {
    digest: "sha256:aa",
    diffId: "sha256:bb",
    mediaType: null,
    sizeBytes: 10,
    uncompressedBytes: 20,
    entries: 0,
  });
});

Deno.test("sourceReport writes the layout as options are written, and null where the source says nothing", () => {
  const image = { platform: undefined, manifestDigest: undefined } as unknown as OpenedImage;
  assertEquals(sourceReport("tar:x", image, MERGED_DEFAULTS), {
    formatVersion: FORMAT_VERSION,
    source: "tar:x",
    manifestDigest: null,
    configDigest: null,
    platform: null,
    architecture: null,
    os: null,
    variant: null,
    config: null,
    grid: 131_072,
    alignThreshold: 65_536,
    packing: "merge",
  });
  const tight = {
    ...MERGED_DEFAULTS,
    alignThresholdBytes: Infinity,
    packing: { kind: "tight" },
  } as const;
  const { alignThreshold, packing } = sourceReport("tar:x", image, tight);
  assertEquals([alignThreshold, packing], [null, "tight"]);
});

const MIB = 1 << 20;
const big = buildTar([{ path: "big", data: noise(12 * MIB) }]);

/** What is read of an image, and how it ends. */
function attempt(directory: string, sizeBytes: number) {
  const read: string[] = [];
  const progress = {
    begin: (name: string) => {
      read.push(name);
      return { advance: () => {}, end: () => {} };
    },
  };
  const size = { kind: "total", sizeBytes } as const;
  const layout = { ...MERGED_DEFAULTS, size };
  const made = blessMerged({
    ...testOptions({ progress }),
    source: `oci:${directory}`,
    layout,
    sink: nullSink,
  });
  return { made, read };
}

Deno.test("a size that the topmost layer or the journal rules out is refused before layers are read", async () => {
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "layout");
    writeOciLayout(path, { layers: [sampleTar(1), big] });
    for (const sizeBytes of [0, 4096, 4 * MIB]) {
      const { made, read } = attempt(path, sizeBytes);
      await assertRejects(() => made, InputError, "are too few");
      assertEquals(read, [], String(sizeBytes));
    }
    // Larger than what is certain: the layers tell.
    const { made, read } = attempt(path, 9 * MIB);
    await assertRejects(() => made, InputError, "are too few: the content needs");
    assert(read.length >= 2);
  });
});

Deno.test("a lower layer that a later one removes counts nothing", async () => {
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "layout");
    writeOciLayout(path, { layers: [big, buildTar([{ path: ".wh.big" }])] });
    const { made } = attempt(path, 5 * MIB);
    assertEquals((await made).sizeBytes, 5 * MIB);
  });
});

Deno.test("checkLeastSize counts the topmost layer, unless additions may take something out of it", () => {
  const layer = (sizeBytes: number | undefined) => ({ sizeBytes });
  const check = (
    layers: unknown[],
    sizeBytes: number,
    manifestDigest?: string,
    additions?: unknown,
  ) =>
    checkLeastSize(
      { layers, manifestDigest, additions } as Parameters<typeof checkLeastSize>[0],
      { ...MERGED_DEFAULTS, size: { kind: "total", sizeBytes } },
      0,
    );
  const refuses = (...args: Parameters<typeof check>) => {
    try {
      check(...args);
      return false;
    } catch (error) {
      assert(error instanceof InputError, String(error));
      return true;
    }
  };
  assertEquals(refuses([layer(800 * MIB)], 99 * MIB, "sha256:0"), true);
  assertEquals(refuses([layer(800 * MIB)], 100 * MIB, "sha256:0"), false);
  assertEquals(refuses([layer(800 * MIB), layer(1)], 99 * MIB, "sha256:0"), false);
  assertEquals(refuses([layer(800 * MIB)], 99 * MIB, "sha256:0", {}), false);
  // A tar may hold a file many times over.
  assertEquals(refuses([layer(800 * MIB)], 99 * MIB), false);
  assertEquals(refuses([layer(undefined)], 99 * MIB, "sha256:0"), false);
  assertEquals(refuses([], 3 * MIB), true);
});
