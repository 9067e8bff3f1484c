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
export { type Blesser, type BlesserOptions, createBlesser } from "./blesser.ts";
export { blessMerged, type BlessMergedOptions } from "./merged.ts";
export {
  type ContentIdentity,
  contentIdentity,
  deriveUuid,
  type LayerReport,
  planImage,
  type PlanImageOptions,
} from "./plan_image.ts";
export {
  blessLayered,
  type BlessLayeredOptions,
  type LayeredLayerReport,
  type LayeredReport,
} from "./layered.ts";
export {
  type ImageSize,
  LAYERED_DEFAULTS,
  type LayoutOptions,
  MERGED_DEFAULTS,
  type Packing,
  type ReservedBlocks,
} from "./options.ts";
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
export {
  type HotList,
  type HotListEntry,
  type HotListFormat,
  parseHotList,
} from "../source/hot_list.ts";
export type { LayerChunksTarget, LayeredDisk } from "./layered_outputs.ts";
export {
  type DiffReport,
  diffSources,
  type DiffSourcesOptions,
  type ExportOptions,
  type ExportReport,
  exportTar,
  type TarCounts,
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
export {
  formatVerity,
  type FormatVerityOptions,
  type FoundVerity,
  openVerity,
  type VerityQuery,
} from "./verity_image.ts";
