/**
 * Merged mode: all layers of a source in one ext4 image.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { resolveSettings } from "../ext4/plan/settings.ts";
import { writeImage } from "../ext4/write/write_image.ts";
import { throwIfAborted } from "../errors.ts";
import type { ImageSink } from "../io/sink.ts";
import type { LoadedLayer, OpenedImage, SourceOptions } from "../source/source.ts";
import { closeLayers, loadLayers, openImage } from "../source/source.ts";
import { formatPlatform } from "../source/platform.ts";
import { buildTree } from "../tree/build.ts";
import { contentDigestOf } from "./layered_chain.ts";
import type { LayoutOptions } from "./options.ts";
import { type ContentIdentity, FORMAT_VERSION, planImage } from "./plan_image.ts";
import { releaseAsWritten } from "./release_stores.ts";
import type { BlessReport } from "./report.ts";
import { imageReport, layerReport, layoutReport } from "./report.ts";

/** What to bless, how, and where to. */
export interface BlessMergedOptions extends SourceOptions {
  /** As on the command line: `oci:DIR:REF`, `tar:FILE` and so on. */
  readonly source: string;
  /** What is laid out how; begin with `MERGED_DEFAULTS`. */
  readonly layout: LayoutOptions;
  /** Takes the image; finished when all went well, aborted otherwise. */
  readonly sink: ImageSink;
  /** Seconds that stand for every time that the source does not give; default 0. */
  readonly timestamp?: number;
}

/**
 * Blesses a source into one image. Options are checked before anything is read.
 *
 * Throws a UsageError for an option out of range, an InputError for a source that is damaged, not supported or cannot
 * be stored, an IoError when reading or writing fails, an InterruptedError when the signal fires. The sink is aborted
 * then.
 */
export async function blessMerged(options: BlessMergedOptions): Promise<BlessReport> {
  try {
    return await bless(options);
  } catch (error) {
    await options.sink.abort();
    throw error;
  }
}

async function bless(options: BlessMergedOptions): Promise<BlessReport> {
  const { layout, sink, warnings, progress, signal, timestamp = 0 } = options;
  resolveSettings(layout, { derivedUuid: new Uint8Array(16), timestamp });
  const image = await openImage(options.source, options);
  let layers: LoadedLayer[] = [];
  try {
    layers = await loadLayers(image, options);
    throwIfAborted(signal);
    const tree = buildTree(layers, {
      warnings,
      defaultTime: { seconds: timestamp, nanoseconds: 0 },
      ...options.treeLimits === undefined ? {} : { limits: options.treeLimits },
    });
    const layerReports = layers.map(layerReport);
    // The tree has all that counts of them, and the plan takes as much memory as they do.
    layers = layers.map((layer) => ({ ...layer, entries: [] }));
    // Lets go of what still holds them, and lets signals in.
    await setImmediate();
    throwIfAborted(signal);
    const plan = planImage(tree, {
      layout,
      ...contentIdentity(image, layers),
      timestamp,
      warnings,
    });
    const onWritten = releaseAsWritten(layers.map(({ store }) => store), plan);
    const written = await writeImage(plan, sink, { signal, progress, onWritten });
    return {
      mode: "merged",
      formatVersion: FORMAT_VERSION,
      source: options.source,
      manifestDigest: image.manifestDigest ?? null,
      configDigest: image.configDigest ?? null,
      platform: image.platform === undefined ? null : formatPlatform(image.platform),
      ...imageReport(plan, written),
      ...layoutReport(layout),
      layers: layerReports,
      warnings: warnings.list(),
    };
  } finally {
    closeLayers(layers);
    image.close();
  }
}

/**
 * What names a source: the digest of its manifest, or of what its layers hold where there is none. A single layer may
 * state the UUID of the image that it was exported from: that names it just as well.
 */
export function contentIdentity(
  image: OpenedImage,
  layers: readonly LoadedLayer[],
): ContentIdentity {
  const contentDigest = image.manifestDigest ??
    contentDigestOf(layers.map(({ diffId }) => diffId));
  const isOwn = image.manifestDigest === undefined && layers.length === 1;
  return { contentDigest, statedUuid: isOwn ? layers[0]!.statedUuid : undefined };
}
