/**
 * File trees: layers applied, trees for overlayfs, nodes and payloads.
 *
 * @module
 */
export { buildTree } from "./build.ts";
export type { BuildTreeOptions, TreeLayer } from "./build.ts";
export { overlayTrees } from "./overlay.ts";
export type { OverlayTree } from "./overlay.ts";
export type { NodeTime } from "./nodes.ts";
export type { AddedEntries } from "./layer.ts";
export type { IdMaps, IdRange, NodeOwner } from "./owners.ts";
export { DEFAULT_TREE_LIMITS } from "./limits.ts";
export type { TreeLimits } from "./limits.ts";
export { sortedChildren, walkTree } from "../model/node.ts";
export type {
  DirectoryNode,
  FileNode,
  FileTree,
  NodeAttributes,
  NodeBase,
  NodeOrigin,
  SpecialNode,
  SymlinkNode,
  TreeNode,
  Xattr,
} from "../model/node.ts";
export { BLOCK_SIZE_BYTES, payloadStream, readPayload } from "../model/payload.ts";
export type { BlockRun, DataSegment, Payload, PayloadIndex } from "../model/payload.ts";
export type { DiffCounts } from "./diff.ts";
