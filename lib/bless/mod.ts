/**
 * Blessing: from a source to one ext4 image, or one a layer; back to a tar; and the layer between two sources.
 *
 * @example Bless layers for overlayfs
 * ```ts
 * import { assert, assertEquals } from "@std/assert";
 * import { blessLayered } from "@blessfs/blessfs/bless";
 * import { existsSync, mkdtempSync, rmSync } from "node:fs";
 *
 * const outputDir = mkdtempSync("/tmp/blessfs-");
 * const { layers } = await blessLayered({ source: "oci:fixtures/oci-tiny", outputDir });
 * assert(layers.every(({ file }) => existsSync(`${outputDir}/${file}`)));
 * const again = await blessLayered({ source: "oci:fixtures/oci-tiny", outputDir });
 * assertEquals(again.reusedLayers, layers.length);
 * rmSync(outputDir, { recursive: true });
 * ```
 *
 * @module
 */
export { createBlesser } from "./blesser.ts";
export type { Blesser, BlesserOptions } from "./blesser.ts";
export { blessMerged } from "./merged.ts";
export type { BlessMergedOptions } from "./merged.ts";
export { contentIdentity } from "./plan_image.ts";
export { blessLayered } from "./layered.ts";
export type { BlessLayeredOptions, LayeredLayerReport, LayeredReport } from "./layered.ts";
export { LAYERED_DEFAULTS, MERGED_DEFAULTS } from "./options.ts";
export type { ImageSize, LayoutOptions, Packing, ReservedBlocks } from "./options.ts";
export { deriveUuid, planImage } from "./plan_image.ts";
export type { ContentIdentity, PlanImageOptions } from "./plan_image.ts";
export type {
  AddedLayerReport,
  BlessReport,
  ImageReport,
  LayerReport,
  SourceReport,
} from "./report.ts";
export { openPrevious } from "./previous_image.ts";
export type {
  CellCounts,
  LikeOptions,
  LikeReport,
  OpenedPrevious,
  PreviousOptions,
} from "./previous_image.ts";
export type { HotFiles, HotOptions, HotReport, PrefetchReport } from "./hot.ts";
export { parseHotList } from "../source/hot_list.ts";
export type { HotList, HotListEntry, HotListFormat } from "../source/hot_list.ts";
export type { LayerChunksTarget } from "./layered_outputs.ts";
export { exportTar } from "./export.ts";
export type { ExportOptions, ExportReport, TarCounts } from "./export.ts";
export { diffSources } from "./export.ts";
export type { DiffReport, DiffSourcesOptions } from "./export.ts";
export { fillingBytes } from "./envelope.ts";
export type {
  DiskOptions,
  DiskReport,
  EnvelopeOptions,
  EnvelopeReport,
  PartitionReport,
  VerityOptions,
} from "./envelope.ts";
export type { LayeredDisk } from "./layered_outputs.ts";
export { openVerity } from "./verity_image.ts";
export type { FoundVerity, VerityQuery } from "./verity_image.ts";
export { formatVerity } from "./verity_image.ts";
export type { FormatVerityOptions } from "./verity_image.ts";
