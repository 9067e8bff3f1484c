/**
 * Reports of bless, with the figures of images and layers. Their keys are a contract: scripts read them as JSON.
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
  /** Grid cells that are not all zero, as written: whole cells, in bytes. */
  readonly cellBytes: number;
}

/** What was put on top of a source. */
export interface AddedLayerReport extends AdditionsReport {
  /**
   * Cells of the grid that are not those of the image that the same options make without it; in layered mode those of the
   * layer's image. Null where there is no image without it, as with a size that is too small for it.
   */
  readonly differingCells: number | null;
}

/** The source and options, in reports of either mode. */
export interface SourceReport extends StatedPlatform {
  /** Equal sources and options give equal bytes while this is the same. */
  readonly formatVersion: number;
  /** As it was given. */
  readonly source: string;
  /** `sha256:...`; null for a source without a manifest. */
  readonly manifestDigest: string | null;
  /** `sha256:...`; null for a source without a config. */
  readonly configDigest: string | null;
  /** `os/arch[/variant]`; null if the source does not say. */
  readonly platform: string | null;
  /** What the image runs, and how; null for a source without a config. */
  readonly config: ContainerConfig | null;
  /** What was put on top; left out where nothing was. */
  readonly additions?: AddedLayerReport | undefined;
  /** How owners were mapped, `FROM:TO:COUNT` each; left out where they were not. */
  readonly uidMap?: readonly string[] | undefined;
  /** How groups were mapped, `FROM:TO:COUNT` each; left out where they were not. */
  readonly gidMap?: readonly string[] | undefined;
  /** The grid, in bytes. */
  readonly grid: number;
  /** In bytes; null when alignment is off. */
  readonly alignThreshold: number | null;
  /** As the option is written: `resync:MEAN:LO` in bytes, or `tight`. */
  readonly packing: string;
}

/** A merged image. */
export interface BlessReport extends SourceReport, ImageReport, EnvelopeReport {
  /** Distinguishes this report from that of layered images. */
  readonly mode: "merged";
  /** Bottom to top. */
  readonly layers: readonly LayerReport[];
  /** What was kept of a previous image; left out without one. */
  readonly like?: LikeReport | undefined;
  /** What was placed first; left out where nothing was. */
  readonly hot?: HotReport | undefined;
  /** Where that is, so that it can be fetched before it is asked for; left out where it has no blocks. */
  readonly prefetch?: PrefetchReport | undefined;
  /** What was changed or left out, one for each kind. */
  readonly warnings: readonly WarningSummary[];
}

/** The figures of one image. */
export function imageReport(plan: ImagePlan, written: WriteResult): ImageReport {
  return { ...plan.summary, cellBytes: written.cellBytes };
}

/** The source and options of a report. @param differingCells what the report says of what was put on top */
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
