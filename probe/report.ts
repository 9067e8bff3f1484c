/**
 * The report of a probe, whose keys are the contract of `--json`, and its figures:
 *
 * - `each`: the images in separate stores, added up. Units repeated within an image count once.
 * - `union`: all images in one shared store.
 * - `crossImageDedup`: (each - union) / each.
 * - `newBytes`: what each image adds to the previous ones.
 *
 * @module
 */
import { displayName } from "../lib/bytes/byte_string.ts";
import type { Warnings, WarningSummary } from "../lib/warnings.ts";
import type { LostFile, SelfShift } from "./details.ts";
import type { ImageFacts } from "./images.ts";
import type { MeasuredScheme } from "./measure.ts";
import {
  describeScheme,
  type ResolvedProbeOptions,
  type Scheme,
  type SchemeDescription,
} from "./schemes.ts";
import type { ImageUnits, SchemeStore, UnitTotals } from "./units/store.ts";

/** One figure in both measures. */
export interface Measures {
  /** Bytes without zero blocks, or a share of such bytes. */
  readonly raw: number;
  /** Compressed bytes, or a share of such bytes. */
  readonly stored: number;
}

/** Units that occur in exactly this many images. */
export interface HistogramBin extends UnitTotals {
  /** How many images contain them. */
  readonly images: number;
}

/** One image in one scheme. */
export interface ImageMetrics extends UnitTotals {
  /** Size of the image, holes included. */
  readonly logicalBytes: number;
  /** Bytes in zero blocks. */
  readonly zeroBytes: number;
  /** Number of units, counting repeated ones every time. */
  readonly unitOccurrences: number;
  /** Size of the units that no other image has. */
  readonly only: Measures;
}

/** The measurements of one scheme, without its comparison with others. */
export interface SchemeMetrics {
  /** The images in separate stores, added up. */
  readonly each: UnitTotals;
  /** All images in one shared store. */
  readonly union: UnitTotals;
  /** What a shared store saves: (each - union) / each. */
  readonly crossImageDedup: Measures;
  /** What each image adds to the previous ones. */
  readonly newBytes: readonly UnitTotals[];
  /** Mean size of the unique units. */
  readonly meanUnitBytes: number;
  /** Space left free by alignment, in all images. */
  readonly paddingBytes: number;
  /** Bytes in zero blocks, which are counted nowhere else. */
  readonly zeroBytes: number;
  /** In the order of the sources. */
  readonly perImage: readonly ImageMetrics[];
  /** Units grouped by how many images contain them. */
  readonly histogram: readonly HistogramBin[];
}

/** How much two images overlap, in raw and stored bytes. */
export interface Overlap {
  /** Units that both images have. */
  readonly shared: Measures;
  /** Shared size divided by the union of the two. */
  readonly jaccard: Measures;
  /** Shared size divided by the first image: how much of it the second one contains. */
  readonly containment: Measures;
}

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

/** The matrix of overlaps, indexed by row, then column. */
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

/** A part divided by a whole, in both measures; 0 if the whole is 0. */
function sharesOf(part: Measures, whole: Measures): Measures {
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

/**
 * What a row saves over `unaligned`, as a share of what FastCDC saves over it, at the row's grid. Null where FastCDC
 * saves less than 2 % of `unaligned`, because a share of almost nothing is meaningless.
 */
export interface CapturedShares {
  /** Of raw bytes. */
  readonly raw: number | null;
  /** Of stored bytes. */
  readonly stored: number | null;
}

/** One row of the report. */
export interface SchemeReport extends SchemeMetrics, SchemeDescription {
  /** The comparison with FastCDC; null with one image, and where both shares are null. */
  readonly captured: CapturedShares | null;
  /** The former name of `captured`, with two null shares instead of null. */
  readonly ceilingCaptured: CapturedShares;
}

/** The complete report. */
export interface ProbeReport {
  /** How the images were made or cut. */
  readonly mode: "merged" | "layered" | "as-is";
  /** The first grid, in bytes. */
  readonly grid: number;
  /** The compression, written like the option. */
  readonly compress: string;
  /** In the order of the sources. */
  readonly images: readonly ImageFacts[];
  /** One row per scheme. */
  readonly schemes: readonly SchemeReport[];
  /** The shifts of the first image, for the row `mainScheme`, like the details below. */
  readonly selfShift?: readonly SelfShift[] | undefined;
  /** How the images overlap: `pairwise[i][j]`. */
  readonly pairwise?: readonly (readonly Overlap[])[] | undefined;
  /** Files that are partly stored again, largest loss first. */
  readonly explain?: readonly LostFile[] | undefined;
  /** Index of the main row in `schemes`. */
  readonly mainScheme: number;
  /** What was changed or left out, one entry per kind. */
  readonly warnings: readonly WarningSummary[];
}

export interface ProbeDetails {
  readonly images: readonly ImageFacts[];
  readonly main: MeasuredScheme;
  readonly selfShift: readonly SelfShift[] | undefined;
  readonly lostFiles: readonly LostFile[] | undefined;
}

/** Facts about the probe itself, and whether the report includes the matrix. */
export interface ReportFacts {
  readonly mode: ProbeReport["mode"];
  readonly compress: string;
  readonly pairwise: boolean;
  readonly warnings: Warnings;
}

export function reportFacts(options: ResolvedProbeOptions): ReportFacts {
  const { asIs, mode, compression, pairwise, warnings } = options;
  return {
    mode: asIs ? "as-is" : mode,
    compress: compression.kind === "none" ? "none" : `zstd:${compression.level}`,
    pairwise,
    warnings,
  };
}

export function probeReport(
  measured: readonly MeasuredScheme[],
  details: ProbeDetails,
  facts: ReportFacts,
): ProbeReport {
  const rows = measured.map(({ scheme, store }) => ({ scheme, metrics: schemeMetrics(store) }));
  const { main, selfShift, lostFiles } = details;
  return {
    mode: facts.mode,
    grid: main.scheme.gridBytes,
    compress: facts.compress,
    images: details.images,
    schemes: rows.map((row) => ({
      ...describeScheme(row.scheme),
      ...row.metrics,
      ...captured(row, rows),
    })),
    mainScheme: measured.indexOf(main),
    ...selfShift === undefined ? {} : { selfShift },
    ...facts.pairwise ? { pairwise: overlapMatrix(main.store) } : {},
    ...lostFiles === undefined ? {} : {
      explain: lostFiles.map((file) => ({ ...file, path: displayName(file.path) })),
    },
    warnings: facts.warnings.list(),
  };
}

interface Row {
  readonly scheme: Scheme;
  readonly metrics: SchemeMetrics;
}

/** Smaller savings are too small to compare with. */
const SAVED_SHARE_MIN = 0.02;
const NO_SHARES: CapturedShares = { raw: null, stored: null };

/** Compares at the scheme's own grid, or at the first grid for whole files, which have none. */
function captured(
  row: Row,
  rows: readonly Row[],
): Pick<SchemeReport, "captured" | "ceilingCaptured"> {
  const none = { captured: null, ceilingCaptured: NO_SHARES };
  const find = (...kinds: Scheme["kind"][]) =>
    rows.find(({ scheme }) =>
      kinds.includes(scheme.kind) &&
      (row.scheme.gridBytes === 0 || scheme.gridBytes === row.scheme.gridBytes)
    )!.metrics.union;
  if (row.metrics.perImage.length < 2) return none;
  const before = find("unaligned", "as-is");
  const reference = find("fastcdc");
  const share = (measure: keyof Measures) => {
    const saved = before[measure] - reference[measure];
    return saved < SAVED_SHARE_MIN * before[measure] || saved === 0
      ? null
      : (before[measure] - row.metrics.union[measure]) / saved;
  };
  const shares = { raw: share("raw"), stored: share("stored") };
  return shares.raw === null && shares.stored === null
    ? none
    : { captured: shares, ceilingCaptured: shares };
}
