/**
 * Layered mode: one ext4 image a layer, to be stacked by overlayfs, and shared by all images that have the layer.
 *
 * @module
 */
import type { ChunkCounts } from "../chunk/chunk_uploader.ts";
import { optionError, throwIfAborted } from "../errors.ts";
import { resolveSettings } from "../ext4/plan/settings.ts";
import { formatPlatform } from "../source/platform.ts";
import type { OpenedImage, SourceOptions } from "../source/source.ts";
import { openImage } from "../source/source.ts";
import { contentDigestOf } from "./layered_chain.ts";
import {
  type ChunkedImage,
  LayerChunks,
  type LayerChunksTarget,
  sumOfChunked,
} from "./layered_chunks.ts";
import {
  checkDescription,
  encodeDescription,
  STACKED_LAYERS_MAX,
  stackFault,
  writeDescription,
} from "./layered_description.ts";
import { LayerImages, type UsedImage } from "./layered_images.ts";
import { checkDirectory, makeDirectory, removeIfEmpty } from "./layered_files.ts";
import { optionFacts } from "./layered_record.ts";
import { LayerStore } from "./layered_store.ts";
import type { LayoutOptions } from "./options.ts";
import { FORMAT_VERSION } from "./plan_image.ts";
import type { BlessReport, ImageReport, LayerReport } from "./report.ts";
import { layoutReport } from "./report.ts";

/** What to bless, how, and where to. */
export interface BlessLayeredOptions extends SourceOptions {
  /** As on the command line: `oci:DIR:REF`, `tar:FILE` and so on. */
  readonly source: string;
  /** A UUID is only possible for a single layer; otherwise each image's is derived from its layer. */
  readonly layout: LayoutOptions;
  /** A directory, made when it is missing. */
  readonly outputDir: string;
  /** Replace images that are not whole or were made with other options. */
  readonly force?: boolean;
  /** Seconds that stand for every time that the source does not give; default 0. */
  readonly timestamp?: number;
  /** Where the chunks of the images go, too; their indexes go into the output directory. */
  readonly chunks?: LayerChunksTarget | undefined;
  /** Write nothing; the report says what would be. */
  readonly isDryRun?: boolean;
}

/** One layer and its image. */
export interface LayeredLayerReport extends LayerReport {
  /** Of the image, in the output directory. */
  readonly file: string;
  /** The image was there already. */
  readonly isReused: boolean;
  /** The figures of the image. */
  readonly image: ImageReport;
  /** The index of its chunks, in the output directory; left out when they went to no store. */
  readonly index?: string;
  /** What the store had and got of it. */
  readonly chunks?: Readonly<ChunkCounts>;
}

/** A layered image. The figures are sums over the images, each counted once. */
export interface LayeredReport extends
  Pick<
    BlessReport,
    | "formatVersion"
    | "source"
    | "manifestDigest"
    | "configDigest"
    | "platform"
    | "grid"
    | "alignThreshold"
    | "packing"
    | "warnings"
  >,
  Omit<ImageReport, "uuid"> {
  /** Tells this report from that of a merged image. */
  readonly mode: "layered";
  /** How many layers' images were there already. */
  readonly reusedLayers: number;
  /** Bottom to top. */
  readonly layers: readonly LayeredLayerReport[];
  /** Sums as well; left out when the chunks went to no store. */
  readonly chunks?: Readonly<ChunkCounts>;
}

/**
 * Blesses every layer of a source into `outputDir`, `<diff id in hex>.ext4`, with a record beside it, and writes
 * `image.json` when all are there. An image that is there, whole and made with the same options is used as it is;
 * where that is so for all, no layer is read. Whatever fails, there is nothing half-made; whole images stay.
 *
 * Throws a UsageError for an option out of range, an InputError for a source that is damaged, not supported or cannot
 * be stored, an IoError when reading or writing fails or an image that is there does not fit, an InterruptedError when
 * the signal fires.
 */
export async function blessLayered(options: BlessLayeredOptions): Promise<LayeredReport> {
  const { layout, outputDir, timestamp = 0 } = options;
  resolveSettings(layout, { derivedUuid: new Uint8Array(16), timestamp });
  const isMissing = checkDirectory(outputDir);
  if (!isMissing && !options.force) checkDescription(outputDir);
  const image = await openImage(options.source, options);
  let isMade = false;
  try {
    if (image.layers.length > STACKED_LAYERS_MAX) {
      throw stackFault(options.source, image.layers.length);
    }
    if (layout.uuid !== undefined && image.layers.length > 1) {
      throw optionError("uuid", `the source has ${image.layers.length} layers: wanted one`, {
        hint: "leave it out: each image gets a UUID of its own, derived from its layer",
      });
    }
    isMade = isMissing && !options.isDryRun && makeDirectory(outputDir);
    return await bless(image, options);
  } catch (error) {
    if (isMade) removeIfEmpty(outputDir);
    throw error;
  } finally {
    image.close();
  }
}

async function bless(image: OpenedImage, options: BlessLayeredOptions): Promise<LayeredReport> {
  const { layout, outputDir, signal, progress, isDryRun = false, timestamp = 0 } = options;
  const chunks = layerChunks(options);
  const store = new LayerStore(outputDir, {
    options: optionFacts(layout, timestamp),
    force: options.force ?? false,
    signal,
    progress,
    isDryRun,
    alsoTo: chunks && ((name) => chunks.sinkOf(name)),
  });
  const used = await new LayerImages(store, { ...options, timestamp }).ofAll(image);
  throwIfAborted(signal);
  const chunked = await chunks?.finish(used);
  const contentDigest = image.manifestDigest ??
    contentDigestOf(used.map(({ report }) => report.diffId));
  const described = used.map(({ name, report, record }) => ({
    file: `${name}.ext4`,
    diffId: report.diffId,
    digest: report.digest,
    mediaType: report.mediaType,
    uuid: record.image.uuid,
    sizeBytes: record.image.sizeBytes,
    ...indexOf(chunked, name),
  }));
  const description = encodeDescription(image, contentDigest, described);
  if (!isDryRun) await writeDescription(outputDir, contentDigest, description, signal);
  return {
    mode: "layered",
    formatVersion: FORMAT_VERSION,
    source: options.source,
    manifestDigest: image.manifestDigest ?? null,
    configDigest: image.configDigest ?? null,
    platform: image.platform === undefined ? null : formatPlatform(image.platform),
    ...sums(used),
    ...layoutReport(layout),
    reusedLayers: used.filter(({ isReused }) => isReused).length,
    layers: used.map(({ name, report, record, isReused }) => ({
      ...report,
      file: `${name}.ext4`,
      isReused,
      image: record.image,
      ...indexOf(chunked, name),
      ...chunked === undefined ? {} : { chunks: chunked.get(name)!.counts },
    })),
    ...chunked === undefined ? {} : { chunks: sumOfChunked(chunked) },
    warnings: options.warnings.list(),
  };
}

function layerChunks(options: BlessLayeredOptions): LayerChunks | undefined {
  const { chunks, layout, outputDir, isDryRun = false, force = false, signal, progress } = options;
  if (chunks === undefined) return undefined;
  const chunkBytes = layout.gridBytes;
  return new LayerChunks({ ...chunks, outputDir, chunkBytes, isDryRun, force, signal, progress });
}

function indexOf(
  chunked: ReadonlyMap<string, ChunkedImage> | undefined,
  name: string,
): { readonly index?: string } {
  const index = chunked?.get(name)?.index;
  return index === undefined ? {} : { index };
}

/** Adds the figures of all images, each once. */
function sums(used: readonly UsedImage[]): Omit<ImageReport, "uuid"> {
  const images = [...new Map(used.map(({ name, record }) => [name, record.image])).values()];
  const sum = (key: Exclude<keyof ImageReport, "uuid">) =>
    images.reduce((total, image) => total + image[key], 0);
  return {
    sizeBytes: sum("sizeBytes"),
    usedBytes: sum("usedBytes"),
    storedBytes: sum("storedBytes"),
    paddingBytes: sum("paddingBytes"),
    files: sum("files"),
    directories: sum("directories"),
    symlinks: sum("symlinks"),
    specialFiles: sum("specialFiles"),
    inodes: sum("inodes"),
    freeInodes: sum("freeInodes"),
    alignedFiles: sum("alignedFiles"),
  };
}
