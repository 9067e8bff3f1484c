/**
 * The answer of a probe; the keys are the contract of `--json`.
 *
 * @module
 */
import { displayName } from "../lib/bytes/byte_string.ts";
import type { Warnings, WarningSummary } from "../lib/warnings.ts";
import type { LostFile } from "./explain.ts";
import { chunkerText } from "./fast_cdc/parameters.ts";
import type { ImageFacts } from "./image_parts.ts";
import type { Measures, Overlap, SchemeMetrics } from "./metrics.ts";
import { overlapMatrix, schemeMetrics } from "./metrics.ts";
import type { ProbeOptions, Scheme } from "./options.ts";
import { packingText } from "../lib/bless/options.ts";
import type { SelfShift } from "./self_shift.ts";
import type { MeasuredScheme } from "./stores.ts";

/** Shares of what FastCDC saves over the image without alignment; null where it saves nothing. */
export interface CapturedShares {
  /** Of raw bytes. */
  readonly raw: number | null;
  /** Of stored bytes. */
  readonly stored: number | null;
}

/** One row. */
export interface SchemeReport extends SchemeMetrics {
  /** What was cut, and how. */
  readonly scheme: Scheme["kind"];
  /** Null for whole files. */
  readonly grid: number | null;
  /** Null where nothing is aligned. */
  readonly threshold: number | null;
  /** As the option is written; null where nothing is aligned. */
  readonly packing: string | null;
  /** `AVG:MIN:MAX` in bytes, or `gear`; null where nothing is chunked. */
  readonly cdc: string | null;
  /** How near it comes to FastCDC. */
  readonly ceilingCaptured: CapturedShares;
}

/** The whole answer. */
export interface ProbeReport {
  /** What was measured. */
  readonly mode: "merged" | "layered" | "as-is";
  /** The first grid. */
  readonly grid: number;
  /** As the option is written. */
  readonly compress: string;
  /** In the order of the sources. */
  readonly images: readonly ImageFacts[];
  /** The rows. */
  readonly schemes: readonly SchemeReport[];
  /** Of the scheme that `mainScheme` is the index of, as are the others below. */
  readonly selfShift?: readonly SelfShift[];
  /** How images overlap: `pairwise[i][j]`. */
  readonly pairwise?: readonly (readonly Overlap[])[];
  /** Files whose bytes are stored again, largest loss first. */
  readonly explain?: readonly LostFile[];
  /** Index in `schemes`. */
  readonly mainScheme: number;
  /** What was changed or left out, one for each kind. */
  readonly warnings: readonly WarningSummary[];
}

/** What a probe found out beside the stores. */
export interface ProbeDetails {
  readonly images: readonly ImageFacts[];
  readonly main: MeasuredScheme;
  readonly selfShift: readonly SelfShift[] | undefined;
  readonly lostFiles: readonly LostFile[] | undefined;
}

/** What a report says of the probe itself, and whether it has the matrix. */
export interface ReportFacts {
  readonly mode: ProbeReport["mode"];
  readonly compress: string;
  readonly pairwise: boolean;
  readonly warnings: Warnings;
}

/** The facts of a probe with such options. */
export function reportFacts(options: ProbeOptions): ReportFacts {
  const { asIs, mode, compression, pairwise, warnings } = options;
  return {
    mode: asIs ? "as-is" : mode,
    compress: compression.kind === "none" ? "none" : `zstd:${compression.level}`,
    pairwise,
    warnings,
  };
}

/** Puts the answer together. */
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
      ceilingCaptured: captured(row, rows),
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

/** What a row says of its scheme. */
export type SchemeDescription = Pick<
  SchemeReport,
  "scheme" | "grid" | "threshold" | "packing" | "cdc"
>;

/** Describes a scheme as reports do. */
export function describeScheme(scheme: Scheme): SchemeDescription {
  const { kind, gridBytes, aligned, chunker } = scheme;
  return {
    scheme: kind,
    grid: gridBytes === 0 ? null : gridBytes,
    threshold: aligned?.thresholdBytes ?? null,
    packing: aligned === undefined ? null : packingText(aligned.packing),
    cdc: chunker === undefined ? null : chunkerText(chunker),
  };
}

interface Row {
  readonly scheme: Scheme;
  readonly metrics: SchemeMetrics;
}

/** Compared at the scheme's own grid; whole files have none, so at the first. */
function captured(row: Row, rows: readonly Row[]): CapturedShares {
  const find = (...kinds: Scheme["kind"][]) =>
    rows.find(({ scheme }) =>
      kinds.includes(scheme.kind) &&
      (row.scheme.gridBytes === 0 || scheme.gridBytes === row.scheme.gridBytes)
    )!.metrics.union;
  const before = find("unaligned", "as-is");
  const ceiling = find("fastcdc");
  const share = (measure: keyof Measures) => {
    const most = before[measure] - ceiling[measure];
    return most <= 0 ? null : (before[measure] - row.metrics.union[measure]) / most;
  };
  return { raw: share("raw"), stored: share("stored") };
}
