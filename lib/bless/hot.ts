/**
 * Hot files: the files that a boot reads, given as a list or found from the entry point. They are placed first and in
 * order, and their location is reported so that a store or a server can prefetch them.
 *
 * @module
 */
import { alignDown, alignUp } from "../bytes/arithmetic.ts";
import { type ByteString, displayName } from "../bytes/byte_string.ts";
import type { ChunkDigest } from "../chunk/chunk.ts";
import { InputError, optionError } from "../errors.ts";
import type { ImagePlan } from "../ext4/plan/image_plan.ts";
import {
  BLOCK_SIZE_BYTES,
  type FileNode,
  type FileTree,
  sortedChildren,
  type TreeNode,
} from "../model/node.ts";
import type { HotList, HotListFormat } from "../source/hot_list.ts";
import { displayText } from "../source/json.ts";
import type { OpenedImage } from "../source/types.ts";
import { resolvePath } from "../tree/paths.ts";
import type { Warnings } from "../warnings.ts";
import type { EnvelopeReport } from "./envelope.ts";
import { cellIds } from "./plan_cells.ts";
import { type Closure, entrypointClosure } from "./hot_entrypoint.ts";

/** Which files are hot: those in a list, or those that starting the entry point reads. */
export type HotFiles =
  | { readonly kind: "entrypoint" }
  | {
    readonly kind: "list";
    /** The name of the list in errors and in the report. */
    readonly name: string;
    readonly list: HotList;
  };

/** Options for hot files. */
export interface HotOptions {
  /** The files that a boot reads first; they are placed before all others, in that order. */
  readonly hot?: HotFiles | undefined;
  /** The digest that identifies cells in the report; default `sha512-256`, as in chunk stores. */
  readonly hotDigest?: ChunkDigest | undefined;
}

/** The hot files of an image. */
export interface HotReport {
  /** `entrypoint`, or the name of the list. */
  readonly source: string;
  /** The format of the list; null for `entrypoint`. */
  readonly format: HotListFormat | null;
  /** The number of distinct files placed first. */
  readonly files: number;
  /** Their total size. */
  readonly bytes: number;
  /** The number of paths that are not in the image or do not lead to a file. */
  readonly missing: number;
}

/** The location of hot files, in whole grid cells. */
export interface PrefetchReport {
  /** The offset of the first cell in the output, in bytes. */
  readonly offset: number;
  /** The length in bytes, up to the end of the last cell or of the image. */
  readonly length: number;
  /** The digest that the ids are. */
  readonly digest: ChunkDigest;
  /** The ids of the cells in order, the same as in a chunk store with the same grid. */
  readonly cells: readonly string[];
}

type HotImage = Pick<OpenedImage, "source" | "config">;

interface ChosenHot {
  /** In reading order. */
  readonly files: readonly FileNode[];
  readonly report: HotReport;
}

/** Throws a UsageError for options that exclude each other. */
export function checkHot({ hot, like }: HotOptions & { readonly like?: unknown }): void {
  if (hot === undefined || like === undefined) return;
  throw optionError("hot", "has no effect on an image whose blocks stay where they are", {
    remedies: [{ option: "like", change: "omit", when: "to lay the image out afresh" }],
    hint: "an image that continues one with hot files keeps them where they are",
  });
}

/** Finds the hot files in a tree. @throws {InputError} when none is in the image */
export function chooseHot(
  tree: FileTree,
  hot: HotFiles,
  image: HotImage,
  warnings: Warnings,
): ChosenHot {
  const { files, missing } = findHot(tree, hot, image);
  const source = hot.kind === "entrypoint" ? "entrypoint" : hot.name;
  if (files.length === 0) {
    const why = `names ${missing.length} paths, and none leads to a file of the image`;
    throw new InputError(source, why, { hint: "paths begin at the root of the image" });
  }
  for (const path of missing) {
    warnings.add("hotFileMissing", displayText(source), `${displayName(path)} is not in the image`);
  }
  return {
    files,
    report: {
      source,
      format: hot.kind === "entrypoint" ? null : hot.list.format,
      files: files.length,
      bytes: files.reduce((sum, { payload }) => sum + payload.sizeBytes, 0),
      missing: missing.length,
    },
  };
}

/** The hot files of a tree, without warnings; undefined if there are none. */
export function hotWithin(
  tree: FileTree,
  hot: HotFiles | undefined,
  image: HotImage,
): readonly FileNode[] | undefined {
  if (hot === undefined) return undefined;
  try {
    return findHot(tree, hot, image).files;
  } catch (error) {
    if (error instanceof InputError) return undefined;
    throw error;
  }
}

function findHot(
  tree: FileTree,
  hot: HotFiles,
  image: HotImage,
): Closure {
  return hot.kind === "entrypoint"
    ? entrypointClosure(tree, image.config, image.source)
    : filesOfList(tree, hot.list);
}

function filesOfList(tree: FileTree, { entries }: HotList): Closure {
  const files = new Set<FileNode>();
  const missing = new Set<ByteString>();
  for (const { path, takesTree } of entries) {
    const node = resolvePath(tree, path)?.node;
    if (node === undefined) missing.add(path);
    else if (node.kind === "file") files.add(node);
    else if (node.kind === "directory") { if (takesTree) addTree(node, files); }
    else if (takesTree) missing.add(path);
  }
  return { files: [...files], missing: [...missing] };
}

/** Adds all files below a directory, in path order. */
function addTree(directory: TreeNode, files: Set<FileNode>): void {
  const pending: TreeNode[] = [directory];
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    if (node.kind === "file") files.add(node);
    if (node.kind !== "directory") continue;
    for (const [, child] of sortedChildren(node).reverse()) pending.push(child);
  }
}

/** Translates offsets to the output, in which the file system may be a partition of a disk. */
export function prefetchInOutput(
  prefetch: PrefetchReport,
  { disk }: Pick<EnvelopeReport, "disk">,
): PrefetchReport {
  const root = disk?.partitions.find(({ role }) => role === "root");
  return root === undefined ? prefetch : { ...prefetch, offset: prefetch.offset + root.startBytes };
}

/**
 * The location of a plan's hot files, and the ids of their cells. Reads the payload of those cells.
 *
 * @returns undefined when no hot file has blocks
 */
export async function prefetchOf(
  plan: ImagePlan,
  { files }: ChosenHot,
  { digest, signal }: { readonly digest: ChunkDigest; readonly signal?: AbortSignal | undefined },
): Promise<PrefetchReport | undefined> {
  const gridBytes = plan.gridBlocks * BLOCK_SIZE_BYTES;
  const hot = new Set<TreeNode>(files);
  let [first, end] = [Infinity, 0];
  for (const { draft, extents } of plan.files) {
    if (!hot.has(draft.node)) continue;
    for (const { startBlock, blockCount } of extents) {
      first = Math.min(first, startBlock);
      end = Math.max(end, startBlock + blockCount);
    }
  }
  if (end === 0) return undefined;
  const sizeBytes = plan.totalBlocks * BLOCK_SIZE_BYTES;
  const offset = alignDown(first * BLOCK_SIZE_BYTES, gridBytes);
  const length = Math.min(alignUp(end * BLOCK_SIZE_BYTES, gridBytes), sizeBytes) - offset;
  const cells = await cellIds(plan, { offset, length }, { digest, signal });
  return { offset, length, digest, cells };
}
