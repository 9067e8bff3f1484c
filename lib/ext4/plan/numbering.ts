/**
 * Which node gets which inode: the root has its fixed number, all others follow in path order, so that equal trees get
 * equal numbers however their layers were cut.
 *
 * @module
 */
import type { ByteString } from "../../bytes/byte_string.ts";
import { displayName } from "../../bytes/byte_string.ts";
import { InputError } from "../../errors.ts";
import type { FileTree, TreeNode } from "../../model/node.ts";
import { sortedNames } from "../../model/node.ts";
import { INODE_NUMBER, LINK_COUNT_MAX } from "../format/constants.ts";

/** A node with its number. There is one for each file of an image, so it holds no more than it must. */
export class NumberedNode {
  readonly inodeNumber: number;
  readonly node: TreeNode;
  /** Names of it; for a directory 2 and its subdirectories. Not yet cut to what a directory stores. */
  linkCount: number;
  readonly #parent: NumberedNode | undefined;
  readonly #name: ByteString;

  /**
   * @param parent the directory that has its first name; undefined for the root
   * @param name the first of its names in path order; empty for the root
   */
  constructor(
    inodeNumber: number,
    node: TreeNode,
    parent: NumberedNode | undefined,
    name: ByteString,
  ) {
    this.inodeNumber = inodeNumber;
    this.node = node;
    this.linkCount = node.kind === "directory" ? 2 : 1;
    this.#parent = parent;
    this.#name = name;
  }

  /** The directory that has its first name; the root's is itself. */
  get parentInodeNumber(): number {
    return this.#parent?.inodeNumber ?? this.inodeNumber;
  }

  /** The first of its paths in path order; empty for the root. Put together each time. */
  get path(): ByteString {
    const names = [this.#name];
    for (let at = this.#parent; at !== undefined; at = at.#parent) names.push(at.#name);
    return names.reverse().join("/");
  }
}

/** A tree in inode order. */
export interface NumberedTree {
  /** The root first, then ascending inode numbers from 11. */
  readonly nodes: readonly NumberedNode[];
  readonly inodeNumberOf: (node: TreeNode) => number;
  /** The number that the next inode would get. */
  readonly nextInodeNumber: number;
}

/** A directory whose children are being numbered. */
interface OpenDirectory {
  readonly numbered: NumberedNode;
  readonly children: ReadonlyMap<ByteString, TreeNode>;
  /** In byte order. */
  readonly names: readonly ByteString[];
  nextName: number;
}

/** Numbers every node of a tree once and counts its links. */
export function numberTree(tree: FileTree): NumberedTree {
  const root = new NumberedNode(INODE_NUMBER.ROOT, tree.root, undefined, "");
  const nodes = [root];
  const byNode = new Map<TreeNode, NumberedNode>([[tree.root, root]]);
  let nextInodeNumber: number = INODE_NUMBER.FIRST_USABLE;
  const trail = [openDirectory(root, tree.root.children)];
  for (let open = trail.at(-1); open !== undefined; open = trail.at(-1)) {
    const name = open.names[open.nextName++];
    if (name === undefined) {
      trail.pop();
      continue;
    }
    const node = open.children.get(name)!;
    const known = byNode.get(node);
    if (known !== undefined) {
      addName(known, open.numbered, name);
      continue;
    }
    const numbered = new NumberedNode(nextInodeNumber++, node, open.numbered, name);
    nodes.push(numbered);
    byNode.set(node, numbered);
    if (node.kind !== "directory") continue;
    open.numbered.linkCount++;
    trail.push(openDirectory(numbered, node.children));
  }
  const inodeNumberOf = (node: TreeNode) => byNode.get(node)!.inodeNumber;
  return { nodes, inodeNumberOf, nextInodeNumber };
}

function openDirectory(
  numbered: NumberedNode,
  children: ReadonlyMap<ByteString, TreeNode>,
): OpenDirectory {
  return { numbered, children, names: sortedNames(children.keys()), nextName: 0 };
}

/** What i_links_count says: a directory with more links than fit says 1 (DIR_NLINK). */
export function storedLinkCount(numbered: Pick<NumberedNode, "node" | "linkCount">): number {
  const isFull = numbered.node.kind === "directory" && numbered.linkCount > LINK_COUNT_MAX;
  return isFull ? 1 : numbered.linkCount;
}

function addName(known: NumberedNode, directory: NumberedNode, name: ByteString): void {
  if (known.node.kind === "directory") {
    const path = `${directory.path}/${name}`;
    throw new InputError(displayName(path), "is a second name of a directory");
  }
  known.linkCount++;
  if (known.linkCount > LINK_COUNT_MAX) {
    throw new InputError(
      displayName(known.path),
      `has more than ${LINK_COUNT_MAX} hard links, the most that ext4 can count`,
    );
  }
}
