/**
 * Puts trees on disk by tar(1), which knows owners, times to the nanosecond, devices and xattrs.
 *
 * @module
 */
import { byteStringFromBytes } from "../../lib/bytes/byte_string.ts";
import { type FileTree, readPayload, type TreeNode, walkTree } from "../../lib/model/node.ts";
import { mustRun } from "../oracle/command.ts";
import type { SimpleEntry } from "../tar/build.ts";
import { buildTar } from "../tar/build.ts";

/** Writes the tree into a directory, attributes of the root included. */
export function unpackTree(tree: FileTree, directory: string): void {
  Deno.mkdirSync(directory);
  const tarFile = `${directory}.tar`;
  Deno.writeFileSync(tarFile, buildTar(entriesOf(tree)));
  mustRun("tar", [
    "--extract",
    `--file=${tarFile}`,
    `--directory=${directory}`,
    "--preserve-permissions",
    "--same-owner",
    "--numeric-owner",
    "--xattrs",
    "--xattrs-include=*",
    "--delay-directory-restore",
  ]);
  Deno.removeSync(tarFile);
}

/** The tree as the entries of one tar. */
export function entriesOf(tree: FileTree): SimpleEntry[] {
  const firstPaths = new Map<TreeNode, string>();
  return [...walkTree(tree)].map(({ path: rooted, node }) => {
    const path = `.${rooted}${node.kind === "directory" ? "/" : ""}`;
    const first = firstPaths.get(node);
    if (first !== undefined) return { path, kind: "hardlink", link: first };
    firstPaths.set(node, path);
    return { path, ...describeNode(node) };
  });
}

function describeNode(node: TreeNode): Omit<SimpleEntry, "path"> {
  const { mode, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs } = node.attributes;
  if (node.kind === "socket") throw new Error("a tar cannot hold a socket");
  return {
    kind: node.kind,
    mode,
    uid,
    gid,
    mtime: [mtimeSeconds, mtimeNanoseconds],
    xattrs: Object.fromEntries(xattrs.map((x) => [x.name, byteStringFromBytes(x.value)])),
    ...(node.kind === "file" && { data: contentOf(node) }),
    ...(node.kind === "symlink" && { link: node.target }),
    ...("deviceMajor" in node && { major: node.deviceMajor, minor: node.deviceMinor }),
  };
}

function contentOf(node: Extract<TreeNode, { kind: "file" }>): Uint8Array {
  const bytes = new Uint8Array(node.payload.sizeBytes);
  readPayload(node.payload, bytes, 0);
  return bytes;
}
