/**
 * The tree of a layer image for overlayfs as the entries of an OCI layer: the way back of what overlay.ts does.
 *
 * @module
 */
import { type ByteString, displayName } from "../bytes/byte_string.ts";
import { InputError } from "../errors.ts";
import type { FileTree, NodeAttributes, TreeNode, Xattr } from "../model/node.ts";
import { walkTree } from "../model/node.ts";
import type { Warnings } from "../warnings.ts";
import { NodeNamer, type TarItem } from "./entries.ts";
import { isWhiteoutDevice, sortXattrs } from "./nodes.ts";
import { OPAQUE_MARKER, WHITEOUT_PREFIX } from "./whiteout.ts";

const PRIVATE_PREFIX = "trusted.overlay.";
const ESCAPED_PREFIX = "trusted.overlay.overlay.";
const OPAQUE_NAME = "trusted.overlay.opaque";

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
