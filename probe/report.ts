/**
 * The answer of a probe; the keys are the contract of `--json`.
 *
 * @module
 */
import { displayName } from "../lib/bytes/byte_string.ts";
import type { Warnings, WarningSummary } from "../lib/warnings.ts";
import type { LostFile } from "./explain.ts";
import type { ImageFacts } from "./images.ts";
import type { Measures, Overlap, SchemeMetrics } from "./metrics.ts";
import { overlapMatrix, schemeMetrics } from "./metrics.ts";
import {
  describeScheme,
  type ResolvedProbeOptions,
  type Scheme,
  type SchemeDescription,
} from "./schemes.ts";
import type { SelfShift } from "./self_shift.ts";
import type { MeasuredScheme } from "./measure.ts";

/**
 * What a row saves over `unaligned` as a share of what FastCDC saves over it, at the grid of the row. Null where FastCDC
 * saves less than 2 % of `unaligned`: a share of next to nothing says nothing.
 */
export interface CapturedShares {
  /** Of raw bytes. */
  readonly raw: number | null;
  /** Of stored bytes. */
  readonly stored: number | null;
}

/** One row. */
export interface SchemeReport extends SchemeMetrics, SchemeDescription {
  /** How it compares with FastCDC; null with one image, and where both shares are. */
  readonly captured: CapturedShares | null;
  /** The former name of `captured`, with two nulls in place of null. */
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
  readonly selfShift?: readonly SelfShift[] | undefined;
  /** How images overlap: `pairwise[i][j]`. */
  readonly pairwise?: readonly (readonly Overlap[])[] | undefined;
  /** Files whose bytes are stored again, largest loss first. */
  readonly explain?: readonly LostFile[] | undefined;
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
export function reportFacts(options: ResolvedProbeOptions): ReportFacts {
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

/** A smaller share is too small to compare with. */
const SAVED_SHARE_MIN = 0.02;
const NO_SHARES: CapturedShares = { raw: null, stored: null };

/** Compared at the scheme's own grid; whole files have none, so at the first. */
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
