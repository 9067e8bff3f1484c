/**
 * All inodes of an image before blocks are allocated: nodes of the tree, the journal, attribute values.
 *
 * The root has its fixed number and all others are numbered in path order, so that equal trees get equal numbers
 * whatever their layers.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { divCeil, mixedBits } from "../../bytes/arithmetic.ts";
import { bytesFromByteString, type ByteString, displayName } from "../../bytes/byte_string.ts";
import { InputError } from "../../errors.ts";
import type { Demand } from "../../layout/placement.ts";
import {
  BLOCK_SIZE_BYTES,
  type DirectoryNode,
  type FileNode,
  type FileTree,
  type Payload,
  sortedNames,
  type TreeNode,
} from "../../model/node.ts";
import type { Warnings } from "../../warnings.ts";
import { inodeSeed } from "../format/checksum.ts";
import { INODE_NUMBER, LINK_COUNT_MAX } from "../format/constants.ts";
import { INODE_BLOCK_FIELD_SIZE_BYTES } from "../format/inode.ts";
import { inodeXattrsSizeBytes, XATTR_INDEX } from "../format/xattr.ts";
import {
  type DirectoryIndex,
  type DirectoryShape,
  encodeDirectory,
  KIND_CODES,
  shapeDirectory,
} from "./directories.ts";
import type { Settings } from "./settings.ts";
import {
  INODE_XATTR_CAPACITY_BYTES,
  type InodeXattrs,
  type ValueInode,
  XattrPlanner,
} from "./xattrs.ts";

/** Metadata content of an inode: directory blocks, a long symlink, an attribute value. */
export interface MetadataContent {
  /** Length in blocks. */
  readonly blockCount: number;
  /** Encodes all the blocks. */
  readonly encode: () => Uint8Array;
}

/** Reused for each file: a new buffer would cost more than the checksum. */
let nameBytes = new Uint8Array(1024);

const NO_XATTRS: InodeXattrs = { inInode: [], block: undefined, mode: 0 };

/** A tree node that will become an inode. There is one per file, so it is kept small. */
export class NodeDraft {
  /** From 1. */
  readonly inodeNumber: number;
  /** The node of the tree. */
  readonly node: TreeNode;
  /** Its extended attributes, divided between inode and block. */
  xattrs: InodeXattrs = NO_XATTRS;
  /** Its metadata blocks. */
  content: MetadataContent | undefined = undefined;
  /** Whether it is a hashed directory. */
  isIndexed = false;
  /** Whether it is a file stored in its inode. */
  isInline = false;
  readonly #parent: NodeDraft | undefined;
  readonly #name: ByteString;
  /** Number of its names; for a directory 2 plus its subdirectories, even if that is too many to store. */
  #linkCount: number;

  /**
   * Starts with one name.
   *
   * @param parent the directory that holds its first name; undefined for the root
   * @param name the first of its names in path order; empty for the root
   */
  constructor(
    inodeNumber: number,
    node: TreeNode,
    parent: NodeDraft | undefined,
    name: ByteString,
  ) {
    this.inodeNumber = inodeNumber;
    this.node = node;
    this.#parent = parent;
    this.#name = name;
    this.#linkCount = node.kind === "directory" ? 2 : 1;
  }

  /** Distinguishes nodes from attribute values. */
  get kind(): "node" {
    return "node";
  }

  /** The directory that holds its first name; the root is its own parent. */
  get parentInodeNumber(): number {
    return this.#parent?.inodeNumber ?? this.inodeNumber;
  }

  /** The first of its paths in path order; empty for the root. Built on each call. */
  get path(): ByteString {
    const names = [this.#name];
    for (let at = this.#parent; at !== undefined; at = at.#parent) names.push(at.#name);
    return names.reverse().join("/");
  }

  /** A 32-bit hash of the last two names of that path: the directory's (empty for the root) and the node's. */
  get nameHash(): number {
    const parentName = this.#parent === undefined ? "" : this.#parent.#name;
    const names = `${parentName}/${this.#name}`;
    if (names.length > nameBytes.length) nameBytes = new Uint8Array(2 * names.length);
    for (let i = 0; i < names.length; i++) nameBytes[i] = names.charCodeAt(i);
    return mixedBits(crc32(nameBytes.subarray(0, names.length)));
  }

  /** i_links_count: 1 for a directory with too many links (DIR_NLINK). */
  get linkCount(): number {
    return this.node.kind === "directory" && this.#linkCount > LINK_COUNT_MAX ? 1 : this.#linkCount;
  }

  /** Counts one more link. Throws an InputError if a file has too many. */
  addLink(): void {
    this.#linkCount++;
    if (this.node.kind === "directory" || this.#linkCount <= LINK_COUNT_MAX) return;
    throw new InputError(
      displayName(this.path),
      `has more than ${LINK_COUNT_MAX} hard links, the most that ext4 can count`,
      { code: "limitExceeded" },
    );
  }
}

/** A file, which demands its own blocks. */
export class FileDraft extends NodeDraft implements Demand {
  declare readonly node: FileNode;

  get payload(): Payload {
    return this.node.payload;
  }

  get directory(): number {
    return this.parentInodeNumber;
  }
}

/** A directory and its children's numbers in name order. */
class DirectoryDraft extends NodeDraft {
  declare readonly node: DirectoryNode;
  childNumbers: number[] = [];
}

/** Assigns inode numbers from 11 on, each once. */
export interface InodeNumbers {
  /** The number of a tree node; call it once per node. */
  ofNode(node: TreeNode): number;
  /** The number of an inode without a name. */
  next(): number;
}

export function ascendingNumbers(): InodeNumbers {
  let nextNumber: number = INODE_NUMBER.FIRST_USABLE;
  return { ofNode: () => nextNumber++, next: () => nextNumber++ };
}

/** Numbers every node of a tree once and counts its links: the root first, then the others in path order. */
export function numberTree(tree: FileTree, numbers: InodeNumbers): NodeDraft[] {
  const root = new DirectoryDraft(INODE_NUMBER.ROOT, tree.root, undefined, "");
  const drafts: NodeDraft[] = [root];
  // Several names may refer to one node.
  const byNode = new Map<TreeNode, NodeDraft>([[tree.root, root]]);
  const open = (draft: DirectoryDraft) => ({
    draft,
    names: sortedNames(draft.node.children.keys()),
  });
  const trail = [open(root)];
  for (let last = trail.at(-1); last !== undefined; last = trail.at(-1)) {
    const { draft: parent, names } = last;
    const name = names[parent.childNumbers.length];
    if (name === undefined) {
      // A copy is exactly as long as needed.
      parent.childNumbers = parent.childNumbers.slice();
      trail.pop();
      continue;
    }
    const node = parent.node.children.get(name)!;
    const known = byNode.get(node);
    if (known?.node.kind === "directory") {
      throw new InputError(
        displayName(`${parent.path}/${name}`),
        "is a second name of a directory, which ext4 cannot have",
      );
    }
    const draft = known ?? makeDraft(numbers.ofNode(node), node, parent, name);
    parent.childNumbers.push(draft.inodeNumber);
    if (known !== undefined) {
      known.addLink();
      continue;
    }
    drafts.push(draft);
    byNode.set(node, draft);
    if (!(draft instanceof DirectoryDraft)) continue;
    parent.addLink();
    trail.push(open(draft));
  }
  return drafts;
}

function makeDraft(inodeNumber: number, node: TreeNode, parent: NodeDraft, name: ByteString) {
  const Draft = node.kind === "file"
    ? FileDraft
    : node.kind === "directory"
    ? DirectoryDraft
    : NodeDraft;
  return new Draft(inodeNumber, node, parent, name);
}

export interface ValueDraft {
  readonly inodeNumber: number;
  readonly value: ValueInode;
  readonly content: MetadataContent;
}

export interface InodeDrafts {
  /** The root first, then the others in path order. */
  readonly nodes: readonly NodeDraft[];
  readonly values: readonly ValueDraft[];
  readonly planner: XattrPlanner;
  readonly lastInodeNumber: number;
  /** Unused lower numbers, ascending; only kept numbers leave any. */
  readonly freeInodeNumbers: readonly number[];
}

export interface DraftOptions
  extends Pick<Settings, "metadataChecksums" | "inlineData" | "valueInodesRefusedBy"> {
  /** Checksum seed of the file system, even without metadata checksums. */
  readonly seed: number;
  readonly warnings: Warnings;
  /** Default: 11, 12 and so on. */
  readonly numbers?: InodeNumbers | undefined;
  /** The previous distribution of a directory's names over its blocks; undefined for a new directory. */
  readonly previousIndexOf?: ((node: DirectoryNode) => DirectoryIndex | undefined) | undefined;
}

/** Logical blocks are 32-bit, and the kernel reserves the last one (ext4_max_size()). */
const FILE_BLOCKS_MAX = 2 ** 32 - 1;
/** The kernel follows targets of up to one block, including the NUL. */
const SYMLINK_BYTES_MAX = BLOCK_SIZE_BYTES - 1;

export function draftInodes(tree: FileTree, options: DraftOptions): InodeDrafts {
  const { numbers = ascendingNumbers() } = options;
  const nodes = numberTree(tree, numbers);
  const planner = new XattrPlanner({
    seed: options.seed,
    warnings: options.warnings,
    takeInodeNumber: () => numbers.next(),
    valueInodesRefusedBy: options.valueInodesRefusedBy,
  });
  for (const draft of nodes) addDetails(draft, planner, options);
  const values = planner.valueInodes.map((value) => ({
    inodeNumber: value.inodeNumber,
    value,
    content: wholeBlocks(value.value),
  }));
  return { nodes, values, planner, ...numbersInUse([...nodes, ...values]) };
}

/** Yields the inodes whose content is metadata, in the order of their blocks. */
export function* withContent({ nodes, values }: InodeDrafts): Generator<
  (NodeDraft | ValueDraft) & { readonly content: MetadataContent }
> {
  for (const draft of nodes) {
    const { content } = draft;
    if (content !== undefined) yield draft as NodeDraft & { readonly content: MetadataContent };
  }
  yield* values;
}

function numbersInUse(
  drafts: readonly { readonly inodeNumber: number }[],
): Pick<InodeDrafts, "lastInodeNumber" | "freeInodeNumbers"> {
  // The reserved inodes, including the journal's, are always in use.
  const lastReserved = INODE_NUMBER.FIRST_USABLE - 1;
  const used = Uint32Array.from(drafts, ({ inodeNumber }) => inodeNumber).sort();
  const freeInodeNumbers: number[] = [];
  let last: number = lastReserved;
  for (const number of used) {
    if (number <= lastReserved) continue;
    for (let free = last + 1; free < number; free++) freeInodeNumbers.push(free);
    last = number;
  }
  return { lastInodeNumber: last, freeInodeNumbers };
}

/** The attribute that holds the bytes of a small file beyond i_block (kernel documentation, "Inline Data"). */
export function inlineDataXattr(
  content: Uint8Array,
): { nameIndex: number; suffix: ByteString; value: Uint8Array } {
  return {
    nameIndex: XATTR_INDEX.SYSTEM,
    suffix: "data",
    value: content.subarray(INODE_BLOCK_FIELD_SIZE_BYTES),
  };
}

function addDetails(draft: NodeDraft, planner: XattrPlanner, options: DraftOptions): void {
  const { node } = draft;
  draft.xattrs = planner.plan(draft);
  if (draft instanceof DirectoryDraft) {
    const shape = shapeDirectory(draft, draft.node.children.keys(), {
      checksummed: options.metadataChecksums,
      previous: options.previousIndexOf?.(draft.node),
    });
    draft.isIndexed = shape.index !== undefined;
    draft.content = directoryContent(draft, shape, options);
  } else if (node.kind === "symlink") {
    draft.content = symlinkContent(draft, node.target);
  } else if (node.kind === "file") {
    checkFileSize(draft, node.payload);
    draft.isInline = options.inlineData && fitsInline(node.payload, draft.xattrs);
  }
}

function directoryContent(
  draft: DirectoryDraft,
  shape: DirectoryShape,
  { metadataChecksums, seed }: DraftOptions,
): MetadataContent {
  const encode = () => {
    const { inodeNumber, parentInodeNumber, childNumbers, node } = draft;
    const children = sortedNames(node.children.keys()).map((name, i) => ({
      name,
      inodeNumber: childNumbers[i]!,
      fileType: KIND_CODES[node.children.get(name)!.kind].direntType,
    }));
    return encodeDirectory(shape, {
      inodeNumber,
      parentInodeNumber,
      children,
      inodeSeed: metadataChecksums ? inodeSeed(seed, inodeNumber, 0) : undefined,
    });
  };
  return { blockCount: shape.blockCount, encode };
}

function symlinkContent(draft: NodeDraft, target: ByteString): MetadataContent | undefined {
  if (target.length === 0 || target.length > SYMLINK_BYTES_MAX || target.includes("\0")) {
    throw new InputError(
      displayName(draft.path),
      `its target has ${target.length} bytes: wanted 1 to ${SYMLINK_BYTES_MAX} and no NUL`,
    );
  }
  // A target that fits in i_block with its NUL is stored there.
  if (target.length < INODE_BLOCK_FIELD_SIZE_BYTES) return undefined;
  return wholeBlocks(bytesFromByteString(target));
}

function wholeBlocks(bytes: Uint8Array): MetadataContent {
  const blockCount = divCeil(bytes.length, BLOCK_SIZE_BYTES);
  return {
    blockCount,
    encode: () => {
      const blocks = new Uint8Array(blockCount * BLOCK_SIZE_BYTES);
      blocks.set(bytes);
      return blocks;
    },
  };
}

function checkFileSize(draft: NodeDraft, payload: Payload): void {
  if (divCeil(payload.sizeBytes, BLOCK_SIZE_BYTES) > FILE_BLOCKS_MAX) {
    throw new InputError(
      displayName(draft.path),
      `has ${payload.sizeBytes} bytes: ext4 files have at most ` +
        `${FILE_BLOCKS_MAX * BLOCK_SIZE_BYTES}`,
    );
  }
}

function fitsInline(payload: Payload, xattrs: InodeXattrs): boolean {
  if (payload.sizeBytes === 0) return false;
  if (payload.sizeBytes > INODE_BLOCK_FIELD_SIZE_BYTES + INODE_XATTR_CAPACITY_BYTES) return false;
  const data = inlineDataXattr(new Uint8Array(payload.sizeBytes));
  return inodeXattrsSizeBytes([...xattrs.inInode, data]) <= INODE_XATTR_CAPACITY_BYTES;
}
