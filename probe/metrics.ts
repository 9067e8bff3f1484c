/**
 * What the stores say: each figure is defined here and nowhere else.
 *
 * - `each`: every image in a store of its own, added up. Units that an image repeats count once.
 * - `union`: all images in one store.
 * - `crossImageDedup`: (each - union) / each.
 * - `newBytes`: what each image adds to those before it.
 *
 * @module
 */
import type { ImageUnits, SchemeStore, UnitTotals } from "./units/store.ts";

/** One figure in both measures. */
export interface Measures {
  /** Bytes without zero blocks, or a share of such bytes. */
  readonly raw: number;
  /** Compressed bytes, or a share of such bytes. */
  readonly stored: number;
}

/** Units that a number of images have. */
export interface HistogramBin extends UnitTotals {
  /** How many images have them. */
  readonly images: number;
}

/** One image in one scheme. */
export interface ImageMetrics extends UnitTotals {
  /** Size of the image, holes included. */
  readonly logicalBytes: number;
  /** Bytes in zero blocks. */
  readonly zeroBytes: number;
  /** Units, repeated ones each time. */
  readonly unitOccurrences: number;
  /** In units that no other image has. */
  readonly only: Measures;
}

/** Everything about one scheme but how it compares with others. */
export interface SchemeMetrics {
  /** Every image in a store of its own, added up. */
  readonly each: UnitTotals;
  /** All images in one store. */
  readonly union: UnitTotals;
  /** What one store saves: (each - union) / each. */
  readonly crossImageDedup: Measures;
  /** What each image adds to those before it. */
  readonly newBytes: readonly UnitTotals[];
  /** Mean size of the unique units. */
  readonly meanUnitBytes: number;
  /** What alignment left free, in all images. */
  readonly paddingBytes: number;
  /** Bytes in blocks of zeros, which count nowhere else. */
  readonly zeroBytes: number;
  /** In the order of the sources. */
  readonly perImage: readonly ImageMetrics[];
  /** Units by how many images have them. */
  readonly histogram: readonly HistogramBin[];
}

/** How two images overlap, in raw and stored bytes. */
export interface Overlap {
  /** What both have. */
  readonly shared: Measures;
  /** Shared over the union of the two. */
  readonly jaccard: Measures;
  /** Shared over the first one: how much of it the second one has. */
  readonly containment: Measures;
}

/** Works out the figures of a store. */
export function schemeMetrics(store: SchemeStore): SchemeMetrics {
  const { images } = store;
  const holders = countHolders(images);
  const perImage = images.map((image) => imageMetrics(image, store, holders));
  const each = sumTotals(perImage);
  const union = store.totals(holders.keys());
  return {
    each,
    union,
    crossImageDedup: sharesOf({
      raw: each.raw - union.raw,
      stored: each.stored - union.stored,
    }, each),
    newBytes: newUnits(images).map((contents) => store.totals(contents)),
    meanUnitBytes: union.units === 0 ? 0 : union.unitBytes / union.units,
    paddingBytes: images.reduce((sum, { paddingBytes }) => sum + paddingBytes, 0),
    zeroBytes: perImage.reduce((sum, { zeroBytes }) => sum + zeroBytes, 0),
    perImage,
    histogram: histogramOf(store, holders),
  };
}

/** The matrix of overlaps: row by column. */
export function overlapMatrix(store: SchemeStore): Overlap[][] {
  const totals = store.images.map(({ contents }) => store.totals(contents));
  return store.images.map((first, row) =>
    store.images.map((second, column) => {
      const shared = store.totals(intersection(first.contents, second.contents));
      const [a, b] = [totals[row]!, totals[column]!];
      const union = {
        raw: a.raw + b.raw - shared.raw,
        stored: a.stored + b.stored - shared.stored,
      };
      return {
        shared: { raw: shared.raw, stored: shared.stored },
        jaccard: sharesOf(shared, union),
        containment: sharesOf(shared, a),
      };
    })
  );
}

/** A part of a whole in both measures; 0 of nothing. */
export function sharesOf(part: Measures, whole: Measures): Measures {
  return {
    raw: whole.raw === 0 ? 0 : part.raw / whole.raw,
    stored: whole.stored === 0 ? 0 : part.stored / whole.stored,
  };
}

function countHolders(images: readonly ImageUnits[]): Map<number, number> {
  const holders = new Map<number, number>();
  for (const { contents } of images) {
    for (const content of contents) holders.set(content, (holders.get(content) ?? 0) + 1);
  }
  return holders;
}

function imageMetrics(
  image: ImageUnits,
  store: SchemeStore,
  holders: ReadonlyMap<number, number>,
): ImageMetrics {
  const own = store.totals([...image.contents].filter((content) => holders.get(content) === 1));
  return {
    logicalBytes: image.logicalBytes,
    zeroBytes: image.logicalBytes - image.nonZeroBytes,
    unitOccurrences: image.unitCount,
    ...store.totals(image.contents),
    only: { raw: own.raw, stored: own.stored },
  };
}

function newUnits(images: readonly ImageUnits[]): number[][] {
  const seen = new Set<number>();
  return images.map(({ contents }) => {
    const added = [...contents].filter((content) => !seen.has(content));
    for (const content of added) seen.add(content);
    return added;
  });
}

function histogramOf(store: SchemeStore, holders: ReadonlyMap<number, number>): HistogramBin[] {
  const bins: number[][] = store.images.map(() => []);
  for (const [content, count] of holders) bins[count - 1]!.push(content);
  return bins.map((contents, i) => ({ images: i + 1, ...store.totals(contents) }));
}

function sumTotals(totals: readonly UnitTotals[]): UnitTotals {
  const sum = { raw: 0, stored: 0, units: 0, unitBytes: 0 };
  for (const { raw, stored, units, unitBytes } of totals) {
    sum.raw += raw;
    sum.stored += stored;
    sum.units += units;
    sum.unitBytes += unitBytes;
  }
  return sum;
}

function* intersection(a: ReadonlySet<number>, b: ReadonlySet<number>): Generator<number> {
  const [small, large] = a.size <= b.size ? [a, b] : [b, a];
  for (const content of small) if (large.has(content)) yield content;
}
