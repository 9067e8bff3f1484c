/**
 * Finds or makes the image of every layer of a source.
 *
 * @module
 */
import { IoError, throwIfAborted } from "../errors.ts";
import { NO_PROGRESS } from "../progress.ts";
import { writeImage, type WriteResult } from "../ext4/write/write_image.ts";
import type { FileTree } from "../model/node.ts";
import type { LayerSource, LoadedLayer, OpenedImage, SourceOptions } from "../source/source.ts";
import { closeLayers, loadLayers } from "../source/source.ts";
import { overlayTrees } from "../tree/overlay.ts";
import { Warnings } from "../warnings.ts";
import { chainFileName, chainKeys, layerFileName } from "./layered_chain.ts";
import { ChecksumSink, equalChecksums } from "./layered_checksums.ts";
import type { LayerFacts, LayerRecord } from "./layered_record.ts";
import type { LayerStore } from "./layered_store.ts";
import {
  addRecorded,
  type NotedWarning,
  notesAbout,
  NotingWarnings,
  recordedWarnings,
} from "./layered_warnings.ts";
import type { LayoutOptions } from "./options.ts";
import { planImage } from "./plan_image.ts";
import { imageReport, type LayerReport, layerReport } from "./report.ts";

/** What making images needs beside the store. */
export interface LayerImagesOptions extends SourceOptions {
  readonly layout: LayoutOptions;
  /** Seconds that stand for every time that the source does not give. */
  readonly timestamp: number;
}

/** The image of one layer. */
export interface UsedImage {
  /** Of its file, without the ending. */
  readonly name: string;
  readonly record: LayerRecord;
  readonly report: LayerReport;
  readonly isReused: boolean;
}

/** An image in the store, and under which name. */
type FoundImage = Pick<UsedImage, "name" | "record">;

/** A layer that was read, with the tree that its image is to show. */
interface ReadLayer {
  readonly layer: LoadedLayer;
  readonly chainKey: string;
  readonly tree: FileTree;
  readonly notes: readonly NotedWarning[];
}

/** The images of a source's layers in one store. */
export class LayerImages {
  readonly #store: LayerStore;
  readonly #options: LayerImagesOptions;

  constructor(store: LayerStore, options: LayerImagesOptions) {
    this.#store = store;
    this.#options = options;
  }

  /**
   * The images of all layers, bottom to top. Layers are read from the bottom up to the highest whose image is missing,
   * because its tree may take something from any of them.
   */
  async ofAll(image: OpenedImage): Promise<UsedImage[]> {
    const found = await this.#findAll(image.layers);
    const readCount = found.lastIndexOf(undefined) + 1;
    const made = readCount === 0 ? [] : await this.#read(image, readCount);
    const rest = image.layers.slice(readCount).map((source, i) => {
      const foundImage = found[readCount + i]!;
      const { record } = foundImage;
      addRecorded(record.readWarnings, source.name, this.#options.warnings);
      addRecorded(record.planWarnings, source.name, this.#options.warnings);
      return { ...foundImage, report: recordedReport(source, record), isReused: true };
    });
    return [...made, ...rest];
  }

  /** The images that are there, as far as the source says what its layers are. */
  async #findAll(layers: readonly LayerSource[]): Promise<(FoundImage | undefined)[]> {
    // Where a wrong diff id is accepted, only reading a layer tells what it is.
    const isTrusted = this.#options.verifyDiffIds ?? true;
    const keys = isTrusted ? chainKeys(layers) : [];
    const found: (FoundImage | undefined)[] = [];
    for (const [i, { diffId }] of layers.entries()) {
      const key = keys[i];
      found.push(key === undefined ? undefined : await this.#find(diffId!, key));
    }
    return found;
  }

  /** The image of a layer on certain others, under either of its names. */
  async #find(diffId: string, chainKey: string): Promise<FoundImage | undefined> {
    for (const name of [layerFileName(diffId), chainFileName(diffId, chainKey)]) {
      const record = await this.#store.find(name, diffId);
      if (record?.chains.includes(chainKey)) return { name, record };
    }
    return undefined;
  }

  async #read(image: OpenedImage, readCount: number): Promise<UsedImage[]> {
    const { signal, timestamp, warnings } = this.#options;
    const readWarnings = new NotingWarnings(warnings, "case");
    const lower = { ...image, layers: image.layers.slice(0, readCount) };
    const layers = await loadLayers(lower, { ...this.#options, warnings: readWarnings });
    try {
      const readNotes = readWarnings.take();
      const keys = chainKeys(layers);
      const treeWarnings = new NotingWarnings(warnings, "kind");
      const trees = overlayTrees(layers, {
        warnings: treeWarnings,
        defaultTime: { seconds: timestamp, nanoseconds: 0 },
      });
      const used: UsedImage[] = [];
      for (const { layerIndex, tree } of trees) {
        throwIfAborted(signal);
        const layer = layers[layerIndex]!;
        const notes = [...notesAbout(readNotes, layer.name), ...treeWarnings.take()];
        used.push(await this.#imageOf({ layer, chainKey: keys[layerIndex]!, tree, notes }));
      }
      return used;
    } finally {
      closeLayers(layers);
    }
  }

  /** Uses the image that is there, or makes one. */
  async #imageOf(read: ReadLayer): Promise<UsedImage> {
    const found = await this.#findRead(read);
    if (found) return this.#reuse(found, read);
    try {
      return await this.#make(read);
    } catch (error) {
      // Another process may have made the same image since it was looked for.
      const isTaken = error instanceof IoError && error.data["code"] === "EEXIST";
      const late = isTaken ? await this.#findRead(read) : undefined;
      if (late === undefined) throw error;
      return this.#reuse(late, read);
    }
  }

  async #findRead(read: ReadLayer): Promise<FoundImage | undefined> {
    return await this.#find(read.layer.diffId, read.chainKey) ?? await this.#findEqual(read);
  }

  #reuse(found: FoundImage, { layer }: ReadLayer): UsedImage {
    addRecorded(found.record.planWarnings, layer.name, this.#options.warnings);
    return { ...found, report: layerReport(layer), isReused: true };
  }

  /**
   * The image that was made of the layer on other layers, if it would be the same on these. Only its bytes tell, so they
   * are made once more, but not kept.
   */
  async #findEqual(read: ReadLayer): Promise<FoundImage | undefined> {
    const { layer, chainKey, tree } = read;
    const name = layerFileName(layer.diffId);
    const record = await this.#store.find(name, layer.diffId);
    if (record === undefined) return undefined;
    const { layout, timestamp, signal } = this.#options;
    const plan = planImage(tree, {
      layout,
      contentDigest: layer.diffId,
      timestamp,
      warnings: new Warnings(),
    });
    const checksums = new ChecksumSink();
    await writeImage(plan, checksums, { signal, progress: NO_PROGRESS });
    if (!equalChecksums(checksums.checksums, record.checksums)) return undefined;
    return { name, record: await this.#store.addChain(name, record, chainKey) };
  }

  async #make(read: ReadLayer): Promise<UsedImage> {
    const { layer, tree, notes, chainKey } = read;
    const { diffId } = layer;
    const { layout, timestamp, warnings } = this.#options;
    const usualName = layerFileName(diffId);
    const isTaken = await this.#store.find(usualName, diffId) !== undefined;
    const name = isTaken ? chainFileName(diffId, chainKey) : usualName;
    const contentDigest = isTaken ? chainKey : diffId;
    const planWarnings = new NotingWarnings(warnings, "kind");
    const plan = planImage(tree, { layout, contentDigest, timestamp, warnings: planWarnings });
    const record = await this.#store.add(name, plan, (written: WriteResult) => ({
      diffId,
      chains: [chainKey],
      facts: factsOf(layer),
      image: imageReport(plan, written),
      readWarnings: recordedWarnings(notes, layer.name),
      planWarnings: recordedWarnings(planWarnings.take(), layer.name),
    }));
    return { name, record, report: layerReport(layer), isReused: false };
  }
}

function factsOf({ digest, sizeBytes, uncompressedBytes, entries }: LoadedLayer): LayerFacts {
  return { digest, sizeBytes, uncompressedBytes, entries: entries.length };
}

/** What the source says of a layer that was not read, and what was found out when it was. */
function recordedReport(source: LayerSource, { diffId, facts }: LayerRecord): LayerReport {
  return {
    digest: source.digest ?? facts.digest,
    diffId,
    mediaType: source.mediaType ?? null,
    sizeBytes: source.sizeBytes ?? facts.sizeBytes,
    uncompressedBytes: facts.uncompressedBytes,
    entries: facts.entries,
  };
}
