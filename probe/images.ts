/**
 * Turns a source into the trees that a probe plans: one for a merged image, one per layer for a layered one.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { displayPath } from "../lib/io/system_error.ts";
import { parseSourceName } from "../lib/source/source_name.ts";
import { treeDigest } from "../lib/bless/layered_records.ts";
import { type ContentIdentity, contentIdentity } from "../lib/bless/plan_image.ts";
import { throwIfAborted } from "../lib/errors.ts";
import type { FileTree } from "../lib/model/node.ts";
import { formatPlatform } from "../lib/source/platform.ts";
import { closeLayers, type LoadedLayer, loadLayers, openImage } from "../lib/source/source.ts";
import { treeOptions } from "../lib/source/types.ts";
import { buildTree } from "../lib/tree/build.ts";
import { overlayTrees } from "../lib/tree/overlay.ts";
import type { Warnings } from "../lib/warnings.ts";
import type { ResolvedProbeOptions } from "./schemes.ts";

export interface ImagePart {
  readonly tree: FileTree;
  /** The input for its UUID. */
  readonly identity: ContentIdentity;
}

/** The part of a report that describes an image itself. */
export interface ImageFacts {
  /** The source as the caller gave it. */
  readonly source: string;
  /** `sha256:...`; null for a source without a manifest. */
  readonly manifestDigest: string | null;
  /** `os/arch[/variant]`; null where the source does not say. */
  readonly platform: string | null;
}

export interface ProbedImage extends ImageFacts {
  readonly parts: readonly ImagePart[];
}

/** Loads images in turn, the next one while the current one is used, and frees each after use. */
export async function withEachImage(
  options: ResolvedProbeOptions,
  use: (image: ProbedImage, options: ResolvedProbeOptions) => Promise<void>,
): Promise<void> {
  const { sources, signal } = options;
  for (const source of sources) {
    // Opening the source gives the best error for a missing one, and nothing has been read yet.
    if (isMissing(source)) (await openImage(source, options)).close();
  }
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
          // The error is reported when this image's turn comes, or never if another error comes first.
          loading.catch(() => {});
        }
        await use(held.image, optionsOf(options, i));
      } finally {
        held.close();
      }
    }
  } finally {
    failure.abort();
    await loading?.then((held) => held.close(), () => {});
  }
}

/** The options for one of the images: its tasks are labelled with its number and name. */
export function optionsOf(options: ResolvedProbeOptions, index: number): ResolvedProbeOptions {
  const { sources, progress } = options;
  const source = displayPath(sources[index]!);
  const name = `image ${index + 1} of ${sources.length}: ${source}`;
  return {
    ...options,
    progress: { begin: (_task, totalBytes) => progress.begin(name, totalBytes) },
  };
}

/** Whether a source is a local path that does not exist. */
function isMissing(source: string): boolean {
  const name = parseSourceName(source, existsSync);
  return "path" in name && !existsSync(name.path);
}

interface HeldImage {
  readonly image: ProbedImage;
  readonly close: () => void;
}

async function load(source: string, options: ResolvedProbeOptions): Promise<HeldImage> {
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
  options: ResolvedProbeOptions,
): ImagePart[] {
  if (options.mode === "merged") {
    return [{ tree: buildTree(layers, treeOptions(options)), identity }];
  }
  return [...overlayTrees(layers, treeOptions(options))].map(({ tree, layerIndex }) => ({
    tree,
    identity: {
      contentDigest: treeDigest(tree, layers[layerIndex]!.diffId, (i) => layers[i]!.diffId),
    },
  }));
}

/** Warns about a single image, repeated images, and mixed platforms. */
export function warnOfDoubtfulSets(images: readonly ImageFacts[], warnings: Warnings): void {
  const names = new Set<string>();
  for (const { source } of images) {
    if (names.has(source)) warnings.add("repeatedSource", source, "is given more than once");
    names.add(source);
  }
  if (images.length === 1) {
    warnings.add("singleSource", images[0]!.source, "is the only image, so nothing can be shared");
  }
  const platforms = new Set(images.flatMap(({ platform }) => platform ?? []));
  if (platforms.size > 1) {
    const list = [...platforms].join(", ");
    warnings.add("mixedPlatforms", list, "images of different platforms share few programs");
  }
}
