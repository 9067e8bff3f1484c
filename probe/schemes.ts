/**
 * What a probe measures: its options, the rows they produce, and the rows' labels.
 *
 * @module
 */
import { shortSize } from "../lib/bytes/arithmetic.ts";
import {
  LAYERED_DEFAULTS,
  type LayoutOptions,
  MERGED_DEFAULTS,
  type Packing,
  packingText,
} from "../lib/bless/options.ts";
import { type ChunkerParameters, chunkerText, fastCdcParameters } from "../lib/chunk/fastcdc.ts";
import { optionError, type Remedy } from "../lib/errors.ts";
import { checkGrid, resolveSettings } from "../lib/ext4/plan/settings.ts";
import type { ImageSink } from "../lib/io/sink.ts";
import { type ResolvedOptions, resolveOptions } from "../lib/source/source.ts";
import type { Compression } from "./units/stored_sizes.ts";

/** The options of a probe, with sizes in bytes. Defaults are those of `blessfs probe`. */
export type ProbeOptions =
  & Pick<ResolvedProbeOptions, "sources">
  & {
    readonly [K in keyof ResolvedProbeOptions]?: ResolvedProbeOptions[K] | undefined;
  };

/** The options of a probe with all defaults filled in. */
export interface ResolvedProbeOptions extends ResolvedOptions {
  /** As on the command line, in the order in which new bytes are counted. */
  readonly sources: readonly string[];
  /** Whether to measure merged images or the layers' images. */
  readonly mode: "merged" | "layered";
  /** Cut the sources as they are; they may be any files. */
  readonly asIs: boolean;
  /** Alignment thresholds. `Infinity` is ignored: the image without alignment is always measured. */
  readonly thresholds: readonly number[];
  /** Packings of small files; each adds rows. */
  readonly packings: readonly Packing[];
  /** Block sizes of the store; each has its own rows. */
  readonly grids: readonly number[];
  /** Undefined: FastCDC with an average of each grid's size. */
  readonly chunker: ChunkerParameters | undefined;
  /** How stored sizes are compressed. */
  readonly compression: Compression;
  /** Measures each image with a dm-verity tree appended; undefined: without. Called once per tree for its salt. */
  readonly veritySalt?: (() => Uint8Array) | undefined;
  /** Whether to compare the first image with shifted copies of itself. */
  readonly selfShift: boolean;
  /** Whether to compare every pair of images. */
  readonly pairwise: boolean;
  /** `previous`: each aligned row gets two more rows, in which each image is laid out like the one before it. */
  readonly like?: "previous" | undefined;
  /** Whether to list files that are partly stored again. */
  readonly explain: boolean;
  /** Words from the label of the row to show details for; undefined: the first aligned row. */
  readonly row?: string | undefined;
  /** Where to write every unit of every row as a Parquet file; left open on errors. */
  readonly fingerprints?: ImageSink | undefined;
  /** Time in seconds for everything without a time of its own. */
  readonly timestamp: number;
}

/** Fills in the defaults of `blessfs probe`. */
export function resolveProbe(given: ProbeOptions): ResolvedProbeOptions {
  const { alignThresholdBytes, packing, gridBytes } = MERGED_DEFAULTS;
  return {
    ...resolveOptions(given),
    mode: given.mode ?? "merged",
    asIs: given.asIs ?? false,
    thresholds: given.thresholds ?? [alignThresholdBytes],
    packings: given.packings ?? [packing, { kind: "tight" }],
    grids: given.grids ?? [gridBytes],
    chunker: given.chunker,
    compression: given.compression ?? { kind: "zstd", level: 1 },
    selfShift: given.selfShift ?? false,
    pairwise: given.pairwise ?? false,
    explain: given.explain ?? false,
    timestamp: given.timestamp ?? 0,
  };
}

/** The kinds of rows with a one-line description, in the order of a report. */
export const SCHEME_KINDS = {
  file: "whole files: what a store of files would keep, without any metadata",
  unaligned: "no alignment: files in the order of the layers, directly after the metadata",
  "start-aligned": "the same, but that the first file starts on the grid",
  "as-is": "the files as they were given, cut at the grid",
  fastcdc: "content-defined chunks of the unaligned image: a reference, which layouts can pass",
  aligned:
    "the layout of bless: files from the threshold on start on the grid, smaller ones are packed",
  like: "the same, each image laid out like the one before it",
  "like-stale": "the same, and freed blocks keep their bytes",
} as const;

/** The kind of a row in a report. */
export type SchemeKind = keyof typeof SCHEME_KINDS;

/** One way to lay out and cut the images. */
export interface Scheme {
  /** What is cut, and how. */
  readonly kind: SchemeKind;
  /** 0 if there is no grid. */
  readonly gridBytes: number;
  /** Only for schemes with the layout of bless. */
  readonly aligned: { readonly thresholdBytes: number; readonly packing: Packing } | undefined;
  /** Only for content-defined chunks. */
  readonly chunker: ChunkerParameters | undefined;
}

/** FastCDC has no masks for larger averages. */
const CDC_AVERAGE_MAX = 4 * 1024 * 1024;

/**
 * The schemes of a probe in the order of the report, without duplicates. Throws a UsageError for an option out of
 * range.
 */
export function schemesOf(options: ResolvedProbeOptions): Scheme[] {
  const { asIs } = options;
  checkLikeRows(options);
  const schemes: Scheme[] = [];
  const add = (scheme: Scheme) => schemes.push(scheme);
  if (!asIs) add({ kind: "file", gridBytes: 0, aligned: undefined, chunker: undefined });
  for (const gridBytes of new Set(options.grids)) {
    checkGrid(gridBytes);
    const chunker = options.chunker ?? fastCdcParameters(Math.min(gridBytes, CDC_AVERAGE_MAX));
    const plain = { gridBytes, aligned: undefined, chunker: undefined };
    add({ kind: asIs ? "as-is" : "unaligned", ...plain });
    if (!asIs) add({ kind: "start-aligned", ...plain });
    add({ kind: "fastcdc", gridBytes, aligned: undefined, chunker });
    if (asIs) continue;
    for (const aligned of alignedChoices(options)) {
      const scheme: Scheme = { kind: "aligned", gridBytes, aligned, chunker: undefined };
      resolveSettings(layoutOf(scheme, options.mode), {
        derivedUuid: new Uint8Array(16),
        timestamp: 0,
      });
      add(scheme);
      if (options.like === undefined) continue;
      add({ ...scheme, kind: "like" });
      add({ ...scheme, kind: "like-stale" });
    }
  }
  return schemes;
}

/** Throws a UsageError if `like` is used in a mode whose images cannot follow a previous one. */
function checkLikeRows({ like, asIs, mode }: ResolvedProbeOptions): void {
  if (like === undefined || (!asIs && mode === "merged")) return;
  throw optionError("like", "only merged images are laid out like the one before", {
    remedies: [{ option: "like", change: "omit" }, {
      option: asIs ? "asIs" : "mode",
      change: "omit",
    }],
  });
}

/** Whether each image of a row is laid out like the one before it. */
export function isContinued({ kind }: Scheme): boolean {
  return kind === "like" || kind === "like-stale";
}

/** The layout of a scheme's images: that of bless, or that of a writer without alignment. */
export function layoutOf(
  scheme: Scheme,
  mode: "merged" | "layered",
  hasTree = false,
): LayoutOptions {
  const modeDefaults = mode === "merged" ? MERGED_DEFAULTS : LAYERED_DEFAULTS;
  const defaults = hasTree ? { ...modeDefaults, journalBytes: 0 } : modeDefaults;
  const { gridBytes, aligned } = scheme;
  if (aligned === undefined) {
    return {
      ...defaults,
      gridBytes,
      alignThresholdBytes: Infinity,
      startOnGrid: scheme.kind === "start-aligned",
      packing: { kind: "tight" },
      payloadOrder: "layer",
    };
  }
  const { thresholdBytes, packing } = aligned;
  return { ...defaults, gridBytes, alignThresholdBytes: thresholdBytes, packing };
}

function alignedChoices(options: ResolvedProbeOptions): NonNullable<Scheme["aligned"]>[] {
  const choices = new Map<string, NonNullable<Scheme["aligned"]>>();
  for (const packing of options.packings) {
    for (const thresholdBytes of options.thresholds) {
      if (thresholdBytes === Infinity) continue;
      choices.set(`${packingText(packing)} ${thresholdBytes}`, { thresholdBytes, packing });
    }
  }
  return [...choices.values()];
}

/** How a report describes a row's scheme. */
export interface SchemeDescription {
  /** What was cut, and how. */
  readonly scheme: Scheme["kind"];
  /** Block size in bytes; null for whole files. */
  readonly grid: number | null;
  /** In bytes; null if nothing is aligned. */
  readonly threshold: number | null;
  /** Written like the option; null if nothing is aligned. */
  readonly packing: string | null;
  /** `AVG:MIN:MAX` in bytes, or `gear`; null if nothing is chunked. */
  readonly cdc: string | null;
}

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

/** `aligned 64K resync:256K:64K`, `fastcdc 128K:32K:512K`, `whole files`. */
export function schemeLabel(row: SchemeDescription, showsGrid: boolean): string {
  const { scheme, grid, threshold, packing, cdc } = row;
  const sizes = (text: string) => text.replace(/\d+/g, (digits) => shortSize(Number(digits)));
  const words = [scheme === "file" ? "whole files" : scheme];
  if (threshold !== null) words.push(shortSize(threshold));
  if (packing !== null) words.push(sizes(packing));
  if (cdc !== null) words.push(sizes(cdc));
  if (showsGrid && grid !== null) words.push(`@${shortSize(grid)}`);
  return words.join(" ");
}

/**
 * Finds the row whose label contains the requested words: `64K tight`, `fastcdc`, `128K resync @64K`. Without any, it
 * is the first aligned row, or else the fixed grid on the unaligned image or the files as they are.
 *
 * @throws UsageError when no row or several rows match, and when the row cannot have the requested details
 */
export function chooseRow(
  schemes: readonly Scheme[],
  options: Pick<ResolvedProbeOptions, "row" | "explain" | "selfShift">,
): Scheme {
  const { row } = options;
  if (row === undefined) {
    return schemes.find(({ kind }) => kind === "aligned") ??
      schemes.find(({ kind }) => kind === "as-is" || kind === "unaligned")!;
  }
  const words = row.split(/\s+/).filter((word) => word !== "");
  const found = words.length === 0 ? [] : schemes.filter((scheme) => hasWords(scheme, words));
  const [scheme] = found;
  if (scheme === undefined || found.length > 1) {
    const rows = (scheme === undefined ? schemes : found).map(labelOf).join(", ");
    const why = scheme === undefined ? "no row has that name" : "several rows have that name";
    throw optionError("row", why, { hint: `the rows are: ${rows}` });
  }
  const isFixedGrid = scheme.gridBytes > 0 && scheme.chunker === undefined;
  const remedies = (["explain", "selfShift"] as const).filter((option) => options[option])
    .map((option): Remedy => ({ option, change: "omit" }));
  if (remedies.length > 0 && !isFixedGrid) {
    throw optionError("row", `\`${row}\` has no cells of a fixed grid`, {
      hint: "choose a row of a fixed grid",
      remedies,
    });
  }
  return scheme;
}

function labelOf(scheme: Scheme): string {
  return schemeLabel(describeScheme(scheme), true);
}

/** Whether each word equals a word of the label, or the part of one before a colon. */
function hasWords(scheme: Scheme, words: readonly string[]): boolean {
  const own = [...labelOf(scheme).toLowerCase().split(" "), scheme.kind];
  return words.every((word) => {
    const wanted = word.toLowerCase();
    return own.some((each) => each === wanted || each.startsWith(`${wanted}:`));
  });
}
