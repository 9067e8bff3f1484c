/**
 * The options of blessing: their defaults, and how they are spelled in reports, records and on the command line.
 *
 * @module
 */
import type { LayoutOptions } from "../ext4/plan/settings.ts";
import type { Packing } from "../layout/packing.ts";

export type { ImageSize, LayoutOptions, ReservedBlocks } from "../ext4/plan/settings.ts";
export type { Packing } from "../layout/packing.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

const SHARED_DEFAULTS: LayoutOptions = {
  gridBytes: 128 * KIB,
  alignThresholdBytes: 64 * KIB,
  packing: { kind: "merge" },
  size: { kind: "exact" },
  journalBytes: 4 * MIB,
  uuid: undefined,
  label: undefined,
  backups: "sparse",
  inlineData: false,
  metadataChecksums: true,
  compat: undefined,
  inodeCount: undefined,
  reservedBlocks: { kind: "percent", percent: 0 },
};

/**
 * For writable VM images: with a journal, and with backups so that they can be grown. Images that share a base begin with the
 * files of the base.
 */
export const MERGED_DEFAULTS: LayoutOptions = { ...SHARED_DEFAULTS, payloadOrder: "first-layer" };

/** For layers of overlayfs, which are never written to: neither journal nor backups. */
export const LAYERED_DEFAULTS: LayoutOptions = {
  ...SHARED_DEFAULTS,
  journalBytes: 0,
  backups: "none",
};

/** How an option that is turned off is spelled. */
export const NONE = "none";

/**
 * A threshold as text; `Infinity` turns alignment off.
 *
 * @param sizeText how a size is written; in bytes when left out
 */
export function thresholdText(thresholdBytes: number, sizeText = String as SizeText): string {
  return thresholdBytes === Infinity ? NONE : sizeText(thresholdBytes);
}

/** The size of a journal as text; 0 means no journal. */
export function journalText(journalBytes: number, sizeText = String as SizeText): string {
  return journalBytes === 0 ? NONE : sizeText(journalBytes);
}

/** A packing as text: `merge`, `resync:MEAN:LO` or `tight`. */
export function packingText(packing: Packing, sizeText = String as SizeText): string {
  if (packing.kind !== "resync") return packing.kind;
  return [packing.kind, sizeText(packing.meanBytes), sizeText(packing.lowBytes)].join(":");
}

/** How a size in bytes is written. */
export type SizeText = (bytes: number) => string;
