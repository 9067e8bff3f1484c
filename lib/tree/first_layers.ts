/**
 * In which layer each path of a tree first had something. A file that an upper layer replaces, or takes away and
 * makes again, keeps the layer of the first one, so that an order that starts with it keeps the file's place.
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import type { DirectoryNode, TreeNode } from "../model/node.ts";
import type { NamePlace } from "./changes.ts";

/** Sets `firstLayer` of nodes. Beside the tree, it keeps what whiteouts took away. */
export class FirstLayers {
  /** What directories had under names that are free now. */
  readonly #gone = new WeakMap<DirectoryNode, Map<ByteString, TreeNode>>();

  /** To be called before a name is taken away. */
  noteRemoval({ directory, name }: NamePlace): void {
    const node = directory.children.get(name);
    if (node !== undefined) this.#goneFrom(directory).set(name, node);
  }

  /** To be called before a name is given to a node. */
  notePlacement({ directory, name }: NamePlace, node: TreeNode, layerIndex: number): void {
    const gone = this.#gone.get(directory);
    const former = directory.children.get(name) ?? gone?.get(name);
    gone?.delete(name);
    const own = node.firstLayer ?? layerIndex;
    node.firstLayer = Math.min(own, former?.firstLayer ?? own);
    if (former === undefined || former === node) return;
    if (node.kind === "directory" && former.kind === "directory") this.#inherit(node, former);
  }

  /** A directory that is made again has the names of the one that was taken away, to be found when they come back. */
  #inherit(directory: DirectoryNode, former: DirectoryNode): void {
    const gone = this.#goneFrom(former);
    for (const [name, child] of former.children) gone.set(name, child);
    this.#gone.delete(former);
    this.#gone.set(directory, gone);
  }

  #goneFrom(directory: DirectoryNode): Map<ByteString, TreeNode> {
    let gone = this.#gone.get(directory);
    if (gone === undefined) this.#gone.set(directory, gone = new Map());
    return gone;
  }
}
