/**
 * A whole image as a file tree of the model.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import type { ByteString } from "../../bytes/byte_string.ts";
import { displayName } from "../../bytes/byte_string.ts";
import { InputError, throwIfAborted } from "../../errors.ts";
import type { DirectoryNode, FileTree, TreeNode } from "../../model/node.ts";
import type { Warnings } from "../../warnings.ts";
import { BLOCK_SIZE_BYTES } from "../../model/payload.ts";
import { INODE_NUMBER, LINK_COUNT_MAX, RO_COMPAT } from "../format/constants.ts";
import { type DirectoryName, readDirectory } from "./directory.ts";
import { isReservedInode } from "./inode.ts";
import { BlockBudget, DEFAULT_READ_LIMITS, type ReadLimits } from "./limits.ts";
import { NodeReader } from "./node_reader.ts";
import { ImagePayload } from "./payload.ts";
import type { Ext4Image, ImageInode, NodeKind } from "./types.ts";

/** How a tree is read. */
export interface ReadTreeOptions {
  /** Counts what the model has no place for: `droppedFlags`, `droppedProject`, `droppedVerity`, `unsupportedXattr`. */
  readonly warnings: Warnings;
  /**
   * What becomes of a lost+found as mke2fs makes it: an empty directory of root's, 0700, of more than 4096 bytes. By
   * default it is left out, since it belongs to the file system and not to its content. Any other is kept.
   */
  readonly lostAndFound?: "omitWhenPristine" | "keep";
  /** Reads the bytes of all files, so that their `dataRuns` and `contentHash` are known; by default when asked for. */
  readonly scansContent?: boolean;
  /** Bounds in place of the defaults. */
  readonly limits?: Partial<ReadLimits>;
  /** Stops the work. */
  readonly signal?: AbortSignal | undefined;
}

/** A name whose inode was not looked at yet. */
interface PendingName {
  readonly path: ByteString;
  readonly name: DirectoryName;
  readonly parent: OpenDirectory;
}

/** A directory and how many links it should have. Inodes are not kept: there may be a million. */
interface OpenDirectory {
  readonly inodeNumber: number;
  readonly linkCount: number;
  readonly node: DirectoryNode;
  readonly path: ByteString;
  readonly depth: number;
  subdirectoryCount: number;
}

/** An inode that may have further names. */
interface KnownNode {
  readonly linkCount: number;
  readonly node: TreeNode;
  readonly path: ByteString;
  nameCount: number;
}

const LOST_AND_FOUND = "lost+found";
const YIELD_AFTER_NAMES = 1024;

/**
 * Reads the whole tree. A directory is visited before what is in it, names in byte order; `origin.entryIndex` counts
 * inodes in that order. Several names of one inode give one node.
 *
 * @throws {InputError} for anything damaged on the way: two names of a directory, a ".." that is not the parent, link
 * counts that are not the number of names, more blocks in files than the file system has, limits passed
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { readFileSync } from "node:fs";
 * import { gunzipSync } from "node:zlib";
 * import { memoryReader } from "../../io/random_reader.ts";
 * import { Warnings } from "../../warnings.ts";
 * import { openExt4Image } from "./image.ts";
 * import { readTree } from "./tree.ts";
 * const fixture = new URL("../../../fixtures/ext4/gdt-csum-1k.img.gz", import.meta.url);
 * const warnings = new Warnings();
 * const image = openExt4Image(memoryReader(gunzipSync(readFileSync(fixture))), { warnings });
 * const { root } = await readTree(image, { warnings });
 * const file = root.children.get("holes");
 * assertEquals(file?.kind === "file" && file.payload.segments.length, 450);
 * ```
 */
export async function readTree(image: Ext4Image, options: ReadTreeOptions): Promise<FileTree> {
  return await new TreeReader(image, options).read();
}

class TreeReader {
  readonly #image: Ext4Image;
  readonly #options: ReadTreeOptions;
  readonly #limits: ReadLimits;
  readonly #budget: BlockBudget;
  readonly #nodes: NodeReader;
  readonly #pending: PendingName[] = [];
  readonly #known = new Map<number, KnownNode>();
  readonly #directories: OpenDirectory[] = [];
  #nameCount = 0;

  constructor(image: Ext4Image, options: ReadTreeOptions) {
    this.#image = image;
    this.#options = options;
    this.#limits = { ...DEFAULT_READ_LIMITS, ...options.limits };
    this.#budget = new BlockBudget(image.geometry.blocksCount);
    this.#nodes = new NodeReader(image, {
      warnings: options.warnings,
      budget: this.#budget,
      maxSegmentCount: this.#limits.maxSegmentCount,
    });
  }

  async read(): Promise<FileTree> {
    const inode = this.#image.inode(INODE_NUMBER.ROOT);
    if (inode.kind !== "directory") {
      throw new InputError(inode.what, `the root is a ${inode.kind}, not a directory`);
    }
    const root = this.#nodes.read(inode, "", 0) as DirectoryNode;
    const { linkCount } = inode.record;
    this.#known.set(inode.number, { linkCount, node: root, path: "", nameCount: 0 });
    this.#openDirectory(inode, root, "", undefined);
    let count = 0;
    for (let item = this.#pending.pop(); item; item = this.#pending.pop()) {
      const node = this.#takeName(item);
      const payload = node?.kind === "file" ? node.payload : undefined;
      if (this.#options.scansContent && payload instanceof ImagePayload) {
        await payload.scan(this.#options.signal);
      }
      if (++count % YIELD_AFTER_NAMES !== 0) continue;
      await setImmediate();
      throwIfAborted(this.#options.signal);
    }
    this.#checkLinkCounts();
    return { root };
  }

  /** Returns the node when it is new and in the tree. */
  #takeName({ path, name, parent }: PendingName): TreeNode | undefined {
    const known = this.#known.get(name.inodeNumber);
    if (known !== undefined) {
      this.#addName(known, path, name, parent);
      return undefined;
    }
    if (isReservedInode(this.#image, name.inodeNumber)) {
      throw new InputError(displayName(path), `it is the reserved inode ${name.inodeNumber}`);
    }
    const inode = this.#image.inode(name.inodeNumber);
    checkKind(inode.kind, name, path);
    const node = this.#nodes.read(inode, path, this.#known.size);
    const { linkCount } = inode.record;
    this.#known.set(inode.number, { linkCount, node, path, nameCount: 1 });
    if (node.kind === "directory") {
      parent.subdirectoryCount++;
      const isEmpty = this.#openDirectory(inode, node, path, parent);
      const isOmitted = this.#options.lostAndFound !== "keep" && isEmpty &&
        isPristine(inode, node, path);
      if (isOmitted) return undefined;
    }
    parent.node.children.set(name.name, node);
    return node;
  }

  #addName(
    known: KnownNode,
    path: ByteString,
    name: DirectoryName,
    parent: OpenDirectory,
  ): void {
    if (known.node.kind === "directory") {
      throw new InputError(
        displayName(path),
        `it is inode ${name.inodeNumber}, the directory ${displayName(known.path || "/")}`,
      );
    }
    checkKind(known.node.kind, name, path);
    known.nameCount++;
    parent.node.children.set(name.name, known.node);
  }

  /** Puts the names of a directory on the list, the first on top. Returns whether it has none. */
  #openDirectory(
    inode: ImageInode,
    node: DirectoryNode,
    path: ByteString,
    parent: OpenDirectory | undefined,
  ): boolean {
    const { maxChildCount, maxNameCount, maxPathDepth } = this.#limits;
    const content = readDirectory(this.#image, inode, { maxChildCount });
    this.#budget.take(content.blockCount, inode.what);
    const parentNumber = parent?.inodeNumber ?? inode.number;
    if (content.parentInodeNumber !== parentNumber) {
      throw new InputError(
        inode.what,
        `its ".." is inode ${content.parentInodeNumber}, but it is in inode ${parentNumber}`,
      );
    }
    const depth = (parent?.depth ?? -1) + 1;
    this.#nameCount += content.names.length;
    if (this.#nameCount > maxNameCount) {
      throw new InputError(this.#image.name, `it has more than ${maxNameCount} names`);
    }
    if (depth > maxPathDepth) {
      throw new InputError(displayName(path), `it is more than ${maxPathDepth} directories deep`);
    }
    const { linkCount } = inode.record;
    const directory: OpenDirectory = {
      inodeNumber: inode.number,
      linkCount,
      node,
      path,
      depth,
      subdirectoryCount: 0,
    };
    this.#directories.push(directory);
    const names = [...content.names].sort((a, b) => (a.name < b.name ? 1 : -1));
    for (const name of names) {
      this.#pending.push({ path: `${path}/${name.name}`, name, parent: directory });
    }
    return names.length === 0;
  }

  #checkLinkCounts(): void {
    for (const [inodeNumber, { linkCount, node, path, nameCount }] of this.#known) {
      if (node.kind !== "directory") checkLinks(inodeNumber, linkCount, path, nameCount);
    }
    const mayLoseCount = this.#image.hasRoCompat(RO_COMPAT.DIR_NLINK);
    for (const { inodeNumber, linkCount, path, subdirectoryCount } of this.#directories) {
      const wanted = 2 + subdirectoryCount;
      // A directory that once had too many says 1 for ever.
      if (linkCount === 1 && mayLoseCount) continue;
      const wantedOrLost = wanted <= LINK_COUNT_MAX || !mayLoseCount ? wanted : 1;
      checkLinks(inodeNumber, linkCount, path || "/", wantedOrLost);
    }
  }
}

function checkLinks(inodeNumber: number, found: number, path: ByteString, wanted: number): void {
  if (found === wanted) return;
  throw new InputError(
    `inode ${inodeNumber} (${displayName(path)})`,
    `its link count is ${found}, not ${wanted}`,
    { data: { actual: found, expected: wanted } },
  );
}

function checkKind(kind: NodeKind, name: DirectoryName, path: ByteString): void {
  if (name.kind === undefined || name.kind === kind) return;
  throw new InputError(
    displayName(path),
    `its directory says it is a ${name.kind}, but inode ${name.inodeNumber} is a ${kind}`,
  );
}

/** As mke2fs makes it. The writer here makes none, and gives one that its source has 4096 bytes. */
function isPristine(
  inode: ImageInode,
  node: DirectoryNode,
  path: ByteString,
): boolean {
  const { mode, uid, gid, xattrs } = node.attributes;
  return path === `/${LOST_AND_FOUND}` && mode === 0o700 && uid === 0 && gid === 0 &&
    xattrs.length === 0 && inode.record.sizeBytes > BLOCK_SIZE_BYTES;
}
