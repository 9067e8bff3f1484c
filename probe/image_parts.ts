/**
 * From a source to the trees that a probe plans: one for a merged image, one a layer for a layered one.
 *
 * @module
 */
import { treeDigest } from "../lib/bless/layered_identity.ts";
import { contentIdentity } from "../lib/bless/load_tree.ts";
import type { ContentIdentity } from "../lib/bless/plan_image.ts";
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
  readonly identity: ContentIdentity;
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

/** Loads images in turn, the next one while one is used, and frees each after its use. */
export async function withEachImage(
  options: ProbeOptions,
  use: (image: ProbedImage) => Promise<void>,
): Promise<void> {
  const { sources, signal } = options;
  const failure = new AbortController();
  const loadOptions = {
    ...options,
    signal: AbortSignal.any([failure.signal, ...signal === undefined ? [] : [signal]]),
  };
  let loading: Promise<HeldImage> | undefined;
  try {
    loading = load(sources[0]!, loadOptions);
    for (let i = 0; i < sources.length; i++) {
      const held = await loading!;
      loading = undefined;
      try {
        const next = sources[i + 1];
        if (next !== undefined) {
          loading = load(next, loadOptions);
          // Told when its turn comes, or never, when another error comes first.
          loading.catch(() => {});
        }
        await use(held.image);
      } finally {
        held.close();
      }
    }
  } finally {
    failure.abort();
    await loading?.then((held) => held.close(), () => {});
  }
}

interface HeldImage {
  readonly image: ProbedImage;
  readonly close: () => void;
}

async function load(source: string, options: ProbeOptions): Promise<HeldImage> {
  const image = await openImage(source, options);
  let layers: LoadedLayer[] = [];
  const close = () => {
    closeLayers(layers);
    image.close();
  };
  try {
    layers = await loadLayers(image, options);
    throwIfAborted(options.signal);
    const probed = {
      source,
      manifestDigest: image.manifestDigest ?? null,
      platform: image.platform === undefined ? null : formatPlatform(image.platform),
      parts: partsOf(layers, contentIdentity(image, layers), options),
    };
    return { image: probed, close };
  } catch (error) {
    close();
    throw error;
  }
}

function partsOf(
  layers: readonly LoadedLayer[],
  identity: ContentIdentity,
  options: ProbeOptions,
): ImagePart[] {
  const treeOptions = {
    warnings: options.warnings,
    defaultTime: { seconds: options.timestamp, nanoseconds: 0 },
    ...options.treeLimits === undefined ? {} : { limits: options.treeLimits },
  };
  if (options.mode === "merged") {
    return [{ tree: buildTree(layers, treeOptions), identity }];
  }
  return [...overlayTrees(layers, treeOptions)].map(({ tree, layerIndex }) => ({
    tree,
    identity: {
      contentDigest: treeDigest(tree, layers[layerIndex]!.diffId, (i) => layers[i]!.diffId),
    },
  }));
}
