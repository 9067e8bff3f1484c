/**
 * Writes an image straight to a block device. Holes are filled with zeros, so the bytes equal those of the file.
 *
 * The first bytes are cleared before anything else and written last: superblocks and partition tables are there, so an
 * interrupted run leaves nothing that mounts, neither the new image nor the old contents.
 *
 * @module
 */
import { fsyncSync, readSync, writeSync } from "node:fs";
import { alignDown, zeroBytes } from "../bytes/arithmetic.ts";
import { byteStringFromBytes } from "../bytes/byte_string.ts";
import { invariant, throwIfAborted } from "../errors.ts";
import {
  checkRoom,
  claimDevice,
  type ClaimedDevice,
  DEVICE_FIRST_BYTES,
  DEVICE_HEAD_BYTES,
  deviceFacts,
  rereadPartitions,
  zeroByDevice,
} from "./block_device.ts";
import {
  checkProgress,
  DescriptorWriter,
  NODE_WRITER_OPERATIONS,
  type WriterOperations,
} from "./file_sink.ts";
import { type ImageSink, PIECE_BYTES } from "./sink.ts";
import { ioErrorFrom, systemErrorFacts } from "./system_error.ts";

/** The signature at offset 512 of a disk with a GUID partition table. */
const GPT_SIGNATURE = "EFI PART";
/** A device zeroes whole sectors; no device has larger ones. */
const ZEROED_UNIT_BYTES = 4096;

/** The calls made on a device. */
export interface DeviceOperations extends WriterOperations {
  /** Makes the device zero itself; see {@linkcode zeroByDevice}. */
  zero(path: string, endBytes: number, signal?: AbortSignal): Promise<boolean>;
}

/** The real system calls. */
export const NODE_DEVICE_OPERATIONS: DeviceOperations = {
  ...NODE_WRITER_OPERATIONS,
  zero: zeroByDevice,
};

/** Options for writing a device. */
export interface DeviceSinkOptions {
  /** The device already reads as zeros everywhere, so holes need not be written. */
  readonly assumeZeroed?: boolean | undefined;
  /** When it is aborted, nothing more is written. */
  readonly signal?: AbortSignal | undefined;
  /** Other operations, for tests. */
  readonly files?: DeviceOperations | undefined;
}

/** How holes were zeroed: by the device, by writing zeros, or not at all. */
export type ZeroedBy = "device" | "writing" | "nothing";

/** A sink that writes to a block device. */
export interface DeviceSink extends ImageSink {
  /** The device's size. */
  readonly sizeBytes: number;
  /** The size of a logical sector. */
  readonly sectorBytes: number;
  /** How holes were zeroed; valid once it is finished. */
  readonly zeroedBy: ZeroedBy;
  /** Throws an InputError if the image is larger than the device. */
  checkSize(sizeBytes: number): void;
}

/**
 * A sink for a block device. The first write claims the device, so that it cannot be mounted meanwhile.
 *
 * @param path the device
 * @throws {IoError} if it cannot be opened; at the first write, if it is mounted or in use; later, with the offset of the
 * failure
 * @throws {InputError} if it is not a device; from `checkSize`, or at the end at the latest, if the image is larger than
 * the device
 *
 * @example
 * ```ts
 * import { assertThrows } from "@std/assert";
 * import { createDeviceSink } from "./device_sink.ts";
 * assertThrows(() => createDeviceSink("/dev/null"), Error, "/dev/null: is neither a regular file");
 * ```
 */
export function createDeviceSink(path: string, options: DeviceSinkOptions = {}): DeviceSink {
  return new BlockDeviceSink(path, options);
}

class BlockDeviceSink implements DeviceSink {
  readonly sizeBytes: number;
  readonly sectorBytes: number;
  zeroedBy: ZeroedBy = "writing";
  readonly #path: string;
  readonly #options: DeviceSinkOptions;
  readonly #files: DeviceOperations;
  readonly #onAbort = () => this.abort();
  /** The start of the image, up to DEVICE_HEAD_BYTES. */
  readonly #head = new Uint8Array(DEVICE_HEAD_BYTES);
  #claim: ClaimedDevice | undefined;
  #writer: DescriptorWriter | undefined;
  /** The image's size, once it is known. */
  #imageBytes: number | undefined;
  /** Up to here, the device reads as zeros wherever nothing is written. */
  #zeroedEnd = 0;
  #endOffset = 0;
  #isEnded = false;
  /** When it resolves, the device has been released. */
  #aborted: Promise<void> = Promise.resolve();

  constructor(path: string, options: DeviceSinkOptions) {
    this.#path = path;
    this.#options = options;
    this.#files = options.files ?? NODE_DEVICE_OPERATIONS;
    const { sizeBytes, sectorBytes } = deviceFacts(path);
    this.sizeBytes = sizeBytes;
    this.sectorBytes = sectorBytes;
    options.signal?.addEventListener("abort", this.#onAbort);
  }

  checkSize(sizeBytes: number): void {
    checkRoom(this.#path, this.sizeBytes, sizeBytes);
    this.#imageBytes = sizeBytes;
  }

  write(bytes: Uint8Array, offset: number): void | Promise<void> {
    throwIfAborted(this.#options.signal);
    const writer = this.#writer;
    if (writer === undefined) return this.#beginWith(bytes, offset);
    try {
      const written = this.#put(writer, bytes, offset);
      if (written !== undefined) return this.#settle(written);
    } catch (cause) {
      return this.#settle(Promise.reject(cause));
    }
  }

  async finish(sizeBytes: number): Promise<void> {
    // When the failure is reported, the device is free to use.
    if (this.#options.signal?.aborted) await this.#aborted;
    throwIfAborted(this.#options.signal);
    invariant(
      sizeBytes >= this.#endOffset,
      `image ends at ${sizeBytes}, before what was written`,
    );
    this.checkSize(sizeBytes);
    await this.#settle(this.#finish(this.#writer ?? await this.#begin(), sizeBytes));
    if (byteStringFromBytes(this.#head, 512, 520) === GPT_SIGNATURE) {
      await rereadPartitions(this.#path);
    }
  }

  abort(): Promise<void> {
    if (this.#isEnded) return this.#aborted;
    this.#end();
    return this.#aborted = this.#giveBack();
  }

  async #giveBack(): Promise<void> {
    await this.#writer?.drop();
    this.#claim?.release();
  }

  async #beginWith(bytes: Uint8Array, offset: number): Promise<void> {
    const writer = await this.#begin();
    await this.#settle((async () => await this.#put(writer, bytes, offset))());
  }

  async #begin(): Promise<DescriptorWriter> {
    const claim = claimDevice(this.#path);
    const writer = new DescriptorWriter(this.#path, claim.descriptor, this.#files);
    this.#claim = claim;
    this.#writer = writer;
    if (this.#isEnded) await this.#giveBack();
    await this.#settle(this.#clear(writer));
    return writer;
  }

  /** From here on, none of the old contents mount. */
  async #clear(writer: DescriptorWriter): Promise<void> {
    writer.checkLive();
    const imageBytes = this.#imageBytes ?? this.sizeBytes;
    await writer.writeApart(this.#head.subarray(0, Math.min(DEVICE_HEAD_BYTES, imageBytes)), 0);
    await this.#sync(writer);
    if (this.#options.assumeZeroed) {
      this.zeroedBy = "nothing";
      this.#zeroedEnd = this.sizeBytes;
      return;
    }
    if (this.#imageBytes === undefined) return;
    const wholeBlocks = alignDown(this.#imageBytes, ZEROED_UNIT_BYTES);
    if (!await this.#files.zero(this.#path, wholeBlocks, this.#options.signal)) return;
    this.zeroedBy = "device";
    this.#zeroedEnd = wholeBlocks;
  }

  #put(writer: DescriptorWriter, bytes: Uint8Array, offset: number): void | Promise<void> {
    invariant(offset >= this.#endOffset, `write at ${offset} after the end ${this.#endOffset}`);
    checkRoom(this.#path, this.sizeBytes, offset + bytes.length);
    const holeStart = this.#endOffset;
    this.#endOffset = offset + bytes.length;
    if (offset < DEVICE_HEAD_BYTES) {
      this.#head.set(bytes.subarray(0, DEVICE_HEAD_BYTES - offset), offset);
    }
    if (this.#endOffset <= DEVICE_HEAD_BYTES) return;
    const behindHead = Math.max(0, DEVICE_HEAD_BYTES - offset);
    const [rest, start] = [bytes.subarray(behindHead), offset + behindHead];
    const from = this.#holeToWrite(holeStart);
    if (from >= start) return writer.write(rest, start);
    return this.#writeZeros(writer, from, start).then(() => writer.write(rest, start));
  }

  #holeToWrite(holeStart: number): number {
    return Math.max(holeStart, DEVICE_HEAD_BYTES, this.#zeroedEnd);
  }

  async #writeZeros(writer: DescriptorWriter, start: number, end: number): Promise<void> {
    for (let at = start; at < end; at += PIECE_BYTES) {
      await writer.write(zeroBytes(Math.min(PIECE_BYTES, end - at)), at);
    }
  }

  async #finish(writer: DescriptorWriter, sizeBytes: number): Promise<void> {
    await this.#writeZeros(writer, this.#holeToWrite(this.#endOffset), sizeBytes);
    await writer.flush();
    const head = this.#head.subarray(0, Math.min(DEVICE_HEAD_BYTES, sizeBytes));
    await writer.writeApart(head.subarray(DEVICE_FIRST_BYTES), DEVICE_FIRST_BYTES);
    await this.#sync(writer);
    await writer.writeApart(head.subarray(0, DEVICE_FIRST_BYTES), 0);
    await this.#sync(writer);
    this.#end();
    try {
      writer.close();
    } finally {
      this.#claim?.release();
    }
  }

  async #sync(writer: DescriptorWriter): Promise<void> {
    try {
      await writer.sync();
    } catch (cause) {
      throw systemErrorFacts(cause) === undefined
        ? cause
        : ioErrorFrom(this.#path, "cannot be flushed to the disk", cause);
    }
  }

  async #settle(work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (cause) {
      await this.abort();
      throw systemErrorFacts(cause) === undefined
        ? cause
        : ioErrorFrom(this.#path, undefined, cause);
    }
  }

  #end(): void {
    this.#isEnded = true;
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
  }
}

/** Reads and writes at any position. Failures are IoErrors with the offset. */
export class PositionedFile {
  readonly #path: string;
  readonly #descriptor: number;

  /** @param path for errors */
  constructor(path: string, descriptor: number) {
    this.#path = path;
    this.#descriptor = descriptor;
  }

  /** Returns fewer bytes only at the end. */
  read(sizeBytes: number, offset: number): Uint8Array {
    const bytes = new Uint8Array(sizeBytes);
    let done = 0;
    try {
      while (done < sizeBytes) {
        const count = readSync(this.#descriptor, bytes, done, sizeBytes - done, offset + done);
        if (count === 0) break;
        done += count;
      }
    } catch (cause) {
      throw ioErrorFrom(this.#path, `cannot be read at offset ${offset}`, cause);
    }
    return bytes.subarray(0, done);
  }

  /** Writes all the bytes. */
  write(bytes: Uint8Array, offset: number): void {
    try {
      for (let done = 0; done < bytes.length;) {
        done += checkProgress(
          writeSync(this.#descriptor, bytes, done, bytes.length - done, offset + done),
        );
      }
    } catch (cause) {
      throw ioErrorFrom(this.#path, `cannot be written at offset ${offset}`, cause);
    }
  }

  /** Syncs everything to the disk. */
  finish(): void {
    try {
      fsyncSync(this.#descriptor);
    } catch (cause) {
      throw ioErrorFrom(this.#path, "cannot be flushed to the disk", cause);
    }
  }
}

/**
 * The same for a device that holds an image of a known size. As with a whole image, the first bytes are cleared before any
 * change and written last, so that a half-changed image never mounts.
 */
export class DevicePatch extends PositionedFile {
  /** The start of the final image. */
  readonly #head: Uint8Array;
  #isCleared = false;

  /** @param imageBytes at most the device's size */
  constructor(path: string, descriptor: number, imageBytes: number) {
    super(path, descriptor);
    this.#head = super.read(Math.min(DEVICE_HEAD_BYTES, imageBytes), 0);
  }

  override read(sizeBytes: number, offset: number): Uint8Array {
    const bytes = super.read(sizeBytes, offset);
    bytes.set(this.#head.subarray(offset, offset + bytes.length));
    return bytes;
  }

  override write(bytes: Uint8Array, offset: number): void {
    this.#clearOnce();
    const inHead = Math.max(0, Math.min(bytes.length, this.#head.length - offset));
    this.#head.set(bytes.subarray(0, inHead), offset < this.#head.length ? offset : 0);
    super.write(bytes.subarray(inHead), offset + inHead);
  }

  override finish(): void {
    if (!this.#isCleared) return;
    super.finish();
    super.write(this.#head.subarray(DEVICE_FIRST_BYTES), DEVICE_FIRST_BYTES);
    super.finish();
    super.write(this.#head.subarray(0, DEVICE_FIRST_BYTES), 0);
    super.finish();
  }

  #clearOnce(): void {
    if (this.#isCleared) return;
    this.#isCleared = true;
    super.write(new Uint8Array(this.#head.length), 0);
    super.finish();
  }
}
