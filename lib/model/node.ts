/**
 * A file tree in memory. Hard links are one node object under several names.
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import type { Payload } from "./payload.ts";

/** An extended attribute. ACLs are in the format of the system calls. */
export interface Xattr {
  /** With its prefix: `user.x`, `security.capability`. */
  readonly name: ByteString;
  /** Binary; may be empty. */
  readonly value: Uint8Array;
}

/** The attributes of every kind of node. */
export interface NodeAttributes {
  /** Permission bits with setuid, setgid and sticky: 0 to 0o7777. */
  readonly mode: number;
  /** Numeric owner, 0 to 2^32-1. */
  readonly uid: number;
  /** Numeric group, 0 to 2^32-1. */
  readonly gid: number;
  /** Whole seconds, rounded down; negative before 1970. */
  readonly mtimeSeconds: number;
  /** 0 to 999,999,999, added to mtimeSeconds. */
  readonly mtimeNanoseconds: number;
  /** In byte order of the names, each name once. */
  readonly xattrs: readonly Xattr[];
}

/** The origin of a node, for orders that follow the layers. */
export interface NodeOrigin {
  /** From 0 at the bottom. */
  readonly layerIndex: number;
  /** Index in the layer's tar, from 0. */
  readonly entryIndex: number;
}

/** The properties of every kind of node. */
export interface NodeBase {
  /** Mode, owner, time and extended attributes. */
  attributes: NodeAttributes;
  /** The entry that it was made from. */
  origin: NodeOrigin;
  /**
   * The lowest layer that had anything at its path, even another node; 0 if not set. Only the order of payload depends
   * on it.
   */
  firstLayer?: number | undefined;
}

/** A directory and its children by name. */
export interface DirectoryNode extends NodeBase {
  /** Always `directory`. */
  readonly kind: "directory";
  /** By name, in no particular order; see `sortedChildren`. */
  readonly children: Map<ByteString, TreeNode>;
}

/** A regular file. */
export interface FileNode extends NodeBase {
  /** Always `file`. */
  readonly kind: "file";
  /** The bytes, read on demand. */
  readonly payload: Payload;
}

/** A symbolic link. */
export interface SymlinkNode extends NodeBase {
  /** Always `symlink`. */
  readonly kind: "symlink";
  /** Exactly as it was given. */
  readonly target: ByteString;
}

/** A device, fifo or socket. */
export interface SpecialNode extends NodeBase {
  /** Which of them. */
  readonly kind: "characterDevice" | "blockDevice" | "fifo" | "socket";
  /** 0 unless it is a device. */
  readonly deviceMajor: number;
  /** 0 unless it is a device. */
  readonly deviceMinor: number;
}

/** Anything that has an inode. */
export type TreeNode = DirectoryNode | FileNode | SymlinkNode | SpecialNode;

/** A whole tree. */
export interface FileTree {
  /** The root directory. */
  readonly root: DirectoryNode;
}

/** Names of a directory in byte order. */
export function sortedChildren({ children }: DirectoryNode): [ByteString, TreeNode][] {
  return sortedNames(children.keys()).map((name) => [name, children.get(name)!]);
}

/** Names in byte order; fast if they are in order already, as from a sorted tar. */
export function sortedNames(given: Iterable<ByteString>): ByteString[] {
  const names = [...given];
  for (let i = 1; i < names.length; i++) {
    // Strings compare by their characters, which are bytes here.
    if (names[i]! < names[i - 1]!) return names.sort();
  }
  return names;
}

/**
 * Visits every name of a tree once, a directory before its children, in byte order of the names. A node with several hard
 * links is visited once for each. Not recursive, so that depth is only bounded by memory.
 */
export function* walkTree(tree: FileTree): Generator<{ path: ByteString; node: TreeNode }> {
  const pending: { path: ByteString; node: TreeNode }[] = [{ path: "", node: tree.root }];
  for (let item = pending.pop(); item; item = pending.pop()) {
    yield item;
    if (item.node.kind !== "directory") continue;
    const children = sortedChildren(item.node);
    for (let i = children.length - 1; i >= 0; i--) {
      const [name, node] = children[i]!;
      pending.push({ path: `${item.path}/${name}`, node });
    }
  }
}
