/**
 * The block store that one scheme would fill: which image has which units.
 *
 * @module
 */
import type { ContentTable } from "./content_table.ts";

/** One image in the store. */
export interface ImageUnits {
  /** The different contents, by number in the table. */
  readonly contents: ReadonlySet<number>;
  /** Size of the image. */
  readonly logicalBytes: number;
  /** Bytes of its units that are no zero blocks, repeated units counted each time. */
  readonly nonZeroBytes: number;
  /** Units, repeated ones counted each time. */
  readonly unitCount: number;
  /** Free space that the layout left for the grid's sake. */
  readonly paddingBytes: number;
}

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
  readonly #table: ContentTable;
  readonly #isCompressed: boolean;
  /** Bytes outside zero blocks, by content: where a chunk lies decides which of its zeros are whole blocks. */
  readonly #raw = new Map<number, number>();
  readonly #images: ImageUnits[] = [];

  constructor(table: ContentTable, isCompressed: boolean) {
    this.#table = table;
    this.#isCompressed = isCompressed;
  }

  /** The images in the order given. */
  get images(): readonly ImageUnits[] {
    return this.#images;
  }

  /** Begins the next image. */
  beginImage(): ImageCollector {
    return new ImageCollector(this.#raw, (image) => this.#images.push(image));
  }

  /** Adds up units. */
  totals(contents: Iterable<number>): UnitTotals {
    const totals = { raw: 0, stored: 0, units: 0, unitBytes: 0 };
    for (const content of contents) {
      const raw = this.#raw.get(content)!;
      totals.raw += raw;
      totals.stored += this.#isCompressed ? this.#table.storedBytes(content) : raw;
      totals.units++;
      totals.unitBytes += this.#table.sizeBytes(content);
    }
    return totals;
  }
}

/** Gathers the units of one image. */
export class ImageCollector {
  readonly #raw: Map<number, number>;
  readonly #done: (image: ImageUnits) => void;
  readonly #contents = new Set<number>();
  #nonZeroBytes = 0;
  #unitCount = 0;
  #logicalBytes = 0;
  #paddingBytes = 0;

  constructor(raw: Map<number, number>, done: (image: ImageUnits) => void) {
    this.#raw = raw;
    this.#done = done;
  }

  /** @param rawBytes those outside zero blocks */
  add(content: number, rawBytes: number): void {
    this.#unitCount++;
    this.#nonZeroBytes += rawBytes;
    this.#contents.add(content);
    if (!this.#raw.has(content)) this.#raw.set(content, rawBytes);
  }

  /** Counts the size of an image, or of one part of it, such as a layer. */
  addSize(logicalBytes: number, paddingBytes: number): void {
    this.#logicalBytes += logicalBytes;
    this.#paddingBytes += paddingBytes;
  }

  /** Puts the image into the store. */
  finish(): void {
    this.#done({
      contents: this.#contents,
      logicalBytes: this.#logicalBytes,
      nonZeroBytes: this.#nonZeroBytes,
      unitCount: this.#unitCount,
      paddingBytes: this.#paddingBytes,
    });
  }
}
