/**
 * One tree a layer, for overlayfs: stacked, they show what all layers applied to one tree show.
 *
 * Each layer is applied to the merged tree of those below while what it touches is recorded; its own tree is then
 * the touched part of the result. So paths through symlinks, directories without an entry, type changes and
 * repeated paths come out as in the merged tree by construction. What is hidden is said in overlayfs' terms
 * (Linux, Documentation/filesystems/overlayfs.rst): a 0:0 character device hides a name, `trusted.overlay.opaque=y`
 * hides a directory's lower content.
 *
 * - overlayfs does not look at the opaque mark of a root: there, every hidden name gets its whiteout.
 * - A whiteout shows as a ghost in a directory that is not merged with a lower one; there is none where the lower
 *   layers have nothing to hide, nor in opaque or new directories.
 * - Files that share an inode must lie in one layer to share it in the stack, and a lower layer's link count stays
 *   what it was. So when a layer adds, replaces or takes away one name of such a file, all its names that
 *   are left come into that layer's tree, with the content that they have (which a block store keeps once).
 * - Directories that an entry only leads through are there with the attributes and xattrs that they have below, since
 *   overlayfs shows those of the topmost layer.
 *
 * What stays different in the stack: the link counts of directories (overlayfs shows 1 for merged ones), and 0:0
 * character devices in the input, which are whiteouts to overlayfs whatever their image meant by them.
 *
 * @module
 */
import { type ByteString, displayName } from "../bytes/byte_string.ts";
import type {
  DirectoryNode,
  FileTree,
  NodeAttributes,
  SpecialNode,
  TreeNode,
  Xattr,
} from "../model/node.ts";
import { Warnings } from "../warnings.ts";
import { applyLayer, type BuildTreeOptions, emptyTree, EPOCH } from "./build.ts";
import {
  describeEntry,
  emptyDirectory,
  impliedDirectoryAttributes,
  isWhiteoutDevice,
  LayerChanges,
  sortXattrs,
  TreeIndex,
  type TreeLayer,
} from "./layer.ts";
import { TreeBudget } from "./paths.ts";

/** The tree of one overlayfs lower directory. */
export interface OverlayTree {
  /** From 0 at the bottom. */
  readonly layerIndex: number;
  /** With whiteouts and opaque directories as overlayfs has them. */
  readonly tree: FileTree;
  /**
   * True when the tree is what the layer alone would give; wherever that is so, the trees of equal layers are equal.
   * False as soon as anything was taken from the layers below (attributes of a directory without an entry, a symlink
   * on a path, a file for a hard link or for its other names) or left out because of them (a whiteout with nothing
   * to hide).
   */
  readonly isSelfContained: boolean;
}

/**
 * Makes the trees for overlayfs, the lowest layer's first. Trees share nodes of files, which must not be changed.
 *
 * @returns the merged tree, as buildTree makes it, when the generator is done
 * @throws InputError as buildTree does, with the same warnings, and `whiteoutDevice` for 0:0 character devices
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { memoryReader } from "../io/random_reader.ts";
 * import { EMPTY_PAYLOAD_INDEX } from "../model/node.ts";
 * import type { TreeLayer } from "./build.ts";
 * import { overlayTrees } from "./overlay.ts";
 *
 * const file = {
 *   kind: "file", linkTarget: "", mode: 0o644, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanoseconds: 0,
 *   deviceMajor: 0, deviceMinor: 0, xattrs: [], payload: EMPTY_PAYLOAD_INDEX, headerOffset: 0,
 * } as const;
 * const layer = (...paths: string[]): TreeLayer => ({
 *   entries: paths.map((path) => ({ ...file, path })),
 *   store: memoryReader(new Uint8Array()),
 *   whiteouts: true,
 *   name: "layer",
 * });
 * const kinds = [...overlayTrees([layer("a", "b"), layer(".wh.a", "c")])].map(({ tree }) =>
 *   [...tree.root.children].map(([name, node]) => `${name} ${node.kind}`)
 * );
 * assertEquals(kinds, [["a file", "b file"], ["a characterDevice", "c file"]]);
 * ```
 */
export function* overlayTrees(
  layers: readonly TreeLayer[],
  options: BuildTreeOptions = {},
): Generator<OverlayTree, FileTree> {
  const { warnings = new Warnings(), defaultTime = EPOCH, defaultOwner, limits } = options;
  const impliedAttributes = impliedDirectoryAttributes(defaultTime, defaultOwner);
  const budget = new TreeBudget(limits);
  const merged = emptyTree(defaultTime, defaultOwner);
  const index = new TreeIndex();
  for (const [layerIndex, layer] of layers.entries()) {
    const changes = new LayerChanges(index, layerIndex);
    warnOfWhiteoutDevices(layer, changes, warnings);
    applyLayer(layer, {
      tree: merged,
      layerIndex,
      budget,
      warnings,
      impliedAttributes,
      changes,
    });
    takeUpLinkedNames(changes, merged.root);
    noteParents(changes);
    const tree = new LayerProjection(merged, changes, warnings, impliedAttributes).make();
    yield { layerIndex, tree, isSelfContained: !changes.usesLowerLayers };
  }
  return merged;
}

function warnOfWhiteoutDevices(
  layer: TreeLayer,
  changes: LayerChanges,
  warnings: Warnings,
): void {
  for (const entry of layer.entries) {
    if (entry.kind !== "characterDevice" || entry.deviceMajor !== 0 || entry.deviceMinor !== 0) {
      continue;
    }
    changes.usesLowerLayers = true;
    warnings.add(
      "whiteoutDevice",
      describeEntry(entry, layer.name),
      "a 0:0 character device is a whiteout to overlayfs: the name will not exist",
    );
  }
}

/** If the layer changed any name of a node with hard links, its tree gets all of them. */
function takeUpLinkedNames(changes: LayerChanges, root: DirectoryNode): void {
  for (const { names, lostName } of changes.index.refreshLinkedNames(root)) {
    if (!lostName && !names.some((dentry) => changes.hasName(dentry))) continue;
    for (const dentry of names) {
      if (changes.hasName(dentry)) continue;
      changes.usesLowerLayers = true;
      changes.noteName(dentry.directory, dentry.name);
    }
  }
}

/** Marks the parents of everything that was changed. */
function noteParents(changes: LayerChanges): void {
  const { dentries } = changes.index;
  const done = new Set<DirectoryNode>();
  const touched = [...changes.changedNames.keys(), ...changes.describedDirectories];
  for (const directory of [...touched, ...changes.opaqueDirectories]) {
    let at = directory;
    for (let dentry = dentries.get(at); dentry && !done.has(at); dentry = dentries.get(at)) {
      done.add(at);
      changes.noteName(dentry.directory, dentry.name);
      at = dentry.directory;
    }
  }
}

/** A directory that is to be filled. */
interface PendingDirectory {
  readonly source: DirectoryNode;
  readonly target: DirectoryNode;
  readonly path: ByteString;
  /** All of its names are of this layer, so nothing below needs a whiteout. */
  readonly isWhole: boolean;
}

/** The changed part of a merged tree, as a tree of its own. */
class LayerProjection {
  readonly #merged: FileTree;
  readonly #changes: LayerChanges;
  readonly #warnings: Warnings;
  readonly #impliedAttributes: NodeAttributes;
  /** Files with changed attributes: one copy of each, so that hard links stay hard links. */
  readonly #copies = new Map<TreeNode, TreeNode>();
  readonly #pending: PendingDirectory[] = [];

  constructor(
    merged: FileTree,
    changes: LayerChanges,
    warnings: Warnings,
    impliedAttributes: NodeAttributes,
  ) {
    this.#merged = merged;
    this.#changes = changes;
    this.#warnings = warnings;
    this.#impliedAttributes = impliedAttributes;
  }

  make(): FileTree {
    const { root } = this.#merged;
    const { opaqueDirectories } = this.#changes;
    if (opaqueDirectories.has(root)) this.#changes.usesLowerLayers = true;
    const tree = { root: this.#directory(root, false, false, "") };
    for (let next = this.#pending.pop(); next; next = this.#pending.pop()) this.#fill(next);
    return tree;
  }

  #fill(directory: PendingDirectory): void {
    const { source } = directory;
    if (directory.isWhole) {
      for (const [name, node] of source.children) this.#take(directory, name, node, undefined);
      return;
    }
    const names = this.#changes.changedNames.get(source) ?? new Map<ByteString, TreeNode>();
    for (const [name, before] of names) {
      this.#take(directory, name, source.children.get(name), before);
    }
  }

  /** @param before the node of lower layers, if it has to be hidden */
  #take(
    { target, path: parentPath }: PendingDirectory,
    name: ByteString,
    node: TreeNode | undefined,
    before: TreeNode | undefined,
  ): void {
    const path = `${parentPath}/${name}`;
    if (!node || isWhiteoutDevice(node)) {
      if (before && !isWhiteoutDevice(before)) target.children.set(name, this.#whiteout());
    } else if (node.kind === "directory") {
      const { newDirectories, opaqueDirectories } = this.#changes;
      const isNew = newDirectories.has(node);
      let isOpaque = opaqueDirectories.has(node);
      if (isNew && !isOpaque && before?.kind === "directory") {
        isOpaque = true;
        this.#changes.usesLowerLayers = true;
      }
      target.children.set(name, this.#directory(node, isOpaque, isNew || isOpaque, path));
    } else {
      target.children.set(name, this.#file(node, path));
    }
  }

  #directory(
    source: DirectoryNode,
    isOpaque: boolean,
    isWhole: boolean,
    path: ByteString,
  ): DirectoryNode {
    if (
      !this.#changes.describedDirectories.has(source) &&
      !equalAttributes(source.attributes, this.#impliedAttributes)
    ) this.#changes.usesLowerLayers = true;
    const target = emptyDirectory(
      this.#attributes(source.attributes, isOpaque, path),
      source.origin,
    );
    this.#pending.push({ source, target, path, isWhole });
    return target;
  }

  #file(node: Exclude<TreeNode, DirectoryNode>, path: ByteString): TreeNode {
    if (!hasPrivateXattrs(node.attributes)) return node;
    let copy = this.#copies.get(node);
    if (!copy) {
      copy = { ...node, attributes: this.#attributes(node.attributes, false, path) };
      this.#copies.set(node, copy);
    }
    return copy;
  }

  #attributes(attributes: NodeAttributes, isOpaque: boolean, path: ByteString): NodeAttributes {
    return overlayAttributes(attributes, isOpaque, () => displayName(path || "/"), this.#warnings);
  }

  #whiteout(): SpecialNode {
    return {
      kind: "characterDevice",
      attributes: { ...this.#impliedAttributes, mode: 0 },
      origin: { layerIndex: this.#changes.layerIndex, entryIndex: 0 },
      deviceMajor: 0,
      deviceMinor: 0,
    };
  }
}

/** No implied directory has xattrs, so any xattr is a difference. */
function equalAttributes(a: NodeAttributes, implied: NodeAttributes): boolean {
  return a.mode === implied.mode && a.uid === implied.uid && a.gid === implied.gid &&
    a.mtimeSeconds === implied.mtimeSeconds && a.mtimeNanoseconds === implied.mtimeNanoseconds &&
    a.xattrs.length === 0;
}

/** Private to overlayfs, which hides it when it is mounted without `userxattr`. */
export const PRIVATE_PREFIX = "trusted.overlay.";

/** From Linux 6.7 on shown as `trusted.overlay.`; hidden before. */
export const ESCAPED_PREFIX = "trusted.overlay.overlay.";

/** XATTR_NAME_MAX of the kernel. */
const MAX_XATTR_NAME_SIZE_BYTES = 255;

/** The attribute that makes a directory opaque. */
export const OPAQUE_NAME = "trusted.overlay.opaque";

const OPAQUE: Xattr = { name: OPAQUE_NAME, value: new Uint8Array([0x79]) };

/**
 * Attributes of the same file in a layer image: `trusted.overlay.X` becomes `trusted.overlay.overlay.X`, so that an
 * image cannot redirect, hide or graft anything with it. `user.overlay.X` stays: without `userxattr` it is an ordinary
 * attribute, and overlayfs would show an escaped one escaped.
 *
 * @param isOpaque adds the mark that hides the directories of that name in lower layers
 * @returns the given object when nothing changes
 */
export function overlayAttributes(
  attributes: NodeAttributes,
  isOpaque: boolean,
  path: () => string,
  warnings: Warnings,
): NodeAttributes {
  if (!isOpaque && !hasPrivateXattrs(attributes)) return attributes;
  const xattrs: Xattr[] = isOpaque ? [OPAQUE] : [];
  for (const { name, value } of attributes.xattrs) {
    const escaped = escapeXattrName(name);
    if (escaped.length <= MAX_XATTR_NAME_SIZE_BYTES) xattrs.push({ name: escaped, value });
    else {
      warnings.add(
        "unsupportedXattr",
        path(),
        `xattr ${displayName(name)} dropped: its escaped name would be longer than ` +
          `${MAX_XATTR_NAME_SIZE_BYTES} bytes`,
      );
    }
  }
  return { ...attributes, xattrs: sortXattrs(xattrs) };
}

/** Whether a layer image needs other attributes. */
export function hasPrivateXattrs(attributes: NodeAttributes): boolean {
  return attributes.xattrs.some(({ name }) => name.startsWith(PRIVATE_PREFIX));
}

function escapeXattrName(name: ByteString): ByteString {
  if (!name.startsWith(PRIVATE_PREFIX)) return name;
  return ESCAPED_PREFIX + name.slice(PRIVATE_PREFIX.length);
}
