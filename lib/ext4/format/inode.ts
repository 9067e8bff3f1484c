/**
 * The inode (kernel documentation, "Index Nodes"; fs/ext4/ext4.h, struct ext4_inode): 128 bytes, then, in larger slots,
 * i_extra_isize more bytes of fields and after them the in-inode extended attributes.
 *
 * @module
 */
import { crc32c } from "../../bytes/crc32c.ts";
import { InputError, invariant } from "../../errors.ts";
import { inodeSeedKey } from "./checksum.ts";
import { viewOf } from "./fields.ts";
import type { Timestamp } from "./timestamp.ts";
import { TIMESTAMP_ZERO, timestampExtra, timestampFromWords } from "./timestamp.ts";

export type { Timestamp } from "./timestamp.ts";
export { TIMESTAMP_SECONDS_MAX, TIMESTAMP_SECONDS_MIN } from "./timestamp.ts";

/** One inode, without its number and its checksum. */
export interface InodeRecord {
  /** Type and permission bits. */
  readonly mode: number;
  /** Owner. */
  readonly uid: number;
  /** Group. */
  readonly gid: number;
  /** Length of the content, holes included. */
  readonly sizeBytes: number;
  /** Names; of a directory 2 and its subdirectories. */
  readonly linkCount: number;
  /** Units of 512 bytes, or file system blocks when the flags have HUGE_FILE. */
  readonly sectorCount: number;
  /** INODE_FLAG bits. */
  readonly flags: number;
  /** When it was read last. */
  readonly atime: Timestamp;
  /** When the inode changed last. */
  readonly ctime: Timestamp;
  /** When the content changed last. */
  readonly mtime: Timestamp;
  /** When it was made. */
  readonly crtime: Timestamp;
  /** Seconds when it was deleted, or the next orphan. */
  readonly dtime: number;
  /** i_generation, which the checksums of its blocks cover. */
  readonly generation: number;
  /** The block of its extended attributes, or 0. */
  readonly xattrBlock: number;
  /** i_block, 60 bytes: the extent root, a device number, or a short symlink's target. */
  readonly blockField: Uint8Array;
  /** How many bytes of fields follow the first 128. */
  readonly extraSizeBytes: number;
  /** The bytes after those fields; may be shorter than the room there. */
  readonly xattrArea: Uint8Array;
  /** l_i_version. */
  readonly versionLow: number;
  /** i_version_hi. */
  readonly versionHigh: number;
  /** i_projid. */
  readonly projectId: number;
}

/** What goes into an inode's checksum beside its bytes. */
export interface InodeEncodeOptions {
  readonly inodeNumber: number;
  /** The file system's checksum seed; undefined without METADATA_CSUM. */
  readonly seed: number | undefined;
}

/** The part of an inode that every slot has. */
export const INODE_BASE_SIZE_BYTES = 128;
/** i_extra_isize with all fields of today. */
export const INODE_EXTRA_SIZE_BYTES = 32;
/** The bytes of i_block. */
export const INODE_BLOCK_FIELD_SIZE_BYTES = 60;

/** Offsets in struct ext4_inode, for those who read single fields. */
export const INODE_AT = {
  mode: 0x00, // i_mode
  uidLow: 0x02, // i_uid
  sizeLow: 0x04, // i_size_lo
  atime: 0x08, // i_atime
  ctime: 0x0c, // i_ctime
  mtime: 0x10, // i_mtime
  dtime: 0x14, // i_dtime
  gidLow: 0x18, // i_gid
  linkCount: 0x1a, // i_links_count
  blocksLow: 0x1c, // i_blocks_lo
  flags: 0x20, // i_flags
  versionLow: 0x24, // l_i_version
  blockField: 0x28, // i_block
  generation: 0x64, // i_generation
  xattrBlockLow: 0x68, // i_file_acl_lo
  sizeHigh: 0x6c, // i_size_high
  blocksHigh: 0x74, // l_i_blocks_high
  xattrBlockHigh: 0x76, // l_i_file_acl_high
  uidHigh: 0x78, // l_i_uid_high
  gidHigh: 0x7a, // l_i_gid_high
  checksumLow: 0x7c, // l_i_checksum_lo
  extraSize: 0x80, // i_extra_isize
  checksumHigh: 0x82, // i_checksum_hi
  ctimeExtra: 0x84, // i_ctime_extra
  mtimeExtra: 0x88, // i_mtime_extra
  atimeExtra: 0x8c, // i_atime_extra
  crtime: 0x90, // i_crtime
  crtimeExtra: 0x94, // i_crtime_extra
  versionHigh: 0x98, // i_version_hi
  projectId: 0x9c, // i_projid
} as const;

const TWO_32 = 2 ** 32;
const TWO_48 = 2 ** 48;

/** An inode in which everything is zero, but for the extra size that every field of today needs. */
export function defaultInode(): InodeRecord {
  return {
    mode: 0,
    uid: 0,
    gid: 0,
    sizeBytes: 0,
    linkCount: 0,
    sectorCount: 0,
    flags: 0,
    atime: TIMESTAMP_ZERO,
    ctime: TIMESTAMP_ZERO,
    mtime: TIMESTAMP_ZERO,
    crtime: TIMESTAMP_ZERO,
    dtime: 0,
    generation: 0,
    xattrBlock: 0,
    blockField: new Uint8Array(INODE_BLOCK_FIELD_SIZE_BYTES),
    extraSizeBytes: INODE_EXTRA_SIZE_BYTES,
    xattrArea: new Uint8Array(0),
    versionLow: 0,
    versionHigh: 0,
    projectId: 0,
  };
}

/**
 * Writes an inode into its slot, which is as long as s_inode_size and is zeroed first. Fields that the extra size does
 * not reach must be zero.
 */
export function encodeInode(
  inode: InodeRecord,
  target: Uint8Array,
  { inodeNumber, seed }: InodeEncodeOptions,
): void {
  target.fill(0);
  writeInode({ bytes: target, view: viewOf(target), slotSizeBytes: target.length, seed }, 0, {
    inode,
    inodeNumber,
  });
}

/** A part of an inode table. One view serves all its slots: making one for each takes longer than filling it. */
export class InodeSlots {
  /** All the slots; zeros where nothing was put. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #firstInode: number;
  readonly #area: SlotArea;

  /** @param seed the file system's checksum seed; undefined without METADATA_CSUM */
  constructor(
    firstInode: number,
    slotCount: number,
    slotSizeBytes: number,
    seed: number | undefined,
  ) {
    this.bytes = new Uint8Array(slotCount * slotSizeBytes);
    this.#firstInode = firstInode;
    this.#area = { bytes: this.bytes, view: viewOf(this.bytes), slotSizeBytes, seed };
  }

  /** Writes an inode into its slot, once. */
  put(inodeNumber: number, inode: InodeRecord): void {
    const at = (inodeNumber - this.#firstInode) * this.#area.slotSizeBytes;
    invariant(at >= 0 && at < this.bytes.length, "an inode has a slot in its table");
    writeInode(this.#area, at, { inode, inodeNumber });
  }
}

/** Where slots lie. */
interface SlotArea {
  readonly bytes: Uint8Array;
  readonly view: DataView<ArrayBufferLike>;
  readonly slotSizeBytes: number;
  readonly seed: number | undefined;
}

/** Writes the slot at `at`, which is zero. */
function writeInode(
  { bytes, view, slotSizeBytes, seed }: SlotArea,
  at: number,
  { inode, inodeNumber }: { readonly inode: InodeRecord; readonly inodeNumber: number },
): void {
  checkFits(inode, slotSizeBytes);
  writeBase(view, at, inode);
  bytes.set(inode.blockField, at + INODE_AT.blockField);
  writeExtra(view, at, inode);
  if (inode.xattrArea.length > 0) {
    bytes.set(inode.xattrArea, at + INODE_BASE_SIZE_BYTES + inode.extraSizeBytes);
  }
  if (seed !== undefined) {
    const key = inodeSeedKey(inodeNumber, inode.generation);
    const checksum = crc32c(seed, key, bytes.subarray(at, at + slotSizeBytes));
    view.setUint16(at + INODE_AT.checksumLow, checksum & 0xffff, true);
    if (inode.extraSizeBytes >= 4) {
      view.setUint16(at + INODE_AT.checksumHigh, checksum >>> 16, true);
    }
  }
}

function writeBase(view: DataView<ArrayBufferLike>, at: number, inode: InodeRecord): void {
  view.setUint16(at + INODE_AT.mode, inode.mode, true);
  view.setUint16(at + INODE_AT.uidLow, inode.uid & 0xffff, true);
  view.setUint32(at + INODE_AT.sizeLow, inode.sizeBytes % TWO_32, true);
  view.setInt32(at + INODE_AT.atime, inode.atime.seconds | 0, true);
  view.setInt32(at + INODE_AT.ctime, inode.ctime.seconds | 0, true);
  view.setInt32(at + INODE_AT.mtime, inode.mtime.seconds | 0, true);
  view.setUint32(at + INODE_AT.dtime, inode.dtime, true);
  view.setUint16(at + INODE_AT.gidLow, inode.gid & 0xffff, true);
  view.setUint16(at + INODE_AT.linkCount, inode.linkCount, true);
  view.setUint32(at + INODE_AT.blocksLow, inode.sectorCount % TWO_32, true);
  view.setUint32(at + INODE_AT.flags, inode.flags, true);
  view.setUint32(at + INODE_AT.versionLow, inode.versionLow, true);
  view.setUint32(at + INODE_AT.generation, inode.generation, true);
  view.setUint32(at + INODE_AT.xattrBlockLow, inode.xattrBlock % TWO_32, true);
  view.setUint32(at + INODE_AT.sizeHigh, Math.floor(inode.sizeBytes / TWO_32), true);
  view.setUint16(at + INODE_AT.blocksHigh, Math.floor(inode.sectorCount / TWO_32), true);
  view.setUint16(at + INODE_AT.xattrBlockHigh, Math.floor(inode.xattrBlock / TWO_32), true);
  view.setUint16(at + INODE_AT.uidHigh, inode.uid >>> 16, true);
  view.setUint16(at + INODE_AT.gidHigh, inode.gid >>> 16, true);
}

function writeExtra(view: DataView<ArrayBufferLike>, at: number, inode: InodeRecord): void {
  const room = INODE_BASE_SIZE_BYTES + inode.extraSizeBytes;
  if (inode.extraSizeBytes > 0) {
    view.setUint16(at + INODE_AT.extraSize, inode.extraSizeBytes, true);
  }
  writeExtraWord(view, at, INODE_AT.ctimeExtra, room, timestampExtra(inode.ctime));
  writeExtraWord(view, at, INODE_AT.mtimeExtra, room, timestampExtra(inode.mtime));
  writeExtraWord(view, at, INODE_AT.atimeExtra, room, timestampExtra(inode.atime));
  writeExtraWord(view, at, INODE_AT.crtime, room, inode.crtime.seconds >>> 0);
  writeExtraWord(view, at, INODE_AT.crtimeExtra, room, timestampExtra(inode.crtime));
  writeExtraWord(view, at, INODE_AT.versionHigh, room, inode.versionHigh);
  writeExtraWord(view, at, INODE_AT.projectId, room, inode.projectId);
}

function writeExtraWord(
  view: DataView<ArrayBufferLike>,
  at: number,
  offset: number,
  room: number,
  value: number,
): void {
  if (offset + 4 <= room) view.setUint32(at + offset, value, true);
  else if (value !== 0) {
    invariant(false, `inode field at 0x${offset.toString(16)} is past i_extra_isize`);
  }
}

/** Ranges that DataView would cut silently. One condition, so that it costs little. */
function checkFits(inode: InodeRecord, slotSizeBytes: number): void {
  const fits = slotSizeBytes >= INODE_BASE_SIZE_BYTES &&
    inode.blockField.length === INODE_BLOCK_FIELD_SIZE_BYTES &&
    INODE_BASE_SIZE_BYTES + inode.extraSizeBytes + inode.xattrArea.length <= slotSizeBytes &&
    inode.extraSizeBytes % 4 === 0 && inode.mode >= 0 && inode.mode <= 0xffff &&
    inode.uid >= 0 && inode.uid < TWO_32 && inode.gid >= 0 && inode.gid < TWO_32 &&
    inode.sizeBytes >= 0 && Number.isSafeInteger(inode.sizeBytes) &&
    inode.linkCount >= 0 && inode.linkCount <= 0xffff &&
    inode.sectorCount >= 0 && inode.sectorCount < TWO_48 &&
    inode.xattrBlock >= 0 && inode.xattrBlock < TWO_48;
  if (!fits) invariant(false, `inode does not fit a slot of ${slotSizeBytes} bytes`);
}

/**
 * Reads an inode's slot. Throws InputError when i_extra_isize reaches past it or the size is over 2^53 bytes. The
 * checksum is for the caller to compare (inodeChecksum(), storedInodeChecksum()).
 *
 * @param what names the inode in errors
 */
export function decodeInode(slot: Uint8Array, what = "inode"): InodeRecord {
  invariant(slot.length >= INODE_BASE_SIZE_BYTES, `an inode slot of ${slot.length} bytes`);
  const view = viewOf(slot);
  const extraSizeBytes = decodeExtraSize(view, what);
  const end = INODE_BASE_SIZE_BYTES + extraSizeBytes;
  const sizeBytes = view.getUint32(INODE_AT.sizeHigh, true) * TWO_32 +
    view.getUint32(INODE_AT.sizeLow, true);
  if (!Number.isSafeInteger(sizeBytes)) {
    throw new InputError(what, `its size of ${sizeBytes} bytes is over 2^53 - 1`);
  }
  return {
    mode: view.getUint16(INODE_AT.mode, true),
    uid: view.getUint16(INODE_AT.uidHigh, true) * 0x10000 + view.getUint16(INODE_AT.uidLow, true),
    gid: view.getUint16(INODE_AT.gidHigh, true) * 0x10000 + view.getUint16(INODE_AT.gidLow, true),
    sizeBytes,
    linkCount: view.getUint16(INODE_AT.linkCount, true),
    sectorCount: view.getUint16(INODE_AT.blocksHigh, true) * TWO_32 +
      view.getUint32(INODE_AT.blocksLow, true),
    flags: view.getUint32(INODE_AT.flags, true),
    atime: readTime(view, INODE_AT.atime, INODE_AT.atimeExtra, end),
    ctime: readTime(view, INODE_AT.ctime, INODE_AT.ctimeExtra, end),
    mtime: readTime(view, INODE_AT.mtime, INODE_AT.mtimeExtra, end),
    crtime: timestampFromWords(
      readExtraWord(view, INODE_AT.crtime, end),
      readExtraWord(view, INODE_AT.crtimeExtra, end),
    ),
    dtime: view.getUint32(INODE_AT.dtime, true),
    generation: view.getUint32(INODE_AT.generation, true),
    xattrBlock: view.getUint16(INODE_AT.xattrBlockHigh, true) * TWO_32 +
      view.getUint32(INODE_AT.xattrBlockLow, true),
    blockField: slot.slice(INODE_AT.blockField, INODE_AT.blockField + INODE_BLOCK_FIELD_SIZE_BYTES),
    extraSizeBytes,
    xattrArea: slot.slice(end),
    versionLow: view.getUint32(INODE_AT.versionLow, true),
    versionHigh: readExtraWord(view, INODE_AT.versionHigh, end),
    projectId: readExtraWord(view, INODE_AT.projectId, end),
  };
}

function decodeExtraSize(view: DataView<ArrayBufferLike>, what: string): number {
  if (view.byteLength === INODE_BASE_SIZE_BYTES) return 0;
  const extraSizeBytes = view.getUint16(INODE_AT.extraSize, true);
  const room = view.byteLength - INODE_BASE_SIZE_BYTES;
  if (extraSizeBytes > room || extraSizeBytes % 4 !== 0) {
    throw new InputError(
      what,
      `its i_extra_isize is ${extraSizeBytes}, not a multiple of 4 up to ${room}`,
      { data: { offset: INODE_AT.extraSize, actual: extraSizeBytes } },
    );
  }
  return extraSizeBytes;
}

function readTime(
  view: DataView<ArrayBufferLike>,
  low: number,
  extra: number,
  end: number,
): Timestamp {
  return timestampFromWords(view.getInt32(low, true), readExtraWord(view, extra, end));
}

function readExtraWord(view: DataView<ArrayBufferLike>, offset: number, end: number): number {
  return offset + 4 <= end ? view.getUint32(offset, true) : 0;
}

/**
 * The checksum that a slot should carry: 32 bits, of which a slot without i_checksum_hi stores the low 16.
 *
 * @param view of the slot, where there is one already
 */
export function inodeChecksum(
  slot: Uint8Array,
  options: { readonly inodeNumber: number; readonly seed: number },
  view = viewOf(slot),
): number {
  const key = inodeSeedKey(options.inodeNumber, view.getUint32(INODE_AT.generation, true));
  const isWide = hasChecksumHigh(view);
  const highAt = isWide ? INODE_AT.checksumHigh : slot.length;
  const parts = [
    key,
    slot.subarray(0, INODE_AT.checksumLow),
    TWO_ZEROS,
    slot.subarray(INODE_AT.checksumLow + 2, highAt),
  ];
  // Both halves of the field count as zero.
  if (isWide) parts.push(TWO_ZEROS, slot.subarray(highAt + 2));
  const checksum = crc32c(options.seed, ...parts);
  return isWide ? checksum : checksum & 0xffff;
}

const TWO_ZEROS = new Uint8Array(2);

/** Writes a slot's checksum; without a seed, zeros in its place. */
export function sealInode(
  slot: Uint8Array,
  options: { readonly inodeNumber: number; readonly seed: number | undefined },
): void {
  const { inodeNumber, seed } = options;
  const checksum = seed === undefined ? 0 : inodeChecksum(slot, { inodeNumber, seed });
  const view = viewOf(slot);
  view.setUint16(INODE_AT.checksumLow, checksum & 0xffff, true);
  if (hasChecksumHigh(view)) view.setUint16(INODE_AT.checksumHigh, checksum >>> 16, true);
}

/**
 * The checksum that a slot carries: 32 bits, or 16 in a slot without i_checksum_hi.
 *
 * @param view of the slot, where there is one already
 */
export function storedInodeChecksum(slot: Uint8Array, view = viewOf(slot)): number {
  const low = view.getUint16(INODE_AT.checksumLow, true);
  return hasChecksumHigh(view) ? view.getUint16(INODE_AT.checksumHigh, true) * 0x10000 + low : low;
}

function hasChecksumHigh(view: DataView<ArrayBufferLike>): boolean {
  return view.byteLength > INODE_BASE_SIZE_BYTES && view.getUint16(INODE_AT.extraSize, true) >= 4;
}
