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
import { sortedChildren } from "../../model/node.ts";
import { INODE_NUMBER, LINK_COUNT_MAX } from "../format/constants.ts";

/** A node with its number. */
export interface NumberedNode {
  readonly inodeNumber: number;
  readonly node: TreeNode;
  /** The first of its names in path order; empty for the root. */
  readonly path: ByteString;
  /** The directory that has its first name; the root's is itself. */
  readonly parentInodeNumber: number;
  /** Names of it; for a directory 2 and its subdirectories. Not yet cut to what a directory stores. */
  linkCount: number;
}

/** A tree in inode order. */
export interface NumberedTree {
  /** The root first, then ascending inode numbers from 11. */
  readonly nodes: readonly NumberedNode[];
  readonly inodeNumberOf: ReadonlyMap<TreeNode, number>;
  /** The number that the next inode would get. */
  readonly nextInodeNumber: number;
}

/** Numbers every node of a tree once and counts its links. */
export function numberTree(tree: FileTree): NumberedTree {
  const nodes: NumberedNode[] = [];
  const byNode = new Map<TreeNode, NumberedNode>();
  let nextInodeNumber: number = INODE_NUMBER.FIRST_USABLE;
  const pending: { path: ByteString; node: TreeNode; parent: NumberedNode | undefined }[] = [
    { path: "", node: tree.root, parent: undefined },
  ];
  for (let item = pending.pop(); item; item = pending.pop()) {
    const { path, node, parent } = item;
    const known = byNode.get(node);
    if (known !== undefined) {
      addName(known, path);
      continue;
    }
    const inodeNumber = parent === undefined ? INODE_NUMBER.ROOT : nextInodeNumber++;
    const numbered: NumberedNode = {
      inodeNumber,
      node,
      path,
      parentInodeNumber: parent?.inodeNumber ?? inodeNumber,
      linkCount: node.kind === "directory" ? 2 : 1,
    };
    nodes.push(numbered);
    byNode.set(node, numbered);
    if (node.kind !== "directory") continue;
    if (parent !== undefined) parent.linkCount++;
    const children = sortedChildren(node);
    for (let i = children.length - 1; i >= 0; i--) {
      const [name, child] = children[i]!;
      pending.push({ path: `${path}/${name}`, node: child, parent: numbered });
    }
  }
  const inodeNumberOf = new Map<TreeNode, number>();
  for (const { node, inodeNumber } of nodes) inodeNumberOf.set(node, inodeNumber);
  return { nodes, inodeNumberOf, nextInodeNumber };
}

/** What i_links_count says: a directory with more links than fit says 1 (DIR_NLINK). */
export function storedLinkCount(numbered: NumberedNode): number {
  const isFull = numbered.node.kind === "directory" && numbered.linkCount > LINK_COUNT_MAX;
  return isFull ? 1 : numbered.linkCount;
}

function addName(known: NumberedNode, path: ByteString): void {
  if (known.node.kind === "directory") {
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
