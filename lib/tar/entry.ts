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
  /** What kind of file it is. */
  readonly kind: TarEntryKind;
  /** Exactly as written, PAX and GNU names applied; never empty; not normalised. */
  readonly path: ByteString;
  /** Target of a symlink or hard link, exactly as written; otherwise empty. */
  readonly linkTarget: ByteString;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  /** Numeric owner. */
  readonly uid: number;
  /** Numeric group. */
  readonly gid: number;
  /** Whole seconds, rounded down. */
  readonly mtimeSeconds: number;
  /** 0 to 999,999,999. */
  readonly mtimeNanoseconds: number;
  /** 0 for what is no device. */
  readonly deviceMajor: number;
  /** 0 for what is no device. */
  readonly deviceMinor: number;
  /** In byte order of the names, each name once. */
  readonly xattrs: readonly Xattr[];
  /** The number that decides about the order of payload (NodeBase.firstLayer), where an exported tar gives one. */
  readonly firstLayer?: number;
  /** Set for `file` only. Store offsets are offsets in the uncompressed tar. */
  readonly payload: PayloadIndex | undefined;
  /** Where the entry's first header lies in the uncompressed tar, for messages. */
  readonly headerOffset: number;
}
