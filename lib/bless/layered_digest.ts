/**
 * The digest of a layer's tree: what tells whether two images of one layer are the same.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash, type Hash } from "node:crypto";
import type { ByteString } from "../bytes/byte_string.ts";
import { invariant } from "../errors.ts";
import { type FileTree, type TreeNode, walkTree } from "../model/node.ts";

/**
 * A digest of all that decides the bytes of a layer's image, beside the options: the layer's diff id, every name with its
 * attributes, and which names share an inode. The content of a file is named by the layer and the entry that it comes
 * from, so that no payload is read. Where the layer lies plays no part.
 *
 * @param diffIdOf the diff id of a layer by its number, counted from the bottom
 */
export function treeDigest(
  tree: FileTree,
  diffId: string,
  diffIdOf: (layerIndex: number) => string,
): string {
  const hash = createHash("sha256");
  addRecord(hash, ["blessfs layer tree 1", diffId]);
  const seen = new Map<TreeNode, number>();
  const ranks = layerRanks(tree);
  for (const { path, node } of walkTree(tree)) {
    const known = seen.get(node);
    if (known !== undefined) {
      addRecord(hash, [path, `same ${known}`]);
      continue;
    }
    seen.set(node, seen.size);
    const { mode, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs } = node.attributes;
    const numbers = `${mode} ${uid} ${gid} ${mtimeSeconds} ${mtimeNanoseconds} ${xattrs.length}`;
    const { layerIndex } = node.origin;
    addRecord(hash, [
      path,
      node.kind,
      numbers,
      contentOf(node, diffIdOf, ranks.get(layerIndex) ?? 0),
    ]);
    for (const { name, value } of xattrs) addRecord(hash, [name], value);
  }
  return `sha256:${hash.digest("hex")}`;
}

/** The layers that files come from, numbered in their order, whatever lies between. */
function layerRanks(tree: FileTree): Map<number, number> {
  const indexes = new Set<number>();
  for (const { node } of walkTree(tree)) {
    if (node.kind === "file") indexes.add(node.origin.layerIndex);
  }
  return new Map([...indexes].sort((a, b) => a - b).map((layerIndex, rank) => [layerIndex, rank]));
}

function contentOf(
  node: TreeNode,
  diffIdOf: (layerIndex: number) => string,
  rank: number,
): ByteString {
  switch (node.kind) {
    case "directory":
      return "";
    case "symlink":
      return node.target;
    case "file":
      return `${diffIdOf(node.origin.layerIndex)} ${rank} ${node.origin.entryIndex}`;
    default:
      return `${node.deviceMajor}:${node.deviceMinor}`;
  }
}

/** Fields with their lengths, so that no two records are spelled alike. */
function addRecord(hash: Hash, fields: readonly ByteString[], bytes?: Uint8Array): void {
  const lengths = fields.map(({ length }) => length).join(" ");
  invariant(fields.every((field) => !/[^\0-\xff]/.test(field)), "fields are byte strings");
  hash.update(Buffer.from(`${lengths} ${bytes?.length ?? "-"}\n${fields.join("")}`, "latin1"));
  if (bytes) hash.update(bytes);
}
