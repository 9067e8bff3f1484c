/**
 * Nodes of the tree, as the entries of layers describe them.
 *
 * @module
 */
import { type ByteString, displayName } from "../bytes/byte_string.ts";
import { InputError, invariant } from "../errors.ts";
import { aclEntries, type AclEntry, permissionsOfAcl } from "../ext4/format/acl.ts";
import type { RandomReader } from "../io/random_reader.ts";
import type {
  DirectoryNode,
  NodeAttributes,
  NodeOrigin,
  SpecialNode,
  TreeNode,
  Xattr,
} from "../model/node.ts";
import type { Payload, PayloadIndex } from "../model/payload.ts";
import type { TarEntry } from "../tar/entry.ts";
import type { Warnings } from "../warnings.ts";
import { MAX_SYMLINK_TARGET_SIZE_BYTES } from "./limits.ts";

/** A name in a directory, which may have a node or not. */
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

/** Attributes of directories that no entry describes: 0755, the given time, and 0:0 unless there is another owner. */
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

/** Whether a node is a whiteout of overlayfs. */
export function isWhiteoutDevice(node: TreeNode): node is SpecialNode {
  return node.kind === "characterDevice" && node.deviceMajor === 0 && node.deviceMinor === 0;
}

/** What making nodes of entries needs. */
export interface EntryContext {
  readonly warnings: Warnings;
  readonly describe: (entry: TarEntry) => string;
  /** Attributes that were made before: most files share theirs with others, and there can be a million. */
  readonly known: NodeAttributes[];
}

const KNOWN_SLOTS = 256;

/**
 * The attributes of an entry: the mode without bits above 07777; xattrs in byte order, the last of equal names, without
 * those that the kernel does not allow on files of its kind.
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
/** Owner, group and others, which the mode expresses as well. */
const BASE_ENTRIES = 3;

/**
 * Mode and xattrs as they are once the kernel has set an access ACL (posix_acl_update_mode in fs/posix_acl.c): the ACL
 * decides about the permissions, and one that says no more than they do is not kept.
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
    // Whoever writes it says what is wrong with it.
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
 * The node that an entry describes; hard links describe none.
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
        // Set later: an object that grows takes more memory.
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

/** On Linux all symlinks have this mode, whatever a tar says. */
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

/** In byte order of the names; of equal names the last one stays. Sorted input is returned as it is. */
export function sortXattrs(xattrs: readonly Xattr[]): readonly Xattr[] {
  let sorted = true;
  for (let i = 1; i < xattrs.length; i++) {
    if (xattrs[i - 1]!.name >= xattrs[i]!.name) sorted = false;
  }
  if (sorted) return xattrs;
  const byName = new Map(xattrs.map((xattr) => [xattr.name, xattr]));
  return [...byName.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Why the kernel would not let such a file have the xattr; undefined when it does (xattr(7), acl(5)). */
function refusalOf(name: string, kind: TarEntry["kind"]): string | undefined {
  if (kind === "directory") return undefined;
  if (name === "system.posix_acl_default") return "only directories have a default ACL";
  if (kind === "symlink" && name === "system.posix_acl_access") return "symlinks have no ACL";
  if (kind !== "file" && name.startsWith("user.")) {
    return "only files and directories have user.* attributes";
  }
  return undefined;
}
