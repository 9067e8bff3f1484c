/**
 * From a source to its one tree, for whoever wants no image.
 *
 * @module
 */
import { throwIfAborted } from "../errors.ts";
import type { FileTree } from "../model/node.ts";
import type { LoadedLayer, OpenedImage, SourceOptions } from "../source/source.ts";
import { closeLayers, loadLayers, openImage } from "../source/source.ts";
import { buildTree } from "../tree/build.ts";
import { createHash } from "node:crypto";
import type { ContentIdentity } from "./plan_image.ts";

/** A source with all layers applied. */
export interface LoadedTree {
  readonly tree: FileTree;
  readonly identity: ContentIdentity;
}

/** Loads a source, lets its tree be used, and frees it. */
export async function withTree<T>(
  source: string,
  options: SourceOptions & { readonly timestamp?: number },
  use: (loaded: LoadedTree) => Promise<T>,
): Promise<T> {
  const image = await openImage(source, options);
  let layers: LoadedLayer[] = [];
  try {
    layers = await loadLayers(image, options);
    throwIfAborted(options.signal);
    const tree = buildTree(layers, {
      warnings: options.warnings,
      defaultTime: { seconds: options.timestamp ?? 0, nanoseconds: 0 },
      ...options.treeLimits === undefined ? {} : { limits: options.treeLimits },
    });
    throwIfAborted(options.signal);
    return await use({ tree, identity: contentIdentity(image, layers) });
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

/** The digest that names a source which has no manifest: that of its diff ids, as for a merged image. */
export function contentDigestOf(diffIds: readonly string[]): string {
  return sha256(diffIds.map((diffId) => `${diffId}\n`).join(""));
}

function sha256(text: string): string {
  return `sha256:${createHash("sha256").update(text).digest("hex")}`;
}
