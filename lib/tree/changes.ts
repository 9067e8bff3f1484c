/**
 * What one layer did to the tree: what layered mode needs to know beside the tree itself.
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import type { DirectoryNode, TreeNode } from "../model/node.ts";
import type { Marker } from "./whiteout.ts";

/** A name in a directory. */
export interface NamePlace {
  readonly directory: DirectoryNode;
  readonly name: ByteString;
}

/** What is known of a tree across its layers: where its directories lie, and the names of linked nodes. */
export class TreeIndex {
  /** A directory is never moved, so its first place is its only one. */
  readonly places = new WeakMap<DirectoryNode, NamePlace>();
  /** Names that were ever given to a node with more than one; some may be gone again. */
  readonly linkedNames = new Map<TreeNode, NamePlace[]>();

  /**
   * Drops the names that are gone, and nodes that have fewer than two left.
   *
   * @returns the nodes with the names that they have, and whether they had others before
   */
  refreshLinkedNames(root: DirectoryNode): { names: readonly NamePlace[]; lostName: boolean }[] {
    const attached = new Map<DirectoryNode, boolean>([[root, true]]);
    return [...this.linkedNames].map(([node, places]) => {
      const seen = new Map<DirectoryNode, Set<ByteString>>();
      let lostName = false;
      const names = places.filter(({ directory, name }) => {
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
      const place = this.places.get(at);
      if (place?.directory.children.get(place.name) !== at) break;
      at = place.directory;
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
  hasName(place: NamePlace): boolean {
    return this.changedNames.get(place.directory)?.has(place.name) ?? false;
  }

  /** A directory was made under that name. */
  noteNewDirectory(directory: DirectoryNode, place: NamePlace): void {
    this.newDirectories.add(directory);
    this.index.places.set(directory, place);
  }

  /** A symlink was followed, or a node linked to. */
  noteUse(node: TreeNode): void {
    if (node.origin.layerIndex !== this.layerIndex) this.usesLowerLayers = true;
  }

  /** A node that had the first name got the second one. */
  noteLink(node: TreeNode, first: NamePlace, second: NamePlace): void {
    this.noteUse(node);
    const places = this.index.linkedNames.get(node);
    if (places) places.push(second);
    else this.index.linkedNames.set(node, [first, second]);
  }
}
