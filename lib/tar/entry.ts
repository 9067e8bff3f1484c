/**
 * What a tar says of one file, after every extension has been applied.
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import type { Xattr } from "../model/node.ts";
import type { PayloadIndex } from "../model/payload.ts";

/** Kinds of entries that reach the tree. Everything else was skipped by rule or refused. */
export type TarEntryKind =
  | "file"
  | "directory"
  | "symlink"
  | "hardlink"
  | "characterDevice"
  | "blockDevice"
  | "fifo";

/** One entry; plain data, so it can be posted between threads. */
export interface TarEntry {
  readonly kind: TarEntryKind;
  /** Exactly as written, PAX and GNU names applied; never empty; not normalised. */
  readonly path: ByteString;
  /** Target of a symlink or hard link, exactly as written; otherwise empty. */
  readonly linkTarget: ByteString;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  readonly xattrs: readonly Xattr[];
  /** Set for `file` only. Store offsets are offsets in the uncompressed tar. */
  readonly payload: PayloadIndex | undefined;
  /** Where the entry's first header lies in the uncompressed tar, for messages. */
  readonly headerOffset: number;
}
