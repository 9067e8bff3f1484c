/**
 * Reads a whole image as the model's file tree.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { type ByteString, displayName } from "../../bytes/byte_string.ts";
import { InputError, throwIfAborted } from "../../errors.ts";
import {
  BLOCK_SIZE_BYTES,
  type DirectoryNode,
  type FileTree,
  type NodeAttributes,
  type TreeNode,
} from "../../model/node.ts";
import { Warnings } from "../../warnings.ts";
import { INODE_FLAG, INODE_NUMBER, LINK_COUNT_MAX, RO_COMPAT } from "../format/constants.ts";
import { isReservedInode, type NodeKind } from "../volume/inode.ts";
import {
  filePayload,
  ImagePayload,
  type PayloadBounds,
  readSymlink,
  XattrReader,
} from "./content.ts";
import { type DirectoryName, goOn, namesBackwards, partFault, readDirectory } from "./directory.ts";
import {
  BlockBudget,
  DEFAULT_READ_LIMITS,
  type Ext4Image,
  hasFlag,
  type ImageInode,
  type ReadLimits,
} from "./image.ts";

/** Options for reading a tree. */
export interface ReadTreeOptions {
  /**
   * Counts what the model cannot represent: `droppedFlags`, `droppedProject`, `droppedVerity`, `unsupportedXattr`, and
   * `encrypted` for content left out because it is meaningless without its key. Default: a collection of its own.
   */
  readonly warnings?: Warnings | undefined;
  /**
   * What to do with a lost+found as mke2fs makes it: an empty directory owned by root, mode 0700, of more than 4096
   * bytes. By default it is left out, since it belongs to the file system, not to its content. Any other is kept.
   */
  readonly lostAndFound?: "omitWhenPristine" | "keep" | undefined;
  /** Reads the bytes of all files at once, so that `dataRuns` and `contentHash` are known; default: on demand. */
  readonly scanContent?: boolean | undefined;
  /** Limits to override. */
  readonly limits?: Partial<ReadLimits> | undefined;
  /**
   * Called for anything unreadable, which is then left out of the tree: a name, some names of a directory, or the
   * attributes of a file. By default it is an error.
   */
  readonly onFault?: ((path: ByteString, error: InputError) => void) | undefined;
  /** Aborts the work. */
  readonly signal?: AbortSignal | undefined;
}

/** A name whose inode has not been read yet. */
interface PendingName {
  readonly path: ByteString;
  readonly name: DirectoryName;
  readonly parent: OpenDirectory;
}

/** A directory and its expected link count. Inodes are not kept: there may be a million. */
interface OpenDirectory {
  readonly inodeNumber: number;
  readonly linkCount: number;
  readonly node: DirectoryNode;
  readonly path: ByteString;
  readonly depth: number;
  subdirectoryCount: number;
}

/** An inode that may have more names. */
interface KnownNode {
  readonly linkCount: number;
  readonly node: TreeNode;
  readonly path: ByteString;
  nameCount: number;
}

const LOST_AND_FOUND = "lost+found";
const YIELD_AFTER_NAMES = 1024;

/**
 * Reads the whole tree. A directory is visited before its contents, and names in byte order; `origin.entryIndex` counts
 * inodes in that order. Several names of one inode yield one node.
 *
 * @throws {InputError} for anything that the kernel refuses on the way, a directory with two names, more blocks in
 * files than the file system has, and exceeded limits. A ".." that is not the parent, link counts that differ from the
 * number of names and the like are counted as `damagedMetadata`
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { readFileSync } from "node:fs";
 * import { gunzipSync } from "node:zlib";
 * import { memoryReader } from "../../io/random_reader.ts";
 * import { openExt4Image } from "./image.ts";
 * import { readTree } from "./tree.ts";
 * const fixture = new URL("../../../fixtures/ext4/gdt-csum-1k.img.gz", import.meta.url);
 * const image = openExt4Image(memoryReader(gunzipSync(readFileSync(fixture))));
 * const { root } = await readTree(image);
 * const file = root.children.get("holes");
 * assertEquals(file?.kind === "file" && file.payload.segments.length, 450);
 * ```
 */
export async function readTree(
  image: Ext4Image,
  options: ReadTreeOptions = {},
): Promise<FileTree> {
  return await new TreeReader(image, options).read();
}

class TreeReader {
  readonly #image: Ext4Image;
  readonly #options: ReadTreeOptions;
  readonly #warnings: Warnings;
  readonly #limits: ReadLimits;
  readonly #budget: BlockBudget;
  readonly #nodes: NodeReader;
  readonly #pending: PendingName[] = [];
  readonly #known = new Map<number, KnownNode>();
  readonly #directories: OpenDirectory[] = [];
  #nameCount = 0;

  constructor(image: Ext4Image, options: ReadTreeOptions) {
    this.#image = image;
    this.#warnings = options.warnings ?? new Warnings();
    this.#options = options;
    this.#limits = { ...DEFAULT_READ_LIMITS, ...options.limits };
    // With this feature, files share blocks on purpose: each maps no more than there are.
    const isShared = image.hasRoCompat(RO_COMPAT.SHARED_BLOCKS);
    this.#budget = new BlockBudget(isShared ? Infinity : image.geometry.blocksCount);
    this.#nodes = new NodeReader(image, {
      warnings: this.#warnings,
      onFault: options.onFault,
      budget: this.#budget,
      maxSegmentCount: this.#limits.maxSegmentCount,
    });
  }

  async read(): Promise<FileTree> {
    const inode = this.#image.inode(INODE_NUMBER.ROOT);
    if (inode.kind !== "directory") {
      const why = `the root is a ${inode.kind}, not a directory`;
      throw new InputError(inode.what, why, { code: "wrongKind" });
    }
    const root = this.#nodes.read(inode, "", 0) as DirectoryNode;
    const { linkCount } = inode.record;
    this.#known.set(inode.number, { linkCount, node: root, path: "", nameCount: 0 });
    this.#openDirectory(inode, root, "", undefined);
    let count = 0;
    for (let item = this.#pending.pop(); item; item = this.#pending.pop()) {
      const node = goOn(item.path, this.#options.onFault, () => this.#readName(item));
      const payload = node?.kind === "file" ? node.payload : undefined;
      if (this.#options.scanContent && payload instanceof ImagePayload) {
        await payload.scan(this.#options.signal);
      }
      if (++count % YIELD_AFTER_NAMES !== 0) continue;
      await setImmediate();
      throwIfAborted(this.#options.signal);
    }
    this.#checkLinkCounts();
    return { root };
  }

  /** Returns the node if it is new and in the tree. */
  #readName({ path, name, parent }: PendingName): TreeNode | undefined {
    const known = this.#known.get(name.inodeNumber);
    if (known !== undefined) {
      this.#addName(known, path, name, parent);
      return undefined;
    }
    if (isReservedInode(this.#image, name.inodeNumber)) {
      throw new InputError(displayName(path), `it is the reserved inode ${name.inodeNumber}`);
    }
    const inode = this.#image.inode(name.inodeNumber);
    this.#checkKind(inode.kind, name, parent);
    if (isUnreadable(inode)) {
      if (inode.kind === "directory") parent.subdirectoryCount++;
      this.#warnings.add("encrypted", displayName(path), "it is encrypted, and was left out");
      return undefined;
    }
    const node = this.#nodes.read(inode, path, this.#known.size);
    const { linkCount } = inode.record;
    this.#known.set(inode.number, { linkCount, node, path, nameCount: 1 });
    if (node.kind === "directory") {
      parent.subdirectoryCount++;
      const isEmpty = this.#openDirectory(inode, node, path, parent);
      const isKept = this.#options.lostAndFound === "keep";
      if (!isKept && isEmpty && isPristine(inode, node, path)) return undefined;
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
    this.#checkKind(known.node.kind, name, parent);
    known.nameCount++;
    parent.node.children.set(name.name, known.node);
  }

  /** Pushes the names of a directory onto the list, the first on top. Returns whether it has none. */
  #openDirectory(
    inode: ImageInode,
    node: DirectoryNode,
    path: ByteString,
    parent: OpenDirectory | undefined,
  ): boolean {
    const { maxChildCount, maxNameCount, maxPathDepth } = this.#limits;
    const { onFault } = this.#options;
    const content = readDirectory(this.#image, inode, {
      maxChildCount,
      keepsGoing: onFault !== undefined,
    });
    if (content.fault !== undefined) onFault?.(path || "/", content.fault);
    this.#budget.add(content.blockCount, inode.what);
    const wanted = parent?.inodeNumber ?? inode.number;
    const location = { inode: inode.number };
    // A missing one was already reported.
    const found = content.parentInodeNumber || wanted;
    const isReadable = true;
    this.#image.judge.expect("directory", location, 'parent in ".."', found, wanted, {
      isReadable,
    });
    const depth = (parent?.depth ?? -1) + 1;
    this.#nameCount += content.names.length;
    if (this.#nameCount > maxNameCount) {
      throw new InputError(this.#image.name, `it has more than ${maxNameCount} names`);
    }
    if (depth > maxPathDepth) {
      throw new InputError(displayName(path), `it is more than ${maxPathDepth} directories deep`);
    }
    const { number: inodeNumber, record: { linkCount } } = inode;
    const directory = { inodeNumber, linkCount, node, path, depth, subdirectoryCount: 0 };
    this.#directories.push(directory);
    for (const name of namesBackwards(content.names)) {
      this.#pending.push({ path: `${path}/${name.name}`, name, parent: directory });
    }
    return content.names.length === 0 && content.fault === undefined;
  }

  #checkLinkCounts(): void {
    for (const [inode, { linkCount, node, nameCount }] of this.#known) {
      if (node.kind !== "directory") this.#checkLinks(inode, linkCount, nameCount);
    }
    const mayLoseCount = this.#image.hasRoCompat(RO_COMPAT.DIR_NLINK);
    for (const { inodeNumber, linkCount, subdirectoryCount } of this.#directories) {
      const wanted = 2 + subdirectoryCount;
      // A directory that once had too many links stores 1 forever.
      if (linkCount === 1 && mayLoseCount) continue;
      const wantedOrLost = wanted <= LINK_COUNT_MAX || !mayLoseCount ? wanted : 1;
      this.#checkLinks(inodeNumber, linkCount, wantedOrLost);
    }
  }

  #checkLinks(inode: number, found: number, wanted: number): void {
    const isReadable = true;
    this.#image.judge.expect("inode", { inode }, "i_links_count", found, wanted, { isReadable });
  }

  #checkKind(kind: NodeKind, name: DirectoryName, parent: OpenDirectory): void {
    if (name.kind === undefined || name.kind === kind) return;
    const problem = `type of "${displayName(name.name)}"`;
    const details = { found: name.kind, wanted: kind, isReadable: true };
    this.#image.judge.report("directory", { inode: parent.inodeNumber }, problem, details);
  }
}

/** Whether the content of an inode is meaningless without a key. */
function isUnreadable(inode: ImageInode): boolean {
  const { kind } = inode;
  return (kind === "file" || kind === "directory" || kind === "symlink") &&
    hasFlag(inode, INODE_FLAG.ENCRYPT);
}

/** Whether it is as mke2fs makes it. This program makes none, and writes one from its source with 4096 bytes. */
function isPristine(inode: ImageInode, node: DirectoryNode, path: ByteString): boolean {
  const { mode, uid, gid, xattrs } = node.attributes;
  return path === `/${LOST_AND_FOUND}` && mode === 0o700 && uid === 0 && gid === 0 &&
    xattrs.length === 0 && inode.record.sizeBytes > BLOCK_SIZE_BYTES;
}

interface NodeReaderOptions extends PayloadBounds {
  readonly warnings: Warnings;
  readonly onFault: ReadTreeOptions["onFault"];
}

/**
 * i_flags by their lsattr -l names; those that a user can set but the model cannot represent also have their lsattr
 * letter.
 */
export const FLAG_NAMES: readonly (readonly [flag: number, name: string, letter?: string])[] = [
  [0x1, "Secure_Deletion", "s"],
  [0x2, "Undelete", "u"],
  [0x4, "Compression_Requested", "c"],
  [0x8, "Synchronous_Updates", "S"],
  [INODE_FLAG.IMMUTABLE, "Immutable", "i"],
  [INODE_FLAG.APPEND, "Append_Only", "a"],
  [0x40, "No_Dump", "d"],
  [0x80, "No_Atime", "A"],
  [INODE_FLAG.ENCRYPT, "Encrypted"],
  [INODE_FLAG.INDEX, "Indexed_directory"],
  [0x4000, "Journaled_Data", "j"],
  [0x8000, "No_Tailmerging", "t"],
  [0x10000, "Synchronous_Directory_Updates", "D"],
  [0x20000, "Top_of_Directory_Hierarchies", "T"],
  [INODE_FLAG.HUGE_FILE, "Huge_file"],
  [INODE_FLAG.EXTENTS, "Extents"],
  [INODE_FLAG.VERITY, "Verity"],
  [INODE_FLAG.EA_INODE, "EA_inode"],
  [0x2000000, "DAX", "x"],
  [INODE_FLAG.INLINE_DATA, "Inline_Data"],
  [INODE_FLAG.PROJINHERIT, "Project_Hierarchy", "P"],
  [INODE_FLAG.CASEFOLD, "Casefold", "F"],
];

class NodeReader {
  readonly #image: Ext4Image;
  readonly #options: NodeReaderOptions;
  readonly #xattrs: XattrReader;
  #segmentCount = 0;

  constructor(image: Ext4Image, options: NodeReaderOptions) {
    this.#image = image;
    this.#options = options;
    this.#xattrs = new XattrReader(image, options.budget);
  }

  /**
   * The node of an inode; a directory has no children yet.
   *
   * @param path for messages
   * @param entryIndex becomes part of its origin
   */
  read(inode: ImageInode, path: ByteString, entryIndex: number): TreeNode {
    if (hasFlag(inode, INODE_FLAG.EA_INODE)) {
      throw new InputError(inode.what, "it holds the value of an attribute, but has a name");
    }
    const describe = (): string => displayName(path === "" ? "/" : path);
    this.#warnOfLosses(inode, describe);
    const base = {
      attributes: this.#attributes(inode, path, describe),
      origin: { layerIndex: 0, entryIndex },
    };
    const { kind } = inode;
    switch (kind) {
      case "directory":
        return { ...base, kind, children: new Map() };
      case "file":
        return { ...base, kind, payload: this.#payload(inode) };
      case "symlink":
        return { ...base, kind, target: readSymlink(this.#image, inode) };
      case "characterDevice":
      case "blockDevice":
        return { ...base, kind, ...deviceNumbers(inode) };
      default:
        return { ...base, kind, deviceMajor: 0, deviceMinor: 0 };
    }
  }

  #payload(inode: ImageInode): ReturnType<typeof filePayload> {
    const { budget, maxSegmentCount } = this.#options;
    const left = maxSegmentCount === undefined
      ? {}
      : { maxSegmentCount: maxSegmentCount - this.#segmentCount };
    const payload = filePayload(this.#image, inode, budget ? { ...left, budget } : left);
    this.#segmentCount += payload.segments.length;
    return payload;
  }

  /** When continuing past faults, only the unreadable attributes are dropped; the rest of the inode is kept. */
  #attributes(inode: ImageInode, path: ByteString, describe: () => string): NodeAttributes {
    const { mode, uid, gid, mtime } = inode.record;
    const { onFault } = this.#options;
    const onPart = (at: ByteString, error: InputError) =>
      onFault?.(at, partFault("its attributes", error));
    return {
      mode: mode & 0o7777,
      uid,
      gid,
      mtimeSeconds: mtime.seconds,
      mtimeNanoseconds: mtime.nanoseconds,
      xattrs: goOn(
        path,
        onFault && onPart,
        () => this.#xattrs.read(inode, this.#options.warnings, describe),
      ) ?? [],
    };
  }

  #warnOfLosses(inode: ImageInode, describe: () => string): void {
    const { warnings } = this.#options;
    const letters = FLAG_NAMES.filter(([flag]) => hasFlag(inode, flag))
      .map(([, , letter = ""]) => letter).join("");
    if (letters !== "") {
      warnings.add("droppedFlags", describe(), `its flags ${letters} (lsattr) are left out`);
    }
    if (hasFlag(inode, INODE_FLAG.VERITY)) {
      warnings.add("droppedVerity", describe(), "its fs-verity hashes are left out");
    }
    const { projectId } = inode.record;
    if (projectId !== 0 && this.#image.hasRoCompat(RO_COMPAT.PROJECT)) {
      warnings.add("droppedProject", describe(), `its project ${projectId} is left out`);
    }
  }
}

/** Small numbers are in the first word of i_block, large ones in the second (old_ and new_decode_dev()). */
export function deviceNumbers(
  inode: ImageInode,
): { readonly deviceMajor: number; readonly deviceMinor: number } {
  const small = inode.view.blockWord(0);
  if (small !== 0) return { deviceMajor: (small >>> 8) & 0xff, deviceMinor: small & 0xff };
  const large = inode.view.blockWord(1);
  return {
    deviceMajor: (large >>> 8) & 0xfff,
    deviceMinor: (large & 0xff) | ((large >>> 12) & 0xfff00),
  };
}
