/**
 * Every different unit that any scheme met, so that each is compressed once however many schemes and images have it.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import type { StoredSizes } from "./stored_sizes.ts";

/** Contents by number, in the order met. Memory grows with their count. */
export class ContentTable {
  readonly #indexOf = new Map<string, number>();
  readonly #ids: string[] = [];
  readonly #sizes: number[] = [];
  readonly #stored: number[] = [];

  /** How many contents there are. */
  get count(): number {
    return this.#sizes.length;
  }

  /** The id of a content by its number: the 32 bytes of its SHA-256, as a byte string. */
  id(index: number): string {
    return this.#ids[index]!;
  }

  /** Size of a content. */
  sizeBytes(index: number): number {
    return this.#sizes[index]!;
  }

  /** Compressed size of a content, once it is known; 0 where nothing compresses. */
  storedBytes(index: number): number {
    return this.#stored[index]!;
  }

  /** The number of the content of these bytes, which are only lent. */
  indexOfBytes(bytes: Uint8Array, sizes: StoredSizes | undefined): number {
    const id = this.idOfBytes(bytes);
    return this.indexOf(id, bytes.length, (take) => sizes?.measure(bytes, take));
  }

  /**
   * The number of a content by its id. When it is new, `measure` finds its stored size: all that it gives to `take`, now
   * or later, added up.
   */
  indexOf(
    id: string,
    sizeBytes: number,
    measure: (take: (storedBytes: number) => void) => void,
  ): number {
    const known = this.#indexOf.get(id);
    if (known !== undefined) return known;
    const index = this.#sizes.length;
    this.#stored.push(0);
    measure((storedBytes) => this.#stored[index]! += storedBytes);
    this.#sizes.push(sizeBytes);
    this.#ids.push(id);
    this.#indexOf.set(id, index);
    return index;
  }

  /** The id of the content of these bytes. */
  idOfBytes(bytes: Uint8Array): string {
    return contentId(createHash("sha256").update(bytes));
  }

  /** The number of a content by its id; undefined when it was not met. */
  find(id: string): number | undefined {
    return this.#indexOf.get(id);
  }
}

/** The whole SHA-256 as a byte string, which is compact as a key. */
export function contentId(hash: Hash): string {
  return hash.digest().toString("latin1");
}
