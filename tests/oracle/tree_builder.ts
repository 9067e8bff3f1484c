/**
 * Builds trees in memory for tests, in few words:
 *
 *     const shared = file("one inode, two names", { uid: 1000 });
 *     const tree = treeOf({ "a": shared, "b": shared, "sub": dir({ "link": symlink("../a") }) });
 *
 * Payload indexes are worked out here from the bytes alone, independent of the code that reads tars.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import type { ByteString } from "../../lib/bytes/byte_string.ts";
import { bytesFromByteString } from "../../lib/bytes/byte_string.ts";
import { memoryReader } from "../../lib/io/random_reader.ts";
import {
  BLOCK_SIZE_BYTES,
  type BlockRun,
  type DataSegment,
  type DirectoryNode,
  type FileNode,
  type FileTree,
  type NodeAttributes,
  type Payload,
  type SpecialNode,
  type SymlinkNode,
  type TreeNode,
  walkTree,
} from "../../lib/model/node.ts";
import { noiseReader } from "./noise.ts";

/** Attributes as a test writes them. Values given as strings are byte strings. */
export interface AttributeChoices {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Seconds, or seconds and nanoseconds; default 1,600,000,000 s. */
  readonly mtime?: number | readonly [seconds: number, nanoseconds: number];
  readonly xattrs?: Readonly<Record<ByteString, Uint8Array | ByteString>>;
}

/** A file with holes: bytes at their offsets, ascending and disjoint. */
export interface SparseContent {
  readonly sizeBytes: number;
  readonly parts: readonly (readonly [fileOffset: number, bytes: Uint8Array])[];
}

/** A file of any size whose bytes are made up when they are read: noise in the ranges, holes elsewhere. */
export interface NoiseContent {
  readonly sizeBytes: number;
  /** Ascending, disjoint; default: the whole file. */
  readonly noise: "all" | readonly (readonly [fileOffset: number, lengthBytes: number])[];
  readonly seed: number;
}

/** What a file can be made of. A string is a byte string. */
export type Content = Uint8Array | ByteString | SparseContent | NoiseContent;

/** Children by name (byte strings). Use pairs for names that look like numbers and where order matters. */
export type Children =
  | Readonly<Record<ByteString, TreeNode>>
  | Iterable<readonly [ByteString, TreeNode]>;

const DEFAULT_MTIME_SECONDS = 1_600_000_000;
const ORIGIN = { layerIndex: 0, entryIndex: 0 };
const HASH_CHUNK_BYTES = 1024 * 1024;

/** A regular file. The same object under two names is a hard link. */
export function file(content: Content = "", choices: AttributeChoices = {}): FileNode {
  const attributes = attributesOf(choices, 0o644);
  return { kind: "file", payload: payloadOf(content), attributes, origin: ORIGIN };
}

/** A directory. */
export function dir(children: Children = {}, choices: AttributeChoices = {}): DirectoryNode {
  const pairs = Symbol.iterator in children
    ? children as Iterable<readonly [ByteString, TreeNode]>
    : Object.entries(children);
  const attributes = attributesOf(choices, 0o755);
  return { kind: "directory", children: new Map(pairs), attributes, origin: ORIGIN };
}

/** A symbolic link. */
export function symlink(target: ByteString, choices: AttributeChoices = {}): SymlinkNode {
  return { kind: "symlink", target, attributes: attributesOf(choices, 0o777), origin: ORIGIN };
}

/** A device, fifo or socket. */
export function special(
  kind: SpecialNode["kind"],
  device: readonly [major: number, minor: number] = [0, 0],
  choices: AttributeChoices = {},
): SpecialNode {
  const [deviceMajor, deviceMinor] = device;
  const attributes = attributesOf(choices, 0o600);
  return { kind, deviceMajor, deviceMinor, attributes, origin: ORIGIN };
}

/** A whole tree from its root's children, or from a root. Entry indexes follow the walk. */
export function treeOf(root: Children | DirectoryNode, choices: AttributeChoices = {}): FileTree {
  const tree = { root: isDirectoryNode(root) ? root : dir(root, choices) };
  const numbered = new Set<TreeNode>();
  for (const { node } of walkTree(tree)) {
    if (!numbered.has(node)) node.origin = { layerIndex: 0, entryIndex: numbered.size };
    numbered.add(node);
  }
  return tree;
}

function isDirectoryNode(value: Children | DirectoryNode): value is DirectoryNode {
  return "kind" in value && value.kind === "directory" && "children" in value;
}

function attributesOf(choices: AttributeChoices, defaultMode: number): NodeAttributes {
  const mtime = choices.mtime ?? DEFAULT_MTIME_SECONDS;
  const [mtimeSeconds, mtimeNanoseconds] = typeof mtime === "number" ? [mtime, 0] : mtime;
  const xattrs = Object.entries(choices.xattrs ?? {})
    .map(([name, value]) => ({
      name,
      value: typeof value === "string" ? bytesFromByteString(value) : value,
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  return {
    mode: choices.mode ?? defaultMode,
    uid: choices.uid ?? 0,
    gid: choices.gid ?? 0,
    mtimeSeconds,
    mtimeNanoseconds,
    xattrs,
  };
}

/** The payload of a file with this content. */
export function payloadOf(content: Content): Payload {
  if (typeof content === "string") return payloadOf(bytesFromByteString(content));
  if (content instanceof Uint8Array) {
    return payloadOf({ sizeBytes: content.length, parts: [[0, content]] });
  }
  return "parts" in content ? sparsePayload(content) : noisePayload(content);
}

function sparsePayload({ sizeBytes, parts }: SparseContent): Payload {
  const segments: DataSegment[] = [];
  const stored = new Uint8Array(parts.reduce((sum, [, bytes]) => sum + bytes.length, 0));
  let storeOffset = 0;
  for (const [fileOffset, bytes] of parts) {
    if (bytes.length === 0) continue;
    stored.set(bytes, storeOffset);
    segments.push({ fileOffset, storeOffset, lengthBytes: bytes.length });
    storeOffset += bytes.length;
  }
  checkSegments(segments, sizeBytes);
  const dataRuns = runsOfBlocks(nonZeroBlocks(segments, stored));
  const store = memoryReader(stored, "test content");
  return withHash({ sizeBytes, segments, dataRuns, contentHash: 0, store });
}

function noisePayload({ sizeBytes, noise, seed }: NoiseContent): Payload {
  const ranges = noise === "all" ? [[0, sizeBytes] as const] : noise;
  const segments = ranges
    .filter(([, lengthBytes]) => lengthBytes > 0)
    .map(([fileOffset, lengthBytes]) => ({ fileOffset, storeOffset: fileOffset, lengthBytes }));
  checkSegments(segments, sizeBytes);
  const dataRuns = runsOfBlocks(touchedBlocks(segments));
  const store = noiseReader(sizeBytes, seed);
  return withHash({ sizeBytes, segments, dataRuns, contentHash: 0, store });
}

function checkSegments(segments: readonly DataSegment[], sizeBytes: number): void {
  let end = 0;
  for (const { fileOffset, lengthBytes } of segments) {
    if (fileOffset < end) throw new Error(`test content: parts overlap at ${fileOffset}`);
    end = fileOffset + lengthBytes;
  }
  if (end > sizeBytes) throw new Error(`test content: ends at ${end}, past the size ${sizeBytes}`);
}

/** Runs of blocks `[start, end)` that the segments touch; ascending, may touch each other. */
function* touchedBlocks(segments: readonly DataSegment[]): Generator<readonly [number, number]> {
  for (const { fileOffset, lengthBytes } of segments) {
    const end = fileOffset + lengthBytes;
    yield [Math.floor(fileOffset / BLOCK_SIZE_BYTES), Math.ceil(end / BLOCK_SIZE_BYTES)];
  }
}

/** The same for blocks with a byte that is not zero, one at a time. */
function* nonZeroBlocks(
  segments: readonly DataSegment[],
  stored: Uint8Array,
): Generator<readonly [number, number]> {
  for (const { fileOffset, storeOffset, lengthBytes } of segments) {
    for (let done = 0; done < lengthBytes;) {
      const block = Math.floor((fileOffset + done) / BLOCK_SIZE_BYTES);
      const blockEnd = (block + 1) * BLOCK_SIZE_BYTES - fileOffset;
      const end = Math.min(blockEnd, lengthBytes);
      const bytes = stored.subarray(storeOffset + done, storeOffset + end);
      if (bytes.some((byte) => byte !== 0)) yield [block, block + 1];
      done = end;
    }
  }
}

function runsOfBlocks(blocks: Iterable<readonly [number, number]>): BlockRun[] {
  const runs: { startBlock: number; blockCount: number }[] = [];
  for (const [start, end] of blocks) {
    const last = runs.at(-1);
    if (last && start <= last.startBlock + last.blockCount) {
      last.blockCount = Math.max(last.blockCount, end - last.startBlock);
    } else {
      runs.push({ startBlock: start, blockCount: end - start });
    }
  }
  return runs;
}

/** Fills in the hash of the data runs, each block whole. */
function withHash(payload: Payload): Payload {
  const buffer = new Uint8Array(HASH_CHUNK_BYTES);
  let contentHash = 0;
  for (const { startBlock, blockCount } of payload.dataRuns) {
    const end = (startBlock + blockCount) * BLOCK_SIZE_BYTES;
    for (let at = startBlock * BLOCK_SIZE_BYTES; at < end; at += buffer.length) {
      const chunk = buffer.subarray(0, Math.min(buffer.length, end - at));
      readSegments(payload, chunk, at);
      contentHash = crc32(chunk, contentHash);
    }
  }
  return { ...payload, contentHash };
}

/** Reads by going through all segments: slow, plain, and not the code under test. */
function readSegments(payload: Payload, target: Uint8Array, position: number): void {
  target.fill(0);
  for (const { fileOffset, storeOffset, lengthBytes } of payload.segments) {
    const from = Math.max(fileOffset, position);
    const to = Math.min(fileOffset + lengthBytes, position + target.length);
    if (from >= to) continue;
    const part = target.subarray(from - position, to - position);
    payload.store.readAt(part, storeOffset + (from - fileOffset));
  }
}
