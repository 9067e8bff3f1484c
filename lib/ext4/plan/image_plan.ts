/**
 * The whole of an image before it is written.
 *
 * @module
 */
import type { Payload } from "../../model/payload.ts";
import type { NodeDraft } from "./inode_drafts.ts";
import type { BlockRange, Geometry } from "./geometry.ts";

/** A run of metadata. `encode` is called once, when its turn comes, so that large tables never exist as a whole. */
export interface MetadataWrite {
  readonly offsetBytes: number;
  readonly sizeBytes: number;
  readonly encode: () => Uint8Array;
}

/** A run of blocks of a file. */
export interface PayloadWrite {
  readonly startBlock: number;
  readonly blockCount: number;
  /** Where in the file. */
  readonly logicalBlock: number;
  readonly payload: Payload;
}

/** How a file was laid out. */
export interface FileLayout {
  readonly draft: NodeDraft;
  readonly payload: Payload;
  /** Physical = logical (mod grid) for all its extents. */
  readonly isAligned: boolean;
  readonly extents: readonly {
    readonly logicalBlock: number;
    readonly blockCount: number;
    readonly startBlock: number;
  }[];
}

/** Counts for reports. */
export interface PlanSummary {
  readonly uuid: Uint8Array;
  readonly sizeBytes: number;
  /** Blocks marked as used, in bytes: metadata, journal and payload. */
  readonly usedBytes: number;
  readonly files: number;
  readonly directories: number;
  readonly symlinks: number;
  readonly specialFiles: number;
  readonly inodes: number;
  readonly freeInodes: number;
  readonly alignedFiles: number;
  /** Free space between and inside payload that alignment left. */
  readonly paddingBytes: number;
}

/** Every byte of an image but its payload, and where the payload goes. */
export interface ImagePlan {
  readonly totalBlocks: number;
  readonly geometry: Geometry;
  /** Ascending. */
  readonly metadata: readonly MetadataWrite[];
  /** Ascending. */
  readonly payload: readonly PayloadWrite[];
  readonly files: readonly FileLayout[];
  /** Every block in use; ascending, merged. */
  readonly usedRanges: readonly BlockRange[];
  readonly gridBlocks: number;
  readonly summary: PlanSummary;
}
