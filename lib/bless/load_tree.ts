/**
 * From a source to its one tree, for whoever wants no image.
 *
 * @module
 */
import { throwIfAborted } from "../errors.ts";
import type { FileTree } from "../model/node.ts";
import type { LoadedLayer, SourceOptions } from "../source/source.ts";
import { closeLayers, loadLayers, openImage } from "../source/source.ts";
import { buildTree } from "../tree/build.ts";
import { contentIdentity } from "./merged.ts";
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
