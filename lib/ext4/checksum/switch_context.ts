/**
 * What all parts of a switch share.
 *
 * @module
 */
import type { Volume } from "./volume.ts";

/** How many structures got or lost a checksum. */
export interface SwitchCounts {
  /** Block groups. */
  groups: number;
  /** Inodes, unused ones included. */
  inodes: number;
  /** Blocks of directories. */
  directoryBlocks: number;
  /** Blocks of extent trees. */
  extentBlocks: number;
  /** Blocks of extended attributes. */
  xattrBlocks: number;
}

/** Structures without room for a checksum. */
export interface LackingRoom {
  leaves: number;
  indexBlocks: number;
  extentBlocks: number;
  first: string | undefined;
}

/** One switch. */
export interface SwitchContext {
  readonly volume: Volume;
  /** What to call the image in messages. */
  readonly name: string;
  /** True: checksums come. False: they go, and are checked first. */
  readonly enable: boolean;
  /** The file system's. */
  readonly seed: number;
  readonly counts: SwitchCounts;
  readonly lacking: LackingRoom;
  /** Takes new bytes for a place of the image. */
  readonly change: (offsetBytes: number, bytes: Uint8Array) => Promise<void>;
}
