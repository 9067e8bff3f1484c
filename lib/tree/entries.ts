/**
 * From a tree back to the entries of a tar or of an OCI layer, which reverses what overlay.ts does.
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

/** An entry to write to a tar. */
export interface TarItem {
  readonly entry: Omit<TarEntry, "headerOffset">;
  /** The content of a file; undefined for other entries. */
  readonly payload: Payload | undefined;
}

/** The root's own entry. */
export const ROOT_ENTRY_PATH = "./";

/**
 * All entries of a tree: directories before their children, names in byte order, a node under its first name and as hard
 * links under the others. Sockets, which tar cannot hold, are left out with a warning (`skippedSocket`).
 */
export function* treeItems(tree: FileTree, warnings: Warnings): Generator<TarItem> {
  const namer = new NodeNamer(warnings);
  for (const { path, node } of walkTree(tree)) {
    const item = namer.itemOf(path, node);
    if (item !== undefined) yield item;
  }
}

/** Turns nodes into entries, and keeps track of the first name of each. */
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

/** The whiteout of a name. `path` begins with a slash. */
export function whiteoutItem(path: ByteString): TarItem {
  refuseMarkerName(path);
  const split = path.lastIndexOf("/") + 1;
  return markerItem(`${path.slice(0, split)}${WHITEOUT_PREFIX}${path.slice(split)}`);
}

/** The opaque marker of a directory. `path` begins with a slash; that of the root is empty. */
export function opaqueItem(path: ByteString): TarItem {
  refuseMarkerName(path);
  return markerItem(`${path}/${OPAQUE_MARKER}`);
}

/** Throws an InputError for a path that a layer cannot contain, because one of its names would be a whiteout. */
export function refuseMarkerName(path: ByteString): void {
  if (!path.includes(`/${WHITEOUT_PREFIX}`)) return;
  throw new InputError(
    displayName(path),
    `a layer cannot contain names that begin with ${WHITEOUT_PREFIX}: they would be whiteouts`,
    { code: "notStorable" },
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
 * marker, and escaped attributes their original names.
 *
 * @throws InputError for names that begin with `.wh.`, and for other private attributes of overlayfs
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
        { code: "notStorable", remedies: [{ option: "layer", change: "omit" }] },
      );
    } else plain.push({ name, value });
  }
  return { xattrs: sortXattrs(plain), isOpaque };
}
