/**
 * Loads all layers of an image: several at a time, each blob once; the result never depends on which was faster. Layers
 * that several images share stay in their spools until no image needs them.
 *
 * @module
 */
import { availableParallelism } from "node:os";
import { abortError, InterruptedError, invariant, throwIfAborted } from "../../errors.ts";
import { SharedDescriptor } from "../../io/random_reader.ts";
import { ownerMapper } from "../../tree/owners.ts";
import type { Warnings } from "../../warnings.ts";
import {
  DEFAULT_SOURCE_LIMITS,
  ImageBudget,
  type LayerCache,
  type LayerSource,
  type LoadedLayer,
  type OpenedImage,
  type ResolvedOptions,
  resolveOptions,
  type SourceOptions,
} from "../types.ts";
import { warnOfTree } from "../tree_image.ts";
import {
  diffIdConflict,
  type LoadContext,
  loadLayer,
  type ReadLayer,
  SPOOL_FILES_MAX,
} from "./load_layer.ts";
import { LayerWorker } from "./worker.ts";

/**
 * Reads every layer of an image once, checks size, digest and diff id, and indexes it.
 *
 * @returns the layers bottom to top; close them with {@link closeLayers}, or `using`
 * @throws {InputError} if a layer is damaged or does not match the manifest and config; if several are, the lowest layer's
 * error
 * @throws {IoError} if reading or spooling fails, for example on a full disk
 * @throws {InterruptedError} if the signal is aborted
 */
export async function loadLayers(
  image: OpenedImage,
  given: SourceOptions = {},
): Promise<LoadedLayer[] & Disposable> {
  const options = resolveOptions(given);
  throwIfAborted(options.signal);
  const loading = new Loading(image, options);
  const layers = await loading.run();
  const mapper = ownerMapper(options);
  if (mapper === undefined) return disposable(layers);
  try {
    return disposable(layers.map((layer) => ({
      ...layer,
      entries: mapper.entries(layer.entries, layer.name, layer.whiteouts),
    })));
  } catch (error) {
    closeLayers(layers);
    throw error;
  }
}

function disposable(layers: LoadedLayer[]): LoadedLayer[] & Disposable {
  return Object.assign(layers, { [Symbol.dispose]: () => closeLayers(layers) });
}

/** Closes the stores of loaded layers, which frees their spools. */
export function closeLayers(layers: readonly LoadedLayer[]): void {
  for (const layer of layers) layer.store.close();
}

/** A blob to load, where it is first used, and the result. */
interface Task {
  readonly index: number;
  readonly source: LayerSource;
  readonly abort: AbortController;
  result: ReadLayer | undefined;
}

type Lane = Pick<LoadContext, "worker" | "isIdleHere">;

class Loading {
  readonly #sources: readonly LayerSource[];
  readonly #options: ResolvedOptions;
  /** Whether the only layer is a tree in its own right rather than part of an image. */
  readonly #isTree: boolean;
  readonly #tasks: readonly Task[];
  /** The task that loads each layer; undefined for layers loaded earlier. */
  readonly #taskOfLayer: readonly (Task | undefined)[];
  readonly #budget: ImageBudget;
  readonly #running = new Set<Task>();
  #next = 0;
  #failure: { readonly index: number; readonly reason: unknown } | undefined;

  constructor({ layers: sources, kind }: OpenedImage, options: ResolvedOptions) {
    this.#sources = sources;
    this.#isTree = kind === "tar" || kind === "rootfs" || kind === "ext4";
    this.#options = options;
    this.#budget = new ImageBudget({ ...DEFAULT_SOURCE_LIMITS, ...options.limits });
    const byBlob = new Map<unknown, Task>();
    this.#taskOfLayer = sources.map((source, index) => {
      if (source.stored.kind === "loaded") return undefined;
      const key = source.digest === undefined
        ? source.stored
        : `${source.digest} ${source.sizeBytes}`;
      const known = byBlob.get(key);
      if (known) return known;
      const task = { index, source, abort: new AbortController(), result: undefined };
      byBlob.set(key, task);
      return task;
    });
    this.#tasks = [...byBlob.values()];
  }

  async run(): Promise<LoadedLayer[]> {
    const { signal, jobs } = this.#options;
    const onAbort = () => this.#fail(-1, abortError(signal!));
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      const wanted = Math.max(1, jobs ?? availableParallelism());
      const laneCount = Math.min(wanted, this.#tasks.length);
      await Promise.all(Array.from({ length: laneCount }, (_, lane) => this.#lane(lane === 0)));
      if (this.#failure) throw this.#failure.reason;
      return this.#finish();
    } finally {
      signal?.removeEventListener("abort", onAbort);
      for (const task of this.#tasks) task.result?.file.release();
    }
  }

  /**
   * Loads one layer after another, with at most one worker.
   *
   * @param isIdleHere whether this lane may work in this thread, which otherwise only waits for the others
   */
  async #lane(isIdleHere: boolean): Promise<void> {
    let worker: LayerWorker | undefined;
    const take = () => {
      if (this.#failure) return undefined;
      return this.#tasks[this.#next++];
    };
    try {
      for (let task = take(); task; task = take()) {
        const { signal } = task.abort;
        const onAbort = () => worker?.stop(signal.reason);
        signal.addEventListener("abort", onAbort, { once: true });
        await this.#load(task, {
          isIdleHere,
          worker: () => worker ??= new LayerWorker(this.#options),
        });
        signal.removeEventListener("abort", onAbort);
      }
    } finally {
      await worker?.stop(new InterruptedError("interrupted", "the layers are loaded"));
    }
  }

  /** Never rejects. */
  async #load(task: Task, lane: Lane): Promise<void> {
    const { source, abort } = task;
    this.#running.add(task);
    try {
      const cache = sharedLayersOf(source, this.#options);
      task.result = cache === undefined
        ? await this.#read(task, lane)
        : await this.#loadShared(task, cache, () => this.#read(task, lane, 1));
    } catch (error) {
      this.#fail(task.index, error);
      // Stops a stream that is waiting for more.
      abort.abort(error);
    } finally {
      this.#running.delete(task);
    }
  }

  async #read(
    { source, abort }: Task,
    lane: Lane,
    spoolPartsMax = Math.max(1, Math.floor(SPOOL_FILES_MAX / this.#tasks.length)),
  ): Promise<ReadLayer> {
    const [signal, budget] = [abort.signal, this.#budget];
    return await readWithBar(source, this.#options, { signal, budget, spoolPartsMax, ...lane });
  }

  /** A cached layer is not released in parts, so its spool is one file. */
  async #loadShared(
    { source, abort }: Task,
    cache: SharedLayers,
    read: () => Promise<ReadLayer>,
  ): Promise<ReadLayer> {
    const { layer, isKept } = await cache.load(source, this.#options, read);
    if (!isKept) return layer;
    try {
      throwIfAborted(abort.signal);
      this.#budget.takeUnpacked(layer.facts.uncompressedBytes, source.name);
      this.#budget.takeEntries(layer.entries.length, source.name);
      return layer;
    } catch (error) {
      layer.file.release();
      throw error;
    }
  }

  /**
   * Records the failure of the lowest layer. Layers above it are stopped; those below may still fail, which then takes
   * precedence.
   */
  #fail(index: number, reason: unknown): void {
    if (this.#failure && this.#failure.index <= index) return;
    this.#failure = { index, reason };
    for (const task of this.#running) {
      if (task.index > index) task.abort.abort(reason);
    }
  }

  #finish(): LoadedLayer[] {
    const reported = new Set<Task>();
    const layers: LoadedLayer[] = [];
    try {
      this.#sources.forEach((source, i) => {
        const task = this.#taskOfLayer[i];
        layers.push(task ? this.#loadedLayer(source, task, reported) : loadedBefore(source));
        if (this.#isTree && source.added === undefined) {
          warnOfTree(layers[i]!, this.#options.warnings);
        }
      });
    } catch (error) {
      closeLayers(layers);
      throw error;
    }
    return layers;
  }

  #loadedLayer(source: LayerSource, task: Task, reported: Set<Task>): LoadedLayer {
    const read = task.result!;
    if (!reported.has(task)) {
      reported.add(task);
      reportWarnings(read, this.#options.warnings);
    } else if (source.diffId !== task.source.diffId) {
      throw diffIdConflict(source, read.facts.diffId);
    }
    return loadedLayer(source, read);
  }
}

/** The cache for a layer; undefined if it is not cached. */
function sharedLayersOf(source: LayerSource, options: SourceOptions): SharedLayers | undefined {
  const { layerCache } = options;
  return layerCache instanceof SharedLayers && layerCache.takes(source, options)
    ? layerCache
    : undefined;
}

function loadedBefore(source: LayerSource): LoadedLayer {
  if (source.stored.kind !== "loaded") throw new Error("Invariant broken: a layer has no task");
  return source.stored.take();
}

/**
 * Reads one layer, in a worker unless it is small.
 *
 * @returns the layer with a reference to the single file of its uncompressed tar, which the caller releases
 */
export async function loadAlone(
  source: LayerSource,
  options: ResolvedOptions,
): Promise<ReadLayer & { readonly file: SharedDescriptor }> {
  throwIfAborted(options.signal);
  const abort = new AbortController();
  let worker: LayerWorker | undefined;
  const onAbort = () => {
    const reason = abortError(options.signal!);
    abort.abort(reason);
    worker?.stop(reason);
  };
  options.signal?.addEventListener("abort", onAbort, { once: true });
  try {
    const read = await readWithBar(source, options, {
      signal: abort.signal,
      worker: () => worker ??= new LayerWorker(options),
      isIdleHere: true,
      budget: new ImageBudget({ ...DEFAULT_SOURCE_LIMITS, ...options.limits }),
      spoolPartsMax: 1,
    });
    const { file } = read;
    invariant(file instanceof SharedDescriptor, "a spool of one part is one file");
    return { ...read, file };
  } finally {
    options.signal?.removeEventListener("abort", onAbort);
    await worker?.stop(new InterruptedError("interrupted", "the layer is loaded"));
  }
}

async function readWithBar(
  source: LayerSource,
  options: ResolvedOptions,
  context: Omit<LoadContext, "options" | "progress">,
): Promise<ReadLayer> {
  const progress = options.progress.begin(source.name, source.sizeBytes);
  try {
    return await loadLayer(source, { ...context, options, progress });
  } finally {
    progress.end();
  }
}

/** A loaded layer with its own reference to the file. */
export function loadedLayer(source: LayerSource, read: ReadLayer): LoadedLayer {
  const { facts, entries, file, offsetBytes } = read;
  return {
    name: source.name,
    digest: facts.digest,
    diffId: facts.diffId,
    mediaType: source.mediaType,
    sizeBytes: facts.storedBytes,
    uncompressedBytes: facts.uncompressedBytes,
    whiteouts: source.whiteouts,
    statedUuid: facts.statedUuid,
    entries,
    store: file.share().reader(source.name, offsetBytes, facts.uncompressedBytes),
    ...source.added === undefined ? {} : { added: source.added },
  };
}

/** Counts the warnings from reading a layer. With `strict`, the first is thrown. */
export function reportWarnings(read: ReadLayer, warnings: Warnings): void {
  for (const { kind, what, why, count } of read.facts.warnings) {
    warnings.add(kind, what, why, count);
  }
}

/** The maximum total of cached uncompressed bytes. */
const KEPT_BYTES_MAX = 8 * 2 ** 30;
/** The maximum number of cached layers; each is an open file. */
const KEPT_LAYERS_MAX = 256;

/**
 * Creates a cache for the layers of images that are read in turn or concurrently: pass it to each of them.
 *
 * If images were announced, a layer is kept as long as another of them needs it. Otherwise the most recently used layers
 * are kept. In both cases the cache holds at most 8 GiB, uncompressed, in the directory for temporary files.
 *
 * @example
 * ```ts
 * import { createLayerCache } from "./load_layers.ts";
 * const layerCache = createLayerCache();
 * // Pass it as an option to blessMerged(), once for each image.
 * layerCache.close();
 * ```
 */
export function createLayerCache(): LayerCache {
  return new SharedLayers();
}

/** The part of a cache used for loading layers. */
class SharedLayers implements LayerCache {
  /** In order of last use. */
  readonly #kept = new Map<string, ReadLayer>();
  readonly #beingRead = new Map<string, Promise<void>>();
  /** How many more times each layer is needed; undefined if no images were announced. */
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

  /** Whether the cache can store a layer: one without a digest never equals another. */
  takes(source: LayerSource, options: SourceOptions): boolean {
    return layerKey(source, options) !== undefined;
  }

  /**
   * Returns a cached layer, waits for one that another image is reading, or reads it now.
   *
   * @param read returns the layer with a reference to its file, which passes to the cache
   * @returns the layer with a reference to its file, which the caller releases; and whether it had been read before
   */
  async load(
    source: LayerSource,
    options: SourceOptions,
    read: () => Promise<ReadLayer>,
  ): Promise<{ readonly layer: ReadLayer; readonly isKept: boolean }> {
    const key = layerKey(source, options)!;
    // The read in progress may fail; if so, it is read here.
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

/** A key that is equal for layers with the same content; undefined for a layer without a digest. */
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
