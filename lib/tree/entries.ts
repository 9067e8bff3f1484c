/**
 * From a tree back to the entries of a tar.
 *
 * @module
 */
import { type ByteString, displayName } from "../bytes/byte_string.ts";
import { type FileTree, type TreeNode, walkTree } from "../model/node.ts";
import type { Payload } from "../model/payload.ts";
import type { TarEntry } from "../tar/entry.ts";
import type { Warnings } from "../warnings.ts";

/** One entry of a tar that is to be written. */
export interface TarItem {
  readonly entry: Omit<TarEntry, "headerOffset">;
  /** The bytes of a file; undefined for all else. */
  readonly payload: Payload | undefined;
}

/** The root's own entry. */
export const ROOT_ENTRY_PATH = "./";

/**
 * All entries of a tree: a directory before what is in it, names in byte order, the first name of a node as itself and
 * its other names as hard links to that. Sockets, which tar has not, are left out and counted (`skippedSocket`).
 */
export function* treeItems(tree: FileTree, warnings: Warnings): Generator<TarItem> {
  const namer = new NodeNamer(warnings);
  for (const { path, node } of walkTree(tree)) {
    const item = namer.itemOf(path, node);
    if (item !== undefined) yield item;
  }
}

/** Makes entries of nodes, and remembers under which name a node came first. */
export class NodeNamer {
  readonly #warnings: Warnings;
  readonly #firstPaths = new Map<TreeNode, ByteString>();

  constructor(warnings: Warnings) {
    this.#warnings = warnings;
  }

  /** @param path with a slash before each name; empty for the root */
  itemOf(path: ByteString, node: TreeNode): TarItem | undefined {
    if (node.kind === "socket") {
      this.#warnings.add("skippedSocket", displayName(path), "a tar cannot hold sockets: left out");
      return undefined;
    }
    const entryPath = path === "" ? ROOT_ENTRY_PATH : path.slice(1);
    const first = this.#firstPaths.get(node);
    if (first !== undefined) {
      const link = entryOf(node, entryPath);
      return {
        entry: { ...link, kind: "hardlink", linkTarget: first, xattrs: [], payload: undefined },
        payload: undefined,
      };
    }
    if (node.kind !== "directory") this.#firstPaths.set(node, entryPath);
    if (node.kind !== "file") return { entry: entryOf(node, entryPath), payload: undefined };
    const { payload, firstLayer = 0 } = node;
    const entry = entryOf(node, entryPath);
    const hasPlace = firstLayer > 0 && payload.segments.length > 0;
    return { entry: { ...entry, payload, ...hasPlace ? { firstLayer } : {} }, payload };
  }
}

function entryOf(node: TreeNode, path: ByteString): TarItem["entry"] {
  const { mode, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs } = node.attributes;
  const isDirectory = node.kind === "directory";
  const isDevice = node.kind === "characterDevice" || node.kind === "blockDevice";
  return {
    kind: node.kind === "socket" ? "fifo" : node.kind,
    path: isDirectory && !path.endsWith("/") ? `${path}/` : path,
    linkTarget: node.kind === "symlink" ? node.target : "",
    mode,
    uid,
    gid,
    mtimeSeconds,
    mtimeNanoseconds,
    deviceMajor: isDevice ? node.deviceMajor : 0,
    deviceMinor: isDevice ? node.deviceMinor : 0,
    xattrs,
    payload: undefined,
  };
}
