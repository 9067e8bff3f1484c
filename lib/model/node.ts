/**
 * A file tree in memory. Hard links are one node object under several names. A regular file's content is recorded as where
 * its bytes are stored and which of its blocks are not zero.
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import { firstIndex } from "../bytes/arithmetic.ts";
import { type RandomReader, readExactly } from "../io/random_reader.ts";

/** An extended attribute. ACLs are in the system call format. */
export interface Xattr {
  /** Including its prefix: `user.x`, `security.capability`. */
  readonly name: ByteString;
  /** Binary; may be empty. */
  readonly value: Uint8Array;
}

/** The attributes of every kind of node. */
export interface NodeAttributes {
  /** Permission bits with setuid, setgid and sticky: 0 to 0o7777. */
  readonly mode: number;
  /** Numeric owner, 0 to 2^32-1. */
  readonly uid: number;
  /** Numeric group, 0 to 2^32-1. */
  readonly gid: number;
  /** Whole seconds, rounded down; negative before 1970. */
  readonly mtimeSeconds: number;
  /** 0 to 999,999,999, added to mtimeSeconds. */
  readonly mtimeNanoseconds: number;
  /** Sorted by name in byte order; names are unique. */
  readonly xattrs: readonly Xattr[];
}

/** The origin of a node, used to order payload by layer. */
export interface NodeOrigin {
  /** Counted from 0 at the bottom. */
  readonly layerIndex: number;
  /** Index in the layer's tar, from 0. */
  readonly entryIndex: number;
}

/** The properties of every kind of node. */
export interface NodeBase {
  /** Mode, owner, time and extended attributes. */
  attributes: NodeAttributes;
  /** The entry the node was made from. */
  origin: NodeOrigin;
  /**
   * The lowest layer that had anything at this path, even another node; 0 if not set. It affects only the order of payload.
   */
  firstLayer?: number | undefined;
}

/** A directory and its children by name. */
export interface DirectoryNode extends NodeBase {
  /** Always `directory`. */
  readonly kind: "directory";
  /** By name, in no particular order; see `sortedChildren`. */
  readonly children: Map<ByteString, TreeNode>;
}

/** A regular file. */
export interface FileNode extends NodeBase {
  /** Always `file`. */
  readonly kind: "file";
  /** The bytes, read on demand. */
  readonly payload: Payload;
}

/** A symbolic link. */
export interface SymlinkNode extends NodeBase {
  /** Always `symlink`. */
  readonly kind: "symlink";
  /** Exactly as given. */
  readonly target: ByteString;
}

/** A device, fifo or socket. */
export interface SpecialNode extends NodeBase {
  /** Which one. */
  readonly kind: "characterDevice" | "blockDevice" | "fifo" | "socket";
  /** 0 unless it is a device. */
  readonly deviceMajor: number;
  /** 0 unless it is a device. */
  readonly deviceMinor: number;
}

/** Anything that has an inode. */
export type TreeNode = DirectoryNode | FileNode | SymlinkNode | SpecialNode;

/** A whole tree. */
export interface FileTree {
  /** The root directory. */
  readonly root: DirectoryNode;
}

/** A directory's entries, sorted by name in byte order. */
export function sortedChildren({ children }: DirectoryNode): [ByteString, TreeNode][] {
  return sortedNames(children.keys()).map((name) => [name, children.get(name)!]);
}

/** Names in byte order; fast if they are already sorted, as in a sorted tar. */
export function sortedNames(given: Iterable<ByteString>): ByteString[] {
  const names = [...given];
  for (let i = 1; i < names.length; i++) {
    // Each character is one byte, so comparing strings compares bytes.
    if (names[i]! < names[i - 1]!) return names.sort();
  }
  return names;
}

/**
 * Visits every name in a tree once, directories before their children, names in byte order. A node with several hard links
 * is visited once for each. It is not recursive, so only memory limits the depth.
 */
export function* walkTree(tree: FileTree): Generator<{ path: ByteString; node: TreeNode }> {
  const pending: { path: ByteString; node: TreeNode }[] = [{ path: "", node: tree.root }];
  for (let item = pending.pop(); item; item = pending.pop()) {
    yield item;
    if (item.node.kind !== "directory") continue;
    const children = sortedChildren(item.node);
    for (let i = children.length - 1; i >= 0; i--) {
      const [name, node] = children[i]!;
      pending.push({ path: `${item.path}/${name}`, node });
    }
  }
}

/** The block size of every image written and of the runs of payload. */
export const BLOCK_SIZE_BYTES = 4096;

/** A stored range of a file. The gaps between segments are zeros. */
export interface DataSegment {
  /** Offset in the file. */
  readonly fileOffset: number;
  /** Offset in the store. */
  readonly storeOffset: number;
  /** How many bytes. */
  readonly lengthBytes: number;
}

/** A run of blocks of a file, counted from its start. */
export interface BlockRun {
  /** The first block of the file. */
  readonly startBlock: number;
  /** How many blocks. */
  readonly blockCount: number;
}

/** The index of a payload, without its bytes. */
export interface PayloadIndex {
  /** The file's length, holes included. */
  readonly sizeBytes: number;
  /** Ascending, disjoint. */
  readonly segments: readonly DataSegment[];
  /** The blocks that contain a nonzero byte: ascending, disjoint, never adjacent. All other blocks are holes. */
  readonly dataRuns: readonly BlockRun[];
  /** CRC-32 (as in zip) of the bytes of the data runs, padded to whole blocks. */
  readonly contentHash: number;
}

/** A payload index and the store that its segments point into. */
export interface Payload extends PayloadIndex {
  /** The store that the segments' offsets refer to. */
  readonly store: RandomReader;
}

/** The payload of an empty file. */
export const EMPTY_PAYLOAD_INDEX: PayloadIndex = {
  sizeBytes: 0,
  segments: [],
  dataRuns: [],
  contentHash: 0,
};

/** The single segment of a file stored contiguously at the start of a store; none for an empty file. */
export function wholeSegment(sizeBytes: number): readonly DataSegment[] {
  return sizeBytes === 0 ? [] : [{ fileOffset: 0, storeOffset: 0, lengthBytes: sizeBytes }];
}

/** Most files are small and have no holes: files of up to this many blocks share their run objects. */
const SHARED_RUNS_MAX = 64;
const sharedRuns: (readonly BlockRun[])[] = [];

/** The data runs of a file whose data fills its first `blockCount` blocks and nothing else. */
export function runFromStart(blockCount: number): readonly BlockRun[] {
  if (blockCount > SHARED_RUNS_MAX) return [{ startBlock: 0, blockCount }];
  return sharedRuns[blockCount] ??= Object.freeze([Object.freeze({ startBlock: 0, blockCount })]);
}

/**
 * Fills `target` with the file's bytes from `fileOffset` on; holes and anything past the end read as zeros.
 *
 * @param store another way to read the payload's store
 */
export function readPayload(
  payload: Payload,
  target: Uint8Array,
  fileOffset: number,
  store: RandomReader = payload.store,
): void {
  const end = fileOffset + target.length;
  let filled = fileOffset;
  const { segments } = payload;
  const first = firstIndex(segments.length, (i) => {
    const { fileOffset: start, lengthBytes } = segments[i]!;
    return start + lengthBytes > fileOffset;
  });
  for (let i = first; i < segments.length; i++) {
    const segment = segments[i]!;
    if (segment.fileOffset >= end) break;
    const from = Math.max(segment.fileOffset, fileOffset);
    const to = Math.min(segment.fileOffset + segment.lengthBytes, end);
    if (from > filled) target.fill(0, filled - fileOffset, from - fileOffset);
    readExactly(
      store,
      target.subarray(from - fileOffset, to - fileOffset),
      segment.storeOffset + (from - segment.fileOffset),
    );
    filled = to;
  }
  if (filled < end) target.fill(0, filled - fileOffset);
}

const STREAM_PIECE_BYTES = 256 << 10;

/**
 * The bytes of a file as a stream, from first to last, with zeros for holes. The store must stay open until the stream
 * ends or is cancelled.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { memoryReader } from "../io/random_reader.ts";
 * import { EMPTY_PAYLOAD_INDEX, payloadStream, wholeSegment } from "./node.ts";
 *
 * const store = memoryReader(new TextEncoder().encode("hello"));
 * const payload = { ...EMPTY_PAYLOAD_INDEX, sizeBytes: 5, segments: wholeSegment(5), store };
 * assertEquals(await new Response(payloadStream(payload)).text(), "hello");
 * ```
 */
export function payloadStream(payload: Payload): ReadableStream<Uint8Array<ArrayBuffer>> {
  let position = 0;
  return new ReadableStream({
    pull(controller) {
      const leftBytes = payload.sizeBytes - position;
      if (leftBytes === 0) return controller.close();
      const piece = new Uint8Array(Math.min(STREAM_PIECE_BYTES, leftBytes));
      readPayload(payload, piece, position);
      position += piece.length;
      controller.enqueue(piece);
    },
  }, { highWaterMark: 0 });
}
