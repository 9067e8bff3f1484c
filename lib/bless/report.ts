/**
 * What a finished bless says of itself; the keys are the contract of `--json`.
 *
 * @module
 */
import type { ImagePlan } from "../ext4/plan/image_plan.ts";
import type { LayoutOptions } from "../ext4/plan/settings.ts";
import { formatUuid } from "../ext4/plan/settings.ts";
import type { WriteResult } from "../ext4/write/write_image.ts";
import type { LoadedLayer } from "../source/source.ts";
import type { WarningSummary } from "../warnings.ts";

/** One layer of the source. */
export interface LayerReport {
  readonly digest: string;
  readonly diffId: string;
  readonly mediaType: string | null;
  /** As stored. */
  readonly sizeBytes: number;
  readonly uncompressedBytes: number;
  readonly entries: number;
}

/** One ext4 image. Sizes in bytes. */
export interface ImageReport {
  readonly uuid: string;
  readonly sizeBytes: number;
  readonly usedBytes: number;
  readonly storedBytes: number;
  readonly paddingBytes: number;
  readonly files: number;
  readonly directories: number;
  readonly symlinks: number;
  readonly specialFiles: number;
  readonly inodes: number;
  readonly freeInodes: number;
  readonly alignedFiles: number;
}

/** A merged image. */
export interface BlessReport extends ImageReport {
  readonly mode: "merged";
  readonly source: string;
  readonly manifestDigest: string | null;
  readonly configDigest: string | null;
  readonly platform: string | null;
  readonly grid: number;
  /** In bytes; null when alignment is off. */
  readonly alignThreshold: number | null;
  /** As the option is written: `resync:MEAN:LO` in bytes, or `tight`. */
  readonly packing: string;
  readonly layers: readonly LayerReport[];
  readonly warnings: readonly WarningSummary[];
}

/** The figures of one image. */
export function imageReport(plan: ImagePlan, written: WriteResult): ImageReport {
  const { uuid, ...counts } = plan.summary;
  return { uuid: formatUuid(uuid), ...counts, storedBytes: written.storedBytes };
}

/** The figures of one layer. */
export function layerReport(layer: LoadedLayer): LayerReport {
  return {
    digest: layer.digest,
    diffId: layer.diffId,
    mediaType: layer.mediaType ?? null,
    sizeBytes: layer.sizeBytes,
    uncompressedBytes: layer.uncompressedBytes,
    entries: layer.entries.length,
  };
}

/** The layout choices as reports say them. */
export function layoutReport(
  layout: LayoutOptions,
): Pick<BlessReport, "grid" | "alignThreshold" | "packing"> {
  const { packing } = layout;
  return {
    grid: layout.gridBytes,
    alignThreshold: layout.alignThresholdBytes === Infinity ? null : layout.alignThresholdBytes,
    packing: packing.kind === "tight" ? "tight" : `resync:${packing.meanBytes}:${packing.lowBytes}`,
  };
}
