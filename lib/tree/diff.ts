/**
 * The OCI layer that turns one tree into another (OCI image-spec, layer.md, "Change Types").
 *
 * It contains only the differences. A file with several names is included under all of them or none, so that no hard link
 * points into a lower layer, where not every tool can follow it. A directory of which nothing is kept becomes opaque
 * rather than having a whiteout for each name.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { Buffer } from "node:buffer";
import type { ByteString } from "../bytes/byte_string.ts";
import { throwIfAborted } from "../errors.ts";
import { clampTimestamp, type Timestamp } from "../ext4/format/inode.ts";
import {
  BLOCK_SIZE_BYTES,
  type BlockRun,
  type DirectoryNode,
  type FileTree,
  type NodeAttributes,
  type Payload,
  readPayload,
  type TreeNode,
  walkTree,
} from "../model/node.ts";
import type { Warnings } from "../warnings.ts";
import { NodeNamer, opaqueItem, refuseMarkerName, type TarItem, whiteoutItem } from "./tar.ts";

/** How many names differ. */
export interface DiffCounts {
  /** Names that are only in the second tree. */
  added: number;
  /** Names that are only in the first tree; a removed directory counts once. */
  removed: number;
  /** Names in both trees whose kind, attributes, content or links differ. */
  changed: number;
}

/** The result of a comparison. */
export interface TreeDiff {
  /** The entries of the layer, in order. */
  readonly items: readonly TarItem[];
  readonly counts: Readonly<DiffCounts>;
}

/** Options of a comparison. */
export interface DiffOptions {
  readonly warnings: Warnings;
  readonly signal?: AbortSignal | undefined;
}

const YIELD_AFTER_NODES = 256;

/**
 * Compares two trees. Files with equal sizes and checksums are read and compared byte by byte.
 *
 * @throws InputError if a name in the difference begins with `.wh.`
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import type { DirectoryNode, TreeNode } from "../model/node.ts";
 * import { Warnings } from "../warnings.ts";
 * import { diffTrees } from "./diff.ts";
 * const attributes = { mode: 0o755, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanoseconds: 0, xattrs: [] };
 * const origin = { layerIndex: 0, entryIndex: 0 };
 * const directory = (children: [string, TreeNode][]): DirectoryNode => ({
 *   kind: "directory", attributes, origin, children: new Map(children),
 * });
 * const link = (target: string): TreeNode => ({ kind: "symlink", attributes, origin, target });
 * const before = { root: directory([["a", link("x")], ["b", link("x")], ["c", link("x")]]) };
 * const after = { root: directory([["b", link("y")], ["c", link("x")], ["d", link("x")]]) };
 * const { items, counts } = await diffTrees(before, after, { warnings: new Warnings() });
 * assertEquals(items.map(({ entry }) => entry.path), [".wh.a", "b", "d"]);
 * assertEquals(counts, { added: 1, removed: 1, changed: 1 });
 * ```
 */
export async function diffTrees(
  before: FileTree,
  after: FileTree,
  options: DiffOptions,
): Promise<TreeDiff> {
  const kept = await keptNodes(before, after, options);
  return new TreeDiffer(kept, options.warnings).run(before, after);
}

/** The nodes of the second tree, except directories, that are identical in the first under all their names. */
async function keptNodes(
  before: FileTree,
  after: FileTree,
  { signal }: DiffOptions,
): Promise<ReadonlySet<TreeNode>> {
  const former = new Map<ByteString, TreeNode>();
  for (const { path, node } of walkTree(before)) former.set(path, node);
  /** For each node, its counterpart in the first tree under all names seen so far. */
  const candidates = new Map<TreeNode, TreeNode | undefined>();
  for (const { path, node } of walkTree(after)) {
    if (node.kind === "directory") continue;
    const found = former.get(path);
    const isSame = !candidates.has(node) || candidates.get(node) === found;
    candidates.set(node, isSame ? found : undefined);
  }
  const kept = new Set<TreeNode>();
  const taken = new Set<TreeNode>();
  let count = 0;
  for (const [node, found] of candidates) {
    // At most one of two nodes that were a single one is kept.
    if (found === undefined || taken.has(found) || !equalAttributes(found, node)) continue;
    if (!await equalContent(found, node, signal)) continue;
    kept.add(node);
    taken.add(found);
    if (++count % YIELD_AFTER_NODES !== 0) continue;
    await setImmediate();
    throwIfAborted(signal);
  }
  return kept;
}

/** A directory in both trees, or only in the second. */
interface Pair {
  readonly path: ByteString;
  readonly before: TreeNode | undefined;
  readonly after: TreeNode;
}

class TreeDiffer {
  readonly #kept: ReadonlySet<TreeNode>;
  readonly #namer: NodeNamer;
  readonly #items: TarItem[] = [];
  readonly #counts: DiffCounts = { added: 0, removed: 0, changed: 0 };

  constructor(kept: ReadonlySet<TreeNode>, warnings: Warnings) {
    this.#kept = kept;
    this.#namer = new NodeNamer(warnings);
  }

  run(before: FileTree, after: FileTree): TreeDiff {
    const pending: Pair[] = [{ path: "", before: before.root, after: after.root }];
    for (let pair = pending.pop(); pair; pair = pending.pop()) {
      const children = this.#compare(pair);
      for (let i = children.length - 1; i >= 0; i--) pending.push(children[i]!);
    }
    return { items: this.#items, counts: this.#counts };
  }

  /** Adds the entries for one name and returns its children. */
  #compare({ path, before, after }: Pair): Pair[] {
    if (after.kind !== "directory") {
      if (!this.#kept.has(after)) this.#mention(path, before, after);
      return [];
    }
    if (before?.kind !== "directory") {
      this.#mention(path, before, after);
      return childPairs(path, undefined, after);
    }
    const isOpaque = path !== "" && this.#isReplaced(before, after);
    const isChanged = !equalAttributes(before, after);
    if (isChanged) this.#counts.changed++;
    if (isChanged || isOpaque) this.#push(path, after);
    const gone = [...before.children.keys()].filter((name) => !after.children.has(name)).sort();
    this.#counts.removed += gone.length;
    if (isOpaque) this.#items.push(opaqueItem(path));
    else for (const name of gone) this.#items.push(whiteoutItem(`${path}/${name}`));
    return childPairs(path, before, after);
  }

  #mention(path: ByteString, before: TreeNode | undefined, after: TreeNode): void {
    if (before === undefined) this.#counts.added++;
    else this.#counts.changed++;
    this.#push(path, after);
    // A layer cannot hold sockets, but it can remove the lower file.
    if (after.kind === "socket" && before !== undefined) this.#items.push(whiteoutItem(path));
  }

  #push(path: ByteString, node: TreeNode): void {
    refuseMarkerName(path);
    const item = this.#namer.itemOf(path, node);
    if (item !== undefined) this.#items.push(item);
  }

  /** Whether nothing in a directory is kept and it would take more than one whiteout. */
  #isReplaced(before: DirectoryNode, after: DirectoryNode): boolean {
    let goneCount = 0;
    for (const [name, old] of before.children) {
      const now = after.children.get(name);
      if (now === undefined) goneCount++;
      else if (old.kind === "directory" && now.kind === "directory") return false;
      else if (this.#kept.has(now)) return false;
    }
    return goneCount > 1;
  }
}

function childPairs(
  path: ByteString,
  before: DirectoryNode | undefined,
  after: DirectoryNode,
): Pair[] {
  return [...after.children.keys()].sort().map((name) => ({
    path: `${path}/${name}`,
    before: before?.children.get(name),
    after: after.children.get(name)!,
  }));
}

const PIECE_BYTES = 1 << 20;
const YIELD_AFTER_PIECES = 16;

/** Whether two nodes have the same kind and attributes, times and extended attributes included. */
export function equalAttributes(a: TreeNode, b: TreeNode): boolean {
  if (a.kind !== b.kind) return false;
  const [first, second] = [a.attributes, b.attributes];
  return first.mode === second.mode && first.uid === second.uid && first.gid === second.gid &&
    equalTimes(first, second) && equalXattrs(first, second);
}

/** Whether two times are equal, or one is the other clamped to the range of ext4. */
function equalTimes(a: NodeAttributes, b: NodeAttributes): boolean {
  const [first, second] = [timeOf(a), timeOf(b)];
  return isSame(first, second) || isSame(clampTimestamp(first), second) ||
    isSame(first, clampTimestamp(second));
}

function timeOf({ mtimeSeconds, mtimeNanoseconds }: NodeAttributes): Timestamp {
  return { seconds: mtimeSeconds, nanoseconds: mtimeNanoseconds };
}

function isSame(a: Timestamp, b: Timestamp): boolean {
  return a.seconds === b.seconds && a.nanoseconds === b.nanoseconds;
}

function equalXattrs(a: NodeAttributes, b: NodeAttributes): boolean {
  return a.xattrs.length === b.xattrs.length && a.xattrs.every(({ name, value }, i) => {
    const other = b.xattrs[i]!;
    return name === other.name && Buffer.compare(value, other.value) === 0;
  });
}

/**
 * Whether two nodes have the same content: the bytes of files, the targets of symlinks, the numbers of devices; for
 * directories only the kind. Bytes are read only if everything else matches.
 */
export async function equalContent(
  a: TreeNode,
  b: TreeNode,
  signal?: AbortSignal,
): Promise<boolean> {
  if (a === b) return true;
  if (a.kind === "file" && b.kind === "file") {
    return await equalPayload(a.payload, b.payload, signal);
  }
  if (a.kind === "symlink" && b.kind === "symlink") return a.target === b.target;
  if (a.kind === "directory" || b.kind === "directory") return a.kind === b.kind;
  if ("deviceMajor" in a && "deviceMajor" in b) {
    return a.kind === b.kind && a.deviceMajor === b.deviceMajor && a.deviceMinor === b.deviceMinor;
  }
  return false;
}

async function equalPayload(a: Payload, b: Payload, signal?: AbortSignal): Promise<boolean> {
  if (
    a.sizeBytes !== b.sizeBytes || a.contentHash !== b.contentHash ||
    !equalRuns(a.dataRuns, b.dataRuns)
  ) return false;
  const buffers = [new Uint8Array(0), new Uint8Array(0)] as [Uint8Array, Uint8Array];
  let pieceCount = 0;
  for (const { startBlock, blockCount } of a.dataRuns) {
    const end = Math.min((startBlock + blockCount) * BLOCK_SIZE_BYTES, a.sizeBytes);
    for (let at = startBlock * BLOCK_SIZE_BYTES; at < end; at += PIECE_BYTES) {
      const length = Math.min(PIECE_BYTES, end - at);
      if (buffers[0].length < length) {
        buffers[0] = new Uint8Array(length);
        buffers[1] = new Uint8Array(length);
      }
      const [first, second] = buffers.map((buffer) => buffer.subarray(0, length)) as [
        Uint8Array,
        Uint8Array,
      ];
      readPayload(a, first, at);
      readPayload(b, second, at);
      if (Buffer.compare(first, second) !== 0) return false;
      if (++pieceCount % YIELD_AFTER_PIECES !== 0) continue;
      await setImmediate();
      throwIfAborted(signal);
    }
  }
  return true;
}

function equalRuns(a: readonly BlockRun[], b: readonly BlockRun[]): boolean {
  return a.length === b.length &&
    a.every((run, i) => run.startBlock === b[i]!.startBlock && run.blockCount === b[i]!.blockCount);
}
