/**
 * A file tree in memory: what all layers together say. Hard links are one node object under several names.
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import type { Payload } from "./payload.ts";

/** One extended attribute. The name is whole (`user.x`, `security.capability`); ACLs are in the system call's format. */
export interface Xattr {
  /** Whole, prefix included. */
  readonly name: ByteString;
  /** Binary; may be empty. */
  readonly value: Uint8Array;
}

/** What every kind of node has. */
export interface NodeAttributes {
  /** Permission bits with setuid, setgid and sticky: 0 to 0o7777. */
  readonly mode: number;
  /** Numeric owner, 0 to 2^32-1. */
  readonly uid: number;
  /** Numeric group, 0 to 2^32-1. */
  readonly gid: number;
  /** Whole seconds, rounded down; negative before 1970. */
  readonly mtimeSeconds: number;
  /** 0 to 999,999,999, always counted forward from mtimeSeconds. */
  readonly mtimeNanoseconds: number;
  /** In byte order of the names, each name once. */
  readonly xattrs: readonly Xattr[];
}

/** Where a node came from, for orders that follow the layers. */
export interface NodeOrigin {
  /** From 0 at the bottom. */
  readonly layerIndex: number;
  /** Place in the layer's tar, from 0. */
  readonly entryIndex: number;
}

/** What every node of a tree has, whatever its kind. */
export interface NodeBase {
  /** Mode, owner, time and extended attributes. */
  attributes: NodeAttributes;
  /** The entry that it was made from. */
  origin: NodeOrigin;
  /**
   * Number of the lowest layer that had anything at its path, though another node; 0 when not set. It decides about
   * the order of payload and about nothing else.
   */
  firstLayer?: number;
}

/** A directory and its children by name. */
export interface DirectoryNode extends NodeBase {
  /** Always `directory`. */
  readonly kind: "directory";
  /** By name, in no order that counts; `sortedChildren` has one. */
  readonly children: Map<ByteString, TreeNode>;
}

/** A regular file. */
export interface FileNode extends NodeBase {
  /** Always `file`. */
  readonly kind: "file";
  /** The bytes, which are read when they are needed. */
  readonly payload: Payload;
}

/** A symbolic link. */
export interface SymlinkNode extends NodeBase {
  /** Always `symlink`. */
  readonly kind: "symlink";
  /** Exactly as it was given. */
  readonly target: ByteString;
}

/** A device, fifo or socket; the numbers are 0 for the last two. */
export interface SpecialNode extends NodeBase {
  /** Which of those that have no bytes. */
  readonly kind: "characterDevice" | "blockDevice" | "fifo" | "socket";
  /** 0 for what is no device. */
  readonly deviceMajor: number;
  /** 0 for what is no device. */
  readonly deviceMinor: number;
}

/** Anything that has an inode. */
export type TreeNode = DirectoryNode | FileNode | SymlinkNode | SpecialNode;

/** A whole tree. */
export interface FileTree {
  /** The directory that everything is in. */
  readonly root: DirectoryNode;
}

/** Names of a directory in byte order. */
export function sortedChildren({ children }: DirectoryNode): [ByteString, TreeNode][] {
  return sortedNames(children.keys()).map((name) => [name, children.get(name)!]);
}

/** Names in byte order, which they come in from a tar that was sorted. */
export function sortedNames(given: Iterable<ByteString>): ByteString[] {
  const names = [...given];
  for (let i = 1; i < names.length; i++) {
    // The default order of strings is that of their characters, which are bytes.
    if (names[i]! < names[i - 1]!) return names.sort();
  }
  return names;
}

/**
 * Visits every name of a tree once: a directory before its children, children in byte order of their names.
 * A hard-linked node is visited once for each of its names. Recursion-free, so depth is bounded only by memory.
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
