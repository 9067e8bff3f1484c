/**
 * What identifies the image of a layer: the layers below it, because its tree may depend on them, and the digest of its tree,
 * which says whether two images of one layer are the same.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash, type Hash } from "node:crypto";
import type { ByteString } from "../bytes/byte_string.ts";
import { invariant } from "../errors.ts";
import { parseDigest } from "../io/digest.ts";
import { type FileTree, type TreeNode, walkTree } from "../model/node.ts";

/** What a chain needs to know of a layer. */
export interface ChainLink {
  readonly diffId: string | undefined;
  /** Whether `.wh.` names are whiteouts. */
  readonly whiteouts: boolean;
}

/**
 * The chain keys of layers, bottom to top: the ChainID (OCI image-spec, config.md, "Layer ChainID") of the layer and all
 * below. A layer whose `.wh.` names are ordinary files is a different layer even if its diff id is the same. From the
 * first unknown diff id on, the keys are undefined.
 *
 * @param idMaps the maps of owners as lines
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
export function chainKeys(
  layers: readonly ChainLink[],
  idMaps: readonly string[] = [],
): (string | undefined)[] {
  // What a layer shows depends on the maps, as it does on what is below.
  let below: string | undefined = idMaps.length === 0 ? "" : sha256(idMaps.join("\n"));
  return layers.map(({ diffId, whiteouts }) => {
    if (diffId === undefined || below === undefined) return below = undefined;
    const own: string = whiteouts ? diffId : sha256(`${diffId} plain`);
    below = below === "" ? own : sha256(`${below} ${own}`);
    return below;
  });
}

/** The name of a layer's image and its record, without extension. */
export function layerFileName(diffId: string): string {
  return parseDigest(diffId, "diff id").hex;
}

const TREE_HEX_DIGITS = 16;

/** The name of an image whose usual name is taken by another tree of the same layer. */
export function treeFileName(diffId: string, treeDigest: string): string {
  const { hex } = parseDigest(treeDigest, "tree digest");
  return `${layerFileName(diffId)}-${hex.slice(0, TREE_HEX_DIGITS)}`;
}

function sha256(text: string): string {
  return `sha256:${createHash("sha256").update(text).digest("hex")}`;
}

/**
 * A digest of everything except the options that decides the bytes of a layer's image: the layer's diff id, every name
 * with its attributes, and which names share an inode. The content of a file is identified by its layer and entry, so no
 * payload is read. The layer's position has no influence.
 *
 * @param diffIdOf the diff id of a layer by its index, from 0 at the bottom
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

/** Numbers the layers that files come from, without gaps. */
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

/** Adds fields with their lengths, so that different records never hash the same bytes. */
function addRecord(hash: Hash, fields: readonly ByteString[], bytes?: Uint8Array): void {
  const lengths = fields.map(({ length }) => length).join(" ");
  invariant(fields.every((field) => !/[^\0-\xff]/.test(field)), "fields are byte strings");
  hash.update(Buffer.from(`${lengths} ${bytes?.length ?? "-"}\n${fields.join("")}`, "latin1"));
  if (bytes) hash.update(bytes);
}
