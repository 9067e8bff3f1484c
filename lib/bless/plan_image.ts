/**
 * The one function that turns a tree and options into a plan. Every path that blesses, probes or tests goes through it.
 *
 * @module
 */
import { derivedUuid } from "../bytes/uuid.ts";
import type { ImagePlan } from "../ext4/plan/image_plan.ts";
import { planExt4 } from "../ext4/plan/plan_ext4.ts";
import type { LayoutOptions } from "../ext4/plan/settings.ts";
import { parseUuid, resolveSettings } from "../ext4/plan/settings.ts";
import type { FileTree } from "../model/node.ts";
import type { Warnings } from "../warnings.ts";

/**
 * Version of the image format: raised whenever an equal source and equal options begin to give other bytes. Reports and
 * records of layers state it; tests/pins holds the digests of this version.
 */
export const FORMAT_VERSION = 1;

/** What an image's UUID is derived from. */
export interface ContentIdentity {
  /** A digest that names the content. */
  readonly contentDigest: string;
  /** The UUID that the content itself states, which is then the derived one. */
  readonly statedUuid?: string | undefined;
}

/** What a plan is made from beside the tree. */
export interface PlanImageOptions extends ContentIdentity {
  /** What is laid out how; begin with `MERGED_DEFAULTS` or `LAYERED_DEFAULTS`. */
  readonly layout: LayoutOptions;
  /** Seconds that stand for every time that the tree does not give. */
  readonly timestamp: number;
  /** Counts what ext4 cannot store as the tree has it. */
  readonly warnings: Warnings;
}

/**
 * Plans an image. Throws a UsageError for an option out of range and an InputError for a tree that ext4 cannot hold.
 */
export function planImage(tree: FileTree, options: PlanImageOptions): ImagePlan {
  const settings = resolveSettings(options.layout, {
    derivedUuid: deriveUuid(options),
    timestamp: options.timestamp,
  });
  return planExt4(tree, settings, options.warnings);
}

/** A UUID of version 8 (RFC 9562, section 5.8) that equal content always gets, or the one that the content states. */
export function deriveUuid({ contentDigest, statedUuid }: ContentIdentity): Uint8Array {
  if (statedUuid !== undefined) return parseUuid(statedUuid);
  return derivedUuid("blessfs ext4 uuid", contentDigest);
}
