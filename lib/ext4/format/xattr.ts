/**
 * Extended attributes (kernel documentation, "Extended Attributes"; fs/ext4/xattr.h). Entries fill the room from the
 * front and values from the back, either after an inode's fields or in a block of their own that several inodes can
 * share. Reading is strict: entries and values must not overlap or leave their room, names must be possible, in order
 * where the kernel requires it, and hashes must be right.
 *
 * @module
 */
import { rotateLeft } from "../../bytes/arithmetic.ts";
import {
  bytesFromByteString,
  type ByteString,
  byteStringFromBytes,
  displayName,
} from "../../bytes/byte_string.ts";
import { crc32c } from "../../bytes/crc32c.ts";
import { InputError, invariant } from "../../errors.ts";
import { checkChecksum, ZEROED_CHECKSUM } from "./checksum.ts";
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

/**
 * Names by their start. A prefix that ends with a dot needs a suffix; any other is a whole name, and is listed before a
 * prefix that it begins with.
 */
const PREFIXES: readonly (readonly [prefix: ByteString, nameIndex: number])[] = [
  ["system.posix_acl_access", XATTR_INDEX.POSIX_ACL_ACCESS],
  ["system.posix_acl_default", XATTR_INDEX.POSIX_ACL_DEFAULT],
  ["system.richacl", XATTR_INDEX.RICHACL],
  ["user.", XATTR_INDEX.USER],
  ["trusted.", XATTR_INDEX.TRUSTED],
  ["security.", XATTR_INDEX.SECURITY],
  ["system.", XATTR_INDEX.SYSTEM],
];

interface SplitXattrName {
  /** An XATTR_INDEX. */
  readonly nameIndex: number;
  readonly suffix: ByteString;
}

/** Splits a name; undefined if ext4 has no number for its prefix, or a required suffix is missing. */
export function splitXattrName(name: ByteString): SplitXattrName | undefined {
  for (const [prefix, nameIndex] of PREFIXES) {
    const suffix = name.slice(prefix.length);
    if (name.startsWith(prefix) && prefix.endsWith(".") !== (suffix === "")) {
      return { nameIndex, suffix };
    }
  }
  return undefined;
}

/** The whole name; undefined for an unknown number or an invalid suffix. */
export function joinXattrName(nameIndex: number, suffix: ByteString): ByteString | undefined {
  const prefix = PREFIXES.find(([, index]) => index === nameIndex)?.[0];
  if (prefix === undefined || prefix.endsWith(".") === (suffix === "")) return undefined;
  return prefix + suffix;
}

/** One attribute as stored by ext4. ACL values are in the disk format (acl.ts). */
export interface DiskXattr {
  /** An XATTR_INDEX. */
  readonly nameIndex: number;
  /** The name after its prefix. */
  readonly suffix: ByteString;
  /** The value as stored on disk. */
  readonly value: Uint8Array;
  /** The inode that holds the value (INCOMPAT.EA_INODE); requires valueHash. */
  readonly valueInode?: number | undefined;
  /** xattrValueHash() of a value stored in an inode. */
  readonly valueHash?: number | undefined;
}

const NAME_SHIFT = 5;
const VALUE_SHIFT = 16;

/**
 * e_hash: the suffix byte by byte, then the value word by word (little-endian, padded with zeros). For a value in an
 * inode, that inode's hash is the only word. Old kernels on x86 treated the suffix as signed characters; `signedName`
 * computes their hash.
 */
export function xattrEntryHash(
  xattr: Omit<DiskXattr, "nameIndex">,
  signedName = false,
): number {
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

/** h_hash: the entry hashes folded; 0, meaning "never share", if one of them is 0. */
export function xattrBlockHash(entryHashes: readonly number[]): number {
  let hash = 0;
  for (const entryHash of entryHashes) {
    if (entryHash === 0) return 0;
    hash = rotateLeft(hash, VALUE_SHIFT) ^ entryHash;
  }
  return hash >>> 0;
}

/**
 * The hash of a value stored in an inode, which keeps it in i_atime. `seed` is superblockSeed(), even without metadata
 * checksums.
 */
export function xattrValueHash(seed: number, value: Uint8Array): number {
  return crc32c(seed, value);
}

/** The largest value that the kernel reads. */
export const XATTR_VALUE_SIZE_MAX = 65536;
/** h_magic, also the magic of the area in an inode. */
const MAGIC = 0xea020000;
const INODE_HEADER_SIZE_BYTES = 4;
/** struct ext4_xattr_header. */
const BLOCK_HEADER_SIZE_BYTES = 32;
/** The zero word after the last entry. */
const END_SIZE_BYTES = 4;
/** struct ext4_xattr_entry before the name. */
const ENTRY_HEADER_SIZE_BYTES = 16;
/** The longest suffix that e_name_len can describe. */
const SUFFIX_LENGTH_MAX = 255;

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
const ENTRY_AT = {
  nameLength: 0, // e_name_len
  nameIndex: 1, // e_name_index
  valueOffset: 2, // e_value_offs
  valueInode: 4, // e_value_inum
  valueSize: 8, // e_value_size
  hash: 12, // e_hash
  name: 16, // e_name
} as const;

/** The kernel's order in xattr blocks: by name index, then by length of the suffix, then by its bytes. */
export function compareDiskXattrs(a: DiskXattr, b: DiskXattr): number {
  if (a.nameIndex !== b.nameIndex) return a.nameIndex - b.nameIndex;
  if (a.suffix.length !== b.suffix.length) return a.suffix.length - b.suffix.length;
  if (a.suffix === b.suffix) return 0;
  return a.suffix < b.suffix ? -1 : 1;
}

function entrySizeBytes(suffixLength: number): number {
  return (ENTRY_HEADER_SIZE_BYTES + suffixLength + 3) & ~3;
}

/** The bytes of a value besides its entry: none if an inode holds it. */
function valueSizeBytes({ value, valueInode }: DiskXattr): number {
  return valueInode === undefined ? (value.length + 3) & ~3 : 0;
}

/** The room that these attributes need in an inode, including the magic and the end mark. */
export function inodeXattrsSizeBytes(xattrs: readonly DiskXattr[]): number {
  return INODE_HEADER_SIZE_BYTES + contentSizeBytes(xattrs);
}

/** The bytes that these attributes need in a block, including the header and the end mark. */
export function xattrBlockUsedBytes(xattrs: readonly DiskXattr[]): number {
  return BLOCK_HEADER_SIZE_BYTES + contentSizeBytes(xattrs);
}

function contentSizeBytes(xattrs: readonly DiskXattr[]): number {
  let size = END_SIZE_BYTES;
  for (const xattr of xattrs) size += entrySizeBytes(xattr.suffix.length) + valueSizeBytes(xattr);
  return size;
}

/**
 * Encodes the area after an inode's fields: empty without attributes, else `capacityBytes` long. Entries are in the
 * given order; so are the values, the first at the very end. That is how the kernel leaves them when it sets the
 * attributes one after another. Entry hashes are 0, as the kernel wants here, except for values in inodes.
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
  viewOf(area).setUint32(0, MAGIC, true);
  // Value offsets count from the first entry.
  const start = INODE_HEADER_SIZE_BYTES;
  writeXattrs(area, xattrs, { start, valueBase: start, hashesValues: false });
  return area;
}

/**
 * Encodes a whole xattr block with entry hashes and block hash, sorted as the kernel requires. Its checksum stays 0
 * until sealXattrBlock().
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
  view.setUint32(XATTR_BLOCK_AT.magic, MAGIC, true);
  view.setUint32(XATTR_BLOCK_AT.referenceCount, referenceCount, true);
  view.setUint32(XATTR_BLOCK_AT.blockCount, 1, true);
  const sorted = [...xattrs].sort(compareDiskXattrs);
  const layout = { start: BLOCK_HEADER_SIZE_BYTES, valueBase: 0, hashesValues: true };
  const entryHashes = writeXattrs(block, sorted, layout);
  view.setUint32(XATTR_BLOCK_AT.hash, xattrBlockHash(entryHashes), true);
  return block;
}

/** Writes entries and values into an area that is zeroed and large enough. Returns the entry hashes. */
function writeXattrs(
  area: Uint8Array,
  xattrs: readonly DiskXattr[],
  layout: { readonly start: number; readonly valueBase: number; readonly hashesValues: boolean },
): number[] {
  const view = viewOf(area);
  const entryHashes: number[] = [];
  let at = layout.start;
  let valueAt = area.length;
  for (const xattr of xattrs) {
    const { nameIndex, suffix, value, valueInode } = xattr;
    invariant(
      suffix.length <= SUFFIX_LENGTH_MAX && nameIndex > 0 && nameIndex <= 0xff &&
        value.length <= XATTR_VALUE_SIZE_MAX && valueInode !== 0,
      `attribute ${nameIndex} with a suffix of ${suffix.length} bytes, value ${value.length} bytes`,
    );
    valueAt -= valueSizeBytes(xattr);
    const hasValueHere = valueInode === undefined && value.length > 0;
    const hash = valueInode !== undefined || layout.hashesValues ? xattrEntryHash(xattr) : 0;
    // The kernel leaves the offset of an empty value at 0.
    const valueOffset = hasValueHere ? valueAt - layout.valueBase : 0;
    view.setUint8(at + ENTRY_AT.nameLength, suffix.length);
    view.setUint8(at + ENTRY_AT.nameIndex, nameIndex);
    view.setUint16(at + ENTRY_AT.valueOffset, valueOffset, true);
    view.setUint32(at + ENTRY_AT.valueInode, valueInode ?? 0, true);
    view.setUint32(at + ENTRY_AT.valueSize, value.length, true);
    view.setUint32(at + ENTRY_AT.hash, hash, true);
    area.set(bytesFromByteString(suffix), at + ENTRY_AT.name);
    if (hasValueHere) area.set(value, valueAt);
    entryHashes.push(hash);
    at += entrySizeBytes(suffix.length);
  }
  return entryHashes;
}

/**
 * What the checksum covers besides the block. The seed is the file system's, since a block may belong to several
 * inodes.
 */
interface XattrBlockSeal {
  readonly blockNumber: number;
  readonly seed: number;
}

export function sealXattrBlock(block: Uint8Array, options: XattrBlockSeal): void {
  viewOf(block).setUint32(XATTR_BLOCK_AT.checksum, blockChecksum(block, options), true);
}

/** Throws InputError, with `what` in it, if an xattr block's checksum is wrong. */
export function verifyXattrBlock(
  block: Uint8Array,
  options: XattrBlockSeal & { readonly what: string },
): void {
  const stored = viewOf(block).getUint32(XATTR_BLOCK_AT.checksum, true);
  checkChecksum(options.what, stored, blockChecksum(block, options));
}

/** The correct h_checksum: over the block's own number (le64), then the block with that field zeroed. */
function blockChecksum(block: Uint8Array, { blockNumber, seed }: XattrBlockSeal): number {
  const number = new Uint8Array(8);
  viewOf(number).setBigUint64(0, BigInt(blockNumber), true);
  const before = block.subarray(0, XATTR_BLOCK_AT.checksum);
  return crc32c(seed, number, before, ZEROED_CHECKSUM, block.subarray(XATTR_BLOCK_AT.reserved));
}

const NO_BYTES = new Uint8Array(0);

/** An attribute as read. If an inode holds the value, `value` is empty. */
export interface DecodedXattr extends DiskXattr {
  /** e_value_size, which is also the size of a value in an inode. */
  readonly valueSizeBytes: number;
  readonly entryHash: number;
  /** The value including the padding of its last word, which the hash covers. */
  readonly hashedValue: Uint8Array;
}

/** Called for each fault that does not prevent reading the attributes. */
export type XattrComplaint = (problem: string, details?: { readonly severity?: "note" }) => void;

export interface DecodedXattrBlock {
  readonly referenceCount: number;
  /** h_hash; 0 if the writer did not intend the block to be shared. */
  readonly hash: number;
  readonly xattrs: readonly DecodedXattr[];
}

interface Range {
  readonly start: number;
  readonly end: number;
}

/** An area with entries first and values after them. */
interface Area {
  readonly bytes: Uint8Array;
  readonly view: DataView<ArrayBufferLike>;
  readonly start: number;
  /** The offset that e_value_offs counts from. */
  readonly valueBase: number;
  readonly what: string;
  readonly complain: XattrComplaint;
}

/**
 * Reads the area after an inode's fields. An area without room for the magic number, or with zeros in its place, has no
 * attributes. Throws InputError, with `what` in it, for anything malformed.
 *
 * @param complain called for wrong hashes; by default they throw, too
 */
export function decodeInodeXattrs(
  area: Uint8Array,
  what: string,
  complain: XattrComplaint = complainByThrowing(what),
): DecodedXattr[] {
  if (area.length < INODE_HEADER_SIZE_BYTES) return [];
  const view = viewOf(area);
  const magic = view.getUint32(0, true);
  if (magic === 0) return [];
  if (magic !== MAGIC) {
    // The kernel treats the area as empty.
    complain(magicFault(magic));
    return [];
  }
  const start = INODE_HEADER_SIZE_BYTES;
  const xattrs = readXattrs({ bytes: area, view, start, valueBase: start, what, complain });
  for (const xattr of xattrs) {
    if (xattr.entryHash !== 0 && xattr.valueInode === undefined) checkEntryHash(xattr, complain);
  }
  return xattrs;
}

/**
 * Reads an xattr block. Throws InputError, with `what` in it, for anything malformed. The caller checks the checksum
 * (verifyXattrBlock()) and the hashes of values in inodes (verifyXattrValueInode()).
 *
 * @param complain called for wrong hashes and for entries out of order; by default they throw, too
 */
export function decodeXattrBlock(
  block: Uint8Array,
  what: string,
  complain: XattrComplaint = complainByThrowing(what),
): DecodedXattrBlock {
  invariant(block.length >= BLOCK_HEADER_SIZE_BYTES, `a block of ${block.length} bytes`);
  const view = viewOf(block);
  const magic = view.getUint32(XATTR_BLOCK_AT.magic, true);
  if (magic !== MAGIC) throw new InputError(what, magicFault(magic));
  const blockCount = view.getUint32(XATTR_BLOCK_AT.blockCount, true);
  if (blockCount !== 1) throw new InputError(what, `it says it is ${blockCount} blocks, not 1`);
  const referenceCount = view.getUint32(XATTR_BLOCK_AT.referenceCount, true);
  if (referenceCount < 1 || referenceCount > XATTR_REFCOUNT_MAX) {
    complain(`it says it has ${referenceCount} owners, not 1 to ${XATTR_REFCOUNT_MAX}`);
  }
  const start = BLOCK_HEADER_SIZE_BYTES;
  const xattrs = readXattrs({ bytes: block, view, start, valueBase: 0, what, complain });
  const hash = view.getUint32(XATTR_BLOCK_AT.hash, true);
  checkBlockContent(xattrs, hash, complain);
  return { referenceCount, hash, xattrs };
}

/**
 * Throws InputError, with `what` in it, if an entry's hash does not match the hash of its value's inode
 * (xattrValueHash() of the value read there).
 */
export function verifyXattrValueInode(xattr: DecodedXattr, valueHash: number, what: string): void {
  invariant(xattr.valueInode !== undefined, "an attribute whose value is not in an inode");
  checkEntryHash({ ...xattr, valueHash }, complainByThrowing(what));
}

function complainByThrowing(what: string): XattrComplaint {
  return (problem) => {
    throw new InputError(what, problem);
  };
}

function magicFault(magic: number): string {
  return `the magic number of its attributes is 0x${magic.toString(16)}, not 0xea020000`;
}

function checkBlockContent(
  xattrs: readonly DecodedXattr[],
  hash: number,
  complain: XattrComplaint,
): void {
  for (const [index, xattr] of xattrs.entries()) {
    const previous = xattrs[index - 1];
    if (previous !== undefined && compareDiskXattrs(previous, xattr) >= 0) {
      const problem = `its attribute ${describe(xattr)} is not in the kernel's order`;
      complain(problem, { severity: "note" });
    }
    if (xattr.valueInode === undefined) checkEntryHash(xattr, complain);
  }
  const expected = xattrBlockHash(xattrs.map((xattr) => xattr.entryHash));
  if (hash !== 0 && hash !== expected) {
    complain(`its hash is 0x${hash.toString(16)}, not 0x${expected.toString(16)}`);
  }
}

/** Both hashes are valid: kernels before 6.2 on x86 treated the name as signed characters. */
function checkEntryHash(xattr: DecodedXattr, complain: XattrComplaint): void {
  const hashed = { ...xattr, value: xattr.hashedValue };
  const expected = xattrEntryHash(hashed);
  if (xattr.entryHash === expected || xattr.entryHash === xattrEntryHash(hashed, true)) return;
  complain(
    `the hash of attribute ${describe(xattr)} is 0x${xattr.entryHash.toString(16)}, ` +
      `not 0x${expected.toString(16)}`,
  );
}

function readXattrs(area: Area): DecodedXattr[] {
  const entriesEnd = findEntriesEnd(area);
  const xattrs: DecodedXattr[] = [];
  const ranges: Range[] = [];
  const names = new Set<string>();
  for (let at = area.start; at < entriesEnd;) {
    const { xattr, range } = readXattr(area, at, entriesEnd + END_SIZE_BYTES);
    const key = `${xattr.nameIndex}.${xattr.suffix}`;
    at += entrySizeBytes(xattr.suffix.length);
    if (range !== undefined) ranges.push(range);
    if (names.has(key)) {
      area.complain(`it has the attribute ${describe(xattr)} twice`);
      continue;
    }
    names.add(key);
    xattrs.push(xattr);
  }
  checkApart(ranges, area.complain);
  return xattrs;
}

/** The offset of the zero word that ends the entries. */
function findEntriesEnd(area: Area): number {
  const { bytes, view, what } = area;
  let at = area.start;
  for (;;) {
    if (at + END_SIZE_BYTES > bytes.length) break;
    if (view.getUint32(at, true) === 0) return at;
    const nameLength = view.getUint8(at + ENTRY_AT.nameLength);
    at += entrySizeBytes(nameLength);
  }
  throw new InputError(what, "the list of its attributes has no end");
}

function readXattr(
  area: Area,
  at: number,
  valuesStart: number,
): { xattr: DecodedXattr; range: Range | undefined } {
  const { bytes, view, what } = area;
  const nameStart = at + ENTRY_AT.name;
  const nameLength = view.getUint8(at + ENTRY_AT.nameLength);
  const valueInode = view.getUint32(at + ENTRY_AT.valueInode, true);
  const valueSizeBytes = view.getUint32(at + ENTRY_AT.valueSize, true);
  const valueStart = area.valueBase + view.getUint16(at + ENTRY_AT.valueOffset, true);
  const name = {
    nameIndex: view.getUint8(at + ENTRY_AT.nameIndex),
    suffix: byteStringFromBytes(bytes, nameStart, nameStart + nameLength),
  };
  if (name.suffix.includes("\0") || name.nameIndex === 0) {
    const impossible = `it has the impossible attribute ${describe(name)}`;
    if (name.suffix.includes("\0")) throw new InputError(what, impossible);
    area.complain(impossible);
  }
  if (valueSizeBytes > XATTR_VALUE_SIZE_MAX) {
    throw new InputError(
      what,
      `its attribute ${describe(name)} has ${valueSizeBytes} bytes, over ${XATTR_VALUE_SIZE_MAX}`,
    );
  }
  const hasValueHere = valueInode === 0 && valueSizeBytes > 0;
  const valueEnd = valueStart + valueSizeBytes;
  const paddedEnd = valueStart + ((valueSizeBytes + 3) & ~3);
  const outside = () =>
    `the value of ${describe(name)} is at ${valueStart} to ${paddedEnd}, ` +
    `not within ${valuesStart} to ${bytes.length}`;
  if (hasValueHere && (valueStart < valuesStart || paddedEnd > bytes.length)) {
    throw new InputError(what, outside());
  }
  // An empty value has no place, and only e2fsck looks at its offset.
  if (!hasValueHere && valueInode === 0 && valueStart > bytes.length) area.complain(outside());
  const value = hasValueHere ? bytes.slice(valueStart, valueEnd) : NO_BYTES;
  const isPadded = hasValueHere && valueEnd !== paddedEnd;
  const xattr = {
    ...name,
    valueSizeBytes,
    entryHash: view.getUint32(at + ENTRY_AT.hash, true),
    value,
    hashedValue: isPadded ? bytes.slice(valueStart, paddedEnd) : value,
    ...(valueInode === 0 ? {} : { valueInode }),
  };
  return { xattr, range: hasValueHere ? { start: valueStart, end: paddedEnd } : undefined };
}

function checkApart(ranges: readonly Range[], complain: XattrComplaint): void {
  let previousEnd = 0;
  for (const { start, end } of [...ranges].sort((a, b) => a.start - b.start)) {
    if (start < previousEnd) return complain(`two values of its attributes overlap at ${start}`);
    previousEnd = end;
  }
}

function describe(name: { readonly nameIndex: number; readonly suffix: string }): string {
  return `${name.nameIndex}:${displayName(name.suffix)}`;
}
