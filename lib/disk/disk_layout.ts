/**
 * Where partitions lie on a disk. All begin at multiples of 1 MiB: that is on every grid, so equal file systems have equal
 * cells on disks, too, and it is where partitioning tools put them.
 *
 * @module
 */
import { alignDown, alignUp } from "../bytes/arithmetic.ts";
import { InputError, invariant, optionError, type UsageError } from "../errors.ts";
import type { ImageSink } from "../io/sink.ts";
import {
  encodeGpt,
  type Gpt,
  gptHeadBytes,
  type GptPartition,
  gptTailBytes,
  SECTOR_BYTES,
} from "./gpt.ts";

/** Partitions begin at multiples of it, and a disk without a given size ends at one. */
export const PARTITION_ALIGNMENT_BYTES: number = 1 << 20;

/** Where things are. */
export interface DiskLayout {
  /** Of each partition in turn. */
  readonly starts: readonly number[];
  /** As they were given. */
  readonly sizes: readonly number[];
  /** Of the whole disk. */
  readonly diskBytes: number;
}

/**
 * Lays out partitions of the given sizes one after the other.
 *
 * @param sizes in bytes, whole sectors
 * @param diskBytes of the disk; just what is needed when left out
 * @throws {UsageError} when they do not fit
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { layOutDisk } from "./disk_layout.ts";
 * assertEquals(layOutDisk([4096, 4096]), {
 *   starts: [1048576, 2097152],
 *   sizes: [4096, 4096],
 *   diskBytes: 3145728,
 * });
 * ```
 */
export function layOutDisk(sizes: readonly number[], diskBytes?: number): DiskLayout {
  let end = gptHeadBytes(sizes.length);
  const starts = sizes.map((size) => {
    const start = alignUp(end, PARTITION_ALIGNMENT_BYTES);
    end = start + size;
    return start;
  });
  const needed = alignUp(end + gptTailBytes(sizes.length), PARTITION_ALIGNMENT_BYTES);
  if (diskBytes === undefined) return { starts, sizes, diskBytes: needed };
  const whole = alignDown(diskBytes, SECTOR_BYTES);
  if (end + gptTailBytes(sizes.length) > whole) throw tooSmall(diskBytes, needed);
  return { starts, sizes, diskBytes: whole };
}

/**
 * How much room a disk of a given size has for one partition, behind others whose sizes are known and before those that
 * depend on it.
 *
 * @param before sizes of the partitions before it
 * @param after gives the sizes of those behind it for a size that it may have
 * @returns a multiple of 4096
 * @throws {UsageError} when there is no room at all
 */
export function roomOnDisk(
  diskBytes: number,
  before: readonly number[],
  after: (sizeBytes: number) => readonly number[],
): number {
  const fits = (blocks: number) => {
    const sizes = [...before, blocks * 4096, ...after(blocks * 4096)];
    const { starts } = layOutDisk(sizes);
    const end = starts.at(-1)! + sizes.at(-1)! + gptTailBytes(sizes.length);
    return end <= alignDown(diskBytes, SECTOR_BYTES);
  };
  let low = 0;
  let high = Math.floor(diskBytes / 4096);
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle - 1;
  }
  if (low > 0) return low * 4096;
  throw tooSmall(diskBytes, layOutDisk([...before, 4096, ...after(4096)]).diskBytes);
}

function tooSmall(diskBytes: number, needed: number): UsageError {
  return optionError(
    "size",
    `the partitions and their table need ${needed} bytes, the disk has ${diskBytes}`,
    { data: { expected: needed, actual: diskBytes } },
  );
}

/** Gives the bytes of a partition to the disk's sink. */
export type PartitionWriter = (sink: ImageSink) => Promise<void>;

/**
 * Writes a disk in one ascending pass and finishes the sink.
 *
 * @param writers of each partition in turn; what they leave out are holes
 * @param named gives the table with its final names when the partitions are written; the sink must have `writeAgain` then
 */
export async function writeDisk(
  gpt: Gpt,
  sink: ImageSink,
  writers: readonly PartitionWriter[],
  named?: () => Gpt,
): Promise<void> {
  await sink.write(encodeGpt(gpt).head, 0);
  for (const [i, partition] of gpt.partitions.entries()) {
    await writers[i]!(partitionSink(sink, partition));
  }
  const { head, tail } = encodeGpt(named?.() ?? gpt);
  if (named !== undefined) {
    invariant(sink.writeAgain !== undefined, "a sink that can go back");
    await sink.writeAgain(head, 0);
  }
  await sink.write(tail, gpt.diskBytes - tail.length);
  await sink.finish(gpt.diskBytes);
}

/** A partition as a sink of its own. Its end is not the end of the disk. */
function partitionSink(disk: ImageSink, partition: GptPartition): ImageSink {
  const { startBytes, sizeBytes, name } = partition;
  const check = (end: number) => {
    if (end > sizeBytes) {
      throw new InputError("disk", `the partition ${name} has ${sizeBytes} bytes, found ${end}`);
    }
  };
  return {
    write(bytes, offset) {
      check(offset + bytes.length);
      return disk.write(bytes, startBytes + offset);
    },
    finish: check,
    abort: () => disk.abort(),
  };
}
