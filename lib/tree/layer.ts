/**
 * A layer: the nodes its entries describe, what it is applied to, and the changes it makes, which layered mode needs in
 * addition to the tree itself.
 *
 * @module
 */
import { type ByteString, displayName } from "../bytes/byte_string.ts";
import { InputError, invariant } from "../errors.ts";
import { aclEntries, type AclEntry, permissionsOfAcl } from "../ext4/format/acl.ts";
import type { RandomReader } from "../io/random_reader.ts";
import {
  type DirectoryNode,
  type FileNode,
  type FileTree,
  type NodeAttributes,
  type NodeOrigin,
  type Payload,
  type PayloadIndex,
  type SpecialNode,
  type TreeNode,
  walkTree,
  type Xattr,
} from "../model/node.ts";
import type { TarEntry } from "../tar/entry.ts";
import { MAX_SYMLINK_TARGET_SIZE_BYTES, type TreeBudget } from "./paths.ts";
import type { Warnings } from "../warnings.ts";

/** One decoded layer. */
export interface TreeLayer {
  /** In tar order. */
  readonly entries: readonly TarEntry[];
  /** The store that the payloads' offsets refer to. */
  readonly store: RandomReader;
  /** False for plain root file system tars, in which `.wh.` names are ordinary files. */
  readonly whiteouts: boolean;
  /** The layer's name in messages: a digest or a file name. */
  readonly name: string;
  /** The entries that follow links to directories; undefined if there are none. */
  readonly added?: AddedEntries | undefined;
}

/**
 * Entries that were added by path, as with cp(1), by index. If the path leads to a directory, even through a link, the
 * entry refers to that directory: `describe` gives it the entry's attributes, `create` leaves it unchanged, and any entry
 * that is not a directory is an error.
 */
export type AddedEntries = ReadonlyMap<number, "describe" | "create">;

/** What a layer is applied to, and how. */
export interface ApplyContext {
  readonly tree: FileTree;
  readonly layerIndex: number;
  readonly budget: TreeBudget;
  readonly warnings: Warnings;
  /** The attributes of directories without an entry. */
  readonly impliedAttributes: NodeAttributes;
  /** Tracks the first layer of each node; not needed in layered mode. */
  readonly firstLayers?: FirstLayers | undefined;
  /** In layered mode, records the layer's changes. */
  readonly changes?: LayerChanges | undefined;
}

/** Describes an entry for messages: its path, its layer, and its offset there. */
export function describeEntry(entry: TarEntry, layerName: string): string {
  return `${displayName(shortenPath(entry.path))} in ${layerName} at offset ${entry.headerOffset}`;
}

/** Cuts out the middle of a long path. */
export function shortenPath(path: ByteString): ByteString {
  return path.length <= 240 ? path : `${path.slice(0, 120)}...${path.slice(-117)}`;
}

/** One whiteout or opaque marker. */
export interface Marker {
  /** The path of the directory the marker applies to. */
  readonly directory: readonly ByteString[];
  /** The name that is removed; undefined for an opaque marker. */
  readonly name: ByteString | undefined;
  readonly entry: TarEntry;
}

/** Tracks directory entries across layers: those of directories and the names of hard-linked nodes. */
export class TreeIndex {
  /** A directory is never moved, so its first dentry is its only one. */
  readonly dentries = new WeakMap<DirectoryNode, Dentry>();
  /** All names that a hard-linked node ever had; some may have been removed. */
  readonly linkedNames = new Map<TreeNode, Dentry[]>();

  /**
   * Drops removed names, and nodes with fewer than two names left.
   *
   * @returns each node's current names, and whether it has lost any
   */
  refreshLinkedNames(root: DirectoryNode): { names: readonly Dentry[]; lostName: boolean }[] {
    const attached = new Map<DirectoryNode, boolean>([[root, true]]);
    return [...this.linkedNames].map(([node, dentries]) => {
      const seen = new Map<DirectoryNode, Set<ByteString>>();
      let lostName = false;
      const names = dentries.filter(({ directory, name }) => {
        const isName = directory.children.get(name) === node &&
          this.#isAttached(directory, attached);
        if (!isName) lostName = true;
        return isName && addOnce(seen, directory, name);
      });
      if (names.length > 1) this.linkedNames.set(node, names);
      else this.linkedNames.delete(node);
      return { names, lostName };
    });
  }

  /** Whether the directory is reachable from the root; `known` caches the answers. */
  #isAttached(directory: DirectoryNode, known: Map<DirectoryNode, boolean>): boolean {
    const climbed: DirectoryNode[] = [];
    let at = directory;
    while (!known.has(at)) {
      climbed.push(at);
      const dentry = this.dentries.get(at);
      if (dentry?.directory.children.get(dentry.name) !== at) break;
      at = dentry.directory;
    }
    const answer = known.get(at) ?? false;
    for (const each of climbed) known.set(each, answer);
    return answer;
  }
}

function addOnce(
  seen: Map<DirectoryNode, Set<ByteString>>,
  directory: DirectoryNode,
  name: ByteString,
): boolean {
  const names = seen.get(directory);
  if (names?.has(name)) return false;
  if (names) names.add(name);
  else seen.set(directory, new Set([name]));
  return true;
}

/** Records the changes of one layer. */
export class LayerChanges {
  readonly index: TreeIndex;
  readonly layerIndex: number;
  /** Names that were changed, with their former nodes. */
  readonly changedNames = new Map<DirectoryNode, Map<ByteString, TreeNode | undefined>>();
  /** Directories that this layer created: nothing in them is from lower layers. */
  readonly newDirectories = new Set<DirectoryNode>();
  /** Directories that have an entry of their own. */
  readonly describedDirectories = new Set<DirectoryNode>();
  /** Directories whose lower content the layer hides, with an opaque marker or a whiteout for the directory's name. */
  readonly opaqueDirectories = new Set<DirectoryNode>();
  /** The layer's markers, and whether each hides something from a lower layer. */
  readonly markers: { readonly marker: Marker; readonly isHiding: boolean }[] = [];
  /** Whether anything depends on the lower layers. */
  usesLowerLayers = false;

  constructor(index: TreeIndex, layerIndex: number) {
    this.index = index;
    this.layerIndex = layerIndex;
  }

  /** Called before a name is assigned or removed; only the first call for each name has an effect. */
  noteName(directory: DirectoryNode, name: ByteString): void {
    let names = this.changedNames.get(directory);
    if (!names) this.changedNames.set(directory, names = new Map());
    if (!names.has(name)) names.set(name, directory.children.get(name));
  }

  hasName(dentry: Dentry): boolean {
    return this.changedNames.get(dentry.directory)?.has(dentry.name) ?? false;
  }

  /** Called when a directory is created. */
  noteNewDirectory(directory: DirectoryNode, dentry: Dentry): void {
    this.newDirectories.add(directory);
    this.index.dentries.set(directory, dentry);
  }

  /** Called when a symlink is followed or a node is linked to. */
  noteUse(node: TreeNode): void {
    if (node.origin.layerIndex !== this.layerIndex) this.usesLowerLayers = true;
  }

  /** Called when a node with the name `first` also gets the name `second`. */
  noteLink(node: TreeNode, first: Dentry, second: Dentry): void {
    this.noteUse(node);
    const dentries = this.index.linkedNames.get(node);
    if (dentries) dentries.push(second);
    else this.index.linkedNames.set(node, [first, second]);
  }
}

/** A name in a directory, with or without a node. */
export interface Dentry {
  readonly directory: DirectoryNode;
  readonly name: ByteString;
}

/** A time: whole seconds and nanoseconds. */
export interface NodeTime {
  /** Since 1970, rounded down. */
  readonly seconds: number;
  /** 0 to 999,999,999. */
  readonly nanoseconds: number;
}

/** Attributes of directories that no entry describes: 0755, the given time, and 0:0 unless another owner is given. */
export function impliedDirectoryAttributes(
  time: NodeTime,
  { uid, gid }: Pick<NodeAttributes, "uid" | "gid"> = { uid: 0, gid: 0 },
): NodeAttributes {
  return {
    mode: 0o755,
    uid,
    gid,
    mtimeSeconds: time.seconds,
    mtimeNanoseconds: time.nanoseconds,
    xattrs: [],
  };
}

/** A directory without children. */
export function emptyDirectory(attributes: NodeAttributes, origin: NodeOrigin): DirectoryNode {
  return { kind: "directory", attributes, origin, firstLayer: undefined, children: new Map() };
}

/** Whether a node is an overlayfs whiteout. */
export function isWhiteoutDevice(node: TreeNode): node is SpecialNode {
  return node.kind === "characterDevice" && node.deviceMajor === 0 && node.deviceMinor === 0;
}

/** The state needed to make nodes from entries. */
export interface EntryContext {
  readonly warnings: Warnings;
  readonly describe: (entry: TarEntry) => string;
  /** Attributes created earlier: most files share theirs with others, and there can be a million files. */
  readonly known: NodeAttributes[];
}

const KNOWN_SLOTS = 256;

/**
 * The attributes of an entry: the mode limited to 07777; xattrs in byte order, the last of any duplicates, without those
 * the kernel does not allow on that kind of file.
 */
export function attributesOf(
  entry: TarEntry,
  context: EntryContext,
  mode: number = entry.mode & 0o7777,
): NodeAttributes {
  const { uid, gid, mtimeSeconds, mtimeNanoseconds } = entry;
  if (entry.xattrs.length > 0) {
    return { ...withAcl(mode, xattrsOf(entry, context)), uid, gid, mtimeSeconds, mtimeNanoseconds };
  }
  const slot = (mtimeSeconds ^ mtimeNanoseconds ^ uid ^ gid ^ (mode >> 2)) & (KNOWN_SLOTS - 1);
  const known = context.known[slot];
  const isSame = known !== undefined && known.mode === mode && known.uid === uid &&
    known.gid === gid && known.mtimeSeconds === mtimeSeconds &&
    known.mtimeNanoseconds === mtimeNanoseconds;
  if (isSame) return known;
  const made = { mode, xattrs: NO_XATTRS, uid, gid, mtimeSeconds, mtimeNanoseconds };
  return context.known[slot] = made;
}

const ACCESS_ACL = "system.posix_acl_access";
/** Owner, group and others, which the mode also expresses. */
const BASE_ENTRIES = 3;

/**
 * Mode and xattrs as they are after the kernel sets an access ACL (posix_acl_update_mode in fs/posix_acl.c): the ACL
 * determines the permissions, and an ACL equivalent to the mode is dropped.
 */
function withAcl(
  mode: number,
  xattrs: readonly Xattr[],
): Pick<NodeAttributes, "mode" | "xattrs"> {
  const access = xattrs.find(({ name }) => name === ACCESS_ACL);
  if (access === undefined) return { mode, xattrs };
  let entries: AclEntry[];
  try {
    entries = aclEntries(access.value);
  } catch (error) {
    // The image writer reports invalid ACLs.
    if (error instanceof InputError) return { mode, xattrs };
    throw error;
  }
  const isKept = entries.length > BASE_ENTRIES;
  return {
    mode: entries.length === 0 ? mode : (mode & ~0o777) | permissionsOfAcl(entries),
    xattrs: isKept ? xattrs : xattrs.filter((xattr) => xattr !== access),
  };
}

/**
 * The node that an entry describes; hard links do not describe one.
 *
 * @throws InputError for a symlink whose target is empty or longer than 4095 bytes
 */
export function nodeOf(
  entry: TarEntry,
  origin: NodeOrigin,
  store: RandomReader,
  context: EntryContext,
): TreeNode {
  invariant(entry.kind !== "hardlink", "a hard link does not describe a node");
  const mode = entry.kind === "symlink" ? SYMLINK_MODE : undefined;
  const attributes = attributesOf(entry, context, mode);
  switch (entry.kind) {
    case "directory":
      return emptyDirectory(attributes, origin);
    case "file":
      invariant(entry.payload, "a file entry has a payload");
      return {
        kind: "file",
        attributes,
        origin,
        // Declared here but set later: an object that grows takes more memory.
        firstLayer: undefined,
        payload: payloadOf(entry.payload, store),
      };
    case "symlink":
      checkSymlinkTarget(entry, context);
      return {
        kind: "symlink",
        attributes,
        origin,
        firstLayer: undefined,
        target: entry.linkTarget,
      };
    case "fifo":
      return { kind: "fifo", attributes, origin, deviceMajor: 0, deviceMinor: 0 };
    default: {
      const { kind, deviceMajor, deviceMinor } = entry;
      return { kind, attributes, origin, deviceMajor, deviceMinor };
    }
  }
}

/** On Linux all symlinks have this mode, regardless of the tar. */
const SYMLINK_MODE = 0o777;

const NO_XATTRS: readonly Xattr[] = [];

function payloadOf(index: PayloadIndex, store: RandomReader): Payload {
  const { sizeBytes, segments, dataRuns, contentHash } = index;
  return { sizeBytes, segments, dataRuns, contentHash, store };
}

function checkSymlinkTarget(entry: TarEntry, context: EntryContext): void {
  const target = entry.linkTarget;
  if (target === "") throw new InputError(context.describe(entry), "the symlink has no target");
  if (target.length > MAX_SYMLINK_TARGET_SIZE_BYTES) {
    throw new InputError(
      context.describe(entry),
      `the symlink's target has ${target.length} bytes; ` +
        `ext4 allows ${MAX_SYMLINK_TARGET_SIZE_BYTES}`,
      { code: "notStorable" },
    );
  }
  if (target.includes("\0")) {
    throw new InputError(context.describe(entry), "the symlink's target holds a NUL byte", {
      code: "notStorable",
    });
  }
}

function xattrsOf(entry: TarEntry, context: EntryContext): readonly Xattr[] {
  const kept: Xattr[] = [];
  for (const xattr of entry.xattrs) {
    const reason = refusalOf(xattr.name, entry.kind);
    if (reason === undefined) kept.push(xattr);
    else {
      context.warnings.add(
        "unsupportedXattr",
        context.describe(entry),
        `xattr ${displayName(xattr.name)} dropped: ${reason}`,
      );
    }
  }
  return sortXattrs(kept);
}

/** Sorts xattrs by name in byte order; the last of any duplicates is kept. Sorted input is returned unchanged. */
export function sortXattrs(xattrs: readonly Xattr[]): readonly Xattr[] {
  let sorted = true;
  for (let i = 1; i < xattrs.length; i++) {
    if (xattrs[i - 1]!.name >= xattrs[i]!.name) sorted = false;
  }
  if (sorted) return xattrs;
  const byName = new Map(xattrs.map((xattr) => [xattr.name, xattr]));
  return [...byName.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Why the kernel would reject the xattr on such a file; undefined if it is allowed (xattr(7), acl(5)). */
function refusalOf(name: string, kind: TarEntry["kind"]): string | undefined {
  if (kind === "directory") return undefined;
  if (name === "system.posix_acl_default") return "only directories have a default ACL";
  if (kind === "symlink" && name === "system.posix_acl_access") return "symlinks have no ACL";
  if (kind !== "file" && name.startsWith("user.")) {
    return "only files and directories have user.* attributes";
  }
  return undefined;
}

/** Sets nodes' `firstLayer` and remembers nodes removed by whiteouts. */
export class FirstLayers {
  /** Former nodes of names that are now unused. */
  readonly #gone = new WeakMap<DirectoryNode, Map<ByteString, TreeNode>>();

  /** Called before a name is removed. */
  noteRemoval({ directory, name }: Dentry): void {
    const node = directory.children.get(name);
    if (node !== undefined) this.#goneFrom(directory).set(name, node);
  }

  /** Called before a name is assigned to a node. */
  notePlacement({ directory, name }: Dentry, node: TreeNode, layerIndex: number): void {
    const gone = this.#gone.get(directory);
    const former = directory.children.get(name) ?? gone?.get(name);
    gone?.delete(name);
    const own = node.firstLayer ?? layerIndex;
    node.firstLayer = Math.min(own, former?.firstLayer ?? own);
    if (former === undefined || former === node) return;
    if (node.kind === "directory" && former.kind === "directory") this.#inherit(node, former);
  }

  /** When a directory is recreated, it inherits the remembered names of the removed one. */
  #inherit(directory: DirectoryNode, former: DirectoryNode): void {
    const gone = this.#goneFrom(former);
    for (const [name, child] of former.children) gone.set(name, child);
    this.#gone.delete(former);
    this.#gone.set(directory, gone);
  }

  #goneFrom(directory: DirectoryNode): Map<ByteString, TreeNode> {
    let gone = this.#gone.get(directory);
    if (gone === undefined) this.#gone.set(directory, gone = new Map());
    return gone;
  }
}

/**
 * Sets `firstLayer` of all files to the smallest numbers that express an order: sorting by (first layer, path) puts the
 * files in order of their positions. The number rises whenever a file follows one with a later path. Files without data or
 * without a position get 0.
 */
export function rankPayloads(
  tree: FileTree,
  positionOf: (node: FileNode) => number | undefined,
): void {
  const files = new Map<FileNode, { readonly pathRank: number; readonly position: number }>();
  const seen = new Set<FileNode>();
  for (const { node } of walkTree(tree)) {
    if (node.kind !== "file" || seen.has(node)) continue;
    seen.add(node);
    const position = node.payload.dataRuns.length > 0 ? positionOf(node) : undefined;
    if (position !== undefined) files.set(node, { pathRank: files.size, position });
    node.firstLayer = 0;
  }
  const inOrder = [...files].sort(([, a], [, b]) =>
    a.position - b.position || a.pathRank - b.pathRank
  );
  let firstLayer = 0;
  let previousRank = -1;
  for (const [node, { pathRank }] of inOrder) {
    if (pathRank < previousRank) firstLayer++;
    node.firstLayer = firstLayer;
    previousRank = pathRank;
  }
}
