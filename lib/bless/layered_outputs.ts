/**
 * Further outputs in layered mode: chunks in a store, with an index `NAME.caibx` beside each `NAME.ext4`, and one disk
 * with the layers as partitions, for virtual machines that can attach few disks.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import {
  type ChunkCounts,
  ChunkSink,
  type ChunkUploader,
  sumOfCounts,
} from "../chunk/chunk_sink.ts";
import type { ChunkDigest } from "../chunk/chunk.ts";
import { type ChunkIndex, decodeChunkIndex, encodeChunkIndex } from "../chunk/chunk_index.ts";
import type { ChunkerParameters } from "../chunk/fastcdc.ts";
import { readFileInto } from "../io/streams.ts";
import { InputError, throwIfAborted } from "../errors.ts";
import { outputExistsError, statIfThere } from "../io/paths.ts";
import { type ImageSink, teeSink } from "../io/sink.ts";
import { displayPath } from "../io/system_error.ts";
import type { Progress } from "../progress.ts";
import { pathIn, readFileWhole, writeFileWhole } from "./layered_store.ts";
import { derivedUuid } from "../bytes/digest.ts";
import { createFileSink } from "../io/file_sink.ts";
import { openFileReader, type RandomReader } from "../io/random_reader.ts";
import { vhdSink } from "../disk/disk_layout.ts";
import {
  copyReader,
  type DiskReport,
  partitionGuidsOf,
  type PlannedPartition,
  writePartitioned,
} from "./envelope.ts";
import type { UsedImage } from "./layered_images.ts";

/** The chunk store for layered images. */
export interface LayerChunksTarget {
  /** Uploads the chunks. */
  readonly uploader: ChunkUploader;
  /** The digest that chunk ids are. */
  readonly digest: ChunkDigest;
  /** A content-defined chunker; by default, chunks are grid cells. */
  readonly chunker?: ChunkerParameters | undefined;
}

interface LayerChunksOptions extends LayerChunksTarget {
  readonly outputDir: string;
  /** The chunk size, equal to the grid. */
  readonly chunkBytes: number;
  /** Do not write indexes. */
  readonly dryRun?: boolean | undefined;
  /** Replace files that have an index's name but are not indexes. */
  readonly force?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly progress: Progress;
}

interface ChunkedImage {
  /** The file name of the index in the output directory; undefined after a dry run. */
  readonly index: string | undefined;
  readonly counts: Readonly<ChunkCounts>;
}

/** An index this large belongs to an image of more than a tebibyte. */
const INDEX_BYTES_MAX = 1 << 30;

/** Uploads the images of layers: new ones while they are written, existing ones from their files. */
export class LayerChunks {
  readonly #options: LayerChunksOptions;
  /** Sinks of images written in this run, by name; the last attempt wins. */
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
   * Uploads the images that existed already and then writes all indexes. A name may appear more than once.
   *
   * @throws {IoError} when the name of an index is taken by another kind of file
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
   * @param own the sink of the same image if it was also written here, but another process published it first; its
   * counts then show what was new
   */
  async #chunkFile(name: string, own: ChunkSink | undefined): Promise<ChunkSink> {
    const sink = this.#newSink();
    try {
      await readFileInto(pathIn(this.#options.outputDir, `${name}.ext4`), sink, {
        ...this.#options,
        checkSize: (sizeBytes) => sink.checkSize(sizeBytes),
      });
      const isOwn = own?.isFinished === true && Buffer.compare(own.index.ids, sink.index.ids) === 0;
      return isOwn ? own : sink;
    } catch (error) {
      await sink.abort();
      throw error;
    }
  }

  async #writeIndex(file: string, index: ChunkIndex): Promise<void> {
    const path = pathIn(this.#options.outputDir, file);
    const found = statIfThere(path);
    const isReplaceable = found === undefined ||
      found.isFile() && (this.#options.force || isIndex(path, found.size));
    if (!isReplaceable) throw outputExistsError(displayPath(path));
    await writeFileWhole(path, encodeChunkIndex(index), this.#options.signal);
  }
}

/** Sums over the images, each counted once. */
export function sumOfChunked(chunked: ReadonlyMap<string, ChunkedImage>): ChunkCounts {
  return sumOfCounts([...chunked.values()].map(({ counts }) => counts));
}

function isIndex(path: string, sizeBytes: number): boolean {
  try {
    return sizeBytes <= INDEX_BYTES_MAX &&
      decodeChunkIndex(readFileWhole(path), path) !== undefined;
  } catch (error) {
    if (error instanceof InputError) return false;
    throw error;
  }
}

/** The disk in the output directory. */
export interface LayeredDisk extends DiskReport {
  /** The file name in the output directory. */
  readonly file: string;
  /** The file name of its chunk index in the output directory; left out without a chunk store. */
  readonly index?: string | undefined;
}

interface LayeredDiskOptions {
  readonly outputDir: string;
  /** The digest of the image, `sha256:...`, which names the disk. */
  readonly contentDigest: string;
  /** End the disk with the footer of a VHD. */
  readonly vhd: boolean;
  /** As small as possible when left out. */
  readonly diskBytes?: number | undefined;
  /** Also receives the bytes of the disk, under its name without extension. */
  readonly alsoTo?: ((name: string) => ImageSink) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The name of a disk without its extension. */
export function diskName(contentDigest: string): string {
  return `image-${contentDigest.slice(contentDigest.indexOf(":") + 1)}`;
}

/** The distinct images of a stack, bottom to top. The index of an image plus one is its partition number. */
export function imagesOnDisk(used: readonly UsedImage[]): readonly UsedImage[] {
  return [...new Map(used.map((image) => [image.name, image])).values()];
}

/**
 * Writes the disk. An existing disk is replaced, since it consists of the same images.
 *
 * @throws {UsageError} when the layers do not fit into the requested size
 */
export async function writeLayeredDisk(
  used: readonly UsedImage[],
  options: LayeredDiskOptions,
): Promise<LayeredDisk> {
  const { outputDir, contentDigest, vhd, diskBytes, alsoTo, signal } = options;
  const name = diskName(contentDigest);
  const file = `${name}.${vhd ? "vhd" : "raw"}`;
  const output = createFileSink(pathIn(outputDir, file), { force: true, signal });
  const others = alsoTo === undefined ? [] : [alsoTo(name)];
  const whole = teeSink(...others, output);
  const opened: RandomReader[] = [];
  try {
    const partitions = imagesOnDisk(used).map((image): PlannedPartition => {
      const reader = openFileReader(pathIn(outputDir, `${image.name}.ext4`));
      opened.push(reader);
      return {
        role: "layer",
        guid: guidOf(image),
        sizeBytes: reader.sizeBytes,
        write: (sink) => copyReader(reader, sink, { signal }),
      };
    });
    const id = derivedUuid("blessfs vhd", contentDigest);
    const target = vhd ? vhdSink(whole, () => id) : whole;
    const first = { identity: contentDigest, partitions };
    const disk = await writePartitioned(target, first, { architecture: "", diskBytes });
    return { file, ...alsoTo === undefined ? {} : { index: `${name}.caibx` }, ...disk };
  } catch (error) {
    await whole.abort();
    throw error;
  } finally {
    for (const reader of opened) reader.close();
  }
}

/** The first half of the root hash, or without one, the UUID of the file system. */
function guidOf({ record: { verity, image } }: UsedImage): string {
  return verity === undefined ? image.uuid : partitionGuidsOf(verity.rootHash)[0];
}
