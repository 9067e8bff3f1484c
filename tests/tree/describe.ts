/**
 * Trees as plain data, to be compared.
 *
 * @module
 */
import { byteStringFromBytes } from "../../lib/bytes/byte_string.ts";
import { type FileTree, readPayload, type TreeNode, walkTree } from "../../lib/model/node.ts";
import { isWhiteoutDevice } from "../../lib/tree/layer.ts";

/** All that can be seen of one name. */
export interface NameDescription {
  readonly kind: TreeNode["kind"];
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: readonly [seconds: number, nanoseconds: number];
  readonly xattrs: Readonly<Record<string, string>>;
  readonly data?: string;
  readonly link?: string;
  readonly device?: readonly [major: number, minor: number];
  /** For all but directories: the first name of the same node, and how many it has. */
  readonly firstName?: string;
  readonly linkCount?: number;
}

/** Names with a leading slash, the root as "/", in the order of a walk. */
export type TreeDescription = Record<string, NameDescription>;

/**
 * Describes every name.
 *
 * @param linkCounts what each node says of its link count, where it is not the number of its names in this tree
 */
export function describeTree(
  tree: FileTree,
  linkCounts: ReadonlyMap<TreeNode, number> = countNames(tree),
): TreeDescription {
  const firstNames = new Map<TreeNode, string>();
  const description: TreeDescription = {};
  for (const { path, node } of walkTree(tree)) {
    const name = path || "/";
    const { mode, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs } = node.attributes;
    if (!firstNames.has(node)) firstNames.set(node, name);
    description[name] = {
      kind: node.kind,
      mode,
      uid,
      gid,
      mtime: [mtimeSeconds, mtimeNanoseconds],
      xattrs: Object.fromEntries(xattrs.map((x) => [x.name, byteStringFromBytes(x.value)])),
      ...(node.kind === "file" && { data: dataOf(node) }),
      ...(node.kind === "symlink" && { link: node.target }),
      ...("deviceMajor" in node && { device: [node.deviceMajor, node.deviceMinor] as const }),
      ...(node.kind !== "directory" && {
        firstName: firstNames.get(node)!,
        linkCount: linkCounts.get(node)!,
      }),
    };
  }
  return description;
}

/** How many names each node has in the tree. */
export function countNames(tree: FileTree): Map<TreeNode, number> {
  const counts = new Map<TreeNode, number>();
  for (const { node } of walkTree(tree)) counts.set(node, (counts.get(node) ?? 0) + 1);
  return counts;
}

/** The description without the names that overlayfs takes for whiteouts. */
export function withoutWhiteoutDevices(tree: FileTree): TreeDescription {
  const hidden = new Set<string>();
  for (const { path, node } of walkTree(tree)) if (isWhiteoutDevice(node)) hidden.add(path);
  return Object.fromEntries(
    Object.entries(describeTree(tree)).filter(([path]) => !hidden.has(path)),
  );
}

function dataOf(node: Extract<TreeNode, { kind: "file" }>): string {
  const bytes = new Uint8Array(node.payload.sizeBytes);
  readPayload(node.payload, bytes, 0);
  return byteStringFromBytes(bytes);
}
