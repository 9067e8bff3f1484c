/**
 * The options of blessing: their defaults, their spelling in reports, records and on the command line, and all limits
 * on sources, which docs/LIMITS.md lists.
 *
 * @module
 */
import type { LayoutOptions } from "../ext4/plan/settings.ts";
import type { Packing } from "../layout/placement.ts";
import type { SourceOptions } from "../source/source.ts";
import { DEFAULT_SOURCE_LIMITS, type SourceLimits } from "../source/types.ts";
import { DEFAULT_TAR_LIMITS, FIXED_TAR_LIMITS, type TarLimits } from "../tar/header.ts";
import { DEFAULT_TREE_LIMITS, type TreeLimits } from "../tree/paths.ts";

export type { ImageSize, LayoutOptions, ReservedBlocks } from "../ext4/plan/settings.ts";
export type { Packing } from "../layout/placement.ts";

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
 * Defaults for writable VM images: with a journal, and with backups so that they can be grown. The files of the lowest
 * layers come first, so that images with a common base begin alike.
 */
export const MERGED_DEFAULTS: LayoutOptions = { ...SHARED_DEFAULTS, payloadOrder: "first-layer" };

/** Defaults for overlayfs layers, which are never written to: neither journal nor backups. */
export const LAYERED_DEFAULTS: LayoutOptions = {
  ...SHARED_DEFAULTS,
  journalBytes: 0,
  backups: "none",
};

/** The spelling of an option that is turned off. */
export const NONE = "none";

/**
 * A threshold as text; `Infinity` turns alignment off.
 *
 * @param sizeText formats a size; default: in bytes
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

/** Formats a size in bytes. */
type SizeText = (bytes: number) => string;

type LimitUnit = "bytes" | "count";

interface LimitFact {
  /** Its key in the limits object that defines it, such as `layerEntries`. */
  readonly name: LimitKey;
  readonly defaultValue: number;
  readonly unit: LimitUnit;
  /** Whether the limit cannot be raised, because ext4 cannot hold more. */
  readonly isFixed: boolean;
  /** A phrase without a full stop. */
  readonly summary: string;
}

/** The key of a limit. */
export type LimitKey = keyof SourceLimits | keyof TarLimits | keyof TreeLimits;

const SUMMARIES: Readonly<Record<LimitKey, string>> = {
  manifestBytes: "the length of an index or a manifest",
  configBytes: "the length of an image's config",
  indexDepth: "indexes inside indexes",
  indexEntries: "entries in all indexes of a source together",
  layers: "layers of an image",
  imageEntries: "entries of all layers together",
  unpackedBytes: "what all layers inflate to together",
  unpackedRatio: "how many times longer than stored a layer may be once it is inflated",
  unpackedRatioFloorBytes: "what a layer may inflate to whatever the ratio",
  layerEntries: "entries of one layer that become files",
  layerHeaders: "tar headers of one layer, of any kind",
  extendedHeaderBytes: "the data of one extended header: a PAX header or a long name",
  extendedHeaderTotalBytes: "the data of all extended headers of a layer together",
  attributeBytes: "extended attributes and long paths of all entries of a layer together",
  pathBytes: "the length of a path, or of a hard link's target",
  pathDepth: "names in a path, symlinks followed",
  nameBytes: "the length of one name; 4 more than ext4 has room for, because of whiteouts",
  symlinkTargetBytes: "the length of a symlink's target",
  fileSizeBytes: "the length of a file, holes included",
  sparseSegments: "segments of one sparse file",
  extraPayloadPieces: "runs of data of all files of a layer together, beyond one for each file",
  treeNodes: "entries of all layers and the directories that they imply",
  impliedDirectories: "directories that only the paths of entries below them imply",
  symlinkHops: "symlinks on the way of one path",
  symlinkSteps: "names walked because of symlinks, for all paths together",
  directoryNames: "names in one directory",
};

/** All limits, those of the source first. */
export const LIMITS: readonly LimitFact[] = [
  ...factsOf(DEFAULT_SOURCE_LIMITS),
  ...factsOf(DEFAULT_TAR_LIMITS),
  ...factsOf(DEFAULT_TREE_LIMITS).filter(({ name }) => name !== "pathDepth"),
];

function factsOf(defaults: SourceLimits | TarLimits | TreeLimits): LimitFact[] {
  return Object.entries(defaults).map(([key, defaultValue]) => ({
    name: key as LimitKey,
    defaultValue,
    unit: key.endsWith("Bytes") ? "bytes" : "count",
    isFixed: (FIXED_TAR_LIMITS as ReadonlySet<string>).has(key),
    summary: SUMMARIES[key as LimitKey],
  }));
}

/** Converts limits to source options. A name that two parts share sets both. */
export function limitOptions(
  values: ReadonlyMap<LimitKey, number>,
): Required<Pick<SourceOptions, "limits" | "tarLimits" | "treeLimits">> {
  const pick = <T extends SourceLimits | TarLimits | TreeLimits>(defaults: T) =>
    Object.fromEntries(
      Object.keys(defaults)
        .map((key) => [key, values.get(key as LimitKey)])
        .filter(([, value]) => value !== undefined),
    ) as Partial<T>;
  return {
    limits: pick(DEFAULT_SOURCE_LIMITS),
    tarLimits: pick(DEFAULT_TAR_LIMITS),
    treeLimits: pick(DEFAULT_TREE_LIMITS),
  };
}
