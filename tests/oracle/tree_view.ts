/**
 * A tree in memory, seen the way the kernel would show it.
 *
 * @module
 */
import {
  BLOCK_SIZE_BYTES,
  type DirectoryNode,
  type FileTree,
  type Payload,
  readPayload,
  sortedChildren,
  type TreeNode,
  walkTree,
} from "../../lib/model/node.ts";
import type { ObservedContent, ObservedName } from "./observed.ts";
import { directoryLinkCount } from "./observed.ts";

/** Walks a tree in memory. */
export function* viewTree(tree: FileTree): Generator<ObservedName> {
  const linkCounts = countLinks(tree);
  for (const { path, node } of walkTree(tree)) {
    const { xattrs, ...attributes } = node.attributes;
    const isDevice = node.kind === "characterDevice" || node.kind === "blockDevice";
    yield {
      ...attributes,
      path,
      kind: node.kind,
      linkCount: node.kind === "directory"
        ? directoryLinkCount(countSubdirectories(node))
        : linkCounts.get(node)!,
      identity: node,
      xattrs: [...xattrs].sort((a, b) => (a.name < b.name ? -1 : 1)),
      sizeBytes: node.kind === "file" ? node.payload.sizeBytes : 0,
      target: node.kind === "symlink" ? node.target : "",
      deviceMajor: isDevice ? node.deviceMajor : 0,
      deviceMinor: isDevice ? node.deviceMinor : 0,
      open: () => openPayload(node),
    };
  }
}

function countLinks(tree: FileTree): Map<TreeNode, number> {
  const counts = new Map<TreeNode, number>();
  for (const { node } of walkTree(tree)) counts.set(node, (counts.get(node) ?? 0) + 1);
  return counts;
}

function countSubdirectories(directory: DirectoryNode): number {
  return sortedChildren(directory).filter(([, child]) => child.kind === "directory").length;
}

function openPayload(node: TreeNode): ObservedContent {
  if (node.kind !== "file") throw new Error(`a ${node.kind} has no content`);
  const { payload } = node;
  return {
    dataRanges: dataRangesOf(payload),
    readAt: (target, position) => readPayload(payload, target, position),
    close() {},
  };
}

function dataRangesOf(payload: Payload): [number, number][] {
  return payload.dataRuns.map(({ startBlock, blockCount }) => [
    startBlock * BLOCK_SIZE_BYTES,
    Math.min((startBlock + blockCount) * BLOCK_SIZE_BYTES, payload.sizeBytes),
  ]);
}
