/**
 * Extended attributes of inodes: those in the inode, those in the block that it may share with others, and values that
 * have an inode of their own.
 *
 * @module
 */
import { type ByteString, displayName } from "../../bytes/byte_string.ts";
import { InputError } from "../../errors.ts";
import type { Xattr } from "../../model/node.ts";
import type { Warnings } from "../../warnings.ts";
import { aclFromDisk } from "../format/acl.ts";
import { INCOMPAT, INODE_FLAG } from "../format/constants.ts";
import {
  type DecodedXattr,
  joinXattrName,
  verifyXattrValueInode,
  XATTR_INDEX,
} from "../format/xattr.ts";
import { xattrBlockOf } from "../volume/inode.ts";
import {
  type AttributeValue,
  isInlineData,
  judgeXattrBlockPointer,
  readAttributeValue,
  readInodeXattrs,
  readXattrBlock,
} from "../volume/content.ts";
import { blockRuns } from "./content.ts";
import { type BlockBudget, type Ext4Image, hasFlag, type ImageInode } from "./image.ts";

/** An attribute as it is stored, with its value read from wherever it is. ACLs are in ext4's own format. */
export interface StoredXattr {
  /** The number of the prefix of its name (XATTR_INDEX). */
  readonly nameIndex: number;
  /** The rest of its name. */
  readonly suffix: ByteString;
  /** The value; shared, and not to be changed. */
  readonly value: Uint8Array;
  /** Where its entry is. */
  readonly location: "inode" | "block";
  /** The inode that holds the value. */
  readonly valueInode: number | undefined;
  /** e_hash. */
  readonly entryHash: number;
}

/** Most attributes in the lists of inodes that have some in themselves and some in a block. */
const JOINED_COUNT_MAX = 16_777_216;
/** The header of an ACL without entries, which says that there is none. */
const EMPTY_ACL_SIZE_BYTES = 4;

/**
 * Reads the attributes of inodes. Blocks and values that inodes share are read and kept once, so that what is kept is
 * never more than the image has.
 */
export class XattrReader {
  readonly #image: Ext4Image;
  readonly #budget: BlockBudget | undefined;
  readonly #blocks = new Map<number, readonly StoredXattr[]>();
  readonly #visible = new Map<number, readonly Xattr[]>();
  readonly #values = new Map<number, AttributeValue>();
  #joinedCount = 0;

  /** Reads of one image; a budget counts the blocks of attributes, each once. */
  constructor(image: Ext4Image, budget?: BlockBudget) {
    this.#image = image;
    this.#budget = budget;
  }

  /**
   * The attributes as system calls show them, in byte order of their names: ACLs in the format of system calls, without
   * what the kernel hides. Names that no system call has are counted as `unsupportedXattr`.
   *
   * @param describe names the inode in warnings
   * @throws {InputError} for attributes that are damaged, or there twice
   */
  read(inode: ImageInode, warnings: Warnings, describe: () => string): readonly Xattr[] {
    const all = this.stored(inode);
    for (const { nameIndex, suffix } of all.filter(isNameless)) {
      const shown = `${nameIndex}:${displayName(suffix)}`;
      warnings.add("unsupportedXattr", describe(), `xattr ${shown} dropped: it has no known name`);
    }
    const visible = this.#visibleOf(inode, all);
    // Only files and directories have a user's attributes (xattr(7)): the kernel lists others, and gives no value.
    if (inode.kind === "file" || inode.kind === "directory" || !visible.some(isUsers)) {
      return visible;
    }
    for (const { name } of visible.filter(isUsers)) {
      const why = `xattr ${displayName(name)} dropped: a ${inode.kind} cannot have it`;
      warnings.add("unsupportedXattr", describe(), why);
    }
    return visible.filter((xattr) => !isUsers(xattr));
  }

  #visibleOf(inode: ImageInode, all: readonly StoredXattr[]): readonly Xattr[] {
    const own = visibleXattrs(all.filter(({ location }) => location === "inode"), inode.what);
    const xattrBlock = xattrBlockOf(this.#image, inode.view);
    if (xattrBlock === 0) return own;
    const known = new Set(own.map(({ name }) => name));
    const inBlock = this.#visibleInBlock(xattrBlock);
    const shared = inBlock.some(({ name }) => known.has(name))
      ? inBlock.filter(({ name }) => !known.has(name))
      : inBlock;
    // A million inodes may share few blocks: as long as it can be, it is one list for all of them.
    if (own.length === 0) return shared;
    this.#joinedCount += own.length + shared.length;
    if (this.#joinedCount > JOINED_COUNT_MAX) {
      throw new InputError(
        this.#image.name,
        `its inodes have more than ${JOINED_COUNT_MAX} attributes, most of them in shared blocks`,
        { code: "limitExceeded" },
      );
    }
    return [...own, ...shared].sort(byName);
  }

  /** The attributes as they are stored, those in the inode first. */
  stored(inode: ImageInode): readonly StoredXattr[] {
    const { number, view } = inode;
    const what = `attributes in ${inode.what}`;
    const inInode = this.#finish(readInodeXattrs(this.#image, view), "inode", what);
    const block = xattrBlockOf(this.#image, view);
    if (block === 0) return inInode;
    if (!judgeXattrBlockPointer(this.#image, number, block)) return inInode;
    const inBlock = this.#block(block);
    if (inInode.length === 0) return inBlock;
    const names = new Set(inInode.map(keyOf));
    const twice = inBlock.filter((xattr) => names.has(keyOf(xattr)));
    for (const xattr of twice) {
      const problem = `attribute ${displayName(keyOf(xattr))} is there twice`;
      this.#image.judge.report("inode", { inode: number, block }, problem, {
        isReadable: true,
        outcome: "the one in the inode is taken",
      });
    }
    return [...inInode, ...inBlock.filter((xattr) => !names.has(keyOf(xattr)))];
  }

  #visibleInBlock(blockNumber: number): readonly Xattr[] {
    const known = this.#visible.get(blockNumber);
    if (known !== undefined) return known;
    const xattrs = visibleXattrs(this.#block(blockNumber), `attribute block ${blockNumber}`);
    this.#visible.set(blockNumber, xattrs);
    return xattrs;
  }

  #block(blockNumber: number): readonly StoredXattr[] {
    const known = this.#blocks.get(blockNumber);
    if (known !== undefined) return known;
    const what = `attribute block ${blockNumber}`;
    this.#budget?.add(1, what);
    const decoded = readXattrBlock(this.#image, blockNumber)?.xattrs ?? [];
    const xattrs = this.#finish(decoded, "block", what);
    this.#blocks.set(blockNumber, xattrs);
    return xattrs;
  }

  #finish(
    xattrs: readonly DecodedXattr[],
    location: StoredXattr["location"],
    what: string,
  ): StoredXattr[] {
    return xattrs.map((xattr) => {
      const { nameIndex, suffix, entryHash, valueInode } = xattr;
      const value = valueInode === undefined ? xattr.value : this.#value(xattr, valueInode, what);
      return { nameIndex, suffix, value, location, valueInode, entryHash };
    });
  }

  #value(xattr: DecodedXattr, valueInode: number, owner: string): Uint8Array {
    if (!this.#image.hasIncompat(INCOMPAT.EA_INODE)) {
      throw new InputError(owner, `a value is in inode ${valueInode}, without the feature for it`);
    }
    const { value, hash, isOldStyle } = this.#valueOf(valueInode);
    if (value.length !== xattr.valueSizeBytes) {
      throw new InputError(
        owner,
        `a value is ${xattr.valueSizeBytes} bytes, but inode ${valueInode} has ${value.length}`,
      );
    }
    if (!isOldStyle) verifyXattrValueInode(xattr, hash, owner);
    return value;
  }

  #valueOf(valueInode: number): AttributeValue {
    const known = this.#values.get(valueInode);
    if (known !== undefined) return known;
    const inode = this.#image.inode(valueInode);
    if (inode.kind !== "file" || !hasFlag(inode, INODE_FLAG.EA_INODE)) {
      throw new InputError(
        inode.what,
        "an attribute says its value is in it, but its flags do not",
      );
    }
    const { blockSizeBytes } = this.#image;
    this.#budget?.add(Math.ceil(inode.view.sizeBytes / blockSizeBytes), inode.what);
    const runs = blockRuns(this.#image, inode);
    const found = readAttributeValue(this.#image, inode.view, runs);
    if (found === undefined) throw new InputError(inode.what, "its value cannot be read");
    this.#values.set(valueInode, found);
    return found;
  }
}

function keyOf(xattr: StoredXattr): ByteString {
  return `${xattr.nameIndex}:${xattr.suffix}`;
}

/** Names of system calls have a known prefix; under `system.` there are only ACLs. */
function isNameless(xattr: StoredXattr): boolean {
  if (isInlineData(xattr)) return false;
  const name = joinXattrName(xattr.nameIndex, xattr.suffix);
  return name === undefined || xattr.nameIndex === XATTR_INDEX.SYSTEM;
}

/** What system calls show of some attributes, in byte order of the names. */
function visibleXattrs(xattrs: readonly StoredXattr[], what: string): readonly Xattr[] {
  const visible: Xattr[] = [];
  for (const xattr of xattrs) {
    const name = joinXattrName(xattr.nameIndex, xattr.suffix);
    if (name === undefined || xattr.nameIndex === XATTR_INDEX.SYSTEM) continue;
    const value = systemCallValue(xattr, what);
    if (value !== undefined) visible.push({ name, value });
  }
  return visible.sort(byName);
}

function isUsers({ name }: Xattr): boolean {
  return name.startsWith("user.");
}

function byName(a: Xattr, b: Xattr): number {
  return a.name < b.name ? -1 : 1;
}

/** Undefined for an ACL without entries: the kernel takes it for none. */
function systemCallValue(xattr: StoredXattr, what: string): Uint8Array | undefined {
  const isAcl = xattr.nameIndex === XATTR_INDEX.POSIX_ACL_ACCESS ||
    xattr.nameIndex === XATTR_INDEX.POSIX_ACL_DEFAULT;
  if (!isAcl) return xattr.value;
  try {
    const value = aclFromDisk(xattr.value);
    return value.length === EMPTY_ACL_SIZE_BYTES ? undefined : value;
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new InputError(`ACL of ${what}`, error.message.replace(/^ACL: /, ""), {
      cause: error,
    });
  }
}
