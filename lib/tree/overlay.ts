/**
 * Builds one tree per layer for overlayfs: stacked, they show the same files as all layers applied to one tree.
 *
 * Each layer is applied to the merged tree of the layers below while everything it touches is recorded; its own tree is
 * then the touched part of the result. So paths through symlinks, directories without an entry, type changes and repeated
 * paths match the merged tree by construction. Hidden names use overlayfs' conventions (Linux,
 * Documentation/filesystems/overlayfs.rst): a 0:0 character device hides a name, `trusted.overlay.opaque=y` hides a
 * directory's lower content.
 *
 * - overlayfs ignores the opaque mark of a root: there, every hidden name gets its own whiteout.
 * - A whiteout is visible in a directory that is not merged with a lower one. So none is written where the lower layers
 *   have nothing to hide, nor in opaque or new directories.
 * - Files that share an inode must be in one layer to share it in the stack, and link counts in lower layers never change.
 *   So when a layer adds, replaces or removes one name of such a file, its tree gets all remaining names of the file, with
 *   the current content (which a block store keeps only once).
 * - Directories that are only part of an entry's path keep the attributes and xattrs they have below, since overlayfs shows
 *   those of the topmost layer.
 *
 * The stack still differs in the link counts of directories (overlayfs shows 1 for merged ones), and in 0:0 character
 * devices from the input, which overlayfs always treats as whiteouts.
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
  /** With whiteouts and opaque directories in overlayfs form. */
  readonly tree: FileTree;
  /**
   * True if the tree depends on the layer alone; equal layers then have equal trees. False if anything was taken from the
   * layers below (attributes of a directory without an entry, a symlink in a path, a file for a hard link or for its other
   * names) or left out because of them (a whiteout with nothing to hide).
   */
  readonly isSelfContained: boolean;
}

/**
 * Builds the trees for overlayfs, lowest layer first. Trees share file nodes, which must not be modified.
 *
 * @returns the merged tree, as buildTree builds it, when the generator is done
 * @throws InputError as buildTree does, with the same warnings, plus `whiteoutDevice` for 0:0 character devices
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

/** If the layer changed any name of a hard-linked node, its tree gets all of its names. */
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

/** Marks the parents of everything that changed. */
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

/** A directory still to be filled. */
interface PendingDirectory {
  readonly source: DirectoryNode;
  readonly target: DirectoryNode;
  readonly path: ByteString;
  /** All of its names come from this layer, so nothing below needs a whiteout. */
  readonly isWhole: boolean;
}

/** Extracts the changed part of a merged tree as a separate tree. */
class LayerProjection {
  readonly #merged: FileTree;
  readonly #changes: LayerChanges;
  readonly #warnings: Warnings;
  readonly #impliedAttributes: NodeAttributes;
  /** Copies of files with changed attributes: one for each file, so that hard links stay hard links. */
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

  /** @param before the node in the lower layers, if it has to be hidden */
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

/** Implied directories have no xattrs, so any xattr is a difference. */
function equalAttributes(a: NodeAttributes, implied: NodeAttributes): boolean {
  return a.mode === implied.mode && a.uid === implied.uid && a.gid === implied.gid &&
    a.mtimeSeconds === implied.mtimeSeconds && a.mtimeNanoseconds === implied.mtimeNanoseconds &&
    a.xattrs.length === 0;
}

/** Private to overlayfs, which hides these attributes if mounted without `userxattr`. */
export const PRIVATE_PREFIX = "trusted.overlay.";

/** Shown as `trusted.overlay.` from Linux 6.7 on; hidden before. */
export const ESCAPED_PREFIX = "trusted.overlay.overlay.";

/** The kernel's XATTR_NAME_MAX. */
const MAX_XATTR_NAME_SIZE_BYTES = 255;

/** The attribute that makes a directory opaque. */
export const OPAQUE_NAME = "trusted.overlay.opaque";

const OPAQUE: Xattr = { name: OPAQUE_NAME, value: new Uint8Array([0x79]) };

/**
 * A file's attributes in a layer image: `trusted.overlay.X` becomes `trusted.overlay.overlay.X`, so that an image cannot
 * use it to redirect, hide or graft anything. `user.overlay.X` is unchanged: without `userxattr` it is an ordinary
 * attribute, and overlayfs would show the escaped name.
 *
 * @param isOpaque adds the mark that hides the directories with the same path in lower layers
 * @returns the given object if nothing changes
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

/** Whether the attributes need changes for a layer image. */
export function hasPrivateXattrs(attributes: NodeAttributes): boolean {
  return attributes.xattrs.some(({ name }) => name.startsWith(PRIVATE_PREFIX));
}

function escapeXattrName(name: ByteString): ByteString {
  if (!name.startsWith(PRIVATE_PREFIX)) return name;
  return ESCAPED_PREFIX + name.slice(PRIVATE_PREFIX.length);
}
