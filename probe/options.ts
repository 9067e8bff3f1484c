/**
 * What a probe measures.
 *
 * @module
 */
import { checkGrid, resolveSettings } from "../lib/ext4/plan/settings.ts";
import type { LayoutOptions, Packing } from "../lib/bless/options.ts";
import { LAYERED_DEFAULTS, MERGED_DEFAULTS, packingText } from "../lib/bless/options.ts";
import type { SourceOptions } from "../lib/source/source.ts";
import type { ImageSink } from "../lib/io/sink.ts";
import type { ChunkerParameters } from "./fast_cdc/parameters.ts";
import { fastCdcParameters } from "./fast_cdc/parameters.ts";
import type { Compression } from "./units/compressor.ts";

/** A probe. Sizes in bytes. */
export interface ProbeOptions extends SourceOptions {
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
  /** Whether the first image is compared with itself, shifted. */
  readonly selfShift: boolean;
  /** Whether each image is compared with each other one. */
  readonly pairwise: boolean;
  /** Whether the files are named whose bytes are stored again. */
  readonly explain: boolean;
  /** Words of the label of the row that details are told of; undefined: the first aligned one. */
  readonly row?: string | undefined;
  /** Where to write every unit of every row as a Parquet file; left open on errors. */
  readonly fingerprints?: ImageSink | undefined;
  /** Seconds that stand for every time that a source does not give. */
  readonly timestamp: number;
}

/** One way to lay out and cut the images. */
export interface Scheme {
  /** What is cut, and how. */
  readonly kind: "file" | "unaligned" | "fastcdc" | "aligned" | "as-is";
  /** 0 where there is no grid. */
  readonly gridBytes: number;
  /** Of aligned ones only. */
  readonly aligned: { readonly thresholdBytes: number; readonly packing: Packing } | undefined;
  /** Of content-defined ones only. */
  readonly chunker: ChunkerParameters | undefined;
}

/** The schemes of a probe in the order of the report, each once. Throws a UsageError for an option out of range. */
export function schemesOf(options: ProbeOptions): Scheme[] {
  const { asIs } = options;
  const schemes: Scheme[] = [];
  const add = (scheme: Scheme) => schemes.push(scheme);
  if (!asIs) add({ kind: "file", gridBytes: 0, aligned: undefined, chunker: undefined });
  for (const gridBytes of new Set(options.grids)) {
    checkGrid(gridBytes);
    const chunker = options.chunker ?? fastCdcParameters(gridBytes);
    add({ kind: asIs ? "as-is" : "unaligned", gridBytes, aligned: undefined, chunker: undefined });
    add({ kind: "fastcdc", gridBytes, aligned: undefined, chunker });
    if (asIs) continue;
    for (const aligned of alignedChoices(options)) {
      const scheme: Scheme = { kind: "aligned", gridBytes, aligned, chunker: undefined };
      checkLayout(layoutOf(scheme, options.mode));
      add(scheme);
    }
  }
  return schemes;
}

/** The layout of a scheme's images: what bless would make, or what a writer without alignment gives. */
export function layoutOf(scheme: Scheme, mode: "merged" | "layered"): LayoutOptions {
  const defaults = mode === "merged" ? MERGED_DEFAULTS : LAYERED_DEFAULTS;
  const { gridBytes, aligned } = scheme;
  if (aligned === undefined) {
    return {
      ...defaults,
      gridBytes,
      alignThresholdBytes: Infinity,
      packing: { kind: "tight" },
      payloadOrder: "layer",
    };
  }
  const { thresholdBytes, packing } = aligned;
  return { ...defaults, gridBytes, alignThresholdBytes: thresholdBytes, packing };
}

/** The scheme that details are told of: the first aligned one, else the fixed grid as it is. */
export function mainScheme(schemes: readonly Scheme[]): Scheme | undefined {
  return schemes.find(({ kind }) => kind === "aligned") ??
    schemes.find(({ kind }) => kind === "as-is" || kind === "unaligned");
}

function alignedChoices(options: ProbeOptions): NonNullable<Scheme["aligned"]>[] {
  const choices = new Map<string, NonNullable<Scheme["aligned"]>>();
  for (const packing of options.packings) {
    for (const thresholdBytes of options.thresholds) {
      if (thresholdBytes === Infinity) continue;
      choices.set(`${packingText(packing)} ${thresholdBytes}`, { thresholdBytes, packing });
    }
  }
  return [...choices.values()];
}

function checkLayout(layout: LayoutOptions): void {
  resolveSettings(layout, { derivedUuid: new Uint8Array(16), timestamp: 0 });
}
