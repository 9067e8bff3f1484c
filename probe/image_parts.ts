/**
 * From a source to the trees that a probe plans: one for a merged image, one a layer for a layered one.
 *
 * @module
 */
import { contentDigest } from "../lib/bless/merged.ts";
import { throwIfAborted } from "../lib/errors.ts";
import type { FileTree } from "../lib/model/node.ts";
import { formatPlatform } from "../lib/source/platform.ts";
import type { LoadedLayer } from "../lib/source/source.ts";
import { closeLayers, loadLayers, openImage } from "../lib/source/source.ts";
import { buildTree } from "../lib/tree/build.ts";
import { overlayTrees } from "../lib/tree/overlay.ts";
import type { ProbeOptions } from "./options.ts";

/** One file system of an image. */
export interface ImagePart {
  readonly tree: FileTree;
  /** What its UUID is derived from. */
  readonly contentDigest: string;
}

/** What a report says of an image itself. */
export interface ImageFacts {
  /** As it was given. */
  readonly source: string;
  /** `sha256:...`; null for a source without a manifest. */
  readonly manifestDigest: string | null;
  /** `os/arch[/variant]`; null where the source does not say. */
  readonly platform: string | null;
}

/** An image that can be planned. */
export interface ProbedImage extends ImageFacts {
  readonly parts: readonly ImagePart[];
}

/** Loads an image, lets it be used, and frees it. */
export async function withImage<T>(
  source: string,
  options: ProbeOptions,
  use: (image: ProbedImage) => Promise<T>,
): Promise<T> {
  const image = await openImage(source, options);
  let layers: LoadedLayer[] = [];
  try {
    layers = await loadLayers(image, options);
    throwIfAborted(options.signal);
    return await use({
      source,
      manifestDigest: image.manifestDigest ?? null,
      platform: image.platform === undefined ? null : formatPlatform(image.platform),
      parts: partsOf(layers, contentDigest(image, layers), options),
    });
  } finally {
    closeLayers(layers);
    image.close();
  }
}

function partsOf(
  layers: readonly LoadedLayer[],
  digest: string,
  options: ProbeOptions,
): ImagePart[] {
  const treeOptions = {
    warnings: options.warnings,
    defaultTime: { seconds: options.timestamp, nanoseconds: 0 },
    ...options.treeLimits === undefined ? {} : { limits: options.treeLimits },
  };
  if (options.mode === "merged") {
    return [{ tree: buildTree(layers, treeOptions), contentDigest: digest }];
  }
  return [...overlayTrees(layers, treeOptions)].map(({ tree, layerIndex }) => ({
    tree,
    contentDigest: layers[layerIndex]!.diffId,
  }));
}
