/**
 * Changing parts of a block device in any order. As with a whole image (device_sink.ts), the first bytes are cleared before
 * anything is changed and come last, so that nothing mounts what is half changed.
 *
 * @module
 */
import { fsyncSync, readSync, writeSync } from "node:fs";
import { DEVICE_FIRST_BYTES, DEVICE_HEAD_BYTES } from "./block_device.ts";
import { ioErrorFrom } from "./system_error.ts";

/** Reads and writes at any position. Failures are IoErrors with the offset. */
export class PositionedFile {
  readonly #path: string;
  readonly #descriptor: number;

  /** @param path for errors */
  constructor(path: string, descriptor: number) {
    this.#path = path;
    this.#descriptor = descriptor;
  }

  /** Fewer bytes only at the end. */
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

  /** Writes all of the bytes. */
  write(bytes: Uint8Array, offset: number): void {
    try {
      for (let done = 0; done < bytes.length;) {
        done += writeSync(this.#descriptor, bytes, done, bytes.length - done, offset + done);
      }
    } catch (cause) {
      throw ioErrorFrom(this.#path, `cannot be written at offset ${offset}`, cause);
    }
  }

  /** Brings everything to the disk; after it, the bytes are those that were written. */
  finish(): void {
    try {
      fsyncSync(this.#descriptor);
    } catch (cause) {
      throw ioErrorFrom(this.#path, "cannot be flushed to the disk", cause);
    }
  }
}

/** The same for a device that holds an image of a known size. */
export class DevicePatch extends PositionedFile {
  /** What the image will begin with. */
  readonly #head: Uint8Array;
  #isCleared = false;

  /** @param imageBytes no more than the device has */
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
