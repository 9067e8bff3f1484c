/**
 * Reports of bless, with the figures of images and layers. Their keys are a contract, because scripts read them as
 * JSON.
 *
 * @module
 */
import type { ImagePlan, PlanSummary } from "../ext4/plan/image_plan.ts";
import type { LayoutOptions } from "../ext4/plan/settings.ts";
import {
  type ContainerConfig,
  containerConfig,
  type StatedPlatform,
  statedPlatform,
} from "../source/inspect.ts";
import type { EnvelopeReport } from "./envelope.ts";
import type { HotReport, PrefetchReport } from "./hot.ts";
import { packingText } from "./options.ts";
import type { LikeReport } from "./previous_image.ts";
import { FORMAT_VERSION, type LayerReport } from "./plan_image.ts";
import type { WriteResult } from "../ext4/write/write_image.ts";
import { formatPlatform } from "../source/platform.ts";
import type { AdditionsReport, OpenedImage } from "../source/source.ts";
import { type IdMaps, rangeText } from "../tree/owners.ts";
import type { WarningSummary } from "../warnings.ts";

/** One ext4 image. */
export interface ImageReport extends PlanSummary {
  /** The total size in bytes of the grid cells that are not all zeros, as whole cells. */
  readonly cellBytes: number;
}

/** The additions to a source. */
export interface AddedLayerReport extends AdditionsReport {
  /**
   * The number of grid cells that differ from the image made with the same options but without the additions; in
   * layered mode, the number of cells of the added layer's image. Null if there is no image without them, for example
   * if the size is too small for it.
   */
  readonly differingCells: number | null;
}

/** The source and options, in reports of either mode. */
export interface SourceReport extends StatedPlatform {
  /** Equal sources and options give equal bytes as long as this is the same. */
  readonly formatVersion: number;
  /** The source as given. */
  readonly source: string;
  /** The manifest's digest, `sha256:...`; null for a source without a manifest. */
  readonly manifestDigest: string | null;
  /** The config's digest, `sha256:...`; null for a source without a config. */
  readonly configDigest: string | null;
  /** `os/arch[/variant]`; null if the source does not say. */
  readonly platform: string | null;
  /** What the image runs, and how; null for a source without a config. */
  readonly config: ContainerConfig | null;
  /** The additions; left out when there are none. */
  readonly additions?: AddedLayerReport | undefined;
  /** How owners were mapped, each as `FROM:TO:COUNT`; left out if they were not. */
  readonly uidMap?: readonly string[] | undefined;
  /** How groups were mapped, each as `FROM:TO:COUNT`; left out if they were not. */
  readonly gidMap?: readonly string[] | undefined;
  /** The grid size in bytes. */
  readonly grid: number;
  /** The alignment threshold in bytes; null when alignment is off. */
  readonly alignThreshold: number | null;
  /** The packing as the option is written: `merge`, `resync:MEAN:LO` in bytes, or `tight`. */
  readonly packing: string;
}

/** A merged image. */
export interface BlessReport extends SourceReport, ImageReport, EnvelopeReport {
  /** Distinguishes this report from that of layered images. */
  readonly mode: "merged";
  /** The layers, bottom to top. */
  readonly layers: readonly LayerReport[];
  /** What was kept of a previous image; left out without one. */
  readonly like?: LikeReport | undefined;
  /** The files that were placed first; left out if there were none. */
  readonly hot?: HotReport | undefined;
  /** Where those files are, so that they can be prefetched; left out if they have no blocks. */
  readonly prefetch?: PrefetchReport | undefined;
  /** What was changed or left out, one entry per kind. */
  readonly warnings: readonly WarningSummary[];
}

/** The figures of one image. */
export function imageReport(plan: ImagePlan, written: WriteResult): ImageReport {
  return { ...plan.summary, cellBytes: written.cellBytes };
}

/** The source and options of a report. @param differingCells the number of cells that the additions change */
export function sourceReport(
  source: string,
  image: OpenedImage,
  layout: LayoutOptions,
  differingCells?: number | null,
): SourceReport {
  return {
    formatVersion: FORMAT_VERSION,
    source,
    manifestDigest: image.manifestDigest ?? null,
    configDigest: image.configDigest ?? null,
    platform: image.platform === undefined ? null : formatPlatform(image.platform),
    ...statedPlatform(image.config),
    config: containerConfig(image.config),
    ...image.additions === undefined || differingCells === undefined
      ? {}
      : { additions: { ...image.additions, differingCells } },
    ...idMapsReport(image.idMaps),
    grid: layout.gridBytes,
    alignThreshold: layout.alignThresholdBytes === Infinity ? null : layout.alignThresholdBytes,
    packing: packingText(layout.packing),
  };
}

function idMapsReport(
  { uidMap = [], gidMap = [] }: IdMaps = {},
): Pick<SourceReport, "uidMap" | "gidMap"> {
  return {
    ...uidMap.length === 0 ? {} : { uidMap: uidMap.map(rangeText) },
    ...gidMap.length === 0 ? {} : { gidMap: gidMap.map(rangeText) },
  };
}
