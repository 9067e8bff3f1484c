/**
 * Blessing: turns a source into one ext4 image, or one per layer; exports it as a tar; and computes the layer between
 * two sources.
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
export { type Blesser, type BlesserOptions, createBlesser } from "./blesser.ts";
export { blessMerged, type BlessMergedOptions } from "./merged.ts";
export { contentIdentity, deriveUuid, planImage } from "./plan_image.ts";
export type { ContentIdentity, LayerReport, PlanImageOptions } from "./plan_image.ts";
export { blessLayered } from "./layered.ts";
export type { BlessLayeredOptions, LayeredLayerReport, LayeredReport } from "./layered.ts";
export { LAYERED_DEFAULTS, MERGED_DEFAULTS } from "./options.ts";
export type { ImageSize, LayoutOptions, Packing, ReservedBlocks } from "./options.ts";
export type { AddedLayerReport, BlessReport, ImageReport, SourceReport } from "./report.ts";
export {
  type CellCounts,
  type LikeOptions,
  type LikeReport,
  type OpenedPrevious,
  openPrevious,
  type PreviousOptions,
} from "./previous_image.ts";
export type { HotFiles, HotOptions, HotReport, PrefetchReport } from "./hot.ts";
export { parseHotList } from "../source/hot_list.ts";
export type { HotList, HotListEntry, HotListFormat } from "../source/hot_list.ts";
export type { LayerChunksTarget, LayeredDisk } from "./layered_outputs.ts";
export { diffSources, exportTar } from "./export.ts";
export type {
  DiffReport,
  DiffSourcesOptions,
  ExportOptions,
  ExportReport,
  TarCounts,
} from "./export.ts";
export {
  type DiskOptions,
  type DiskReport,
  type EnvelopeOptions,
  type EnvelopeReport,
  fillingBytes,
  type PartitionReport,
  type VerityOptions,
} from "./envelope.ts";
export { formatVerity, openVerity } from "./verity_image.ts";
export type { FormatVerityOptions, FoundVerity, VerityQuery } from "./verity_image.ts";
