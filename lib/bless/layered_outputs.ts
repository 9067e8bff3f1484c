/**
 * What else becomes of the images of layers: chunks in a store, with an index `NAME.caibx` beside each `NAME.ext4`, and
 * partitions of one disk, for virtual machines that have few places for disks.
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
interface LayerChunksOptions extends LayerChunksTarget {
  readonly outputDir: string;
  /** The size of a chunk: the grid. */
  readonly chunkBytes: number;
  /** Write no indexes. */
  readonly dryRun?: boolean | undefined;
  /** Replace files that have the name of an index but are not one. */
  readonly force?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly progress: Progress;
}

/** One image in the store. */
interface ChunkedImage {
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

/** A disk in the output directory. */
export interface LayeredDisk extends DiskReport {
  /** A name in the output directory. */
  readonly file: string;
  /** The index of its chunks, a name in the output directory; left out when it went to no store. */
  readonly index?: string | undefined;
}

/** How it is made. */
interface LayeredDiskOptions {
  readonly outputDir: string;
  /** `sha256:...`, of the image: it names the disk. */
  readonly contentDigest: string;
  /** End the disk with the footer of a VHD. */
  readonly vhd: boolean;
  /** Just what is needed when left out. */
  readonly diskBytes?: number | undefined;
  /** Takes the bytes of the disk, too, under its name without an ending. */
  readonly alsoTo?: ((name: string) => ImageSink) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The name of a disk without its ending. */
export function diskName(contentDigest: string): string {
  return `image-${contentDigest.slice(contentDigest.indexOf(":") + 1)}`;
}

/** The images of a stack, each once, from the lowest up. Their places are the numbers of their partitions, less one. */
export function imagesOnDisk(used: readonly UsedImage[]): readonly UsedImage[] {
  return [...new Map(used.map((image) => [image.name, image])).values()];
}

/**
 * Writes the disk. A disk that is there is replaced: it is made of the same images.
 *
 * @throws {UsageError} when the layers do not fit the size that is given
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

/** The first half of the root hash, or where there is none, the UUID of the file system. */
function guidOf({ record: { verity, image } }: UsedImage): string {
  return verity === undefined ? image.uuid : partitionGuidsOf(verity.rootHash)[0];
}
