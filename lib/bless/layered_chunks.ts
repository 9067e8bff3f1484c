/**
 * The images of layers in a chunk store: one index a layer, `NAME.caibx` beside `NAME.ext4`.
 *
 * @module
 */
import { type ChunkCounts, type ChunkUploader, sumOfCounts } from "../chunk/chunk_uploader.ts";
import type { ChunkDigest } from "../chunk/chunk.ts";
import { type ChunkIndex, decodeChunkIndex, encodeChunkIndex } from "../chunk/chunk_index.ts";
import { ChunkSink } from "../chunk/chunk_sink.ts";
import { readFileInto } from "../chunk/read_file.ts";
import { InputError, throwIfAborted } from "../errors.ts";
import { outputExistsError, statIfThere } from "../io/paths.ts";
import type { ImageSink } from "../io/sink.ts";
import { displayPath } from "../io/system_error.ts";
import type { Progress } from "../progress.ts";
import { pathIn, readFileWhole, writeFileWhole } from "./layered_store.ts";

/** Where chunks go. */
export interface LayerChunksTarget {
  /** Brings chunks to their store. */
  readonly uploader: ChunkUploader;
  /** What chunks are named with. */
  readonly digest: ChunkDigest;
}

/** How chunks are made and indexes written. */
export interface LayerChunksOptions extends LayerChunksTarget {
  readonly outputDir: string;
  /** The grid. */
  readonly chunkBytes: number;
  /** Write no index. */
  readonly isDryRun: boolean;
  /** Replace what has an index's name and is none. */
  readonly force: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly progress: Progress;
}

/** What a store got of one image. */
export interface ChunkedImage {
  /** The index, a name in the output directory; undefined after a dry run. */
  readonly index: string | undefined;
  readonly counts: Readonly<ChunkCounts>;
}

/** An index of that many bytes is of an image of more than a tebibyte. */
const INDEX_BYTES_MAX = 1 << 30;

/** Brings the images of layers to a chunk store: those that are made while they are made, the others from their files. */
export class LayerChunks {
  readonly #options: LayerChunksOptions;
  /** By name, of images that were made here; the last try counts. */
  readonly #made = new Map<string, ChunkSink>();

  constructor(options: LayerChunksOptions) {
    this.#options = options;
  }

  /** A sink for an image that is being made. */
  sinkOf(name: string): ImageSink {
    const sink = this.#newSink();
    this.#made.set(name, sink);
    return sink;
  }

  /**
   * Brings images that were there already to the store too, and then writes all indexes.
   *
   * @param images several of one name are one
   * @throws {IoError} when something else has the name of an index
   */
  async finish(
    images: readonly { readonly name: string; readonly isReused: boolean }[],
  ): Promise<ReadonlyMap<string, ChunkedImage>> {
    const made = new Set(images.filter(({ isReused }) => !isReused).map(({ name }) => name));
    const sinks = new Map<string, ChunkSink>();
    for (const { name } of images) {
      if (sinks.has(name)) continue;
      throwIfAborted(this.#options.signal);
      const own = this.#made.get(name);
      sinks.set(name, own !== undefined && made.has(name) ? own : await this.#chunkFile(name, own));
    }
    const chunked = new Map<string, ChunkedImage>();
    for (const [name, sink] of sinks) {
      const index = this.#options.isDryRun ? undefined : `${name}.caibx`;
      if (index !== undefined) await this.#writeIndex(index, sink.index);
      chunked.set(name, { index, counts: sink.counts });
    }
    return chunked;
  }

  #newSink(): ChunkSink {
    const { uploader, digest, chunkBytes } = this.#options;
    return new ChunkSink(uploader, { chunkBytes, digest });
  }

  /**
   * Brings an image that is there to the store.
   *
   * @param own the same image made here, when another process was quicker to give it its name; what was new then was
   * counted then
   */
  async #chunkFile(name: string, own: ChunkSink | undefined): Promise<ChunkSink> {
    const sink = this.#newSink();
    try {
      await readFileInto(pathIn(this.#options.outputDir, `${name}.ext4`), sink, this.#options);
      const isOwn = own?.isFinished === true && equal(own.index.ids, sink.index.ids);
      return isOwn ? own : sink;
    } catch (error) {
      await sink.abort();
      throw error;
    }
  }

  async #writeIndex(file: string, index: ChunkIndex): Promise<void> {
    const path = pathIn(this.#options.outputDir, file);
    const bytes = encodeChunkIndex(index);
    const found = statIfThere(path);
    if (found !== undefined) {
      const isSmall = found.isFile() && found.size <= INDEX_BYTES_MAX;
      const there = isSmall ? readFileWhole(path) : undefined;
      if (there !== undefined && equal(there, bytes)) return;
      const isReplaceable = found.isFile() && this.#options.force ||
        there !== undefined && isIndex(there, path);
      if (!isReplaceable) throw outputExistsError(displayPath(path));
    }
    await writeFileWhole(path, bytes, this.#options.signal);
  }
}

/** The sums over images, each counted once. */
export function sumOfChunked(chunked: ReadonlyMap<string, ChunkedImage>): ChunkCounts {
  return sumOfCounts([...chunked.values()].map(({ counts }) => counts));
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

function isIndex(bytes: Uint8Array, path: string): boolean {
  try {
    decodeChunkIndex(bytes, displayPath(path));
    return true;
  } catch (error) {
    if (error instanceof InputError) return false;
    throw error;
  }
}
