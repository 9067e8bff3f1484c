/**
 * All different units found by any scheme, so that each is compressed once, however many schemes and images contain it.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import type { StoredSizes } from "./stored_sizes.ts";

/** Contents, numbered in order of discovery. Memory grows with their number. */
export class ContentTable {
  readonly #indexOf = new Map<string, number>();
  readonly #ids: string[] = [];
  readonly #sizes: number[] = [];
  readonly #stored: number[] = [];

  get count(): number {
    return this.#sizes.length;
  }

  /** The id of a content: the 32 bytes of its SHA-256, as a byte string. */
  id(index: number): string {
    return this.#ids[index]!;
  }

  sizeBytes(index: number): number {
    return this.#sizes[index]!;
  }

  /** Compressed size of a content, once known; 0 when nothing is compressed. */
  storedBytes(index: number): number {
    return this.#stored[index]!;
  }

  /** The number of the content of these bytes, which are only valid during the call. */
  indexOfBytes(bytes: Uint8Array, sizes: StoredSizes | undefined): number {
    const id = this.idOfBytes(bytes);
    return this.indexOf(id, bytes.length, (take) => sizes?.measure(bytes, take));
  }

  /**
   * The number of a content by its id. For a new content, `measure` determines its stored size: the sum of everything
   * it passes to `take`, now or later.
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

  idOfBytes(bytes: Uint8Array): string {
    return contentId(createHash("sha256").update(bytes));
  }

  /** The number of a content by its id; undefined if unknown. */
  find(id: string): number | undefined {
    return this.#indexOf.get(id);
  }
}

/** The whole SHA-256 as a byte string, which makes a compact key. */
export function contentId(hash: Hash): string {
  return hash.digest().toString("latin1");
}

/** Where a content first occurs in an image. */
export interface UnitPlace {
  /** Bytes outside zero blocks in the unit at that place. */
  readonly raw: number;
  /** Undefined for whole files. */
  readonly offsetBytes: number | undefined;
  /** Which file system of the image: 0, or the number of the layer. */
  readonly part: number;
}

export interface ImageUnits {
  /** The different contents, by their numbers in the table. */
  readonly contents: ReadonlySet<number>;
  readonly logicalBytes: number;
  /** Bytes of its units outside zero blocks, counting repeated units every time. */
  readonly nonZeroBytes: number;
  /** Number of units, counting repeated ones every time. */
  readonly unitCount: number;
  /** Free space that the layout left to align files to the grid. */
  readonly paddingBytes: number;
}

/** The counts of an image whose repeated units were each added only once. */
export type RepeatedCounts = Pick<ImageUnits, "nonZeroBytes" | "unitCount">;

/** The total size of a set of units. */
export interface UnitTotals {
  /** Bytes outside zero blocks. */
  readonly raw: number;
  /** Compressed bytes. */
  readonly stored: number;
  /** Number of units. */
  readonly units: number;
  /** Bytes of the whole units. */
  readonly unitBytes: number;
}

/** The units of one scheme. Memory grows with their number. */
export class SchemeStore {
  /** In the order given. */
  readonly images: ImageUnits[] = [];
  /** The units of the last image and their places; kept until the next image is added. */
  places: ReadonlyMap<number, UnitPlace> = new Map();
  readonly #table: ContentTable;
  readonly #isCompressed: boolean;
  readonly #keepsPlaces: boolean;
  /**
   * Bytes outside zero blocks, by content. The same chunk may contain different whole zero blocks depending on where it
   * lies.
   */
  readonly #raw = new Map<number, number>();

  /** @param keepsPlaces whether to keep the places of units */
  constructor(table: ContentTable, isCompressed: boolean, keepsPlaces = false) {
    this.#table = table;
    this.#isCompressed = isCompressed;
    this.#keepsPlaces = keepsPlaces;
  }

  /** The size of a unit in the store, given its raw bytes. */
  storedBytes(content: number, rawBytes: number): number {
    return this.#isCompressed ? this.#table.storedBytes(content) : rawBytes;
  }

  beginImage(): ImageCollector {
    const places = this.#keepsPlaces ? new Map<number, UnitPlace>() : undefined;
    return new ImageCollector(this.#raw, places, (image) => {
      this.images.push(image);
      if (places !== undefined) this.places = places;
    });
  }

  totals(contents: Iterable<number>): UnitTotals {
    const totals = { raw: 0, stored: 0, units: 0, unitBytes: 0 };
    for (const content of contents) {
      const raw = this.#raw.get(content)!;
      totals.raw += raw;
      totals.stored += this.storedBytes(content, raw);
      totals.units++;
      totals.unitBytes += this.#table.sizeBytes(content);
    }
    return totals;
  }
}

export class ImageCollector {
  readonly #raw: Map<number, number>;
  readonly #places: Map<number, UnitPlace> | undefined;
  readonly #done: (image: ImageUnits) => void;
  readonly #contents = new Set<number>();
  readonly #counts = { logicalBytes: 0, nonZeroBytes: 0, unitCount: 0, paddingBytes: 0 };
  #part = 0;

  constructor(
    raw: Map<number, number>,
    places: Map<number, UnitPlace> | undefined,
    done: (image: ImageUnits) => void,
  ) {
    this.#raw = raw;
    this.#places = places;
    this.#done = done;
  }

  /** Units added from now on belong to this file system of the image. */
  beginPart(part: number): void {
    this.#part = part;
  }

  /**
   * @param rawBytes bytes outside zero blocks
   * @param offsetBytes offset in the part; undefined for whole files
   */
  add(content: number, rawBytes: number, offsetBytes?: number): void {
    this.#counts.unitCount++;
    this.#counts.nonZeroBytes += rawBytes;
    if (this.#places !== undefined && !this.#contents.has(content)) {
      this.#places.set(content, { raw: rawBytes, offsetBytes, part: this.#part });
    }
    this.#contents.add(content);
    if (!this.#raw.has(content)) this.#raw.set(content, rawBytes);
  }

  /** Counts the size of an image, or of one part of it, such as a layer. */
  addSize(logicalBytes: number, paddingBytes: number): void {
    this.#counts.logicalBytes += logicalBytes;
    this.#counts.paddingBytes += paddingBytes;
  }

  /** Adds the image to the store. `counts` replace the counts collected so far. */
  finish(counts?: RepeatedCounts): void {
    const { nonZeroBytes, unitCount } = counts ?? this.#counts;
    this.#done({ contents: this.#contents, ...this.#counts, nonZeroBytes, unitCount });
  }
}
