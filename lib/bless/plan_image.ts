/**
 * The one function that turns a tree and options into a plan; whatever makes images or measures them calls it.
 *
 * @module
 */
import { derivedUuid } from "../bytes/uuid.ts";
import type { ImagePlan } from "../ext4/plan/image_plan.ts";
import { type Continuation, planExt4 } from "../ext4/plan/plan_ext4.ts";
import { type LayoutOptions, parseUuid, resolveSettings } from "../ext4/plan/settings.ts";
import type { FileNode, FileTree } from "../model/node.ts";
import { Warnings } from "../warnings.ts";
import { MERGED_DEFAULTS } from "./options.ts";

/**
 * Version of the image format: raised whenever an equal source and equal options begin to give other bytes. Reports and
 * records of layers state it; tests/pins holds the digests of this version.
 */
export const FORMAT_VERSION = 2;

/** What the UUID of an image is derived from. */
export interface ContentIdentity {
  /** A digest that names the content. */
  readonly contentDigest: string;
  /** A UUID that the content itself states; it is taken as it is. */
  readonly statedUuid?: string | undefined;
}

/** The options of a plan. */
export interface PlanImageOptions extends ContentIdentity {
  /** The layout; what is not given is that of `MERGED_DEFAULTS`. */
  readonly layout?: Partial<LayoutOptions> | undefined;
  /** Unix time for everything that the tree gives no time for; default 0. */
  readonly timestamp?: number | undefined;
  /** Counts what ext4 cannot store unchanged; default: one of its own. */
  readonly warnings?: Warnings | undefined;
  /** A previous image whose blocks are kept where nothing changed. */
  readonly continuation?: Continuation | undefined;
  /** Files of the tree that are placed first, in this order; not together with a previous image. */
  readonly hot?: readonly FileNode[] | undefined;
}

/**
 * Plans an image. Throws a UsageError for an invalid option and an InputError for a tree that ext4 cannot hold.
 */
export function planImage(tree: FileTree, options: PlanImageOptions): ImagePlan {
  const { layout, timestamp = 0, warnings = new Warnings() } = options;
  const settings = resolveSettings({ ...MERGED_DEFAULTS, ...layout }, {
    derivedUuid: deriveUuid(options),
    timestamp,
  });
  const { continuation, hot } = options;
  return planExt4(tree, settings, warnings, { continuation, hot });
}

/** The UUID of an image: the one that its content states, or one of version 8 (RFC 9562, section 5.8) derived from it. */
export function deriveUuid({ contentDigest, statedUuid }: ContentIdentity): Uint8Array {
  if (statedUuid !== undefined) return parseUuid(statedUuid);
  return derivedUuid("blessfs ext4 uuid", contentDigest);
}
