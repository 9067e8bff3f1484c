/**
 * What all layers of an image may take together.
 *
 * @module
 */
import { type InputError, limitError } from "../errors.ts";
import type { SourceLimits } from "./limits.ts";

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
