/**
 * Where extended attributes are stored: in the inode while they fit, then in a block shared by inodes with equal
 * attributes; values that fit neither go into inodes of their own.
 *
 * Kernel: Documentation/filesystems/ext4, "Extended Attributes".
 *
 * @module
 */
import { type ByteString, byteStringFromBytes, displayName } from "../../bytes/byte_string.ts";
import { InputError } from "../../errors.ts";
import { BLOCK_SIZE_BYTES, type TreeNode, type Xattr } from "../../model/node.ts";
import type { Warnings } from "../../warnings.ts";
import { aclEntries, aclToDisk, permissionsOfAcl } from "../format/acl.ts";
import { XATTR_REFCOUNT_MAX } from "../format/constants.ts";
import { INODE_BASE_SIZE_BYTES, INODE_EXTRA_SIZE_BYTES } from "../format/inode.ts";
import {
  compareDiskXattrs,
  type DiskXattr,
  encodeXattrBlock,
  inodeXattrsSizeBytes,
  splitXattrName,
  XATTR_INDEX,
  XATTR_VALUE_SIZE_MAX,
  xattrBlockUsedBytes,
  xattrValueHash,
} from "../format/xattr.ts";
import { INODE_SIZE_BYTES } from "./groups.ts";

/** Room for attributes after an inode's fields. */
export const INODE_XATTR_CAPACITY_BYTES = INODE_SIZE_BYTES - INODE_BASE_SIZE_BYTES -
  INODE_EXTRA_SIZE_BYTES;

/** Linux's XATTR_NAME_MAX, for the whole name including its prefix. */
const XATTR_NAME_LENGTH_MAX = 255;

/** Owner, group and others, which the mode expresses as well. */
const MINIMAL_ACL_ENTRIES = 3;

/** A block of attributes and how many inodes point to it. */
export interface SharedXattrBlock {
  /** In disk order. */
  readonly xattrs: readonly DiskXattr[];
  /** Number of inodes that point to it. */
  referenceCount: number;
}

/** A value in an inode of its own, and how many attributes in blocks point to it. */
export interface ValueInode {
  readonly inodeNumber: number;
  readonly value: Uint8Array;
  readonly hash: number;
  referenceCount: number;
}

/** The attributes of one inode, divided by where they are stored. */
export interface InodeXattrs {
  /** Those in the inode, after its fields. */
  readonly inInode: readonly DiskXattr[];
  /** Those in a block that other inodes may share. */
  readonly block: SharedXattrBlock | undefined;
  /** The mode, with the permissions of an access ACL. */
  readonly mode: number;
}

/** A node and its path, which is read only for messages. */
export interface XattrOwner {
  readonly path: ByteString;
  readonly node: TreeNode;
}

interface XattrPlannerOptions {
  readonly seed: number;
  readonly warnings: Warnings;
  /** Returns the number of the next inode that holds a value. */
  readonly takeInodeNumber: () => number;
  /** A reader that lacks values in inodes of their own; undefined: they are allowed. */
  readonly valueInodesRefusedBy: string | undefined;
}

/** Divides the attributes of one inode after another, and shares equal ones. */
export class XattrPlanner {
  readonly blocks: SharedXattrBlock[] = [];
  readonly valueInodes: ValueInode[] = [];
  readonly #options: XattrPlannerOptions;
  readonly #blockByContent = new Map<ByteString, SharedXattrBlock>();
  readonly #valueByContent = new Map<ByteString, ValueInode>();
  readonly #valueByNumber = new Map<number, ValueInode>();
  readonly #noneByMode = new Map<number, InodeXattrs>();

  constructor(options: XattrPlannerOptions) {
    this.#options = options;
  }

  /** For nodes without attributes, as most are: one object per mode. */
  #planNone(mode: number): InodeXattrs {
    let none = this.#noneByMode.get(mode);
    if (none === undefined) {
      this.#noneByMode.set(mode, none = { inInode: [], block: undefined, mode });
    }
    return none;
  }

  plan(owner: XattrOwner): InodeXattrs {
    const { mode, xattrs } = owner.node.attributes;
    if (xattrs.length === 0) return this.#planNone(mode);
    const converted = convertXattrs(owner, this.#options.warnings);
    const disk = converted.xattrs;
    if (disk.length === 0 || inodeXattrsSizeBytes(disk) <= INODE_XATTR_CAPACITY_BYTES) {
      return { inInode: disk, block: undefined, mode: converted.mode };
    }
    const inInode: DiskXattr[] = [];
    const rest: DiskXattr[] = [];
    for (const xattr of disk) {
      const fits = inodeXattrsSizeBytes([...inInode, xattr]) <= INODE_XATTR_CAPACITY_BYTES;
      (fits ? inInode : rest).push(xattr);
    }
    const block = this.#shareBlock(this.#fitBlock(owner, rest));
    return { inInode, block, mode: converted.mode };
  }

  /** Moves the largest values into inodes of their own until the rest fits in a block. */
  #fitBlock(owner: XattrOwner, xattrs: readonly DiskXattr[]): DiskXattr[] {
    const fitted = [...xattrs];
    while (xattrBlockUsedBytes(fitted) > BLOCK_SIZE_BYTES) {
      let largest = -1;
      fitted.forEach((xattr, i) => {
        if (xattr.valueInode !== undefined || xattr.value.length === 0) return;
        if (largest < 0 || xattr.value.length > fitted[largest]!.value.length) largest = i;
      });
      const reader = this.#options.valueInodesRefusedBy;
      if (largest < 0 || reader !== undefined) {
        const why = `its extended attributes need ${xattrBlockUsedBytes(fitted)} bytes: a block ` +
          `holds ${BLOCK_SIZE_BYTES}`;
        throw reader === undefined
          ? new InputError(displayName(owner.path), why)
          : new InputError(displayName(owner.path), `${why}, and ${reader} cannot read ea_inode`, {
            remedies: [{ option: "compat", change: "omit", when: "if it never reads the image" }],
          });
      }
      const xattr = fitted[largest]!;
      const valueInode = this.#shareValue(xattr.value);
      fitted[largest] = {
        ...xattr,
        valueInode: valueInode.inodeNumber,
        valueHash: valueInode.hash,
      };
    }
    return fitted;
  }

  #shareBlock(xattrs: readonly DiskXattr[]): SharedXattrBlock {
    const content = encodeXattrBlock(xattrs, {
      blockSizeBytes: BLOCK_SIZE_BYTES,
      referenceCount: 1,
    });
    const key = byteStringFromBytes(content);
    const known = this.#blockByContent.get(key);
    if (known !== undefined && known.referenceCount < XATTR_REFCOUNT_MAX) {
      known.referenceCount++;
      return known;
    }
    // References to a value are counted by blocks, not by the inodes that share them.
    for (const { valueInode } of xattrs) {
      if (valueInode !== undefined) this.#valueByNumber.get(valueInode)!.referenceCount++;
    }
    const block: SharedXattrBlock = { xattrs, referenceCount: 1 };
    this.#blockByContent.set(key, block);
    this.blocks.push(block);
    return block;
  }

  #shareValue(value: Uint8Array): ValueInode {
    const key = byteStringFromBytes(value);
    const known = this.#valueByContent.get(key);
    if (known !== undefined) return known;
    const inode: ValueInode = {
      inodeNumber: this.#options.takeInodeNumber(),
      value,
      hash: xattrValueHash(this.#options.seed, value),
      referenceCount: 0,
    };
    this.#valueByContent.set(key, inode);
    this.#valueByNumber.set(inode.inodeNumber, inode);
    this.valueInodes.push(inode);
    return inode;
  }
}

/** Converts attributes to ext4's format and order, with a warning for each that cannot be stored. */
function convertXattrs(
  owner: XattrOwner,
  warnings: Warnings,
): { xattrs: DiskXattr[]; mode: number } {
  const xattrs: DiskXattr[] = [];
  const { node } = owner;
  let { mode } = node.attributes;
  for (const xattr of node.attributes.xattrs) {
    const split = splitXattrName(xattr.name);
    const problem = unsupportedBecause(xattr, node, split);
    if (split === undefined || problem !== undefined) {
      warnings.add("unsupportedXattr", nameOf(owner, xattr), `left out: ${problem}`);
      continue;
    }
    const isAccess = split.nameIndex === XATTR_INDEX.POSIX_ACL_ACCESS;
    if (!isAccess && split.nameIndex !== XATTR_INDEX.POSIX_ACL_DEFAULT) {
      xattrs.push({ ...split, value: xattr.value });
      continue;
    }
    const entries = withAclErrors(owner, xattr, () => aclEntries(xattr.value));
    // A bare header means that there is no ACL.
    if (entries.length === 0) continue;
    if (isAccess) mode = (mode & ~0o777) | permissionsOfAcl(entries);
    if (isAccess && entries.length === MINIMAL_ACL_ENTRIES) continue;
    xattrs.push({ ...split, value: aclToDisk(xattr.value) });
  }
  return { xattrs: xattrs.sort(compareDiskXattrs), mode };
}

function unsupportedBecause(
  xattr: Xattr,
  node: TreeNode,
  split: ReturnType<typeof splitXattrName>,
): string | undefined {
  if (split === undefined) return "ext4 has no such name";
  if (xattr.name.length > XATTR_NAME_LENGTH_MAX || xattr.name.includes("\0")) {
    return "its name is too long or contains a NUL";
  }
  if (xattr.value.length > XATTR_VALUE_SIZE_MAX) {
    return `its value has ${xattr.value.length} bytes, the kernel reads ${XATTR_VALUE_SIZE_MAX}`;
  }
  // system.* is reserved for the kernel; system.data holds inline data.
  if (split.nameIndex === XATTR_INDEX.SYSTEM || split.nameIndex === XATTR_INDEX.RICHACL) {
    return "this name is reserved for the kernel";
  }
  if (split.nameIndex === XATTR_INDEX.POSIX_ACL_DEFAULT && node.kind !== "directory") {
    return "only directories have default ACLs";
  }
  if (split.nameIndex === XATTR_INDEX.POSIX_ACL_ACCESS && node.kind === "symlink") {
    return "symbolic links have no ACLs";
  }
  return undefined;
}

function withAclErrors<T>(owner: XattrOwner, xattr: Xattr, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    if (!(cause instanceof InputError)) throw cause;
    throw new InputError(nameOf(owner, xattr), cause.message, { cause });
  }
}

function nameOf({ path }: XattrOwner, xattr: Xattr): string {
  return `${displayName(path || "/")}, xattr ${displayName(xattr.name)}`;
}
