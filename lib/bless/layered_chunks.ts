/**
 * The images of layers in a chunk store: one index for each, `NAME.caibx` beside `NAME.ext4`.
 *
 * @module
 */
import {
  type ChunkCounts,
  ChunkSink,
  type ChunkUploader,
  sumOfCounts,
} from "../chunk/chunk_sink.ts";
import type { ChunkDigest } from "../chunk/chunk.ts";
import { type ChunkIndex, decodeChunkIndex, encodeChunkIndex } from "../chunk/chunk_index.ts";
import type { ChunkerParameters } from "../chunk/fastcdc.ts";
import { readFileInto } from "../io/file_source.ts";
import { InputError, throwIfAborted } from "../errors.ts";
import { outputExistsError, statIfThere } from "../io/paths.ts";
import type { ImageSink } from "../io/sink.ts";
import { displayPath } from "../io/system_error.ts";
import type { Progress } from "../progress.ts";
import { pathIn, readFileWhole, writeFileWhole } from "./layered_store.ts";

/** Where chunks go. */
export interface LayerChunksTarget {
  /** Uploads the chunks. */
  readonly uploader: ChunkUploader;
  /** The digest that names chunks. */
  readonly digest: ChunkDigest;
  /** Cuts by content; default: at the grid. */
  readonly chunker?: ChunkerParameters | undefined;
}

/** How chunks are made and indexes written. */
export interface LayerChunksOptions extends LayerChunksTarget {
  readonly outputDir: string;
  /** The size of a chunk: the grid. */
  readonly chunkBytes: number;
  /** Write no indexes. */
  readonly dryRun: boolean;
  /** Replace files that have the name of an index but are not one. */
  readonly force: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly progress: Progress;
}

/** One image in the store. */
export interface ChunkedImage {
  /** The index, a file in the output directory; undefined after a dry run. */
  readonly index: string | undefined;
  readonly counts: Readonly<ChunkCounts>;
}

/** An index of this size belongs to an image of more than a tebibyte. */
const INDEX_BYTES_MAX = 1 << 30;

/** Uploads the images of layers: new ones while they are written, existing ones from their files. */
export class LayerChunks {
  readonly #options: LayerChunksOptions;
  /** Images written here, by name; of several attempts the last. */
  readonly #made = new Map<string, ChunkSink>();

  constructor(options: LayerChunksOptions) {
    this.#options = options;
  }

  /** A sink for an image that is about to be written. */
  sinkOf(name: string): ImageSink {
    const sink = this.#newSink();
    this.#made.set(name, sink);
    return sink;
  }

  /**
   * Uploads the images that existed already, and then writes all indexes. A name may appear more than once.
   *
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
      const index = this.#options.dryRun ? undefined : `${name}.caibx`;
      if (index !== undefined) await this.#writeIndex(index, sink.index);
      chunked.set(name, { index, counts: sink.counts });
    }
    return chunked;
  }

  #newSink(): ChunkSink {
    const { uploader, digest, chunker, chunkBytes } = this.#options;
    return new ChunkSink(uploader, {
      chunkBytes: chunker?.maxBytes ?? chunkBytes,
      digest,
      chunker,
    });
  }

  /**
   * Uploads an existing image.
   *
   * @param own the same image if it was written here as well, but another process was faster to name it: then its
   * counts say what was new
   */
  async #chunkFile(name: string, own: ChunkSink | undefined): Promise<ChunkSink> {
    const sink = this.#newSink();
    try {
      await readFileInto(pathIn(this.#options.outputDir, `${name}.ext4`), sink, {
        ...this.#options,
        checkSize: (sizeBytes) => sink.checkSize(sizeBytes),
      });
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

/** Sums over the images, each counted once. */
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
