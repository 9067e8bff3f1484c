/**
 * From a source to its one tree, with all layers applied.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { throwIfAborted } from "../errors.ts";
import type { RandomReader } from "../io/random_reader.ts";
import type { FileTree } from "../model/node.ts";
import type { LoadedLayer, OpenedImage, ResolvedOptions } from "../source/source.ts";
import { closeLayers, loadLayers, openImage } from "../source/source.ts";
import { buildTree } from "../tree/build.ts";
import type { ContentIdentity } from "./plan_image.ts";
import { type LayerReport, layerReport } from "./report.ts";

/** A source with all layers applied. */
export interface LoadedTree {
  readonly tree: FileTree;
  readonly image: OpenedImage;
  readonly identity: ContentIdentity;
  /** Where the payload of each layer is stored, bottom to top. */
  readonly stores: readonly RandomReader[];
  /** Bottom to top. */
  readonly layers: readonly LayerReport[];
}

/** What may hold an image back. */
export interface Admission {
  /** Is waited for when the manifest is known, before layers are read. */
  readonly admit?: ((image: OpenedImage) => Promise<void>) | undefined;
}

/**
 * Loads a source, passes its tree to `use`, and frees what holds the payload.
 *
 * @param check looks at the image before its layers are read; may throw
 */
export async function withTree<T>(
  source: string,
  options: ResolvedOptions & Admission & { readonly timestamp?: number | undefined },
  use: (loaded: LoadedTree) => Promise<T>,
  check: (image: OpenedImage) => void = () => {},
): Promise<T> {
  const { warnings, signal, timestamp = 0, treeLimits } = options;
  const image = await openImage(source, options);
  let layers: LoadedLayer[] = [];
  try {
    check(image);
    await options.admit?.(image);
    layers = await loadLayers(image, options);
    throwIfAborted(signal);
    const tree = buildTree(layers, {
      warnings,
      defaultTime: { seconds: timestamp, nanoseconds: 0 },
      ...treeLimits === undefined ? {} : { limits: treeLimits },
    });
    const reports = layers.map(layerReport);
    // The tree has all that matters of the entries, which take as much memory as what comes next.
    layers = layers.map((layer) => ({ ...layer, entries: [] }));
    // Lets them be collected, and handles signals.
    await setImmediate();
    throwIfAborted(signal);
    const identity = contentIdentity(image, layers);
    const stores = layers.map(({ store }) => store);
    return await use({ tree, image, identity, stores, layers: reports });
  } finally {
    closeLayers(layers);
    image.close();
  }
}

/**
 * What identifies a source: the digest of its manifest, or else of its diff ids, and of what is put on top. A source of one
 * layer may state the UUID of the image that it was exported from.
 */
export function contentIdentity(
  image: OpenedImage,
  layers: readonly LoadedLayer[],
): ContentIdentity {
  const contentDigest = imageDigest(image, layers.map(({ diffId }) => diffId));
  const isOwn = image.manifestDigest === undefined && layers.length === 1;
  return { contentDigest, statedUuid: isOwn ? layers[0]!.statedUuid : undefined };
}

/**
 * The digest that identifies an image, with what is put on top of it.
 *
 * @param diffIds of all layers, bottom to top
 */
export function imageDigest(
  { manifestDigest, additions }: Pick<OpenedImage, "manifestDigest" | "additions">,
  diffIds: readonly string[],
): string {
  if (additions === undefined) return manifestDigest ?? contentDigestOf(diffIds);
  const below = manifestDigest ?? contentDigestOf(diffIds.slice(0, -1));
  return contentDigestOf([below, `additions ${additions.digest}`]);
}

/** The digest that identifies a source without a manifest. */
export function contentDigestOf(diffIds: readonly string[]): string {
  const hash = createHash("sha256");
  for (const diffId of diffIds) hash.update(`${diffId}\n`);
  return `sha256:${hash.digest("hex")}`;
}
