/**
 * All layers of an image as partitions of one disk, for virtual machines that have few places for disks: each file
 * system as it is in its own file, read from there, so that its cells are the same.
 *
 * @module
 */
import { derivedUuid } from "../bytes/uuid.ts";
import { createFileSink } from "../io/file_sink.ts";
import { openFileReader, type RandomReader } from "../io/random_reader.ts";
import { type ImageSink, teeSink } from "../io/sink.ts";
import { vhdSink } from "../disk/disk_layout.ts";
import {
  copyReader,
  type DiskReport,
  type PlannedPartition,
  writePartitioned,
} from "./envelope.ts";
import type { UsedImage } from "./layered_images.ts";
import { pathIn } from "./layered_store.ts";
import { partitionGuidsOf } from "./verity_place.ts";

/** A disk in the output directory. */
export interface LayeredDisk extends DiskReport {
  /** A name in the output directory. */
  readonly file: string;
  /** The index of its chunks, a name in the output directory; left out when it went to no store. */
  readonly index?: string | undefined;
}

/** How it is made. */
export interface LayeredDiskOptions {
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
 * @throws {IoError} when reading or writing fails
 */
export async function writeLayeredDisk(
  used: readonly UsedImage[],
  options: LayeredDiskOptions,
): Promise<LayeredDisk> {
  const { outputDir, contentDigest, vhd, diskBytes, alsoTo, signal } = options;
  const name = diskName(contentDigest);
  const file = `${name}.${vhd ? "vhd" : "raw"}`;
  const target = createFileSink(pathIn(outputDir, file), {
    force: true,
    ...signal === undefined ? {} : { signal },
  });
  const others = alsoTo === undefined ? [] : [alsoTo(name)];
  const whole = teeSink(...others, target);
  const opened: RandomReader[] = [];
  try {
    const partitions = imagesOnDisk(used).map((image): PlannedPartition => {
      const reader = openFileReader(pathIn(outputDir, `${image.name}.ext4`));
      opened.push(reader);
      return {
        role: "layer",
        guid: guidOf(image),
        sizeBytes: reader.sizeBytes,
        write: (sink) => copyReader(reader, sink, signal),
      };
    });
    const id = derivedUuid("blessfs vhd", contentDigest);
    const disk = await writePartitioned(vhd ? vhdSink(whole, () => id) : whole, partitions, {
      architecture: "",
      identity: contentDigest,
      diskBytes,
    });
    return { file, ...others.length === 0 ? {} : { index: `${name}.caibx` }, ...disk };
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
