/**
 * The first layer of each file, which decides the order of payload. A file that an upper layer replaces, or takes away and
 * makes again, keeps the first layer of the former one, and so its position.
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import {
  type DirectoryNode,
  type FileNode,
  type FileTree,
  type TreeNode,
  walkTree,
} from "../model/node.ts";
import type { Dentry } from "./nodes.ts";

/** Sets `firstLayer` of nodes, and remembers nodes that whiteouts removed. */
export class FirstLayers {
  /** Former nodes of names that are free now. */
  readonly #gone = new WeakMap<DirectoryNode, Map<ByteString, TreeNode>>();

  /** Called before a name is removed. */
  noteRemoval({ directory, name }: Dentry): void {
    const node = directory.children.get(name);
    if (node !== undefined) this.#goneFrom(directory).set(name, node);
  }

  /** Called before a name is assigned to a node. */
  notePlacement({ directory, name }: Dentry, node: TreeNode, layerIndex: number): void {
    const gone = this.#gone.get(directory);
    const former = directory.children.get(name) ?? gone?.get(name);
    gone?.delete(name);
    const own = node.firstLayer ?? layerIndex;
    node.firstLayer = Math.min(own, former?.firstLayer ?? own);
    if (former === undefined || former === node) return;
    if (node.kind === "directory" && former.kind === "directory") this.#inherit(node, former);
  }

  /** A directory that is created again remembers the names of the removed one. */
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

/**
 * Sets `firstLayer` of all files to the smallest numbers that express an order: sorted by (first layer, path), files are in
 * the order of their positions. A number ends wherever a file comes before one with an earlier path. Files without data,
 * and those without a position, get 0.
 */
export function rankPayloads(
  tree: FileTree,
  positionOf: (node: FileNode) => number | undefined,
): void {
  const files = new Map<FileNode, { readonly pathRank: number; readonly position: number }>();
  const seen = new Set<FileNode>();
  for (const { node } of walkTree(tree)) {
    if (node.kind !== "file" || seen.has(node)) continue;
    seen.add(node);
    const position = node.payload.dataRuns.length > 0 ? positionOf(node) : undefined;
    if (position !== undefined) files.set(node, { pathRank: files.size, position });
    node.firstLayer = 0;
  }
  const inOrder = [...files].sort(([, a], [, b]) =>
    a.position - b.position || a.pathRank - b.pathRank
  );
  let firstLayer = 0;
  let previousRank = -1;
  for (const [node, { pathRank }] of inOrder) {
    if (pathRank < previousRank) firstLayer++;
    node.firstLayer = firstLayer;
    previousRank = pathRank;
  }
}
