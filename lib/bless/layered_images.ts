/**
 * Finds or makes the image of every layer of a source.
 *
 * @module
 */
import { basename } from "node:path";
import { InputError, throwIfAborted } from "../errors.ts";
import type { ImageSink } from "../io/sink.ts";
import type { FileTree } from "../model/node.ts";
import { NO_PROGRESS, type Progress } from "../progress.ts";
import {
  closeLayers,
  type LayerSource,
  type LoadedLayer,
  loadLayers,
  type OpenedImage,
  type ResolvedOptions,
} from "../source/source.ts";
import { treeOptions } from "../source/types.ts";
import { overlayTrees } from "../tree/overlay.ts";
import { idMapLines } from "../tree/owners.ts";
import { Warnings } from "../warnings.ts";
import { type EnvelopeOptions, writeEnveloped } from "./envelope.ts";
import {
  addRecorded,
  chainKeys,
  type ChainLink,
  DESCRIPTION_FILE,
  DESCRIPTION_KIND,
  layerFileName,
  type LayerRecord,
  notesAbout,
  NotingWarnings,
  positionKey,
  type PositionRecord,
  recordedWarnings,
  treeDigest,
  treeFileName,
} from "./layered_records.ts";
import {
  ChecksumSink,
  isTaken,
  type LayerStore,
  pathIn,
  readFileWhole,
  type RecordBody,
} from "./layered_store.ts";
import type { LayoutOptions } from "./options.ts";
import { type LayerReport, layerReport, planImage } from "./plan_image.ts";
import { type LikeOptions, openPrevious } from "./previous_image.ts";
import { imageReport } from "./report.ts";
import * as v from "valibot";
import { displayPath } from "../io/system_error.ts";
import { checkJson, fields, listOf, parseJsonObject, TEXT } from "../source/json.ts";

/** How images are made. */
export interface LayerImagesOptions extends ResolvedOptions {
  readonly layout: LayoutOptions;
  /** The envelope of each file system; a disk around all of them does not affect the file systems. */
  readonly envelope?: EnvelopeOptions | undefined;
  /** Unix time for everything that the source gives no time for. */
  readonly timestamp: number;
  /** The layers of a previous build. */
  readonly previousLayers?: PreviousLayers | undefined;
  /** Whether stale bytes of previous images are kept. */
  readonly keepStale?: LikeOptions["keepStale"];
}

/** The image of one layer. */
export interface UsedImage {
  /** The name of its file, without extension. */
  readonly name: string;
  readonly record: LayerRecord;
  readonly report: LayerReport;
  readonly isReused: boolean;
}

/** The existing image of a layer that does not have to be read. */
type KnownImage = Pick<UsedImage, "name" | "record"> & { readonly position: PositionRecord };

/** A layer that was read, and the tree of its image. */
interface ReadLayer {
  readonly layer: LoadedLayer;
  readonly tree: FileTree;
  readonly treeDigest: string;
  /** The previous image to lay this one out like. */
  readonly previous: string | undefined;
}

const MAKE_TRIES = 10;

/** Finds or makes the images of a source's layers in one store. */
export class LayerImages {
  readonly #store: LayerStore;
  readonly #options: LayerImagesOptions;

  constructor(store: LayerStore, options: LayerImagesOptions) {
    this.#store = store;
    this.#options = options;
  }

  /**
   * The images of all layers, bottom to top. Layers are read from the bottom up to the highest one without an image,
   * because its tree may depend on any layer below.
   */
  async ofAll(image: OpenedImage): Promise<UsedImage[]> {
    const { warnings } = this.#options;
    // If wrong diff ids are accepted, only reading a layer shows its real one.
    const isTrusted = this.#options.verifyDiffIds ?? true;
    const keys = isTrusted ? this.#chainKeys(image.layers) : [];
    const found: (KnownImage | undefined)[] = [];
    for (const [i, source] of image.layers.entries()) found.push(await this.#find(source, keys[i]));
    const readCount = found.lastIndexOf(undefined) + 1;
    const made = readCount === 0 ? [] : await this.#read(image, readCount);
    const rest = found.slice(readCount).map((known, i): UsedImage => {
      const { name, record, position: { facts, warnings: readWarnings } } = known!;
      const source = image.layers[readCount + i]!;
      addRecorded(readWarnings, source.name, warnings);
      addRecorded(record.warnings, source.name, warnings);
      // The source's own facts, completed by those recorded when the layer was read.
      const report = {
        digest: source.digest ?? facts.digest,
        diffId: record.diffId,
        mediaType: source.mediaType ?? null,
        sizeBytes: source.sizeBytes ?? facts.sizeBytes,
        uncompressedBytes: facts.uncompressedBytes,
        entries: facts.entries,
      };
      return { name, record, report, isReused: true };
    });
    return [...made, ...rest];
  }

  #chainKeys(layers: readonly ChainLink[]): (string | undefined)[] {
    return chainKeys(layers, idMapLines(this.#options));
  }

  /** The existing image of a layer at a known position. */
  async #find(source: LayerSource, chainKey: string | undefined): Promise<KnownImage | undefined> {
    if (chainKey === undefined) return undefined;
    const diffId = source.diffId!;
    const position = this.#store.positionRecord({ ...source, diffId, chainKey });
    if (position === undefined) {
      // Fails early if the image was made with other options.
      await this.#store.find(layerFileName(diffId), diffId);
      return undefined;
    }
    for (const name of [layerFileName(diffId), treeFileName(diffId, position.tree)]) {
      const record = await this.#store.find(name, diffId);
      if (record?.tree === position.tree) return { name, record, position };
    }
    return undefined;
  }

  async #read(image: OpenedImage, readCount: number): Promise<UsedImage[]> {
    const { signal, warnings } = this.#options;
    const readWarnings = new NotingWarnings(warnings, "case");
    const lower = { ...image, layers: image.layers.slice(0, readCount) };
    const layers = await loadLayers(lower, { ...this.#options, warnings: readWarnings });
    try {
      const readNotes = readWarnings.take();
      const keys = this.#chainKeys(layers);
      const treeWarnings = new NotingWarnings(warnings, "kind");
      const trees = overlayTrees(layers, treeOptions({ ...this.#options, warnings: treeWarnings }));
      const used: UsedImage[] = [];
      const diffIds = image.layers.map(({ diffId }, i) => layers[i]?.diffId ?? diffId);
      const previous = this.#options.previousLayers?.(diffIds) ?? [];
      for (const { layerIndex, tree } of trees) {
        throwIfAborted(signal);
        const layer = layers[layerIndex]!;
        const { diffId, digest, sizeBytes, uncompressedBytes, entries } = layer;
        const notes = [...notesAbout(readNotes, layer.name), ...treeWarnings.take()];
        const read = {
          layer,
          tree,
          treeDigest: treeDigest(tree, diffId, (i) => layers[i]!.diffId),
          previous: previous[layerIndex],
        };
        used.push(await this.#imageOf(read));
        const chainKey = keys[layerIndex]!;
        const position = { ...image.layers[layerIndex]!, diffId, chainKey };
        await this.#store.addPosition(position, {
          position: positionKey(position),
          tree: read.treeDigest,
          facts: { digest, sizeBytes, uncompressedBytes, entries: entries.length },
          warnings: recordedWarnings(notes, layer.name),
        });
      }
      return used;
    } finally {
      closeLayers(layers);
    }
  }

  /**
   * Reuses the existing image, or makes one. If another tree of the same layer has taken the usual name, the digest of
   * the tree is added to the name.
   */
  async #imageOf(read: ReadLayer): Promise<UsedImage> {
    const { layer, treeDigest } = read;
    const { diffId } = layer;
    for (const name of [layerFileName(diffId), treeFileName(diffId, treeDigest)]) {
      for (let tries = 1;; tries++) {
        const isUnrecorded = this.#store.isUnrecorded(name);
        const record = isUnrecorded
          ? await this.#adopt(name, read)
          : await this.#store.find(name, diffId);
        if (record?.tree === treeDigest) {
          addRecorded(record.warnings, layer.name, this.#options.warnings);
          return { name, record, report: layerReport(layer), isReused: true };
        }
        if (record !== undefined) break;
        if (isUnrecorded) continue;
        try {
          return await this.#make(name, read);
        } catch (error) {
          // Another process may have written an image of that name meanwhile.
          if (!isTaken(error) || tries === MAKE_TRIES) throw error;
        }
      }
    }
    throw new Error(`Invariant broken: two trees of layer ${diffId} have one name`);
  }

  /** Adopts an image without a record if its bytes are exactly those that would be written. */
  async #adopt(name: string, read: ReadLayer): Promise<LayerRecord | undefined> {
    const warnings = new NotingWarnings(new Warnings(), "kind");
    const image = new ChecksumSink();
    const hashTree = this.#store.hashTreeFile(name);
    const options = { warnings, progress: NO_PROGRESS };
    try {
      const body = await this.#write(read, { image, hash: hashTree?.sink }, options);
      return await this.#store.adopt(name, body, image.checksums, hashTree);
    } finally {
      await hashTree?.abort();
    }
  }

  async #make(name: string, read: ReadLayer): Promise<UsedImage> {
    const warnings = new NotingWarnings(this.#options.warnings, "kind");
    const { progress } = this.#options;
    const record = await this.#store.add(
      name,
      (image, hash) => this.#write(read, { image, hash }, { warnings, progress }),
    );
    return { name, record, report: layerReport(read.layer), isReused: false };
  }

  async #write(
    { layer, tree, treeDigest, previous: like }: ReadLayer,
    sinks: { readonly image: ImageSink; readonly hash: ImageSink | undefined },
    { warnings, progress }: { readonly warnings: NotingWarnings; readonly progress: Progress },
  ): Promise<RecordBody> {
    const { layout, timestamp, keepStale, envelope: { verity, vhd, disk } = {} } = this.#options;
    const previous = await openPrevious({ like, keepStale }, this.#options);
    try {
      const plan = planImage(tree, {
        layout,
        contentDigest: treeDigest,
        statedUuid: layer.statedUuid,
        timestamp,
        warnings,
        continuation: previous?.continuation,
      });
      const written = await writeEnveloped(plan, sinks.image, {
        ...this.#options,
        envelope: {
          verity: verity && { ...verity, hashSink: sinks.hash },
          vhd: vhd && disk === undefined,
        },
        size: layout.size,
        architecture: "",
        progress,
        onBytes: previous?.onBytes,
      });
      const kept = previous?.report(plan.kept!);
      return {
        diffId: layer.diffId,
        tree: treeDigest,
        image: imageReport(plan, written),
        verity: written.envelope.verity,
        ...kept === undefined ? {} : { like: { ...kept, previous: basename(kept.previous) } },
        warnings: recordedWarnings(warnings.take(), layer.name),
      };
    } finally {
      previous?.close();
    }
  }
}

const DESCRIPTION = fields({
  kind: v.literal(DESCRIPTION_KIND),
  layers: listOf(fields({ file: TEXT, diffId: TEXT })),
});

/**
 * The previous image of each layer, if any. Layers that only one of the two builds has are paired from the bottom up:
 * the lowest new one continues the lowest old one, and so on.
 *
 * @param diffIds bottom to top; undefined for unknown ones
 */
export type PreviousLayers = (diffIds: readonly (string | undefined)[]) => (string | undefined)[];

/**
 * Reads the layers of a previous build from its output directory.
 *
 * @throws {InputError} when the directory is not such an output, or its description is damaged
 */
export function readPreviousLayers(directory: string): PreviousLayers {
  const path = pathIn(directory, DESCRIPTION_FILE);
  const what = displayPath(path);
  let layers: readonly { readonly file: string; readonly diffId: string }[];
  try {
    const document = parseJsonObject(readFileWhole(path), what);
    layers = checkJson(DESCRIPTION, document, { what, field: "" }).layers;
  } catch (cause) {
    const why = "is not a directory of layers that can be continued";
    const hint = "name a directory that `bless layered` made";
    throw new InputError(displayPath(directory), why, { code: "wrongKind", hint, cause });
  }
  for (const { file } of layers) {
    if (/^[0-9a-f]+(-[0-9a-f]+)?\.ext4$/.test(file)) continue;
    const why = `has a layer in "${displayPath(file)}", which is not a file beside it`;
    throw new InputError(what, why);
  }
  const before = new Set(layers.map(({ diffId }) => diffId));
  return (diffIds) => {
    const now = new Set(diffIds);
    const gone = layers.filter(({ diffId }) => !now.has(diffId));
    return diffIds.map((diffId) => {
      const next = diffId !== undefined && before.has(diffId) ? undefined : gone.shift();
      return next && pathIn(directory, next.file);
    });
  };
}
