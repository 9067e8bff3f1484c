/**
 * The one function that turns a tree and options into a plan. Every path that blesses, probes or tests goes through it.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { invariant } from "../errors.ts";
import type { ImagePlan } from "../ext4/plan/image_plan.ts";
import { planExt4 } from "../ext4/plan/plan_ext4.ts";
import type { LayoutOptions } from "../ext4/plan/settings.ts";
import { resolveSettings } from "../ext4/plan/settings.ts";
import type { FileTree } from "../model/node.ts";
import type { Warnings } from "../warnings.ts";

/**
 * Version of the image format: raised whenever an equal source and equal options begin to give other bytes. Reports and
 * records of layers state it; tests/pins holds the digests of this version.
 */
export const FORMAT_VERSION = 1;

/** What a plan is made from beside the tree. */
export interface PlanImageOptions {
  /** What is laid out how; begin with `MERGED_DEFAULTS` or `LAYERED_DEFAULTS`. */
  readonly layout: LayoutOptions;
  /** A digest that names the content; the UUID is derived from it. Or what statedDigest() gives. */
  readonly contentDigest: string;
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
    derivedUuid: deriveUuid(options.contentDigest),
    timestamp: options.timestamp,
  });
  return planExt4(tree, settings, options.warnings);
}

const STATED_PREFIX = "uuid:";

/** In place of a digest: names content by the UUID that it states, which is then the one that is derived. */
export function statedDigest(uuid: string): string {
  return `${STATED_PREFIX}${uuid}`;
}

/** A UUID of version 8 (RFC 9562, section 5.8) that equal content always gets. */
export function deriveUuid(contentDigest: string): Uint8Array {
  if (contentDigest.startsWith(STATED_PREFIX)) {
    const hex = contentDigest.slice(STATED_PREFIX.length).replaceAll("-", "");
    invariant(/^[0-9a-f]{32}$/.test(hex), `the stated UUID ${contentDigest}`);
    return new Uint8Array(Buffer.from(hex, "hex"));
  }
  const uuid = new Uint8Array(
    createHash("sha256").update(`blessfs ext4 uuid\n${contentDigest}`).digest().subarray(0, 16),
  );
  uuid[6] = (uuid[6]! & 0x0f) | 0x80;
  uuid[8] = (uuid[8]! & 0x3f) | 0x80;
  return uuid;
}
