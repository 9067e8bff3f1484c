/**
 * A disk around partitions: their layout, how the disk is written, and the footer that makes it a VHD.
 *
 * Partitions begin at multiples of 1 MiB. This is a multiple of every grid, so equal file systems have equal cells on
 * disks as well, and it is where partitioning tools put them.
 *
 * @module
 */
import { alignDown, alignUp } from "../bytes/arithmetic.ts";
import { bytesFromByteString, byteStringFromBytes } from "../bytes/byte_string.ts";
import { InputError, invariant, optionError, type UsageError } from "../errors.ts";
import { type ImageSink, writingAgain } from "../io/sink.ts";
import {
  encodeGpt,
  type Gpt,
  gptHeadBytes,
  type GptPartition,
  gptTailBytes,
  SECTOR_BYTES,
} from "./gpt.ts";

/** Partitions begin at multiples of this, and a disk without a requested size ends at one. */
export const PARTITION_ALIGNMENT_BYTES: number = 1 << 20;

/** The layout of a disk. */
export interface DiskLayout {
  /** The start of each partition, in bytes. */
  readonly starts: readonly number[];
  /** The size of each partition, in bytes. */
  readonly sizes: readonly number[];
  /** The size of the whole disk, in bytes. */
  readonly diskBytes: number;
}

/**
 * Lays out partitions of the given sizes one after the other.
 *
 * @param sizes in bytes, whole sectors
 * @param diskBytes the size of the disk; as small as possible when left out
 * @throws {UsageError} when the partitions do not fit
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
 * The room that a disk of a given size has for one partition, between partitions of known sizes and partitions whose
 * sizes depend on it.
 *
 * @param before the sizes of the partitions before it
 * @param after returns the sizes of the partitions after it, given its own size
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

/** Writes the content of a partition to a sink. */
export type PartitionWriter = (sink: ImageSink) => Promise<void>;

/**
 * Writes a disk in one ascending pass and finishes the sink.
 *
 * @param writers one writer per partition; bytes that they leave out become holes
 * @param named returns the table with its final names once the partitions are written; requires a sink with
 * `writeAgain`
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

/** A sink for one partition. Finishing it does not finish the disk. */
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

/**
 * The size of the footer of a fixed VHD ("Virtual Hard Disk Image Format Specification", Microsoft, "Hard Disk Footer
 * Format"). It follows the disk and is big-endian.
 */
export const VHD_FOOTER_BYTES = 512;
const VHD_COOKIE = "conectix";

/** 2040 GiB, the largest VHD that Hyper-V attaches. */
const VHD_BYTES_MAX = 2040 * 2 ** 30;

/**
 * Encodes the footer of a VHD. Its timestamp is 0, the start of 2000, so that equal disks have equal footers.
 *
 * @param diskBytes the size of the disk before the footer, whole sectors
 * @param uniqueId 16 bytes
 * @throws {InputError} when the disk is too large for a VHD, or not whole sectors
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { encodeVhdFooter } from "./disk_layout.ts";
 * const footer = encodeVhdFooter(1 << 20, new Uint8Array(16));
 * assertEquals(new TextDecoder().decode(footer.subarray(0, 8)), "conectix");
 * ```
 */
export function encodeVhdFooter(diskBytes: number, uniqueId: Uint8Array): Uint8Array {
  checkVhdSize(diskBytes);
  invariant(uniqueId.length === 16, `a unique id of ${uniqueId.length} bytes`);
  const footer = new Uint8Array(VHD_FOOTER_BYTES);
  const view = new DataView(footer.buffer);
  footer.set(bytesFromByteString(VHD_COOKIE), 0);
  view.setUint32(8, 2); // Features: a bit that is always set.
  view.setUint32(12, 0x00010000); // File format version.
  view.setBigUint64(16, 0xffffffffffffffffn); // No dynamic header.
  view.setUint32(24, 0); // Time stamp.
  // Readers trust the stated size if Windows made the file; otherwise they compute a smaller one from the geometry.
  footer.set(bytesFromByteString("win "), 28);
  view.setUint32(32, 0x000a0000); // Creator version.
  footer.set(bytesFromByteString("Wi2k"), 36);
  view.setBigUint64(40, BigInt(diskBytes)); // Original size.
  view.setBigUint64(48, BigInt(diskBytes)); // Current size.
  const { cylinders, heads, sectorsPerTrack } = geometryOf(diskBytes / SECTOR_BYTES);
  view.setUint16(56, cylinders);
  view.setUint8(58, heads);
  view.setUint8(59, sectorsPerTrack);
  view.setUint32(60, 2); // Disk type: fixed.
  footer.set(uniqueId, 68);
  // The complement of the sum of all bytes, with these four as zeros.
  view.setUint32(64, ~footer.reduce((sum, byte) => sum + byte, 0) >>> 0);
  return footer;
}

/** Throws an InputError for a size that a VHD cannot have. */
export function checkVhdSize(diskBytes: number): void {
  if (diskBytes % SECTOR_BYTES !== 0 || diskBytes <= 0) {
    throw new InputError("VHD", `a disk of ${diskBytes} bytes: wanted whole sectors of 512`);
  }
  if (diskBytes > VHD_BYTES_MAX) {
    throw new InputError("VHD", `a disk of ${diskBytes} bytes: wanted at most ${VHD_BYTES_MAX}`, {
      code: "limitExceeded",
    });
  }
}

/** The specification's appendix, "CHS Calculation". */
function geometryOf(sectors: number) {
  const total = Math.min(sectors, 65535 * 16 * 255);
  let sectorsPerTrack = 255;
  let heads = 16;
  if (total < 65535 * 16 * 63) {
    sectorsPerTrack = 17;
    const tracks = Math.floor(total / sectorsPerTrack);
    heads = Math.max(4, Math.floor((tracks + 1023) / 1024));
    if (tracks >= heads * 1024 || heads > 16) {
      sectorsPerTrack = 31;
      heads = 16;
    }
    if (Math.floor(total / sectorsPerTrack) >= heads * 1024) sectorsPerTrack = 63;
  }
  const tracks = Math.floor(total / sectorsPerTrack);
  return { cylinders: Math.floor(tracks / heads), heads, sectorsPerTrack };
}

/**
 * A sink that passes a disk on and appends the footer.
 *
 * @param uniqueId called once the disk has ended; returns 16 bytes
 */
export function vhdSink(target: ImageSink, uniqueId: () => Uint8Array): ImageSink {
  return {
    write: (bytes, offset) => target.write(bytes, offset),
    ...writingAgain(target),
    async finish(sizeBytes) {
      await target.write(encodeVhdFooter(sizeBytes, uniqueId()), sizeBytes);
      await target.finish(sizeBytes + VHD_FOOTER_BYTES);
    },
    abort: () => target.abort(),
  };
}

/** Whether a file ends with the footer of a VHD. @param end the last 512 bytes of the file */
export function hasVhdFooter(end: Uint8Array): boolean {
  return end.length === VHD_FOOTER_BYTES && byteStringFromBytes(end, 0, 8) === VHD_COOKIE;
}
