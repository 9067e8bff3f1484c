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

  get count(): number {
    return this.#sizes.length;
  }

  /** The id of a content by its number: the 32 bytes of its SHA-256, as a byte string. */
  id(index: number): string {
    return this.#ids[index]!;
  }

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

/** Where an image has a content first. */
export interface UnitPlace {
  /** Bytes outside zero blocks of the unit that lies there. */
  readonly raw: number;
  /** Undefined for whole files. */
  readonly offsetBytes: number | undefined;
  /** Which file system of the image: 0, or the number of the layer. */
  readonly part: number;
}

export interface ImageUnits {
  /** The different contents, by number in the table. */
  readonly contents: ReadonlySet<number>;
  readonly logicalBytes: number;
  /** Bytes of its units that are no zero blocks, repeated units counted each time. */
  readonly nonZeroBytes: number;
  /** Units, repeated ones counted each time. */
  readonly unitCount: number;
  /** Free space that the layout left for the grid's sake. */
  readonly paddingBytes: number;
}

/** Counts of an image whose units are added once each. */
export type RepeatedCounts = Pick<ImageUnits, "nonZeroBytes" | "unitCount">;

/** Sizes that a set of units adds up to. */
export interface UnitTotals {
  /** Without zero blocks. */
  readonly raw: number;
  /** Compressed. */
  readonly stored: number;
  /** How many there are. */
  readonly units: number;
  /** The units whole. */
  readonly unitBytes: number;
}

/** Units of one scheme. Memory grows with the count of units. */
export class SchemeStore {
  /** In the order given. */
  readonly images: ImageUnits[] = [];
  /** The units of the last image, and where it has them; kept until the next image is put in. */
  places: ReadonlyMap<number, UnitPlace> = new Map();
  readonly #table: ContentTable;
  readonly #isCompressed: boolean;
  readonly #keepsPlaces: boolean;
  /** Bytes outside zero blocks, by content: where a chunk lies decides which of its zeros are whole blocks. */
  readonly #raw = new Map<number, number>();

  /** @param keepsPlaces whether places of units are wanted */
  constructor(table: ContentTable, isCompressed: boolean, keepsPlaces = false) {
    this.#table = table;
    this.#isCompressed = isCompressed;
    this.#keepsPlaces = keepsPlaces;
  }

  /** What a unit takes in the store, of which the raw bytes are given. */
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

  /** What comes now is of that file system of the image. */
  beginPart(part: number): void {
    this.#part = part;
  }

  /**
   * @param rawBytes those outside zero blocks
   * @param offsetBytes in the part; undefined for whole files
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

  /** Puts the image into the store. `counts` take the place of what was counted. */
  finish(counts?: RepeatedCounts): void {
    const { nonZeroBytes, unitCount } = counts ?? this.#counts;
    this.#done({ contents: this.#contents, ...this.#counts, nonZeroBytes, unitCount });
  }
}
