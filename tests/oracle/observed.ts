/**
 * One view of a file tree, whatever it is: a directory that the kernel shows, or a tree in memory. Two such views are
 * compared by compare.ts.
 *
 * @module
 */
import type { ByteString } from "../../lib/bytes/byte_string.ts";
import type { TreeNode, Xattr } from "../../lib/model/node.ts";

/** Directories with more subdirectories than a link count can say have the count 1. */
const LINK_COUNT_MAX = 65000;

/** The content of a regular file. Only valid until the walk that gave it goes on. */
export interface ObservedContent {
  /** Ascending, disjoint ranges `[start, end)`; everything outside them is zeros. */
  readonly dataRanges: readonly (readonly [number, number])[];
  readAt(target: Uint8Array<ArrayBuffer>, position: number): void;
  close(): void;
}

/** One name of a tree. Walks give names depth first, a directory before what is in it, names in byte order. */
export interface ObservedName {
  /** Empty for the root, else it starts with a slash. */
  readonly path: ByteString;
  readonly kind: TreeNode["kind"];
  /** Permission bits, with setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly linkCount: number;
  /** The same for two names exactly when they name one inode. */
  readonly identity: unknown;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
  readonly xattrs: readonly Xattr[];
  /** Length of a regular file; 0 for everything else. */
  readonly sizeBytes: number;
  /** Target of a symlink; empty for everything else. */
  readonly target: ByteString;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** Opens a regular file. */
  open(): ObservedContent;
}

/** The link count of a directory with so many directories in it. */
export function directoryLinkCount(subdirectoryCount: number): number {
  const count = 2 + subdirectoryCount;
  return count > LINK_COUNT_MAX ? 1 : count;
}

/** Something that a tree has but that cannot be read: a damaged image, in most cases. */
export class UnreadableError extends Error {
  readonly path: ByteString;
  readonly field: string;

  constructor(path: ByteString, field: string, cause: unknown) {
    super((cause as Error).message, { cause });
    this.path = path;
    this.field = field;
  }
}
