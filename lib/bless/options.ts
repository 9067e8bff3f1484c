/**
 * Defaults of blessing.
 *
 * @module
 */
import type { LayoutOptions } from "../ext4/plan/settings.ts";

export type { ImageSize, LayoutOptions, ReservedBlocks } from "../ext4/plan/settings.ts";
export type { Packing } from "../layout/packing.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

const SHARED_DEFAULTS: LayoutOptions = {
  gridBytes: 128 * KIB,
  alignThresholdBytes: 64 * KIB,
  packing: { kind: "resync", meanBytes: 256 * KIB, lowBytes: 64 * KIB },
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
 * A writable VM base: a journal, and backups so that it can be grown. Images on one base begin with the base's files.
 */
export const MERGED_DEFAULTS: LayoutOptions = { ...SHARED_DEFAULTS, payloadOrder: "first-layer" };

/** A layer for overlayfs: never written, so neither journal nor backups. */
export const LAYERED_DEFAULTS: LayoutOptions = {
  ...SHARED_DEFAULTS,
  journalBytes: 0,
  backups: "none",
};
