/**
 * The content of inodes: block maps, symlink targets, files as model payloads whose bytes stay in the image (it is
 * their store), and extended attributes, wherever they are.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { type ByteString, byteStringFromBytes, displayName } from "../../bytes/byte_string.ts";
import { InputError, throwIfAborted } from "../../errors.ts";
import { memoryReader, type RandomReader } from "../../io/random_reader.ts";
import {
  type BlockRun,
  type DataSegment,
  type Payload,
  readPayload,
  wholeSegment,
  type Xattr,
} from "../../model/node.ts";
import { type PayloadScan, PayloadScanner } from "../../tar/payload.ts";
import { INODE_BLOCK_FIELD_SIZE_BYTES } from "../format/inode.ts";
import { noKeyName } from "../format/htree.ts";
import { type BlockMap, type MapBlock, type MappedRun, readBlockMap } from "../volume/block_map.ts";
import {
  type AttributeValue,
  type InlineData,
  isInlineData,
  judgeSymlinkSize,
  judgeTarget,
  judgeXattrBlockPointer,
  readAttributeValue,
  readInlineData,
  readInodeXattrs,
  readSymlinkBlock,
  readXattrBlock,
} from "../volume/content.ts";
import { inputError } from "../volume/judge.ts";
import {
  type InodeView,
  judgeSize,
  reportInode,
  SECTOR_SIZE_BYTES,
  xattrBlockOf,
} from "../volume/inode.ts";
import {
  type BlockBudget,
  DEFAULT_READ_LIMITS,
  type Ext4Image,
  hasFlag,
  hasInlineData,
  type ImageInode,
} from "./image.ts";

import type { Warnings } from "../../warnings.ts";
import { aclFromDisk } from "../format/acl.ts";
import { INCOMPAT, INODE_FLAG } from "../format/constants.ts";
import {
  type DecodedXattr,
  joinXattrName,
  verifyXattrValueInode,
  XATTR_INDEX,
} from "../format/xattr.ts";

export type { MapBlock, MappedRun } from "../volume/block_map.ts";

/** The longest path that the kernel follows, without its NUL. */
const TARGET_BYTES_MAX = 4095;

/** How to follow a map. */
export interface BlockMapOptions {
  /** Called for each block of the map, before the blocks that it maps. */
  readonly onMapBlock?: ((block: MapBlock) => void) | undefined;
}

/**
 * The runs of blocks that an inode maps, in logical order. Each block of the map is checked before it is used; runs lie
 * within the file system and, together with the blocks of the map, never exceed its size. Inodes with inline data map
 * nothing, nor do devices, fifos, sockets and short symlinks: do not call this for them.
 *
 * @throws {InputError} for a damaged map
 */
export function blockRuns(
  image: Ext4Image,
  inode: ImageInode,
  options: BlockMapOptions = {},
): readonly MappedRun[] {
  if (hasInlineData(inode)) return [];
  return readBlockMap(image, inode.view, options).runs;
}

/** The bytes stored in an inode itself. Throws InputError if the attribute with the rest is missing. */
export function inlineData(image: Ext4Image, inode: ImageInode): InlineData {
  return readInlineData(image, inode.view, readInodeXattrs(image, inode.view));
}

/**
 * A symlink's target. One in i_block is as long as the size says; for any other, the kernel takes the bytes before the
 * first NUL, within the size and the block. For an encrypted target it shows a name without the key.
 *
 * @throws {InputError} for what the kernel refuses, and for an empty target or one over 4095 bytes
 */
export function readSymlink(image: Ext4Image, inode: ImageInode): ByteString {
  const { view } = inode;
  const isEncrypted = hasFlag(inode, INODE_FLAG.ENCRYPT);
  const isFast = !hasInlineData(inode) && isShortForKernel(image, view);
  if (isFast && !isEncrypted) judgeFastSymlink(image, view);
  const bytes = hasInlineData(inode)
    ? inlineData(image, inode).bytes
    : isFast
    ? view.blockField
    : slowTarget(image, inode);
  if (isEncrypted) return encryptedTarget(inode, bytes);
  if (!isFast) {
    const severity = hasInlineData(inode) ? { severity: "note" as const } : {};
    judgeTarget(image, view, bytes, { isReadable: true, ...severity });
  }
  const most = isFast || hasInlineData(inode) ? bytes.length : image.blockSizeBytes - 1;
  const end = bytes.indexOf(0);
  const sizeBytes = Math.min(view.sizeBytes, most, end < 0 ? Infinity : end);
  if (sizeBytes === 0 || sizeBytes > TARGET_BYTES_MAX) {
    const why = `the target of the symlink has ${sizeBytes} bytes, not 1 to ${TARGET_BYTES_MAX}`;
    throw new InputError(inode.what, why);
  }
  return byteStringFromBytes(bytes, 0, sizeBytes);
}

/** ext4_inode_is_fast_symlink(): before ea_inode the block count decides, with attribute blocks taken into account. */
function isShortForKernel(image: Ext4Image, view: InodeView): boolean {
  if (image.hasIncompat(INCOMPAT.EA_INODE)) {
    return view.sizeBytes > 0 && view.sizeBytes < INODE_BLOCK_FIELD_SIZE_BYTES;
  }
  const clusterSectors = image.geometry.clusterBlocks * image.blockSizeBytes / SECTOR_SIZE_BYTES;
  return view.sectorCount === (xattrBlockOf(image, view) === 0 ? 0 : clusterSectors);
}

/** The kernel refuses a target in i_block that does not end where the size says. */
function judgeFastSymlink(image: Ext4Image, view: InodeView): void {
  const end = view.blockField.indexOf(0);
  const found = view.sizeBytes;
  if (found > 0 && found < INODE_BLOCK_FIELD_SIZE_BYTES && found === end) return;
  const wanted = end > 0 ? end : `1 to ${INODE_BLOCK_FIELD_SIZE_BYTES - 1}`;
  reportInode(image, view, "i_size of a symlink", { found, wanted });
}

/** The first block of a symlink; any others are ignored. */
function slowTarget(image: Ext4Image, inode: ImageInode): Uint8Array {
  const { view } = inode;
  judgeSymlinkSize(image, view, { isReadable: true });
  const { runs } = readBlockMap(image, view, { endBlock: 1 });
  const bytes = readSymlinkBlock(image, view, runs, { isReadable: true });
  if (bytes !== undefined) return bytes;
  throw new InputError(inode.what, "the target of the symlink is a hole");
}

/** struct fscrypt_symlink_data: a 16-bit length, then the ciphertext. */
function encryptedTarget(inode: ImageInode, bytes: Uint8Array): ByteString {
  const length = bytes[0]! + 256 * bytes[1]!;
  if (length === 0 || 2 + length > bytes.length) {
    throw new InputError(inode.what, `its encrypted target has ${length} bytes`);
  }
  return noKeyName(byteStringFromBytes(bytes, 2, 2 + length), { hash: 0, minor: 0 });
}

/** Limits shared by several files. */
export interface PayloadBounds {
  /** Counts the blocks of all files. */
  readonly budget?: BlockBudget | undefined;
  /** Most runs of data; 4,194,304 by default. */
  readonly maxSegmentCount?: number | undefined;
}

const PIECE_BYTES = 1024 * 1024;
/** Signals are checked between pieces of about this many bytes. */
const YIELD_AFTER_BYTES = 16 * PIECE_BYTES;

/**
 * A file's payload. Written extents are its segments; allocated but unwritten ones are holes. `dataRuns` and
 * `contentHash` depend on the bytes, which are read on first use, or by `scan()` a piece at a time.
 */
export class ImagePayload implements Payload {
  readonly sizeBytes: number;
  readonly segments: readonly DataSegment[];
  readonly store: RandomReader;
  #scan: PayloadScan | undefined;

  /** Segments point into the store. */
  constructor(sizeBytes: number, segments: readonly DataSegment[], store: RandomReader) {
    this.sizeBytes = sizeBytes;
    this.segments = segments;
    this.store = store;
  }

  get dataRuns(): readonly BlockRun[] {
    return this.#scanned().dataRuns;
  }

  get contentHash(): number {
    return this.#scanned().contentHash;
  }

  /** Reads the bytes now; can be aborted in the middle of a large file. Does nothing the second time. */
  async scan(signal?: AbortSignal): Promise<void> {
    if (this.#scan !== undefined) return;
    const scanner = new PayloadScanner();
    let sinceYield = 0;
    for (const pieceBytes of scanPieces(this, scanner)) {
      sinceYield += pieceBytes;
      if (sinceYield < YIELD_AFTER_BYTES) continue;
      sinceYield = 0;
      await setImmediate();
      throwIfAborted(signal);
    }
    this.#scan = scanner.finish();
  }

  #scanned(): PayloadScan {
    if (this.#scan === undefined) {
      const scanner = new PayloadScanner();
      for (const _ of scanPieces(this, scanner));
      this.#scan = scanner.finish();
    }
    return this.#scan;
  }
}

/**
 * The payload of a regular file.
 *
 * @throws {InputError} for a file that is encrypted, or whose map is damaged
 */
export function filePayload(
  image: Ext4Image,
  inode: ImageInode,
  bounds: PayloadBounds = {},
): ImagePayload {
  if (inode.kind !== "file") throw new InputError(inode.what, `it is a ${inode.kind}`);
  if (hasFlag(inode, INODE_FLAG.ENCRYPT)) {
    const why = "the file is encrypted, and that is not supported";
    throw new InputError(inode.what, why, { code: "unsupported" });
  }
  const { sizeBytes } = inode.view;
  if (!hasInlineData(inode)) {
    const endBlock = Math.ceil(sizeBytes / image.blockSizeBytes);
    const map = readBlockMap(image, inode.view, { endBlock });
    judgeSize(image, inode.view, map);
    const segments = fileSegments(image, inode, map, bounds);
    return new ImagePayload(sizeBytes, segments, image.reader);
  }
  const { bytes, isHole } = inlineData(image, inode);
  if (isHole) return new ImagePayload(sizeBytes, [], image.reader);
  // Bytes within the size but beyond the stored ones read as zeros.
  const storedBytes = Math.min(sizeBytes, bytes.length);
  const store = memoryReader(bytes.slice(0, storedBytes), image.name);
  return new ImagePayload(sizeBytes, wholeSegment(storedBytes), store);
}

function fileSegments(
  image: Ext4Image,
  inode: ImageInode,
  map: BlockMap,
  bounds: PayloadBounds,
): DataSegment[] {
  const { blockSizeBytes } = image;
  const { sizeBytes } = inode.view;
  const maxSegmentCount = bounds.maxSegmentCount ?? DEFAULT_READ_LIMITS.maxSegmentCount;
  const segments: { fileOffset: number; storeOffset: number; lengthBytes: number }[] = [];
  bounds.budget?.add(map.blockCount, inode.what);
  for (const { logicalBlock, blockCount, startBlock, unwritten } of map.runs) {
    if (unwritten) continue;
    const fileOffset = logicalBlock * blockSizeBytes;
    const endOffset = fileOffset + blockCount * blockSizeBytes;
    const lengthBytes = Math.min(endOffset, sizeBytes) - fileOffset;
    if (lengthBytes <= 0) continue;
    const storeOffset = startBlock * blockSizeBytes;
    const last = segments.at(-1);
    const follows = last !== undefined && last.fileOffset + last.lengthBytes === fileOffset &&
      last.storeOffset + last.lengthBytes === storeOffset;
    if (follows) last.lengthBytes += lengthBytes;
    else segments.push({ fileOffset, storeOffset, lengthBytes });
    if (segments.length > maxSegmentCount) {
      throw new InputError(inode.what, `it has more than ${maxSegmentCount} runs of data`);
    }
  }
  return segments.slice(); // with no more room than it needs
}

/** Feeds the bytes of all segments to a scanner; yields the length of each piece. */
function* scanPieces(payload: Payload, scanner: PayloadScanner): Generator<number> {
  const longest = payload.segments.reduce((most, part) => Math.max(most, part.lengthBytes), 0);
  const buffer = new Uint8Array(Math.min(PIECE_BYTES, longest));
  for (const { fileOffset, lengthBytes } of payload.segments) {
    for (let done = 0; done < lengthBytes; done += PIECE_BYTES) {
      const piece = buffer.subarray(0, Math.min(PIECE_BYTES, lengthBytes - done));
      readPayload(payload, piece, fileOffset + done);
      scanner.push(fileOffset + done, piece, 0, piece.length);
      yield piece.length;
    }
  }
}

/** An attribute as stored, with its value read from wherever it is. ACLs are in ext4's own format. */
export interface StoredXattr {
  /** The number of the prefix of its name (XATTR_INDEX). */
  readonly nameIndex: number;
  /** The rest of its name. */
  readonly suffix: ByteString;
  /** The value; shared, so it must not be changed. */
  readonly value: Uint8Array;
  /** Where the entry is. */
  readonly location: "inode" | "block";
  /** The inode that holds the value. */
  readonly valueInode: number | undefined;
  /** e_hash. */
  readonly entryHash: number;
}

/** Most attributes in the combined lists of inodes that have both their own and shared ones. */
const JOINED_COUNT_MAX = 16_777_216;
/** The header of an ACL without entries, which means that there is none. */
const EMPTY_ACL_SIZE_BYTES = 4;

/**
 * Reads the attributes of inodes. Blocks and values shared by inodes are read and kept once, so memory never exceeds
 * what the image holds.
 */
export class XattrReader {
  readonly #image: Ext4Image;
  readonly #budget: BlockBudget | undefined;
  readonly #blocks = new Map<number, readonly StoredXattr[]>();
  readonly #visible = new Map<number, readonly Xattr[]>();
  readonly #values = new Map<number, AttributeValue>();
  #joinedCount = 0;

  /** Reads from one image; the budget counts each attribute block once. */
  constructor(image: Ext4Image, budget?: BlockBudget) {
    this.#image = image;
    this.#budget = budget;
  }

  /**
   * The attributes as system calls show them, in byte order of their names: ACLs in the system call format, without
   * attributes that the kernel hides. Names that system calls cannot express are counted as `unsupportedXattr`.
   *
   * @param describe names the inode in warnings
   * @throws {InputError} for attributes that are damaged or occur twice
   */
  read(inode: ImageInode, warnings: Warnings, describe: () => string): readonly Xattr[] {
    const all = this.stored(inode);
    for (const { nameIndex, suffix } of all.filter(isNameless)) {
      const shown = `${nameIndex}:${displayName(suffix)}`;
      warnings.add("unsupportedXattr", describe(), `xattr ${shown} dropped: it has no known name`);
    }
    const visible = this.#visibleOf(inode, all);
    // Only files and directories have user attributes (xattr(7)): on others the kernel lists them but returns no value.
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
    // A million inodes may share few blocks, so where possible they all share one list.
    if (own.length === 0) return shared;
    this.#joinedCount += own.length + shared.length;
    if (this.#joinedCount > JOINED_COUNT_MAX) {
      const why =
        `its inodes have more than ${JOINED_COUNT_MAX} attributes, most of them in shared blocks`;
      throw new InputError(this.#image.name, why, { code: "limitExceeded" });
    }
    return [...own, ...shared].sort(byName);
  }

  /** The attributes as stored, those in the inode first. */
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
      const why =
        `a value is ${xattr.valueSizeBytes} bytes, but inode ${valueInode} has ${value.length}`;
      throw new InputError(owner, why);
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

/** Whether system calls cannot express the name: they need a known prefix, and under `system.` there are only ACLs. */
function isNameless(xattr: StoredXattr): boolean {
  if (isInlineData(xattr)) return false;
  const name = joinXattrName(xattr.nameIndex, xattr.suffix);
  return name === undefined || xattr.nameIndex === XATTR_INDEX.SYSTEM;
}

/** The attributes that system calls show, in byte order of their names. */
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

/** Undefined for an ACL without entries, which the kernel treats as none. */
function systemCallValue(xattr: StoredXattr, what: string): Uint8Array | undefined {
  const isAcl = xattr.nameIndex === XATTR_INDEX.POSIX_ACL_ACCESS ||
    xattr.nameIndex === XATTR_INDEX.POSIX_ACL_DEFAULT;
  if (!isAcl) return xattr.value;
  try {
    const value = aclFromDisk(xattr.value);
    return value.length === EMPTY_ACL_SIZE_BYTES ? undefined : value;
  } catch (error) {
    const why = inputError(error).message.replace(/^ACL: /, "");
    throw new InputError(`ACL of ${what}`, why, { cause: error });
  }
}
