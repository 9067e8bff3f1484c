/**
 * Builds one tree from all layers of an image.
 *
 * @module
 */
import type { FileTree } from "../model/node.ts";
import type { Warnings } from "../warnings.ts";
import { applyLayer } from "./apply.ts";
import { FirstLayers } from "./first_layers.ts";
import type { TreeLayer } from "./layer.ts";
import { TreeBudget, type TreeLimits } from "./limits.ts";
import { emptyDirectory, impliedDirectoryAttributes, type NodeTime } from "./nodes.ts";

export type { TreeLayer } from "./layer.ts";

/** Options of {@link buildTree}. */
export interface BuildTreeOptions {
  /** Counts what is changed or left out. */
  readonly warnings: Warnings;
  /** Modification time of directories that no entry describes, the root among them. */
  readonly defaultTime: NodeTime;
  /** Bounds on the tree; what is not given is the default. */
  readonly limits?: Partial<TreeLimits>;
}

/**
 * Applies the layers, the lowest first, to an empty root (0755 0:0).
 *
 * Hard links keep their identity across layers; the attributes in their own headers are ignored, since some writers leave
 * them empty. Warnings of what is dropped or changed: `clampedPath`, `duplicatePath`, `replacedParent`,
 * `unsupportedXattr`, `skippedAufsMetadata`.
 *
 * @throws InputError for entries that no tree can have, and for what the limits forbid; the message names the
 * entry, the layer, and the entry's offset
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { memoryReader } from "../io/random_reader.ts";
 * import { EMPTY_PAYLOAD_INDEX } from "../model/payload.ts";
 * import { Warnings } from "../warnings.ts";
 * import { buildTree, type TreeLayer } from "./build.ts";
 *
 * const file = {
 *   kind: "file", linkTarget: "", mode: 0o644, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanoseconds: 0,
 *   deviceMajor: 0, deviceMinor: 0, xattrs: [], payload: EMPTY_PAYLOAD_INDEX, headerOffset: 0,
 * } as const;
 * const layer = (...paths: string[]): TreeLayer => ({
 *   entries: paths.map((path) => ({ ...file, path })),
 *   store: memoryReader(new Uint8Array()),
 *   whiteouts: true,
 *   name: "layer",
 * });
 * const { root } = buildTree([layer("a", "b"), layer(".wh.a", "c")], {
 *   warnings: new Warnings(),
 *   defaultTime: { seconds: 0, nanoseconds: 0 },
 * });
 * assertEquals([...root.children.keys()], ["b", "c"]);
 * ```
 */
export function buildTree(layers: readonly TreeLayer[], options: BuildTreeOptions): FileTree {
  const { warnings, defaultTime, limits } = options;
  const impliedAttributes = impliedDirectoryAttributes(defaultTime);
  const budget = new TreeBudget(limits);
  const tree = emptyTree(defaultTime);
  const firstLayers = new FirstLayers();
  layers.forEach((layer, layerIndex) =>
    applyLayer(layer, { tree, layerIndex, budget, warnings, impliedAttributes, firstLayers })
  );
  return tree;
}

/** A root without children, as it is before the first layer. */
export function emptyTree(defaultTime: NodeTime): FileTree {
  return {
    root: emptyDirectory(impliedDirectoryAttributes(defaultTime), { layerIndex: 0, entryIndex: 0 }),
  };
}
