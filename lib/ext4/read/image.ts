/**
 * An ext4 image (or ext2 or ext3) opened for reading. The walkers in ../volume/ read its structures; whatever the
 * kernel refuses is an InputError `WHERE: WHAT` with the found and the wanted value, and whatever it tolerates is a
 * warning.
 *
 * - {@linkcode openExt4Image} returns an {@linkcode Ext4Image}; its `inode()` returns checked inodes in use.
 * - directory.ts: `readDirectory()`, `listNames()`, `findInode()`, `fileStream()`: the names of a directory, all names,
 *   one path, and a file as a stream.
 * - content.ts: `blockRuns()`, `readSymlink()`, `filePayload()`: a file as the model's Payload, with the image as its
 *   store; `XattrReader`.
 * - tree.ts: `readTree()`, the whole image as the model's FileTree.
 * - inspect.ts: the fields of an image and its inodes, damaged or not.
 *
 * Memory: blocks are cached up to a limit; a tree grows with its names, never with the bytes of files.
 *
 * @module
 */
import { firstIndex } from "../../bytes/arithmetic.ts";
import { InputError } from "../../errors.ts";
import { memoryReader, openFileReader, type RandomReader } from "../../io/random_reader.ts";
import { Warnings } from "../../warnings.ts";
import { COMPAT, FILE_MODE, INCOMPAT } from "../format/constants.ts";
import type { GroupDescriptor } from "../format/group_descriptor.ts";
import {
  decodeInode,
  INODE_BASE_SIZE_BYTES,
  inodeChecksum,
  type InodeRecord,
  storedInodeChecksum,
} from "../format/inode.ts";
import {
  decodeMmpBlock,
  MMP_SEQUENCE_CLEAN,
  MMP_SIZE_BYTES,
  verifyMmpBlock,
} from "../format/special_blocks.ts";
import type { Superblock } from "../format/superblock.ts";
import {
  checkFeatures,
  type ImageGeometry,
  imageGeometry,
  readSuperblock,
  warnOfState,
} from "../volume/superblock.ts";
import {
  InodeView,
  isReservedInode,
  judgeFields,
  kindOfMode,
  type NodeKind,
  reportInode,
  seedOf,
  viewOfInode,
} from "../volume/inode.ts";
import { faultInImage, HERE, inputError, type Judge, ReadingJudge } from "../volume/judge.ts";
import { readBlockMap } from "../volume/block_map.ts";
import { Volume } from "../volume/volume.ts";
import { isInlineData, readInodeXattrs } from "../volume/content.ts";

export type { NodeKind } from "../volume/inode.ts";

/** Limits that keep any image from taking unbounded time or memory. Each is the largest accepted value. */
export interface ReadLimits {
  /** Names in all directories together. */
  readonly maxNameCount: number;
  /** Depth of a path: directories from the root to a name, including that name. */
  readonly maxPathDepth: number;
  /** Names in one directory. */
  readonly maxChildCount: number;
  /** Separate runs of data in all files together. */
  readonly maxSegmentCount: number;
}

/** The defaults, the same as for trees built from layers (docs/LIMITS.md). */
export const DEFAULT_READ_LIMITS: ReadLimits = {
  maxNameCount: 1_048_576,
  maxPathDepth: 1024,
  maxChildCount: 1_000_000,
  maxSegmentCount: 4_194_304,
};

/**
 * Counts the blocks that inodes claim. If they exceed the file system, some block has two owners, and following them
 * all could take forever.
 */
export class BlockBudget {
  readonly #blocksCount: number;
  #usedCount = 0;

  /** Limits the total to `blocksCount`, the blocks of the file system. */
  constructor(blocksCount: number) {
    this.#blocksCount = blocksCount;
  }

  /** Counts blocks; `what` names their owner in errors. */
  add(blockCount: number, what: string): void {
    this.#usedCount += blockCount;
    if (this.#usedCount <= this.#blocksCount) return;
    const why =
      `with it, ${this.#usedCount} blocks have owners: the file system has ${this.#blocksCount}`;
    throw new InputError(what, why);
  }
}

/** One inode of an image. */
export interface ImageInode {
  /** Its number, from 1. */
  readonly number: number;
  /** The kind given by its mode. */
  readonly kind: NodeKind;
  /** Its fields. */
  readonly record: InodeRecord;
  /** The same fields in the form that the walkers use. */
  readonly view: InodeView;
  /** The seed of its extent and directory blocks; undefined without metadata checksums. */
  readonly seed: number | undefined;
  /** `inode N`, for messages. */
  readonly what: string;
}

/** Options for opening an image. */
export interface OpenExt4Options {
  /**
   * Counts `dirtyJournal`, `notUnmounted`, `recordedErrors`, `orphanInodes`, `inUse`, `unknownFeature`, `clampedTime` and
   * `damagedMetadata`; strict warnings become errors. Default: a collection of its own.
   */
  readonly warnings?: Warnings | undefined;
  /** Bytes of blocks to cache; 16 MiB by default. */
  readonly cacheBytes?: number | undefined;
}

const NANOSECONDS_MAX = 999_999_999;
const TWO_32 = 2 ** 32;

/** An open image. Everything is read on demand. */
export class Ext4Image extends Volume {
  readonly #warnings: Warnings;
  #zones: SystemZones | undefined;

  /** Called by openExt4Image(). */
  constructor(
    reader: RandomReader,
    options: {
      readonly superblock: Superblock;
      readonly geometry: ImageGeometry;
      readonly judge: Judge;
      readonly warnings: Warnings;
      readonly cacheBytes?: number | undefined;
    },
  ) {
    super(reader, options);
    this.#warnings = options.warnings;
  }

  /** A group's descriptor, checked. Throws InputError if it is past the end of the image. */
  groupDescriptor(group: number): GroupDescriptor {
    const { descriptor } = this.group(group);
    if (descriptor !== undefined) return descriptor;
    throw new InputError(`group descriptor (group ${group})`, "it is past the end of the image");
  }

  /** The file system's own blocks belong to no other inode; its own inodes may have them. */
  override mayOwn(inode: number, start: number, count = 1): boolean {
    if (!this.contains(start, count)) return false;
    if (isReservedInode(this, inode)) return true;
    this.#zones ??= new SystemZones(this);
    return !this.#zones.overlap(start, count);
  }

  /** Throws InputError unless the blocks are in the file system. */
  checkRange(startBlock: number, blockCount: number, what: string): void {
    if (this.contains(startBlock, blockCount)) return;
    const { firstDataBlock, blocksCount } = this.geometry;
    const why = `it points to ${blockCount} blocks at ${startBlock}, ` +
      `not within blocks ${firstDataBlock} to ${blocksCount - 1}`;
    throw new InputError(what, why, { data: { actual: startBlock } });
  }

  /**
   * The unchecked bytes of an inode's slot, in a buffer of their own. Throws InputError for an inode that does not
   * exist.
   */
  inodeSlot(inodeNumber: number): Uint8Array {
    const { blockNumber, offsetBytes } = this.locateInode(inodeNumber);
    const block = this.block(blockNumber);
    if (block === undefined) {
      throw new InputError(`inode ${inodeNumber}`, "its slot is past the end of the image");
    }
    return block.slice(offsetBytes, offsetBytes + this.inodeSizeBytes);
  }

  /**
   * An inode in use, checked.
   *
   * @throws {InputError} for an inode that does not exist, is not in use or has a wrong checksum, type or flag
   */
  inode(inodeNumber: number): ImageInode {
    const slot = this.inodeSlot(inodeNumber);
    this.#checkInitialized(inodeNumber);
    const { judge } = this;
    if (this.seed !== undefined) {
      const computed = inodeChecksum(slot, { inodeNumber, seed: this.seed });
      const location = { inode: inodeNumber };
      judge.expectChecksum("inode", location, storedInodeChecksum(slot), computed);
    }
    const inode = uncheckedInode(this, inodeNumber, slot);
    const { view } = inode;
    judgeFields(this, view);
    if (view.linkCount === 0) reportInode(this, view, "it has a name, but no links");
    // A file that is being truncated is in the list of orphans, which uses i_dtime.
    if (view.dtime !== 0 && this.superblock.lastOrphan === 0) {
      const details = { found: view.dtime, wanted: 0, isReadable: true };
      reportInode(this, view, "i_dtime of an inode with links", details);
    }
    return this.#withClampedTimes(this.#asTheKernelTakesIt(inode));
  }

  /** Adjusts fields that the kernel ignores if they make no sense. */
  #asTheKernelTakesIt(inode: ImageInode): ImageInode {
    const { view } = inode;
    let { record } = inode;
    const isLong = view.type !== FILE_MODE.REGULAR && view.sizeBytes >= TWO_32;
    // ext4_isize(): only files can be that long, and directories with the feature.
    if (isLong && !this.hasIncompat(INCOMPAT.LARGEDIR)) {
      const { sizeBytes: found } = view;
      const wanted = found % TWO_32;
      const outcome = "its high half is left aside";
      reportInode(this, view, "i_size", { found, wanted, isReadable: true, outcome });
      view.sizeBytes = wanted;
      record = { ...record, sizeBytes: wanted };
    }
    // ext4_has_inline_data(): without the attribute, i_block is interpreted as usual.
    if (view.hasInlineData && !this.#hasInlineAttribute(view)) {
      const problem = "inline data without the attribute system.data";
      reportInode(this, view, problem, { isReadable: true });
      view.hasInlineData = false;
    }
    return record === inode.record ? inode : { ...inode, record };
  }

  #hasInlineAttribute(view: InodeView): boolean {
    const rest = readInodeXattrs(this, view).find(isInlineData);
    return rest !== undefined && rest.valueInode === undefined;
  }

  /** Only the first inodes of a group's table were ever used. */
  #checkInitialized(inodeNumber: number): void {
    const { group, index } = this.locateInode(inodeNumber);
    const { initializedInodes } = this.group(group);
    if (index < initializedInodes) return;
    const problem =
      `it is in use, but only the first ${initializedInodes} inodes of group ${group} ever were`;
    this.judge.report("inode", { inode: inodeNumber }, problem, { isReadable: true });
  }

  /** Clamps nanoseconds of a second or more, which the kernel shows as they are. */
  #withClampedTimes(inode: ImageInode): ImageInode {
    const { record } = inode;
    const names = (["atime", "ctime", "mtime", "crtime"] as const)
      .filter((name) => record[name].nanoseconds > NANOSECONDS_MAX);
    if (names.length === 0) return inode;
    const clamped = { ...record };
    for (const name of names) {
      clamped[name] = { seconds: record[name].seconds, nanoseconds: NANOSECONDS_MAX };
      const found = record[name].nanoseconds;
      const why = `its ${name} has ${found} nanoseconds, taken as ${NANOSECONDS_MAX}`;
      this.#warnings.add("clampedTime", inode.what, why);
    }
    return { ...inode, record: clamped };
  }

  /** Closes the reader. */
  close(): void {
    this.reader.close();
  }

  /** Same as close(), for `using`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

export function hasFlag(inode: ImageInode, flag: number): boolean {
  return (inode.view.flags & flag) !== 0;
}

export function hasInlineData(inode: ImageInode): boolean {
  return inode.view.hasInlineData;
}

/** An inode as stored; one without a known type is treated as a socket, which has no content. */
export function uncheckedInode(
  volume: Volume,
  number: number,
  slot: Uint8Array,
  judge = volume.judge,
): ImageInode {
  const record = judge.attempt("inode", { inode: number }, () => decodeInode(slot, HERE)) ??
    decodeInode(slot.subarray(0, INODE_BASE_SIZE_BYTES));
  const kind = kindOfMode(record.mode) ?? "socket";
  const view = new InodeView(slot, number);
  const seed = seedOf(volume, view);
  return { number, kind, record, view, seed, what: `inode ${number}` };
}

/**
 * Opens an image: a file at a path, bytes in memory, or a reader, which is closed with the image. For a stream, create
 * a reader with {@linkcode readerOf}.
 *
 * @throws {InputError} for anything that is not an ext2, ext3 or ext4 image, is truncated or damaged, or has a feature
 * that the reader does not know
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { readFileSync } from "node:fs";
 * import { gunzipSync } from "node:zlib";
 * import { openExt4Image } from "./image.ts";
 * import { readTree } from "./tree.ts";
 * const fixture = new URL("../../../fixtures/ext4/csum-4k.img.gz", import.meta.url);
 * using image = openExt4Image(gunzipSync(readFileSync(fixture)));
 * const { root } = await readTree(image);
 * assertEquals(root.children.get("disk")?.kind, "blockDevice");
 * ```
 */
export function openExt4Image(
  source: string | Uint8Array | RandomReader,
  options: OpenExt4Options = {},
): Ext4Image {
  if (typeof source !== "string") {
    return openReader(source instanceof Uint8Array ? memoryReader(source) : source, options);
  }
  const reader = openFileReader(source, { what: "an ext4 image" });
  try {
    return openReader(reader, options);
  } catch (error) {
    reader.close();
    throw faultInImage(source, error);
  }
}

function openReader(reader: RandomReader, options: OpenExt4Options): Ext4Image {
  const { warnings = new Warnings() } = options;
  const { superblock, checksum } = readSuperblock(reader);
  const judge = new ReadingJudge(warnings);
  if (checksum !== undefined) {
    judge.expectChecksum("superblock", {}, checksum.stored, checksum.computed);
  }
  checkFeatures(superblock, warnings);
  const geometry = imageGeometry(superblock);
  const wantedBytes = geometry.blocksCount * geometry.blockSizeBytes;
  if (reader.sizeBytes < wantedBytes) {
    const why = `it has ${reader.sizeBytes} bytes, but its file system has ${wantedBytes}`;
    const data = { actual: reader.sizeBytes, expected: wantedBytes };
    throw new InputError(reader.name, why, { data });
  }
  const image = new Ext4Image(reader, { ...options, warnings, superblock, geometry, judge });
  warnOfState(superblock, reader.name, warnings);
  if (image.hasIncompat(INCOMPAT.MMP)) warnOfUse(image, warnings);
  return image;
}

function warnOfUse(image: Ext4Image, warnings: Warnings): void {
  const { mmpBlock } = image.superblock;
  const { judge, seed } = image;
  const block = image.contains(mmpBlock) ? image.block(mmpBlock) : undefined;
  // A read-only mount ignores it (ext4_multi_mount_protect()), but another machine may have the image mounted.
  const isReadable = true;
  if (block === undefined) {
    judge.report("mmp block", { block: mmpBlock }, "it is not in the file system", { isReadable });
    return;
  }
  const encoded = block.subarray(0, MMP_SIZE_BYTES);
  let sequence = MMP_SEQUENCE_CLEAN;
  try {
    if (seed !== undefined) verifyMmpBlock(encoded, seed, HERE);
    ({ sequence } = decodeMmpBlock(encoded, HERE));
  } catch (error) {
    judge.reportError("mmp block", { block: mmpBlock }, inputError(error), { isReadable });
  }
  if (sequence !== MMP_SEQUENCE_CLEAN) {
    warnings.add("inUse", image.name, "a machine has it mounted, or did not unmount it");
  }
}

interface Zone {
  readonly start: number;
  end: number;
}

/** Skips this check in file systems with more groups (16 TiB and up at 4 KiB), as it reads every descriptor. */
const GROUPS_MAX = 131_072;

/**
 * Blocks that no file may have: superblocks, descriptors and the room reserved for them, bitmaps, inode tables and the
 * journal. The kernel refuses an inode that maps one of them (ext4_setup_system_zone(), fs/ext4/block_validity.c).
 */
class SystemZones {
  readonly #zones: readonly Zone[];

  constructor(volume: Volume) {
    this.#zones = volume.groupCount > GROUPS_MAX
      ? []
      : joined([...groupZones(volume), ...journalZones(volume)]);
  }

  overlap(startBlock: number, blockCount: number): boolean {
    const at = firstIndex(this.#zones.length, (i) => this.#zones[i]!.end > startBlock);
    return at < this.#zones.length && this.#zones[at]!.start < startBlock + blockCount;
  }
}

function zone(start: number, count: number): Zone {
  return { start, end: start + count };
}

function* groupZones(volume: Volume): Generator<Zone> {
  for (let group = 0; group < volume.groupCount; group++) {
    const { used, reserved } = volume.descriptorRoom(group);
    const start = volume.groupStart(group);
    yield zone(start, (volume.hasSuperblock(group) ? 1 : 0) + used + reserved);
    const descriptor = descriptorOf(volume, group);
    if (descriptor === undefined) continue;
    yield zone(descriptor.blockBitmapBlock, 1);
    yield zone(descriptor.inodeBitmapBlock, 1);
    yield zone(descriptor.inodeTableBlock, volume.inodeTableBlocks);
  }
}

/** Undefined if it cannot be read: that affects only the blocks of its own group. */
function descriptorOf(volume: Volume, group: number): GroupDescriptor | undefined {
  try {
    return volume.group(group).descriptor;
  } catch (error) {
    volume.judge.reportError("group descriptor", { group }, inputError(error), {
      isReadable: true,
      outcome: "what is in the group cannot be read",
    });
    return undefined;
  }
}

function journalZones(volume: Volume): Zone[] {
  const { journalInode } = volume.superblock;
  if (!volume.hasCompat(COMPAT.HAS_JOURNAL) || journalInode === 0) return [];
  const view = viewOfInode(volume, journalInode);
  if (view === undefined) return [];
  try {
    const { runs } = readBlockMap(volume, view);
    return runs.map(({ startBlock, blockCount }) => zone(startBlock, blockCount));
  } catch (error) {
    inputError(error);
    return [];
  }
}

function joined(zones: readonly Zone[]): Zone[] {
  const result: Zone[] = [];
  const wanted = zones.filter(({ start, end }) => end > start);
  for (const { start, end } of wanted.sort((a, b) => a.start - b.start)) {
    const last = result.at(-1);
    if (last !== undefined && start <= last.end) last.end = Math.max(last.end, end);
    else result.push({ start, end });
  }
  return result;
}
