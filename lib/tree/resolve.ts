/**
 * Looking up paths in a finished tree, as the kernel would with the tree as its root.
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import type { DirectoryNode, FileTree, TreeNode } from "../model/node.ts";

/** What a path leads to. */
export interface ResolvedPath {
  readonly node: TreeNode;
  /** Its real path: no symlink is on the way. The root's is empty. */
  readonly path: ByteString;
}

/** As many symlinks as Linux follows in one path (MAXSYMLINKS). */
const SYMLINK_HOPS_MAX = 40;
/** PATH_MAX: what is longer is no path. */
const PATH_BYTES_MAX = 4096;

/**
 * Follows a path, with all symlinks of it and the last one too.
 *
 * @param path relative ones begin at the root
 * @returns undefined where nothing is there, or links lead nowhere or in circles
 */
export function resolvePath({ root }: FileTree, path: ByteString): ResolvedPath | undefined {
  if (path.length > PATH_BYTES_MAX || path.includes("\0")) return undefined;
  const trail: { readonly name: ByteString; readonly node: TreeNode }[] = [];
  const pending = path.split("/").reverse();
  let hopCount = 0;
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (name === "" || name === ".") continue;
    const directory: TreeNode = trail.at(-1)?.node ?? root;
    if (directory.kind !== "directory") return undefined;
    if (name === "..") {
      trail.pop();
      continue;
    }
    const node: TreeNode | undefined = (directory as DirectoryNode).children.get(name);
    if (node === undefined) return undefined;
    if (node.kind !== "symlink") {
      trail.push({ name, node });
      continue;
    }
    if (++hopCount > SYMLINK_HOPS_MAX) return undefined;
    if (node.target.startsWith("/")) trail.length = 0;
    for (const step of node.target.split("/").reverse()) pending.push(step);
  }
  return {
    node: trail.at(-1)?.node ?? root,
    path: trail.map((step) => `/${step.name}`).join(""),
  };
}
