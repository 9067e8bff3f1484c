/**
 * A small model of what overlayfs shows of a stack of lower directories, written from the kernel's rules (fs/overlayfs:
 * ovl_lookup, ovl_iterate) and not from the code under test.
 *
 * @module
 */
import type { ByteString } from "../../lib/bytes/byte_string.ts";
import type { DirectoryNode, FileTree, NodeAttributes, TreeNode } from "../../lib/model/node.ts";
import { countNames } from "./describe.ts";

/** What the mount shows. */
export interface StackView {
  readonly tree: FileTree;
  /** stat's link counts: those of the inodes in their own layers, seen or not. */
  readonly linkCounts: ReadonlyMap<TreeNode, number>;
}

interface LayerDirectory {
  readonly layerIndex: number;
  readonly node: DirectoryNode;
}

/** Stacks the trees, given from the lowest to the topmost. */
export function stackTrees(trees: readonly FileTree[]): StackView {
  return new Stack(trees).view();
}

class Stack {
  readonly #trees: readonly FileTree[];
  readonly #countsByLayer: readonly Map<TreeNode, number>[];
  /** An inode is known by its layer and its node: layers may share node objects. */
  readonly #shown: Map<TreeNode, TreeNode>[];
  readonly #linkCounts = new Map<TreeNode, number>();

  constructor(trees: readonly FileTree[]) {
    this.#trees = trees;
    this.#countsByLayer = trees.map(countNames);
    this.#shown = trees.map(() => new Map());
  }

  view(): StackView {
    // The roots are always merged, whatever marks they have.
    const roots = this.#trees.map(({ root: node }, layerIndex) => ({ layerIndex, node }));
    const root = this.#directory(roots.toReversed());
    return { tree: { root }, linkCounts: this.#linkCounts };
  }

  /** @param parts the directories that make up one, the topmost first */
  #directory(parts: readonly LayerDirectory[]): DirectoryNode {
    const top = parts[0]!.node;
    const directory: DirectoryNode = {
      kind: "directory",
      attributes: shownAttributes(top.attributes),
      origin: top.origin,
      children: new Map(),
    };
    const isMerged = parts.length > 1;
    for (const name of new Set(parts.flatMap(({ node }) => [...node.children.keys()]))) {
      const child = this.#lookUp(parts, name);
      if (child) directory.children.set(name, child);
      // A directory that is not merged is read as it is: a whiteout in it shows, though it cannot be opened.
      else if (!isMerged) directory.children.set(name, top.children.get(name)!);
    }
    return directory;
  }

  #lookUp(parts: readonly LayerDirectory[], name: ByteString): TreeNode | undefined {
    const found: LayerDirectory[] = [];
    for (const { layerIndex, node } of parts) {
      const child = node.children.get(name);
      if (!child) continue;
      if (isWhiteout(child)) break;
      if (child.kind !== "directory") {
        if (found.length === 0) return this.#file(layerIndex, child);
        break;
      }
      found.push({ layerIndex, node: child });
      if (isOpaque(child)) break;
    }
    return found.length === 0 ? undefined : this.#directory(found);
  }

  #file(layerIndex: number, node: Exclude<TreeNode, DirectoryNode>): TreeNode {
    let shown = this.#shown[layerIndex]!.get(node);
    if (!shown) {
      shown = { ...node, attributes: shownAttributes(node.attributes) };
      this.#shown[layerIndex]!.set(node, shown);
      this.#linkCounts.set(shown, this.#countsByLayer[layerIndex]!.get(node)!);
    }
    return shown;
  }
}

function isWhiteout(node: TreeNode): boolean {
  return node.kind === "characterDevice" && node.deviceMajor === 0 && node.deviceMinor === 0;
}

function isOpaque({ attributes }: DirectoryNode): boolean {
  return attributes.xattrs.some(({ name, value }) =>
    name === "trusted.overlay.opaque" && value.length === 1 && value[0] === 0x79
  );
}

/** Its own attributes are hidden; those that were escaped are shown as they were. */
function shownAttributes(attributes: NodeAttributes): NodeAttributes {
  const xattrs = attributes.xattrs.flatMap(({ name, value }) => {
    if (!name.startsWith("trusted.overlay.")) return [{ name, value }];
    if (!name.startsWith("trusted.overlay.overlay.")) return [];
    return [{ name: `trusted.${name.slice("trusted.overlay.".length)}`, value }];
  });
  return { ...attributes, xattrs };
}
