/**
 * The plan of an image: everything about it before it is written.
 *
 * @module
 */
import type { BlockRange } from "../../layout/blocks.ts";
import type { Payload } from "../../model/node.ts";
import type { Geometry } from "./groups.ts";
import type { NodeDraft } from "./inode_drafts.ts";

/** A run of metadata. `encode` is called just before it is written, so large tables never exist as a whole. */
export interface MetadataWrite {
  /** Offset in the image. */
  readonly offsetBytes: number;
  /** A multiple of the block size, or less than one block. */
  readonly sizeBytes: number;
  /** Returns the bytes; every call returns the same. */
  readonly encode: () => Uint8Array;
}

/** A run of a file's blocks. */
export interface PayloadWrite {
  /** The first block in the image. */
  readonly startBlock: number;
  /** Number of blocks. */
  readonly blockCount: number;
  /** The first block in the file. */
  readonly logicalBlock: number;
  /** The payload of the whole file. */
  readonly payload: Payload;
}

/** How a file was laid out. */
export interface FileLayout {
  /** Its inode. */
  readonly draft: NodeDraft;
  /** Its content. */
  readonly payload: Payload;
  /** Whether physical = logical (mod grid) for all its extents. */
  readonly isAligned: boolean;
  /** Its extents, in logical order. */
  readonly extents: readonly {
    readonly logicalBlock: number;
    readonly blockCount: number;
    readonly startBlock: number;
  }[];
}

/** Counts for reports. */
export interface PlanSummary {
  /** UUID of the file system, as text. */
  readonly uuid: string;
  /** Size of the whole image. */
  readonly sizeBytes: number;
  /** Bytes in blocks marked as used: metadata, journal and payload. */
  readonly usedBytes: number;
  /** Regular files. */
  readonly files: number;
  /** Directories. */
  readonly directories: number;
  /** Symbolic links. */
  readonly symlinks: number;
  /** Devices, FIFOs and sockets. */
  readonly specialFiles: number;
  /** All inodes, including free ones. */
  readonly inodes: number;
  /** Unused inodes. */
  readonly freeInodes: number;
  /** Files that start on the grid. */
  readonly alignedFiles: number;
  /** Free space that alignment leaves between and inside payload. */
  readonly paddingBytes: number;
}

/** What a plan kept from a previous image. */
export interface KeptFacts {
  /** Files with blocks that are the same as in the previous image. */
  readonly keptFiles: number;
  /** Files with blocks that were newly placed. */
  readonly placedFiles: number;
  /** Free blocks that hold bytes of the previous image: removed content that stays readable on the raw device. */
  readonly staleBytes: number;
  /** Why requested stale bytes were not kept; undefined if they were. */
  readonly staleCleared: string | undefined;
  /** Why the image was laid out afresh; undefined if it was not. */
  readonly afresh: string | undefined;
}

/** Every byte of an image except payload, and the location of payload. */
export interface ImagePlan {
  /** Files stored in their inodes: metadata is made from them, the last of it after all payload is written. */
  readonly inlinePayloads: readonly Payload[];
  /** Blocks of the whole image. */
  readonly totalBlocks: number;
  /** Block groups and tables. */
  readonly geometry: Geometry;
  /** Ascending. */
  readonly metadata: readonly MetadataWrite[];
  /** Ascending. */
  readonly payload: readonly PayloadWrite[];
  /** Every file with blocks of its own, in payload order. */
  readonly files: readonly FileLayout[];
  /** Every block in use; ascending and merged. */
  readonly usedRanges: readonly BlockRange[];
  /** The grid, in blocks. */
  readonly gridBlocks: number;
  /** Counts for reports. */
  readonly summary: PlanSummary;
  /** Undefined without a previous image. */
  readonly kept?: KeptFacts | undefined;
}
