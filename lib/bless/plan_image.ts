/**
 * Turns a source into one tree, with all layers applied, and a tree into the plan of an image. All code that makes or
 * measures images goes through here.
 *
 * @module
 */
import { derivedUuid } from "../bytes/digest.ts";
import type { ImagePlan } from "../ext4/plan/image_plan.ts";
import { type Continuation, planExt4 } from "../ext4/plan/plan_ext4.ts";
import { type LayoutOptions, parseUuid, resolveSettings } from "../ext4/plan/settings.ts";
import type { FileNode, FileTree } from "../model/node.ts";
import { Warnings } from "../warnings.ts";
import { MERGED_DEFAULTS } from "./options.ts";
import { createHash } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { InputError, throwIfAborted } from "../errors.ts";
import type { RandomReader } from "../io/random_reader.ts";
import {
  closeLayers,
  type LoadedLayer,
  loadLayers,
  type OpenedImage,
  openImage,
  type ResolvedOptions,
} from "../source/source.ts";
import { treeOptions } from "../source/types.ts";
import { buildTree } from "../tree/build.ts";
import { idMapLines } from "../tree/owners.ts";
import { exactSize } from "../bytes/arithmetic.ts";

/**
 * The version of the image format: raised whenever the same source and options begin to give other bytes. Reports and
 * layer records state it; tests/pins holds the digests of this version.
 */
export const FORMAT_VERSION = 2;

/** What the UUID of an image is derived from. */
export interface ContentIdentity {
  /** A digest that identifies the content. */
  readonly contentDigest: string;
  /** A UUID stated by the content itself, which is used unchanged. */
  readonly statedUuid?: string | undefined;
}

/** The options of a plan. */
export interface PlanImageOptions extends ContentIdentity {
  /** The layout; missing options are taken from `MERGED_DEFAULTS`. */
  readonly layout?: Partial<LayoutOptions> | undefined;
  /** Unix time for everything without a time in the tree; default 0. */
  readonly timestamp?: number | undefined;
  /** Counts what ext4 cannot store unchanged; by default, warnings are discarded. */
  readonly warnings?: Warnings | undefined;
  /** A previous image; unchanged content keeps its blocks. */
  readonly continuation?: Continuation | undefined;
  /** Files to place first, in this order; excludes `continuation`. */
  readonly hot?: readonly FileNode[] | undefined;
}

/** Plans an image. Throws a UsageError for an invalid option and an InputError for a tree that ext4 cannot hold. */
export function planImage(tree: FileTree, options: PlanImageOptions): ImagePlan {
  const { layout, timestamp = 0, warnings = new Warnings() } = options;
  const settings = resolveSettings({ ...MERGED_DEFAULTS, ...layout }, {
    derivedUuid: deriveUuid(options),
    timestamp,
  });
  const { continuation, hot } = options;
  return planExt4(tree, settings, warnings, { continuation, hot });
}

/**
 * The UUID of an image: the one that its content states, or a UUID of version 8 (RFC 9562, section 5.8) derived from
 * the content.
 */
export function deriveUuid({ contentDigest, statedUuid }: ContentIdentity): Uint8Array {
  if (statedUuid !== undefined) return parseUuid(statedUuid);
  return derivedUuid("blessfs ext4 uuid", contentDigest);
}

/** One layer of the source. */
export interface LayerReport {
  /** The digest of the stored bytes, `sha256:...`. */
  readonly digest: string;
  /** The digest of the uncompressed tar, `sha256:...`. */
  readonly diffId: string;
  /** The media type in the manifest; null if there is none. */
  readonly mediaType: string | null;
  /** The stored size. */
  readonly sizeBytes: number;
  /** The size of the uncompressed tar. */
  readonly uncompressedBytes: number;
  /** The number of tar entries that reach the tree, including whiteouts. */
  readonly entries: number;
}

/** The figures of one layer. */
export function layerReport(layer: LoadedLayer): LayerReport {
  return {
    digest: layer.digest,
    diffId: layer.diffId,
    mediaType: layer.mediaType ?? null,
    sizeBytes: layer.sizeBytes,
    uncompressedBytes: layer.uncompressedBytes,
    entries: layer.entries.length,
  };
}

/** A source with all layers applied. */
export interface LoadedTree extends TreeBelow {
  readonly image: OpenedImage;
  /** The stores with the payload of each layer, bottom to top. */
  readonly stores: readonly RandomReader[];
  /** Bottom to top. */
  readonly layers: readonly LayerReport[];
  /** The source without additions; undefined if there are none. */
  readonly below: TreeBelow | undefined;
}

/** A source without additions. */
export interface TreeBelow {
  readonly tree: FileTree;
  readonly identity: ContentIdentity;
}

/** A hook that can delay an image. */
export interface Admission {
  /** Awaited once the manifest is known, before layers are read. */
  readonly admit?: ((image: OpenedImage) => Promise<void>) | undefined;
}

/**
 * Loads a source, passes its tree to `use`, and frees the payload afterwards.
 *
 * @param check inspects the image before its layers are read; may throw
 */
export async function withTree<T>(
  source: string,
  options: ResolvedOptions & Admission,
  use: (loaded: LoadedTree) => Promise<T>,
  check: (image: OpenedImage) => void = () => {},
): Promise<T> {
  const { signal } = options;
  const image = await openImage(source, options);
  let layers: LoadedLayer[] = [];
  try {
    check(image);
    await options.admit?.(image);
    layers = await loadLayers(image, options);
    throwIfAborted(signal);
    const tree = buildTree(layers, treeOptions(options));
    const below = treeBelow(image, layers, options);
    const reports = layers.map(layerReport);
    // The tree contains everything needed of the entries, which take as much memory as the next steps.
    layers = layers.map((layer) => ({ ...layer, entries: [] }));
    // Lets the entries be garbage-collected and signals be handled.
    await setImmediate();
    throwIfAborted(signal);
    const identity = contentIdentity(image, layers);
    const stores = layers.map(({ store }) => store);
    return await use({ tree, image, identity, stores, layers: reports, below });
  } finally {
    closeLayers(layers);
    image.close();
  }
}

function treeBelow(
  image: OpenedImage,
  layers: readonly LoadedLayer[],
  options: ResolvedOptions,
): TreeBelow | undefined {
  if (image.additions === undefined) return undefined;
  const without = layers.slice(0, -1);
  return {
    tree: buildTree(without, treeOptions({ ...options, warnings: new Warnings() })),
    identity: contentIdentity({ ...image, additions: undefined }, without),
  };
}

/**
 * The identity of a source: the digest of its manifest, or else of its diff ids, combined with its additions. A source
 * of one layer may state the UUID of the image that it was exported from.
 */
export function contentIdentity(
  image: OpenedImage,
  layers: readonly LoadedLayer[],
): ContentIdentity {
  const contentDigest = imageDigest(image, layers.map(({ diffId }) => diffId));
  const isOwn = image.manifestDigest === undefined && layers.length === 1 &&
    image.idMaps === undefined;
  return { contentDigest, statedUuid: isOwn ? layers[0]!.statedUuid : undefined };
}

/**
 * The digest that identifies an image including its additions.
 *
 * @param diffIds the diff ids of all layers, bottom to top
 */
export function imageDigest(
  { manifestDigest, additions, idMaps = {} }: Pick<
    OpenedImage,
    "manifestDigest" | "additions" | "idMaps"
  >,
  diffIds: readonly string[],
): string {
  const below = additions === undefined ? diffIds : diffIds.slice(0, -1);
  const digest = manifestDigest ?? contentDigestOf(below);
  const changes = [
    ...additions === undefined ? [] : [`additions ${additions.digest}`],
    ...idMapLines(idMaps),
  ];
  return changes.length === 0 ? digest : contentDigestOf([digest, ...changes]);
}

/** The digest that identifies a source without a manifest. */
export function contentDigestOf(diffIds: readonly string[]): string {
  const hash = createHash("sha256");
  for (const diffId of diffIds) hash.update(`${diffId}\n`);
  return `sha256:${hash.digest("hex")}`;
}

/**
 * No other layer removes files of the topmost one, and ext4 does not compress. Its files need less space than the
 * stored layer only if the layer is uncompressed and has very many empty files: a tar takes up to 2 KiB for each, ext4
 * an inode and a name.
 */
const LAYER_SHARE = 1 / 8;

/**
 * Checks a requested size against the least that an image needs.
 *
 * @param layout the layout of the file system itself
 * @throws {InputError} when the size is too small
 */
export function checkLeastSize(
  image: Pick<OpenedImage, "layers" | "manifestDigest" | "additions">,
  layout: LayoutOptions,
  timestamp: number,
): void {
  const { size } = layout;
  if (size.kind !== "total") return;
  checkEmpty(layout, timestamp);
  // Additions may remove files of the image.
  const isKnown = image.manifestDigest !== undefined && image.additions === undefined;
  const storedBytes = isKnown ? image.layers.at(-1)?.sizeBytes ?? 0 : 0;
  if (size.sizeBytes >= storedBytes * LAYER_SHARE) return;
  throw new InputError(
    "size",
    `${exactSize(size.sizeBytes)} are too few: the topmost layer alone has ` +
      `${exactSize(storedBytes)} before it is unpacked`,
    { code: "doesNotFit", option: "size", hint: "give more, or leave the size out" },
  );
}

/** Checks that the size has room for journal, inode tables and bitmaps. */
function checkEmpty(layout: LayoutOptions, timestamp: number): void {
  const warnings = new Warnings();
  const tree = buildTree([], { warnings, defaultTime: { seconds: timestamp, nanoseconds: 0 } });
  planImage(tree, { layout, contentDigest: "empty", timestamp, warnings });
}
