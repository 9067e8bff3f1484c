/**
 * The order of payload, as few numbers as it takes.
 *
 * @module
 */
import type { FileNode, FileTree } from "../model/node.ts";
import { walkTree } from "../model/node.ts";

/**
 * Sets `firstLayer` of all files to the smallest numbers that say an order: where files are put in the order of
 * (first layer, path), they come in the order of `placeOf`. A number begins wherever a file comes before one that is
 * earlier in the order of paths. Files without data, and those without a place, get 0.
 */
export function notePayloadPlaces(
  tree: FileTree,
  placeOf: (node: FileNode) => number | undefined,
): void {
  const files = new Map<FileNode, { readonly position: number; readonly place: number }>();
  const seen = new Set<FileNode>();
  for (const { node } of walkTree(tree)) {
    if (node.kind !== "file" || seen.has(node)) continue;
    seen.add(node);
    const place = node.payload.dataRuns.length > 0 ? placeOf(node) : undefined;
    if (place !== undefined) files.set(node, { position: files.size, place });
    node.firstLayer = 0;
  }
  const placed = [...files].sort(([, a], [, b]) => a.place - b.place || a.position - b.position);
  let firstLayer = 0;
  let previous = -1;
  for (const [node, { position }] of placed) {
    if (position < previous) firstLayer++;
    node.firstLayer = firstLayer;
    previous = position;
  }
}
