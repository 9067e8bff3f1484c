/**
 * A layer, what it is applied to, and what it changes: layered mode needs to know that besides the tree itself.
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
  /** Its name in messages: a digest or a file name. */
  readonly name: string;
  /** The entries that follow links to directories; undefined when there are none. */
  readonly added?: AddedEntries | undefined;
}

/**
 * Entries that were added by their paths, as cp(1) would, by their indexes. Where the path of one leads to a directory, that
 * directory is meant, be it through a link: `describe` gives it the entry's attributes, `create` leaves it as it is, and
 * anything but a directory is an error.
 */
export type AddedEntries = ReadonlyMap<number, "describe" | "create">;

/** What a layer is applied to, and how. */
export interface ApplyContext {
  readonly tree: FileTree;
  readonly layerIndex: number;
  readonly budget: TreeBudget;
  readonly warnings: Warnings;
  /** The attributes of directories without an entry. */
  readonly impliedAttributes: NodeAttributes;
  /** Tracks the first layers of nodes; not needed in layered mode. */
  readonly firstLayers?: FirstLayers | undefined;
  /** Records the changes of the layer, in layered mode. */
  readonly changes?: LayerChanges | undefined;
}

/** An entry in messages: its path, its layer, and its offset there. */
export function describeEntry(entry: TarEntry, layerName: string): string {
  return `${displayName(shortenPath(entry.path))} in ${layerName} at offset ${entry.headerOffset}`;
}

/** Cuts out the middle of a long path. */
export function shortenPath(path: ByteString): ByteString {
  return path.length <= 240 ? path : `${path.slice(0, 120)}...${path.slice(-117)}`;
}

/** One whiteout or opaque marker. */
export interface Marker {
  /** The path of the directory that the marker is about. */
  readonly directory: readonly ByteString[];
  /** The name that is removed; undefined for an opaque marker. */
  readonly name: ByteString | undefined;
  readonly entry: TarEntry;
}

/** What is tracked across layers: the dentries of directories, and the names of nodes with hard links. */
export class TreeIndex {
  /** A directory is never moved, so the first dentry of one is its only one. */
  readonly dentries = new WeakMap<DirectoryNode, Dentry>();
  /** All names that a node with hard links ever had; some may be gone again. */
  readonly linkedNames = new Map<TreeNode, Dentry[]>();

  /**
   * Drops names that are gone, and nodes with fewer than two left.
   *
   * @returns for each node its current names, and whether it has lost any
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

  /** Whether the directory is reachable from the root; `known` caches the answers. */
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

/** Records the changes of one layer. */
export class LayerChanges {
  readonly index: TreeIndex;
  readonly layerIndex: number;
  /** Names that were changed, with their former nodes. */
  readonly changedNames = new Map<DirectoryNode, Map<ByteString, TreeNode | undefined>>();
  /** Directories that this layer created: nothing in them is from lower layers. */
  readonly newDirectories = new Set<DirectoryNode>();
  /** Directories with an entry of their own. */
  readonly describedDirectories = new Set<DirectoryNode>();
  /** Directories whose lower content the layer hides, by an opaque marker or a whiteout of their names. */
  readonly opaqueDirectories = new Set<DirectoryNode>();
  /** The layer's markers, and whether each hid something of a lower layer. */
  readonly markers: { readonly marker: Marker; readonly isHiding: boolean }[] = [];
  /** Whether anything depends on the lower layers. */
  usesLowerLayers = false;

  constructor(index: TreeIndex, layerIndex: number) {
    this.index = index;
    this.layerIndex = layerIndex;
  }

  /** Called before a name is assigned or removed; only the first call for a name has an effect. */
  noteName(directory: DirectoryNode, name: ByteString): void {
    let names = this.changedNames.get(directory);
    if (!names) this.changedNames.set(directory, names = new Map());
    if (!names.has(name)) names.set(name, directory.children.get(name));
  }

  /** Whether the layer changed the name. */
  hasName(dentry: Dentry): boolean {
    return this.changedNames.get(dentry.directory)?.has(dentry.name) ?? false;
  }

  /** Called when a directory is created. */
  noteNewDirectory(directory: DirectoryNode, dentry: Dentry): void {
    this.newDirectories.add(directory);
    this.index.dentries.set(directory, dentry);
  }

  /** Called when a symlink is followed, or a node is linked to. */
  noteUse(node: TreeNode): void {
    if (node.origin.layerIndex !== this.layerIndex) this.usesLowerLayers = true;
  }

  /** Called when a node with the first name gets the second one. */
  noteLink(node: TreeNode, first: Dentry, second: Dentry): void {
    this.noteUse(node);
    const dentries = this.index.linkedNames.get(node);
    if (dentries) dentries.push(second);
    else this.index.linkedNames.set(node, [first, second]);
  }
}
