/**
 * The plan of an image: everything about it before it is written.
 *
 * @module
 */
import type { BlockRange } from "../../layout/blocks.ts";
import type { Payload } from "../../model/node.ts";
import type { Geometry } from "./groups.ts";
import type { NodeDraft } from "./inode_drafts.ts";

/** A run of metadata. `encode` is called just before it is written, so that large tables never exist as a whole. */
export interface MetadataWrite {
  /** Where in the image. */
  readonly offsetBytes: number;
  /** A multiple of the block size, or less than one block. */
  readonly sizeBytes: number;
  /** Returns the bytes, the same on every call. */
  readonly encode: () => Uint8Array;
}

/** A run of blocks of a file. */
export interface PayloadWrite {
  /** The first block of the image. */
  readonly startBlock: number;
  /** How many blocks. */
  readonly blockCount: number;
  /** Where in the file. */
  readonly logicalBlock: number;
  /** The bytes of the whole file. */
  readonly payload: Payload;
}

/** How a file was laid out. */
export interface FileLayout {
  /** The inode that it is. */
  readonly draft: NodeDraft;
  /** Its bytes. */
  readonly payload: Payload;
  /** Physical = logical (mod grid) for all its extents. */
  readonly isAligned: boolean;
  /** Where it lies, in the order of its own blocks. */
  readonly extents: readonly {
    readonly logicalBlock: number;
    readonly blockCount: number;
    readonly startBlock: number;
  }[];
}

/** Counts for reports. */
export interface PlanSummary {
  /** Of the file system, in its usual form. */
  readonly uuid: string;
  /** Of the whole image. */
  readonly sizeBytes: number;
  /** Blocks marked as used, in bytes: metadata, journal and payload. */
  readonly usedBytes: number;
  /** Regular files. */
  readonly files: number;
  /** Directories. */
  readonly directories: number;
  /** Symbolic links. */
  readonly symlinks: number;
  /** Devices, FIFOs and sockets. */
  readonly specialFiles: number;
  /** All inodes, free ones included. */
  readonly inodes: number;
  /** Inodes that are not in use. */
  readonly freeInodes: number;
  /** Files that start on the grid. */
  readonly alignedFiles: number;
  /** Free space that alignment leaves between and inside payload. */
  readonly paddingBytes: number;
}

/** What a plan took over from a previous image. */
export interface KeptFacts {
  /** Files with blocks whose blocks are those of the previous image. */
  readonly keptFiles: number;
  /** Files with blocks that were placed anew. */
  readonly placedFiles: number;
  /** Free blocks that hold bytes of the previous image: removed content that stays readable on the raw device. */
  readonly staleBytes: number;
  /** Why no stale bytes were kept although they should be; undefined when they were. */
  readonly staleCleared: string | undefined;
  /** Why the image was laid out afresh after all; undefined when it was not. */
  readonly afresh: string | undefined;
}

/** Every byte of an image except payload, and the location of payload. */
export interface ImagePlan {
  /** Files that are kept in their inodes: metadata is made from them, the last of it when all payload is written. */
  readonly inlinePayloads: readonly Payload[];
  /** Blocks of the whole image. */
  readonly totalBlocks: number;
  /** Groups and tables. */
  readonly geometry: Geometry;
  /** Ascending. */
  readonly metadata: readonly MetadataWrite[];
  /** Ascending. */
  readonly payload: readonly PayloadWrite[];
  /** Every file that has blocks of its own, in the order of payload. */
  readonly files: readonly FileLayout[];
  /** Every block in use; ascending, merged. */
  readonly usedRanges: readonly BlockRange[];
  /** The grid, in blocks. */
  readonly gridBlocks: number;
  /** Counts for reports. */
  readonly summary: PlanSummary;
  /** Undefined without a previous image. */
  readonly kept?: KeptFacts | undefined;
}
