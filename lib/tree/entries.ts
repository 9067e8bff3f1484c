/**
 * From a tree back to the entries of a tar, or of an OCI layer: the latter is the way back of what overlay.ts does.
 *
 * @module
 */
import { type ByteString, displayName } from "../bytes/byte_string.ts";
import { InputError } from "../errors.ts";
import {
  type FileTree,
  type NodeAttributes,
  type TreeNode,
  walkTree,
  type Xattr,
} from "../model/node.ts";
import type { Payload } from "../model/payload.ts";
import type { TarEntry } from "../tar/entry.ts";
import type { Warnings } from "../warnings.ts";
import { isWhiteoutDevice, sortXattrs } from "./nodes.ts";
import { ESCAPED_PREFIX, OPAQUE_NAME, PRIVATE_PREFIX } from "./overlay.ts";
import { OPAQUE_MARKER, WHITEOUT_PREFIX } from "./whiteouts.ts";

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

/** The entry that takes a name of lower layers away. `path` begins with a slash. */
export function whiteoutItem(path: ByteString): TarItem {
  refuseMarkerName(path);
  const split = path.lastIndexOf("/") + 1;
  return markerItem(`${path.slice(0, split)}${WHITEOUT_PREFIX}${path.slice(split)}`);
}

/** The entry that hides what lower layers have in a directory. `path` begins with a slash; the root's is empty. */
export function opaqueItem(path: ByteString): TarItem {
  refuseMarkerName(path);
  return markerItem(`${path}/${OPAQUE_MARKER}`);
}

/** Throws an InputError for a path that no entry of a layer can have: one of its names would be a whiteout's. */
export function refuseMarkerName(path: ByteString): void {
  if (!path.includes(`/${WHITEOUT_PREFIX}`)) return;
  throw new InputError(
    displayName(path),
    `no layer can say anything of names that begin with ${WHITEOUT_PREFIX}: they would be whiteouts`,
  );
}

function markerItem(path: ByteString): TarItem {
  return {
    entry: {
      kind: "file",
      path: path.slice(1),
      linkTarget: "",
      mode: 0,
      uid: 0,
      gid: 0,
      mtimeSeconds: 0,
      mtimeNanoseconds: 0,
      deviceMajor: 0,
      deviceMinor: 0,
      xattrs: [],
      payload: undefined,
    },
    payload: undefined,
  };
}

/**
 * All entries of a layer: character devices 0:0 become whiteouts, directories with `trusted.overlay.opaque` get an opaque
 * marker, and attributes that were escaped get their names back.
 *
 * @throws InputError for what a layer cannot say: names that begin with `.wh.`, and other marks of overlayfs
 */
export function* layerItems(tree: FileTree, warnings: Warnings): Generator<TarItem> {
  const namer = new NodeNamer(warnings);
  for (const { path, node } of walkTree(tree)) {
    if (isWhiteoutDevice(node)) {
      yield whiteoutItem(path);
      continue;
    }
    refuseMarkerName(path);
    const item = namer.itemOf(path, node);
    if (item === undefined) continue;
    const { xattrs, isOpaque } = plainXattrs(node, path);
    yield item.entry.kind === "hardlink" ? item : { ...item, entry: { ...item.entry, xattrs } };
    if (isOpaque) yield opaqueItem(path);
  }
}

function plainXattrs(
  node: TreeNode,
  path: ByteString,
): { readonly xattrs: NodeAttributes["xattrs"]; readonly isOpaque: boolean } {
  const { xattrs } = node.attributes;
  if (!xattrs.some(({ name }) => name.startsWith(PRIVATE_PREFIX))) {
    return { xattrs, isOpaque: false };
  }
  let isOpaque = false;
  const plain: Xattr[] = [];
  for (const { name, value } of xattrs) {
    if (name.startsWith(ESCAPED_PREFIX)) {
      plain.push({ name: PRIVATE_PREFIX + name.slice(ESCAPED_PREFIX.length), value });
    } else if (name === OPAQUE_NAME && node.kind === "directory" && value[0] === 0x79) {
      isOpaque = true;
    } else if (name.startsWith(PRIVATE_PREFIX)) {
      throw new InputError(
        displayName(path),
        `its attribute ${displayName(name)} has no meaning in a layer`,
        { remedies: [{ option: "layer", change: "omit" }] },
      );
    } else plain.push({ name, value });
  }
  return { xattrs: sortXattrs(plain), isOpaque };
}
