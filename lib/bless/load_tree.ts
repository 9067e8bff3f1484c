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
import {
  closeLayers,
  type LoadedLayer,
  loadLayers,
  type OpenedImage,
  openImage,
  type ResolvedOptions,
} from "../source/source.ts";
import { treeOptions } from "../source/tree_options.ts";
import { buildTree } from "../tree/build.ts";
import { idMapLines } from "../tree/owners.ts";
import { Warnings } from "../warnings.ts";
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
  /** The same without what is put on top; undefined where nothing is. */
  readonly below: TreeBelow | undefined;
}

/** A source without what is put on top of it. */
export interface TreeBelow {
  readonly tree: FileTree;
  readonly identity: ContentIdentity;
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
  const { signal } = options;
  const image = await openImage(source, options);
  let layers: LoadedLayer[] = [];
  try {
    check(image);
    await options.admit?.(image);
    layers = await loadLayers(image, options);
    throwIfAborted(signal);
    const tree = buildTree(layers, treeOptions(options));
    const below = treeBelow(image, layers, options);
    const reports = layers.map(layerReport);
    // The tree has all that matters of the entries, which take as much memory as what comes next.
    layers = layers.map((layer) => ({ ...layer, entries: [] }));
    // Lets them be collected, and handles signals.
    await setImmediate();
    throwIfAborted(signal);
    const identity = contentIdentity(image, layers);
    const stores = layers.map(({ store }) => store);
    return await use({ tree, image, identity, stores, layers: reports, below });
  } finally {
    closeLayers(layers);
    image.close();
  }
}

function treeBelow(
  image: OpenedImage,
  layers: readonly LoadedLayer[],
  options: ResolvedOptions,
): TreeBelow | undefined {
  if (image.additions === undefined) return undefined;
  const without = layers.slice(0, -1);
  return {
    tree: buildTree(without, treeOptions({ ...options, warnings: new Warnings() })),
    identity: contentIdentity({ ...image, additions: undefined }, without),
  };
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
  const isOwn = image.manifestDigest === undefined && layers.length === 1 &&
    image.idMaps === undefined;
  return { contentDigest, statedUuid: isOwn ? layers[0]!.statedUuid : undefined };
}

/**
 * The digest that identifies an image, with what is put on top of it.
 *
 * @param diffIds of all layers, bottom to top
 */
export function imageDigest(
  { manifestDigest, additions, idMaps = {} }: Pick<
    OpenedImage,
    "manifestDigest" | "additions" | "idMaps"
  >,
  diffIds: readonly string[],
): string {
  const below = additions === undefined ? diffIds : diffIds.slice(0, -1);
  const digest = manifestDigest ?? contentDigestOf(below);
  const changes = [
    ...additions === undefined ? [] : [`additions ${additions.digest}`],
    ...idMapLines(idMaps),
  ];
  return changes.length === 0 ? digest : contentDigestOf([digest, ...changes]);
}

/** The digest that identifies a source without a manifest. */
export function contentDigestOf(diffIds: readonly string[]): string {
  const hash = createHash("sha256");
  for (const diffId of diffIds) hash.update(`${diffId}\n`);
  return `sha256:${hash.digest("hex")}`;
}
