/**
 * What an image may ask of this program, beside what a tar may (lib/tar/limits.ts).
 *
 * @module
 */
import { type InputError, limitError } from "../errors.ts";

/** Limits of one image. */
export interface SourceLimits {
  /** An index or a manifest, as other tools limit it. */
  readonly manifestBytes: number;
  /** An image's config. */
  readonly configBytes: number;
  /** Indexes inside indexes. */
  readonly indexDepth: number;
  /** Descriptors in all indexes of an image together. */
  readonly indexEntries: number;
  /** Layers of one image. Docker allows 127. */
  readonly layers: number;
  /** Entries of all layers together. */
  readonly imageEntries: number;
  /** What all layers inflate to together. */
  readonly unpackedBytes: number;
  /** How many times bigger than stored a layer may be, above `unpackedRatioFloorBytes`. gzip reaches 1,032. */
  readonly unpackedRatio: number;
  /** Layers that inflate to no more than this may have any ratio. */
  readonly unpackedRatioFloorBytes: number;
}

/** The limits of documents. */
export type DocumentLimit = "manifestBytes" | "configBytes";

/** The limits used where none are given. */
export const DEFAULT_SOURCE_LIMITS: SourceLimits = {
  manifestBytes: 4 << 20,
  configBytes: 4 << 20,
  indexDepth: 4,
  indexEntries: 4096,
  layers: 1024,
  imageEntries: 2 ** 20,
  unpackedBytes: 256 * 2 ** 30,
  unpackedRatio: 2000,
  unpackedRatioFloorBytes: 2 ** 30,
};

/** Counts what the layers take, and stops at the limits. */
export class ImageBudget {
  readonly #limits: SourceLimits;
  #unpackedBytes = 0;
  #entryCount = 0;

  constructor(limits: SourceLimits) {
    this.#limits = limits;
  }

  /** @param name the layer that takes it, for the error */
  takeUnpacked(bytes: number, name: string): void {
    this.#unpackedBytes += bytes;
    const limit = this.#limits.unpackedBytes;
    if (this.#unpackedBytes > limit) throw unpackedFault(name, limit);
  }

  /** @param name the layer that they are in, for the error */
  takeEntries(count: number, name: string): void {
    this.#entryCount += count;
    const limit = this.#limits.imageEntries;
    if (this.#entryCount > limit) {
      throw limitError(name, `with it the image has more than ${limit} entries`, {
        name: "imageEntries",
        expected: limit,
      });
    }
  }
}

/** The error for layers that inflate to too much. */
export function unpackedFault(name: string, limitBytes: number): InputError {
  return limitError(name, `with it the image inflates to more than ${limitBytes} bytes`, {
    name: "unpackedBytes",
    expected: limitBytes,
  });
}
