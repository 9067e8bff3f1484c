/**
 * Layers that several images share, read once. They stay in their spools until no image wants them any more.
 *
 * @module
 */
import type { LayerCache, LayerSource, OpenedImage, SourceOptions } from "../types.ts";
import type { ReadLayer } from "./load_layer.ts";

/** Uncompressed bytes that are kept. */
const KEPT_BYTES_MAX = 8 * 2 ** 30;
/** Each is an open file. */
const KEPT_LAYERS_MAX = 256;

/**
 * A cache for the layers of images that are read one after another, or at the same time: pass it to all of them.
 *
 * Of images that were announced, a layer is kept while another one of them has it. Without that, the layers used last are
 * kept. Either way at most 8 GiB of them, uncompressed, in the directory for temporary files.
 *
 * @example
 * ```ts
 * import { createLayerCache } from "./layer_cache.ts";
 * const layerCache = createLayerCache();
 * // Pass it as an option to blessMerged(), once for each image.
 * layerCache.close();
 * ```
 */
export function createLayerCache(): LayerCache {
  return new SharedLayers();
}

/** What a cache does for who loads layers. */
export class SharedLayers implements LayerCache {
  /** In the order of their last use. */
  readonly #kept = new Map<string, ReadLayer>();
  readonly #beingRead = new Map<string, Promise<void>>();
  /** How often each layer will yet be wanted; undefined where nobody said. */
  #wanted: Map<string, number> | undefined;
  #keptBytes = 0;
  #isClosed = false;

  announce({ layers }: Pick<OpenedImage, "layers">, options: SourceOptions): void {
    this.#wanted ??= new Map();
    for (const key of new Set(layers.map((layer) => layerKey(layer, options)))) {
      if (key !== undefined) this.#wanted.set(key, (this.#wanted.get(key) ?? 0) + 1);
    }
  }

  close(): void {
    this.#isClosed = true;
    for (const key of [...this.#kept.keys()]) this.#drop(key);
  }

  /** Whether the cache has a use for a layer: one that no digest names is never the same as another. */
  takes(source: LayerSource, options: SourceOptions): boolean {
    return layerKey(source, options) !== undefined;
  }

  /**
   * A layer that is there, or is being read for another image, or else is read now.
   *
   * @param read gives a share of the file, which goes to the cache
   * @returns with a share of the file, which the caller releases; and whether it was read before
   */
  async load(
    source: LayerSource,
    options: SourceOptions,
    read: () => Promise<ReadLayer>,
  ): Promise<{ readonly layer: ReadLayer; readonly isKept: boolean }> {
    const key = layerKey(source, options)!;
    // Whoever reads it now may fail; then it is read here.
    while (!this.#kept.has(key) && this.#beingRead.has(key)) await this.#beingRead.get(key);
    const left = this.#wanted === undefined ? undefined : (this.#wanted.get(key) ?? 1) - 1;
    if (left !== undefined) this.#wanted!.set(key, left);
    const known = this.#kept.get(key);
    if (known !== undefined) {
      const layer = shared(known);
      this.#kept.delete(key);
      this.#kept.set(key, known);
      if (left !== undefined && left <= 0) this.#drop(key);
      return { layer, isKept: true };
    }
    let end = () => {};
    this.#beingRead.set(key, new Promise((resolve) => end = resolve));
    try {
      const layer = await read();
      if (!this.#isClosed && (left === undefined || left > 0)) this.#keep(key, shared(layer));
      return { layer, isKept: false };
    } finally {
      this.#beingRead.delete(key);
      end();
    }
  }

  #keep(key: string, layer: ReadLayer): void {
    this.#kept.set(key, layer);
    this.#keptBytes += layer.facts.uncompressedBytes;
    for (const oldest of this.#kept.keys()) {
      if (this.#keptBytes <= KEPT_BYTES_MAX && this.#kept.size <= KEPT_LAYERS_MAX) return;
      this.#drop(oldest);
    }
  }

  #drop(key: string): void {
    const layer = this.#kept.get(key);
    if (layer === undefined) return;
    this.#kept.delete(key);
    this.#keptBytes -= layer.facts.uncompressedBytes;
    layer.file.release();
  }
}

function shared(layer: ReadLayer): ReadLayer {
  return { ...layer, file: layer.file.share() };
}

/** Equal for layers that are read to the same; undefined for one that nothing names. */
function layerKey(source: LayerSource, options: SourceOptions): string | undefined {
  const { digest, sizeBytes, diffId, mediaType, content, stored } = source;
  if (digest === undefined || stored.kind === "loaded" || stored.kind === "output") {
    return undefined;
  }
  const { ignoreZeros, verifyDiffIds, limits, tarLimits } = options;
  return JSON.stringify([
    [digest, sizeBytes, diffId, mediaType, content],
    [ignoreZeros, verifyDiffIds, limits, tarLimits],
  ]);
}
