/**
 * Extended attributes (kernel documentation, "Extended Attributes"; fs/ext4/xattr.h): entries from the front and values
 * from the back of the room behind an inode's fields, or of a block of their own that several inodes can share. This file
 * has names, hashes and writing; xattr_decode.ts reads.
 *
 * @module
 */
import { rotateLeft } from "../../bytes/arithmetic.ts";
import type { ByteString } from "../../bytes/byte_string.ts";
import { crc32c } from "../../bytes/crc32c.ts";
import { invariant } from "../../errors.ts";
import { XATTR_REFCOUNT_MAX } from "./constants.ts";
import { viewOf } from "./fields.ts";

/** e_name_index of the prefixes (EXT4_XATTR_INDEX_...). */
export const XATTR_INDEX = {
  USER: 1,
  POSIX_ACL_ACCESS: 2,
  POSIX_ACL_DEFAULT: 3,
  TRUSTED: 4,
  SECURITY: 6,
  SYSTEM: 7,
  RICHACL: 8,
  ENCRYPTION: 9,
} as const;

/** A name in two parts. */
export interface SplitXattrName {
  readonly nameIndex: number;
  readonly suffix: ByteString;
}

interface Prefix {
  readonly nameIndex: number;
  readonly text: ByteString;
  /** Whether the prefix is a name by itself; otherwise it needs a suffix. */
  readonly isWholeName: boolean;
}

/** Whole names come before the prefix that they begin with. */
const PREFIXES: readonly Prefix[] = [
  {
    nameIndex: XATTR_INDEX.POSIX_ACL_ACCESS,
    text: "system.posix_acl_access",
    isWholeName: true,
  },
  {
    nameIndex: XATTR_INDEX.POSIX_ACL_DEFAULT,
    text: "system.posix_acl_default",
    isWholeName: true,
  },
  { nameIndex: XATTR_INDEX.RICHACL, text: "system.richacl", isWholeName: true },
  { nameIndex: XATTR_INDEX.USER, text: "user.", isWholeName: false },
  { nameIndex: XATTR_INDEX.TRUSTED, text: "trusted.", isWholeName: false },
  { nameIndex: XATTR_INDEX.SECURITY, text: "security.", isWholeName: false },
  { nameIndex: XATTR_INDEX.SYSTEM, text: "system.", isWholeName: false },
];

/**
 * Splits a name; undefined when ext4 has no number for its prefix, or nothing follows a prefix that needs more.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { splitXattrName } from "./xattr.ts";
 * assertEquals(splitXattrName("security.capability"), { nameIndex: 6, suffix: "capability" });
 * assertEquals(splitXattrName("btrfs.compression"), undefined);
 * ```
 */
export function splitXattrName(name: ByteString): SplitXattrName | undefined {
  for (const { nameIndex, text, isWholeName } of PREFIXES) {
    if (isWholeName ? name === text : name.length > text.length && name.startsWith(text)) {
      return { nameIndex, suffix: name.slice(text.length) };
    }
  }
  return undefined;
}

/** The whole name; undefined for a number or a suffix that no name has. */
export function joinXattrName(nameIndex: number, suffix: ByteString): ByteString | undefined {
  const prefix = PREFIXES.find((candidate) => candidate.nameIndex === nameIndex);
  if (prefix === undefined || prefix.isWholeName !== (suffix === "")) return undefined;
  return prefix.text + suffix;
}

/** What an entry's hash covers. */
export interface HashedXattr {
  readonly suffix: ByteString;
  readonly value: Uint8Array;
  readonly valueInode?: number | undefined;
  readonly valueHash?: number | undefined;
}

const NAME_SHIFT = 5;
const VALUE_SHIFT = 16;

/**
 * e_hash: the suffix byte by byte, then the value word by word (little-endian, padded with zeros). For a value in an
 * inode the one word is that inode's hash. Old kernels on x86 took the suffix as signed characters; `signedName` gives
 * what they wrote.
 */
export function xattrEntryHash(xattr: HashedXattr, signedName = false): number {
  let hash = 0;
  for (let i = 0; i < xattr.suffix.length; i++) {
    const byte = xattr.suffix.charCodeAt(i);
    hash = rotateLeft(hash, NAME_SHIFT) ^ (signedName ? (byte << 24) >> 24 : byte);
  }
  if (xattr.valueInode !== undefined) {
    invariant(xattr.valueHash !== undefined, "an attribute in an inode needs its value's hash");
    return (rotateLeft(hash, VALUE_SHIFT) ^ xattr.valueHash) >>> 0;
  }
  const { value } = xattr;
  for (let at = 0; at < value.length; at += 4) {
    const word = (value[at] ?? 0) | ((value[at + 1] ?? 0) << 8) | ((value[at + 2] ?? 0) << 16) |
      ((value[at + 3] ?? 0) << 24);
    hash = rotateLeft(hash, VALUE_SHIFT) ^ word;
  }
  return hash >>> 0;
}

/** h_hash: the entry hashes folded; 0, which means "never share", when one of them is 0. */
export function xattrBlockHash(entryHashes: readonly number[]): number {
  let hash = 0;
  for (const entryHash of entryHashes) {
    if (entryHash === 0) return 0;
    hash = rotateLeft(hash, VALUE_SHIFT) ^ entryHash;
  }
  return hash >>> 0;
}

/**
 * The hash of a value that an inode holds, which that inode keeps in i_atime. `seed` is superblockSeed(), also where
 * the file system has no metadata checksums.
 */
export function xattrValueHash(seed: number, value: Uint8Array): number {
  return crc32c(seed, value);
}

/** One attribute as ext4 stores it. ACL values are in the disk format (acl.ts). */
export interface DiskXattr {
  /** An XATTR_INDEX. */
  readonly nameIndex: number;
  /** The name behind its prefix. */
  readonly suffix: ByteString;
  /** The value as it is on disk. */
  readonly value: Uint8Array;
  /** The inode that holds the value (INCOMPAT.EA_INODE); then valueHash is needed. */
  readonly valueInode?: number | undefined;
  /** xattrValueHash() of a value that an inode holds. */
  readonly valueHash?: number | undefined;
}

/** h_magic, and the magic of the area in an inode. */
export const XATTR_MAGIC = 0xea020000;
/** The magic alone. */
export const INODE_XATTR_HEADER_SIZE_BYTES = 4;
/** struct ext4_xattr_header. */
export const XATTR_BLOCK_HEADER_SIZE_BYTES = 32;
/** The zero word behind the last entry. */
export const XATTR_END_SIZE_BYTES = 4;
/** struct ext4_xattr_entry before the name. */
export const XATTR_ENTRY_HEADER_SIZE_BYTES = 16;
/** The longest suffix that fits e_name_len. */
export const XATTR_SUFFIX_LENGTH_MAX = 255;
/** The largest value that the kernel reads. */
export const XATTR_VALUE_SIZE_MAX = 65536;

/** Offsets in struct ext4_xattr_header. */
export const XATTR_BLOCK_AT = {
  magic: 0x00, // h_magic
  referenceCount: 0x04, // h_refcount
  blockCount: 0x08, // h_blocks
  hash: 0x0c, // h_hash
  checksum: 0x10, // h_checksum
  reserved: 0x14, // h_reserved[3]
} as const;

/** Offsets in struct ext4_xattr_entry. */
export const XATTR_ENTRY_AT = {
  nameLength: 0, // e_name_len
  nameIndex: 1, // e_name_index
  valueOffset: 2, // e_value_offs
  valueInode: 4, // e_value_inum
  valueSize: 8, // e_value_size
  hash: 12, // e_hash
  name: 16, // e_name
} as const;

/** The kernel's order in xattr blocks: name index, then length of the suffix, then its bytes. */
export function compareDiskXattrs(a: DiskXattr, b: DiskXattr): number {
  if (a.nameIndex !== b.nameIndex) return a.nameIndex - b.nameIndex;
  if (a.suffix.length !== b.suffix.length) return a.suffix.length - b.suffix.length;
  if (a.suffix === b.suffix) return 0;
  return a.suffix < b.suffix ? -1 : 1;
}

/** What the entry takes: header and suffix, padded to 4. */
export function xattrEntrySizeBytes(xattr: Pick<DiskXattr, "suffix">): number {
  return (XATTR_ENTRY_HEADER_SIZE_BYTES + xattr.suffix.length + 3) & ~3;
}

/** What the value takes beside the entries: padded to 4, and nothing when an inode holds it. */
export function xattrValueSizeBytes(xattr: Pick<DiskXattr, "value" | "valueInode">): number {
  return xattr.valueInode === undefined ? (xattr.value.length + 3) & ~3 : 0;
}

/** The room in an inode that these attributes need, the magic and the end mark included. */
export function inodeXattrsSizeBytes(xattrs: readonly DiskXattr[]): number {
  return INODE_XATTR_HEADER_SIZE_BYTES + contentSizeBytes(xattrs);
}

/** The part of a block that these attributes need, the header and the end mark included. */
export function xattrBlockUsedBytes(xattrs: readonly DiskXattr[]): number {
  return XATTR_BLOCK_HEADER_SIZE_BYTES + contentSizeBytes(xattrs);
}

/**
 * The area behind an inode's fields: empty when there are no attributes, else `capacityBytes` long. Entries are in the
 * order given, and so are the values, the first one at the very end: just as the kernel leaves them when it sets the
 * attributes one after another. Entry hashes are 0, as the kernel wants them here, but for values in inodes.
 */
export function encodeInodeXattrs(
  xattrs: readonly DiskXattr[],
  capacityBytes: number,
): Uint8Array<ArrayBuffer> {
  if (xattrs.length === 0) return NO_BYTES;
  const needed = inodeXattrsSizeBytes(xattrs);
  invariant(
    needed <= capacityBytes && capacityBytes % 4 === 0,
    `${needed} bytes of attributes in ${capacityBytes} bytes of an inode`,
  );
  const area = new Uint8Array(capacityBytes);
  viewOf(area).setUint32(0, XATTR_MAGIC, true);
  writeXattrs(area, xattrs, {
    entriesStart: INODE_XATTR_HEADER_SIZE_BYTES,
    valueBase: INODE_XATTR_HEADER_SIZE_BYTES,
    hashInlineValues: false,
  });
  return area;
}

/**
 * A whole xattr block with entry hashes and block hash, sorted as the kernel wants it. Its checksum field is 0 until
 * sealXattrBlock().
 */
export function encodeXattrBlock(
  xattrs: readonly DiskXattr[],
  options: { readonly blockSizeBytes: number; readonly referenceCount: number },
): Uint8Array<ArrayBuffer> {
  const { blockSizeBytes, referenceCount } = options;
  const needed = xattrBlockUsedBytes(xattrs);
  invariant(
    xattrs.length > 0 && needed <= blockSizeBytes,
    `${needed} bytes of ${xattrs.length} attributes in a block of ${blockSizeBytes}`,
  );
  invariant(
    referenceCount >= 1 && referenceCount <= XATTR_REFCOUNT_MAX,
    `an xattr block with ${referenceCount} owners`,
  );
  const block = new Uint8Array(blockSizeBytes);
  const view = viewOf(block);
  view.setUint32(XATTR_BLOCK_AT.magic, XATTR_MAGIC, true);
  view.setUint32(XATTR_BLOCK_AT.referenceCount, referenceCount, true);
  view.setUint32(XATTR_BLOCK_AT.blockCount, 1, true);
  const entryHashes = writeXattrs(block, [...xattrs].sort(compareDiskXattrs), {
    entriesStart: XATTR_BLOCK_HEADER_SIZE_BYTES,
    valueBase: 0,
    hashInlineValues: true,
  });
  view.setUint32(XATTR_BLOCK_AT.hash, xattrBlockHash(entryHashes), true);
  return block;
}

/** Writes h_checksum. `seed` is the file system's: a block belongs to no one inode. */
export function sealXattrBlock(
  block: Uint8Array,
  options: { readonly blockNumber: number; readonly seed: number },
): void {
  viewOf(block).setUint32(XATTR_BLOCK_AT.checksum, xattrBlockChecksum(block, options), true);
}

/** h_checksum as it should be: over the block's own number (le64), then the block with that field zero. */
export function xattrBlockChecksum(
  block: Uint8Array,
  options: { readonly blockNumber: number; readonly seed: number },
): number {
  const number = new Uint8Array(8);
  const view = viewOf(number);
  view.setUint32(0, options.blockNumber % 2 ** 32, true);
  view.setUint32(4, Math.floor(options.blockNumber / 2 ** 32), true);
  const before = block.subarray(0, XATTR_BLOCK_AT.checksum);
  const after = block.subarray(XATTR_BLOCK_AT.reserved);
  return crc32c(options.seed, number, before, FOUR_ZEROS, after);
}

const NO_BYTES = new Uint8Array(0);
const FOUR_ZEROS = new Uint8Array(4);

interface Layout {
  /** Where the first entry is. */
  readonly entriesStart: number;
  /** What e_value_offs counts from: the first entry in an inode, the start of a block. */
  readonly valueBase: number;
  /** Whether entries of values that lie here get a hash. */
  readonly hashInlineValues: boolean;
}

function contentSizeBytes(xattrs: readonly DiskXattr[]): number {
  let size = XATTR_END_SIZE_BYTES;
  for (const xattr of xattrs) size += xattrEntrySizeBytes(xattr) + xattrValueSizeBytes(xattr);
  return size;
}

/** Writes entries and values; the room is known to be enough and zero. Returns the entry hashes. */
function writeXattrs(
  area: Uint8Array,
  xattrs: readonly DiskXattr[],
  layout: Layout,
): number[] {
  const view = viewOf(area);
  const entryHashes: number[] = [];
  let entryAt = layout.entriesStart;
  let valueAt = area.length;
  for (const xattr of xattrs) {
    valueAt -= xattrValueSizeBytes(xattr);
    const hash = xattr.valueInode !== undefined || layout.hashInlineValues
      ? xattrEntryHash(xattr)
      : 0;
    const hasValueHere = xattr.valueInode === undefined && xattr.value.length > 0;
    writeEntry(view, entryAt, xattr, {
      // The kernel leaves the offset of an empty value at 0.
      valueOffset: hasValueHere ? valueAt - layout.valueBase : 0,
      hash,
    });
    if (hasValueHere) area.set(xattr.value, valueAt);
    entryHashes.push(hash);
    entryAt += xattrEntrySizeBytes(xattr);
  }
  return entryHashes;
}

function writeEntry(
  view: DataView<ArrayBufferLike>,
  at: number,
  xattr: DiskXattr,
  derived: { readonly valueOffset: number; readonly hash: number },
): void {
  const { nameIndex, suffix, value, valueInode } = xattr;
  invariant(
    suffix.length <= XATTR_SUFFIX_LENGTH_MAX && nameIndex > 0 && nameIndex <= 0xff &&
      value.length <= XATTR_VALUE_SIZE_MAX && valueInode !== 0,
    `attribute ${nameIndex} with a suffix of ${suffix.length} bytes, value ${value.length} bytes`,
  );
  view.setUint8(at + XATTR_ENTRY_AT.nameLength, suffix.length);
  view.setUint8(at + XATTR_ENTRY_AT.nameIndex, nameIndex);
  view.setUint16(at + XATTR_ENTRY_AT.valueOffset, derived.valueOffset, true);
  view.setUint32(at + XATTR_ENTRY_AT.valueInode, valueInode ?? 0, true);
  view.setUint32(at + XATTR_ENTRY_AT.valueSize, value.length, true);
  view.setUint32(at + XATTR_ENTRY_AT.hash, derived.hash, true);
  for (let i = 0; i < suffix.length; i++) {
    view.setUint8(at + XATTR_ENTRY_AT.name + i, suffix.charCodeAt(i));
  }
}
