/**
 * A layer, what it is applied to, and what it did to the tree: layered mode needs to know that beside the tree itself.
 *
 * @module
 */
import { type ByteString, displayName } from "../bytes/byte_string.ts";
import type { RandomReader } from "../io/random_reader.ts";
import type { DirectoryNode, FileTree, NodeAttributes, TreeNode } from "../model/node.ts";
import type { TarEntry } from "../tar/entry.ts";
import type { Warnings } from "../warnings.ts";
import type { FirstLayers } from "./first_layers.ts";
import type { TreeBudget } from "./limits.ts";
import type { Dentry } from "./nodes.ts";

/** One layer, decoded. */
export interface TreeLayer {
  /** In the tar's order. */
  readonly entries: readonly TarEntry[];
  /** What the store offsets of the entries' payloads point into. */
  readonly store: RandomReader;
  /** False for plain root file system tars: there, `.wh.` names are ordinary files. */
  readonly whiteouts: boolean;
  /** What to call it in messages: a digest or a file's name. */
  readonly name: string;
}

/** What a layer is applied to, and with what. */
export interface ApplyContext {
  readonly tree: FileTree;
  readonly layerIndex: number;
  readonly budget: TreeBudget;
  readonly warnings: Warnings;
  /** For directories that entries need and no entry describes. */
  readonly impliedAttributes: NodeAttributes;
  /** Where nodes get their first layer from; not needed for images of single layers. */
  readonly firstLayers?: FirstLayers | undefined;
  /** Set in layered mode: where to write down what the layer did. */
  readonly changes?: LayerChanges | undefined;
}

/** How messages name an entry: its path, its layer, and where in the layer it is. */
export function describeEntry(entry: TarEntry, layerName: string): string {
  return `${displayName(shortenPath(entry.path))} in ${layerName} at offset ${entry.headerOffset}`;
}

/** Cuts the middle out of a path that would fill the screen. */
export function shortenPath(path: ByteString): ByteString {
  return path.length <= 240 ? path : `${path.slice(0, 120)}...${path.slice(-117)}`;
}

/** One whiteout or opaque marker. */
export interface Marker {
  /** Names from the root to the directory that the marker speaks of. */
  readonly directory: readonly ByteString[];
  /** The name that is gone; undefined when the directory is opaque: all names of lower layers are. */
  readonly name: ByteString | undefined;
  readonly entry: TarEntry;
}

/** What is known of a tree across its layers: where its directories lie, and the names of linked nodes. */
export class TreeIndex {
  /** A directory is never moved, so the first dentry of one is its only one. */
  readonly dentries = new WeakMap<DirectoryNode, Dentry>();
  /** Names that were ever given to a node with more than one; some may be gone again. */
  readonly linkedNames = new Map<TreeNode, Dentry[]>();

  /**
   * Drops the names that are gone, and nodes that have fewer than two left.
   *
   * @returns the nodes with the names that they have, and whether they had others before
   */
  refreshLinkedNames(root: DirectoryNode): { names: readonly Dentry[]; lostName: boolean }[] {
    const attached = new Map<DirectoryNode, boolean>([[root, true]]);
    return [...this.linkedNames].map(([node, dentries]) => {
      const seen = new Map<DirectoryNode, Set<ByteString>>();
      let lostName = false;
      const names = dentries.filter(({ directory, name }) => {
        const isName = directory.children.get(name) === node &&
          this.#isAttached(directory, attached);
        if (!isName) lostName = true;
        return isName && addOnce(seen, directory, name);
      });
      if (names.length > 1) this.linkedNames.set(node, names);
      else this.linkedNames.delete(node);
      return { names, lostName };
    });
  }

  /** Whether the directory can be reached from the root; `known` has the answers so far. */
  #isAttached(directory: DirectoryNode, known: Map<DirectoryNode, boolean>): boolean {
    const climbed: DirectoryNode[] = [];
    let at = directory;
    while (!known.has(at)) {
      climbed.push(at);
      const dentry = this.dentries.get(at);
      if (dentry?.directory.children.get(dentry.name) !== at) break;
      at = dentry.directory;
    }
    const answer = known.get(at) ?? false;
    for (const each of climbed) known.set(each, answer);
    return answer;
  }
}

function addOnce(
  seen: Map<DirectoryNode, Set<ByteString>>,
  directory: DirectoryNode,
  name: ByteString,
): boolean {
  const names = seen.get(directory);
  if (names?.has(name)) return false;
  if (names) names.add(name);
  else seen.set(directory, new Set([name]));
  return true;
}

/** Records what one layer does, while it does it. */
export class LayerChanges {
  readonly index: TreeIndex;
  readonly layerIndex: number;
  /** Names that were touched, with the node that lower layers had there. */
  readonly changedNames = new Map<DirectoryNode, Map<ByteString, TreeNode | undefined>>();
  /** Directories that this layer made: none of their content is from lower layers. */
  readonly newDirectories = new Set<DirectoryNode>();
  /** Directories with an entry of their own. */
  readonly describedDirectories = new Set<DirectoryNode>();
  /** Directories whose lower content the layer hides, by an opaque marker or a whiteout of their names. */
  readonly opaqueDirectories = new Set<DirectoryNode>();
  /** The layer's markers, and whether each hid something of a lower layer. */
  readonly markers: { readonly marker: Marker; readonly isHiding: boolean }[] = [];
  /** True once something came out otherwise than it would without the lower layers. */
  usesLowerLayers = false;

  constructor(index: TreeIndex, layerIndex: number) {
    this.index = index;
    this.layerIndex = layerIndex;
  }

  /** To be called before a name is set or removed; the first call for a name counts. */
  noteName(directory: DirectoryNode, name: ByteString): void {
    let names = this.changedNames.get(directory);
    if (!names) this.changedNames.set(directory, names = new Map());
    if (!names.has(name)) names.set(name, directory.children.get(name));
  }

  /** Whether the layer touched the name. */
  hasName(dentry: Dentry): boolean {
    return this.changedNames.get(dentry.directory)?.has(dentry.name) ?? false;
  }

  /** A directory was made under that name. */
  noteNewDirectory(directory: DirectoryNode, dentry: Dentry): void {
    this.newDirectories.add(directory);
    this.index.dentries.set(directory, dentry);
  }

  /** A symlink was followed, or a node linked to. */
  noteUse(node: TreeNode): void {
    if (node.origin.layerIndex !== this.layerIndex) this.usesLowerLayers = true;
  }

  /** A node that had the first name got the second one. */
  noteLink(node: TreeNode, first: Dentry, second: Dentry): void {
    this.noteUse(node);
    const dentries = this.index.linkedNames.get(node);
    if (dentries) dentries.push(second);
    else this.index.linkedNames.set(node, [first, second]);
  }
}
