/**
 * What a probe measures: its options, the rows that follow from them, and what the rows are called.
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

/** A probe. Sizes in bytes. What is left out is as `blessfs probe` has it. */
export type ProbeOptions =
  & Pick<ResolvedProbeOptions, "sources">
  & {
    readonly [K in keyof ResolvedProbeOptions]?: ResolvedProbeOptions[K] | undefined;
  };

/** A probe of which everything is given. */
export interface ResolvedProbeOptions extends ResolvedOptions {
  /** As on the command line, in the order that new bytes are counted in. */
  readonly sources: readonly string[];
  /** Whether merged images are measured or those of the layers. */
  readonly mode: "merged" | "layered";
  /** Cut the sources as they are: any files. */
  readonly asIs: boolean;
  /** `Infinity`s are dropped: the image without alignment is always measured. */
  readonly thresholds: readonly number[];
  /** Each is a row. */
  readonly packings: readonly Packing[];
  /** Block sizes of the store; each has its rows. */
  readonly grids: readonly number[];
  /** Undefined: FastCDC around each grid's size. */
  readonly chunker: ChunkerParameters | undefined;
  /** What stored means beside raw. */
  readonly compression: Compression;
  /** Measure each image with its dm-verity tree behind it; undefined: without. Asked for a salt for each tree. */
  readonly veritySalt?: (() => Uint8Array) | undefined;
  /** Whether the first image is compared with itself, shifted. */
  readonly selfShift: boolean;
  /** Whether each image is compared with each other one. */
  readonly pairwise: boolean;
  /** `previous`: each aligned row has two more, in which each image is laid out like the one before it. */
  readonly like?: "previous" | undefined;
  /** Whether the files are named whose bytes are stored again. */
  readonly explain: boolean;
  /** Words of the label of the row whose details are shown; undefined: the first aligned one. */
  readonly row?: string | undefined;
  /** Where to write every unit of every row as a Parquet file; left open on errors. */
  readonly fingerprints?: ImageSink | undefined;
  /** Seconds that stand for every time that a source does not give. */
  readonly timestamp: number;
}

/** Fills in what `blessfs probe` does without options. */
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

/** Kinds of rows, each with what it is in one line, in the order of a report. */
export const SCHEME_KINDS = {
  file: "whole files: what a store of files would keep, without any metadata",
  unaligned: "no alignment at all: files in the order of the layers, directly behind the metadata",
  "start-aligned": "the same, but that the first file starts on the grid",
  "as-is": "the files as they were given, cut at the grid",
  fastcdc: "content-defined chunks of the unaligned image: a reference, which layouts can pass",
  aligned:
    "the layout of bless: files from the threshold on start on the grid, smaller ones are packed",
  like: "the same, each image laid out like the one before it",
  "like-stale": "the same, and freed blocks keep their bytes",
} as const;

/** A kind of row. */
export type SchemeKind = keyof typeof SCHEME_KINDS;

/** One way to lay out and cut the images. */
export interface Scheme {
  /** What is cut, and how. */
  readonly kind: SchemeKind;
  /** 0 where there is no grid. */
  readonly gridBytes: number;
  /** Of those with the layout of bless only. */
  readonly aligned: { readonly thresholdBytes: number; readonly packing: Packing } | undefined;
  /** Of content-defined ones only. */
  readonly chunker: ChunkerParameters | undefined;
}

/** FastCDC has no masks for larger chunks. */
const CDC_AVERAGE_MAX = 4 * 1024 * 1024;

/** The schemes of a probe in the order of the report, each once. Throws a UsageError for an option out of range. */
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

/** Throws a UsageError where images have none before them that they could be laid out like. */
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

/** The layout of a scheme's images: what bless would make, or what a writer without alignment gives. */
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

/** What a row says of its scheme. */
export interface SchemeDescription {
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
}

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
 * The row that was asked for, by words of its label: `64K tight`, `fastcdc`, `128K resync @64K`. Without any, the first
 * aligned row, else the fixed grid as it is.
 *
 * @throws UsageError when no row has the words, when several have, and when the row cannot have the details
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

/** Whether each word is one of the label, or one of its words up to a colon. */
function hasWords(scheme: Scheme, words: readonly string[]): boolean {
  const own = [...labelOf(scheme).toLowerCase().split(" "), scheme.kind];
  return words.every((word) => {
    const wanted = word.toLowerCase();
    return own.some((each) => each === wanted || each.startsWith(`${wanted}:`));
  });
}
