/**
 * What the image of a layer is known by: the layers that it lies on, since its tree may depend on them, and the digest of its
 * tree, which tells whether two images of one layer are the same.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash, type Hash } from "node:crypto";
import type { ByteString } from "../bytes/byte_string.ts";
import { invariant } from "../errors.ts";
import { parseDigest } from "../io/digest.ts";
import { type FileTree, type TreeNode, walkTree } from "../model/node.ts";

/** As much of a layer as its chain needs. */
export interface ChainLink {
  readonly diffId: string | undefined;
  /** Whether `.wh.` names are whiteouts. */
  readonly whiteouts: boolean;
}

/**
 * The chain keys of layers, bottom to top: the chain id of OCI's image specification (config.md, "Layer ChainID") of the
 * layer and all below. A layer in which whiteouts mean nothing is another layer, though its diff id be the same.
 * From the first layer on whose diff id is not known, there are no keys.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { chainKeys } from "./layered_identity.ts";
 * const diffId = `sha256:${"0".repeat(64)}`;
 * const [bottom, top] = chainKeys([{ diffId, whiteouts: true }, { diffId, whiteouts: true }]);
 * assertEquals(bottom, diffId);
 * assertEquals(top?.length, diffId.length);
 * ```
 */
export function chainKeys(layers: readonly ChainLink[]): (string | undefined)[] {
  let below: string | undefined = "";
  return layers.map(({ diffId, whiteouts }) => {
    if (diffId === undefined || below === undefined) return below = undefined;
    const own: string = whiteouts ? diffId : sha256(`${diffId} plain`);
    below = below === "" ? own : sha256(`${below} ${own}`);
    return below;
  });
}

/** The name, without an ending, of the files of a layer's image. */
export function layerFileName(diffId: string): string {
  return parseDigest(diffId, "diff id").hex;
}

const TREE_HEX_DIGITS = 16;

/** The name for an image whose usual name is taken by an image of the same layer that shows another tree. */
export function treeFileName(diffId: string, treeDigest: string): string {
  const { hex } = parseDigest(treeDigest, "tree digest");
  return `${layerFileName(diffId)}-${hex.slice(0, TREE_HEX_DIGITS)}`;
}

function sha256(text: string): string {
  return `sha256:${createHash("sha256").update(text).digest("hex")}`;
}

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
