import { assertEquals } from "@std/assert";
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { deriveUuid, planImage } from "../../lib/bless/plan_image.ts";
import { imageReport, layerReport, layoutReport } from "../../lib/bless/report.ts";
import { formatUuid } from "../../lib/bytes/uuid.ts";
import { memoryReader } from "../../lib/io/random_reader.ts";
import { Warnings } from "../../lib/warnings.ts";
import { dir, file, treeOf } from "../oracle/tree_builder.ts";

Deno.test("imageReport has the counts of the plan and what writing found out", () => {
  const tree = treeOf({ "d": dir({ "f": file({ sizeBytes: 70_000, noise: "all", seed: 1 }) }) });
  const plan = planImage(tree, {
    layout: MERGED_DEFAULTS,
    contentDigest: "sha256:00",
    timestamp: 0,
    warnings: new Warnings(),
  });
  const report = imageReport(plan, { storedBytes: 12_345 });
  assertEquals(report.uuid, formatUuid(deriveUuid({ contentDigest: "sha256:00" })));
  assertEquals(report.storedBytes, 12_345);
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

Deno.test("layoutReport writes the layout as options are written", () => {
  assertEquals(layoutReport(MERGED_DEFAULTS), {
    grid: 131_072,
    alignThreshold: 65_536,
    packing: "resync:262144:65536",
  });
  const tight = {
    ...MERGED_DEFAULTS,
    alignThresholdBytes: Infinity,
    packing: { kind: "tight" },
  } as const;
  assertEquals(layoutReport(tight), { grid: 131_072, alignThreshold: null, packing: "tight" });
});
