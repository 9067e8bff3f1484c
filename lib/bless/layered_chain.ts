/**
 * What a layer lies on. The tree of a layer for overlayfs may depend on the layers below, so its image is known by both.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { parseDigest } from "../io/digest.ts";

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
 * import { chainKeys } from "./layered_chain.ts";
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

/** The digest that names a source which has no manifest: that of its diff ids, as for a merged image. */
export function contentDigestOf(diffIds: readonly string[]): string {
  return sha256(diffIds.map((diffId) => `${diffId}\n`).join(""));
}

function sha256(text: string): string {
  return `sha256:${createHash("sha256").update(text).digest("hex")}`;
}
