/**
 * Reading extended attributes, strictly: entries and values must lie apart within their room, names must be possible,
 * in order where the kernel wants them in order, and hashes right.
 *
 * @module
 */
import { byteStringFromBytes, displayName } from "../../bytes/byte_string.ts";
import { InputError, invariant } from "../../errors.ts";
import { checkChecksum } from "./checksum.ts";
import { XATTR_REFCOUNT_MAX } from "./constants.ts";
import { viewOf } from "./fields.ts";
import type { DiskXattr } from "./xattr.ts";
import {
  compareDiskXattrs,
  INODE_XATTR_HEADER_SIZE_BYTES,
  XATTR_BLOCK_AT,
  XATTR_BLOCK_HEADER_SIZE_BYTES,
  XATTR_END_SIZE_BYTES,
  XATTR_ENTRY_AT,
  XATTR_ENTRY_HEADER_SIZE_BYTES,
  XATTR_MAGIC,
  XATTR_VALUE_SIZE_MAX,
  xattrBlockChecksum,
  xattrBlockHash,
  xattrEntryHash,
  xattrEntrySizeBytes,
} from "./xattr.ts";

/** An attribute as it was read. Where an inode holds the value, `value` is empty. */
export interface DecodedXattr extends DiskXattr {
  /** e_value_size, which is also that of a value in an inode. */
  readonly valueSizeBytes: number;
  /** e_hash as it is stored. */
  readonly entryHash: number;
  /** The value with the bytes that fill its last word up, which its hash covers as they are. */
  readonly hashedValue: Uint8Array;
}

/** Hears of what is wrong with attributes that can be read all the same. */
export type XattrComplaint = (problem: string, details?: { readonly severity?: "note" }) => void;

/** An xattr block as it was read. */
export interface DecodedXattrBlock {
  readonly referenceCount: number;
  /** h_hash; 0 where the writer did not mean the block to be shared. */
  readonly hash: number;
  readonly xattrs: readonly DecodedXattr[];
}

/** A part of the area: entries first, values behind them. */
interface Area {
  readonly bytes: Uint8Array;
  readonly view: DataView<ArrayBufferLike>;
  readonly entriesStart: number;
  /** What e_value_offs counts from. */
  readonly valueBase: number;
  readonly what: string;
  readonly complain: XattrComplaint;
}

interface Span {
  readonly start: number;
  readonly end: number;
}

/**
 * Reads the area behind an inode's fields. An area too small for the magic number, or with zeros in its place, has no
 * attributes. Throws InputError, with `what` in it, for anything that is not well-formed.
 *
 * @param complain hears of wrong hashes; by default they are thrown, too
 */
export function decodeInodeXattrs(
  area: Uint8Array,
  what: string,
  complain: XattrComplaint = complainByThrowing(what),
): DecodedXattr[] {
  if (area.length < INODE_XATTR_HEADER_SIZE_BYTES) return [];
  const view = viewOf(area);
  const magic = view.getUint32(0, true);
  if (magic === 0) return [];
  if (magic !== XATTR_MAGIC) {
    // The kernel takes the area for an empty one.
    complain(magicFault(magic));
    return [];
  }
  const xattrs = readXattrs({
    complain,
    bytes: area,
    view,
    entriesStart: INODE_XATTR_HEADER_SIZE_BYTES,
    valueBase: INODE_XATTR_HEADER_SIZE_BYTES,
    what,
  });
  for (const xattr of xattrs) {
    if (xattr.entryHash !== 0 && xattr.valueInode === undefined) checkEntryHash(xattr, complain);
  }
  return xattrs;
}

/**
 * Reads an xattr block. Throws InputError, with `what` in it, for anything that is not well-formed. The checksum is for
 * the caller to check (verifyXattrBlock()), and so are the hashes of values in inodes (verifyXattrValueInode()).
 *
 * @param complain hears of wrong hashes and of entries that are not in order; by default they are thrown, too
 */
export function decodeXattrBlock(
  block: Uint8Array,
  what: string,
  complain: XattrComplaint = complainByThrowing(what),
): DecodedXattrBlock {
  invariant(block.length >= XATTR_BLOCK_HEADER_SIZE_BYTES, `a block of ${block.length} bytes`);
  const view = viewOf(block);
  checkMagic(view.getUint32(XATTR_BLOCK_AT.magic, true), what);
  const blockCount = view.getUint32(XATTR_BLOCK_AT.blockCount, true);
  if (blockCount !== 1) throw new InputError(what, `it says it is ${blockCount} blocks, not 1`);
  const referenceCount = view.getUint32(XATTR_BLOCK_AT.referenceCount, true);
  if (referenceCount < 1 || referenceCount > XATTR_REFCOUNT_MAX) {
    complain(`it says it has ${referenceCount} owners, not 1 to ${XATTR_REFCOUNT_MAX}`);
  }
  const xattrs = readXattrs({
    complain,
    bytes: block,
    view,
    entriesStart: XATTR_BLOCK_HEADER_SIZE_BYTES,
    valueBase: 0,
    what,
  });
  const hash = view.getUint32(XATTR_BLOCK_AT.hash, true);
  checkBlockContent(xattrs, hash, complain);
  return { referenceCount, hash, xattrs };
}

/** Throws InputError, with `what` in it, when the checksum of an xattr block is wrong. */
export function verifyXattrBlock(
  block: Uint8Array,
  options: { readonly blockNumber: number; readonly seed: number; readonly what: string },
): void {
  const stored = viewOf(block).getUint32(XATTR_BLOCK_AT.checksum, true);
  checkChecksum(options.what, stored, xattrBlockChecksum(block, options));
}

/**
 * Throws InputError, with `what` in it, when an entry's hash does not fit the hash of the value in its inode
 * (xattrValueHash() of the value that was read there).
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

function checkMagic(magic: number, what: string): void {
  if (magic !== XATTR_MAGIC) throw new InputError(what, magicFault(magic));
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

/** Both spellings of the hash are good: kernels before 6.2 on x86 took the name as signed characters. */
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
  const spans: Span[] = [];
  const names = new Set<string>();
  for (let at = area.entriesStart; at < entriesEnd;) {
    const { xattr, span } = readXattr(area, at, entriesEnd + XATTR_END_SIZE_BYTES);
    const key = `${xattr.nameIndex}.${xattr.suffix}`;
    at += xattrEntrySizeBytes(xattr);
    if (span !== undefined) spans.push(span);
    if (names.has(key)) {
      area.complain(`it has the attribute ${describe(xattr)} twice`);
      continue;
    }
    names.add(key);
    xattrs.push(xattr);
  }
  checkApart(spans, area.complain);
  return xattrs;
}

/** Where the zero word is that ends the entries. */
function findEntriesEnd(area: Area): number {
  const { bytes, view, what } = area;
  let at = area.entriesStart;
  for (;;) {
    if (at + XATTR_END_SIZE_BYTES > bytes.length) break;
    if (view.getUint32(at, true) === 0) return at;
    const nameLength = view.getUint8(at + XATTR_ENTRY_AT.nameLength);
    at += (XATTR_ENTRY_HEADER_SIZE_BYTES + nameLength + 3) & ~3;
  }
  throw new InputError(what, "the list of its attributes has no end");
}

function readXattr(
  area: Area,
  at: number,
  valuesStart: number,
): { xattr: DecodedXattr; span: Span | undefined } {
  const { bytes, view, what } = area;
  const nameStart = at + XATTR_ENTRY_AT.name;
  const nameLength = view.getUint8(at + XATTR_ENTRY_AT.nameLength);
  const valueInode = view.getUint32(at + XATTR_ENTRY_AT.valueInode, true);
  const valueSizeBytes = view.getUint32(at + XATTR_ENTRY_AT.valueSize, true);
  const valueStart = area.valueBase + view.getUint16(at + XATTR_ENTRY_AT.valueOffset, true);
  const name = {
    nameIndex: view.getUint8(at + XATTR_ENTRY_AT.nameIndex),
    suffix: byteStringFromBytes(bytes, nameStart, nameStart + nameLength),
  };
  const common = {
    ...name,
    valueSizeBytes,
    entryHash: view.getUint32(at + XATTR_ENTRY_AT.hash, true),
  };
  if (name.suffix.includes("\0")) {
    throw new InputError(what, `it has the impossible attribute ${describe(name)}`);
  }
  if (name.nameIndex === 0) area.complain(`it has the impossible attribute ${describe(name)}`);
  if (valueSizeBytes > XATTR_VALUE_SIZE_MAX) {
    throw new InputError(
      what,
      `its attribute ${describe(name)} has ${valueSizeBytes} bytes, over ${XATTR_VALUE_SIZE_MAX}`,
    );
  }
  const hasValueHere = valueInode === 0 && valueSizeBytes > 0;
  const valueEnd = valueStart + valueSizeBytes;
  const paddedEnd = valueStart + ((valueSizeBytes + 3) & ~3);
  const outside = `the value of ${describe(name)} is at ${valueStart} to ${paddedEnd}, ` +
    `not within ${valuesStart} to ${bytes.length}`;
  if (hasValueHere && (valueStart < valuesStart || paddedEnd > bytes.length)) {
    throw new InputError(what, outside);
  }
  // An empty value is nowhere, and only e2fsck looks at its offset.
  if (!hasValueHere && valueInode === 0 && valueStart > bytes.length) area.complain(outside);
  const value = hasValueHere ? bytes.slice(valueStart, valueEnd) : new Uint8Array(0);
  const hashedValue = valueEnd === paddedEnd || !hasValueHere
    ? value
    : bytes.slice(valueStart, paddedEnd);
  const xattr = { ...common, value, hashedValue };
  return {
    xattr: valueInode === 0 ? xattr : { ...xattr, valueInode },
    span: hasValueHere ? { start: valueStart, end: paddedEnd } : undefined,
  };
}

function checkApart(spans: readonly Span[], complain: XattrComplaint): void {
  let previousEnd = 0;
  for (const { start, end } of [...spans].sort((a, b) => a.start - b.start)) {
    if (start < previousEnd) {
      complain(`two values of its attributes overlap at ${start}`);
      return;
    }
    previousEnd = end;
  }
}

function describe(name: { readonly nameIndex: number; readonly suffix: string }): string {
  return `${name.nameIndex}:${displayName(name.suffix)}`;
}
