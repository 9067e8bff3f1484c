/**
 * A tree that differs from another in random places.
 *
 * @module
 */
import type { DirectoryNode, FileTree, TreeNode } from "../../lib/model/node.ts";
import { walkTree } from "../../lib/model/node.ts";
import type { Random } from "../oracle/noise.ts";
import { randomAttributes, type XattrLimits } from "../oracle/random_attributes.ts";
import { dir, file, special, symlink, treeOf } from "../oracle/tree_builder.ts";

const LIMITS: XattrLimits = { allowsBig: false, valueBytesMax: 1500 };

/** The same tree in other objects, without what no layer can hold: sockets, and names of whiteouts. */
export function copyTree(tree: FileTree): FileTree {
  const copies = new Map<TreeNode, TreeNode>();
  const copy = (node: TreeNode): TreeNode => {
    const known = copies.get(node);
    if (known) return known;
    let made: TreeNode;
    if (node.kind === "directory") {
      // A layer cannot speak of names that would be whiteouts.
      const names = [...node.children].filter(([name]) => !name.startsWith(".wh."));
      const children = names.map(([name, child]) => [name, copy(child)] as const);
      made = { ...node, children: new Map(children) };
    } else made = node.kind === "socket" ? { ...node, kind: "fifo" } : { ...node };
    copies.set(node, made);
    return made;
  };
  return { root: copy(tree.root) as DirectoryNode };
}

/** A copy with some things taken away, added, moved, linked, unlinked, and changed. */
export function changedTree(tree: FileTree, random: Random): FileTree {
  const changed = copyTree(tree);
  const stepCount = random.pick([0, 1, 1, 2, 5, 20]);
  for (let i = 0; i < stepCount; i++) changeOnce(changed, random);
  return treeOf(changed.root);
}

function changeOnce(tree: FileTree, random: Random): void {
  const directories: DirectoryNode[] = [];
  for (const { node } of walkTree(tree)) if (node.kind === "directory") directories.push(node);
  const parent = random.pick(directories);
  const names = [...parent.children.keys()];
  const name = names.length > 0 && random.chance(0.8)
    ? random.pick(names)
    : `new ${random.below(9)}`;
  const node = parent.children.get(name);
  switch (random.below(9)) {
    case 0:
      parent.children.delete(name);
      return;
    case 1:
      parent.children.clear();
      return;
    case 2:
      parent.children.set(name, newNode(random));
      return;
    case 3: {
      const target = node ?? parent;
      target.attributes = randomAttributes(random, target.kind, LIMITS);
      return;
    }
    case 4:
      if (node) target(directories, random).children.set(`moved ${random.below(5)}`, leafOf(node));
      return;
    case 5:
      if (node && node.kind !== "directory") parent.children.set(name, { ...node });
      return;
    case 6:
      if (node?.kind === "file") {
        const other = file(random.bytes(Math.min(node.payload.sizeBytes, 20_000)));
        parent.children.set(name, { ...other, attributes: node.attributes });
      }
      return;
    case 7:
      if (node) node.attributes = { ...node.attributes, xattrs: [] };
      return;
    default:
      parent.children.set(name, newNode(random));
      parent.children.set(`${name}!`.slice(-200), dir({ inside: newNode(random) }));
  }
}

/** A directory has one name only: in its place something else is linked. */
function leafOf(node: TreeNode): TreeNode {
  return node.kind === "directory" ? file("in place of a directory") : node;
}

function target(directories: readonly DirectoryNode[], random: Random): DirectoryNode {
  return random.pick(directories);
}

function newNode(random: Random): TreeNode {
  const node = random.pick<() => TreeNode>([
    () => file(random.bytes(random.below(9000))),
    () => file({ sizeBytes: 50_000, parts: [[20_000, random.bytes(100)]] }),
    () => dir({ a: file("a"), b: symlink("a") }),
    () => symlink(`target ${random.below(3)}`),
    () => special("characterDevice", [1, random.below(4)]),
    () => special("fifo"),
  ])();
  if (random.chance(0.3)) node.attributes = randomAttributes(random, node.kind, LIMITS);
  return node;
}
