/**
 * The inode (kernel documentation, "Index Nodes"; fs/ext4/ext4.h, struct ext4_inode): 128 bytes; in larger slots
 * followed by i_extra_isize more bytes of fields and the in-inode extended attributes.
 *
 * Times ("Inode Timestamps"): a signed 32-bit number of seconds; the extra word adds two more bits of seconds (the
 * epoch) below 30 bits of nanoseconds.
 *
 * @module
 */
import { crc32c, crc32cOfLength } from "../../bytes/crc32c.ts";
import { InputError, invariant } from "../../errors.ts";
import { INODE_SEED_KEY_SIZE_BYTES, inodeSeedKey } from "./checksum.ts";
import type { Field, FieldTable, Structure } from "./fields.ts";
import {
  bytes,
  neutralFields,
  optional,
  readFields,
  u16,
  u16WithHigh,
  u32,
  u32WithHigh,
  viewOf,
  writeFields,
} from "./fields.ts";

/** A point in time: seconds since 1970, possibly negative, plus nanoseconds. */
export interface Timestamp {
  /** Whole seconds since 1970, rounded down. */
  readonly seconds: number;
  /** 0 to 999,999,999. */
  readonly nanoseconds: number;
}

/** 1901-12-13, the first second that fits. */
export const TIMESTAMP_SECONDS_MIN = -(2 ** 31);
/** 2446-05-10, the last second that fits with the epoch bits. */
export const TIMESTAMP_SECONDS_MAX = 2 ** 34 - 2 ** 31 - 1;

/** The nearest time that ext4 can store. */
export function clampTimestamp(time: Timestamp): Timestamp {
  const { seconds } = time;
  if (seconds < TIMESTAMP_SECONDS_MIN) return { seconds: TIMESTAMP_SECONDS_MIN, nanoseconds: 0 };
  if (seconds <= TIMESTAMP_SECONDS_MAX) return time;
  return { seconds: TIMESTAMP_SECONDS_MAX, nanoseconds: 999_999_999 };
}

/**
 * Whether e2fsck mistakes this time for an old kernel bug: kernels before 3.14 wrote epoch bits 3 with times before
 * 1970. Until the year 2242, e2fsck reports the last 2^31 seconds of that epoch (2310-04-04 to 2378-04-22), still exits
 * 0 under -n, and moves them before 1970 under -p and -y.
 */
export function isMendedByFsck(seconds: number): boolean {
  return seconds >= 0x280000000 && seconds < 0x300000000;
}

/** The extra word (i_ctime_extra and so on): epoch bits below nanoseconds. */
export function timestampExtra(time: Timestamp): number {
  const { seconds, nanoseconds } = time;
  const isWhole = Number.isInteger(seconds) && Number.isInteger(nanoseconds);
  const fits = isWhole && seconds >= TIMESTAMP_SECONDS_MIN && seconds <= TIMESTAMP_SECONDS_MAX &&
    nanoseconds >= 0 && nanoseconds < 1e9;
  // Build the message only when needed: this runs four times per inode.
  if (!fits) invariant(false, `a time of ${seconds} seconds and ${nanoseconds} nanoseconds`);
  const epoch = (seconds - (seconds | 0)) / 2 ** 32;
  return nanoseconds * 4 + epoch;
}

/**
 * The time in a signed low word and its extra word (0 if the inode has none). In a damaged image, nanoseconds can be
 * 10^9 or more; the caller must check.
 */
export function timestampFromWords(low: number, extra: number): Timestamp {
  return { seconds: (low | 0) + (extra & 3) * 2 ** 32, nanoseconds: extra >>> 2 };
}

/** One inode, without its number and its checksum. */
export interface InodeRecord {
  /** Type and permission bits. */
  readonly mode: number;
  /** Owner. */
  readonly uid: number;
  /** Group. */
  readonly gid: number;
  /** Length of the content, including holes. */
  readonly sizeBytes: number;
  /** Number of names; for a directory, 2 plus its subdirectories. */
  readonly linkCount: number;
  /** Units of 512 bytes, or file system blocks when the flags have HUGE_FILE. */
  readonly sectorCount: number;
  /** INODE_FLAG bits. */
  readonly flags: number;
  /** Last access. */
  readonly atime: Timestamp;
  /** Last change of the inode. */
  readonly ctime: Timestamp;
  /** Last change of the content. */
  readonly mtime: Timestamp;
  /** Creation. */
  readonly crtime: Timestamp;
  /** Deletion time in seconds, or the next orphan. */
  readonly dtime: number;
  /** i_generation, which enters the checksums of its blocks. */
  readonly generation: number;
  /** The block of its extended attributes, or 0. */
  readonly xattrBlock: number;
  /** i_block, 60 bytes: the extent root, a device number, or a short symlink's target. */
  readonly blockField: Uint8Array;
  /** Bytes of fields after the first 128. */
  readonly extraSizeBytes: number;
  /** The bytes after those fields; may be shorter than the room for them. */
  readonly xattrArea: Uint8Array;
  /** l_i_version. */
  readonly versionLow: number;
  /** i_version_hi. */
  readonly versionHigh: number;
  /** i_projid. */
  readonly projectId: number;
}

/** The part of an inode that every slot has. */
export const INODE_BASE_SIZE_BYTES = 128;
/** i_extra_isize with all current fields. */
export const INODE_EXTRA_SIZE_BYTES = 32;
/** The bytes of i_block. */
export const INODE_BLOCK_FIELD_SIZE_BYTES = 60;

/** Every field of an inode: where it is, and how to read and write it. */
export const INODE_FIELDS: FieldTable<Omit<InodeRecord, "extraSizeBytes" | "xattrArea">> = {
  mode: u16(0x00), // i_mode
  uid: u16WithHigh(0x02, 0x78), // i_uid, l_i_uid_high
  sizeBytes: u32WithHigh(0x04, 0x6c, 4), // i_size_lo, i_size_high
  atime: time(0x08, 0x8c), // i_atime, i_atime_extra
  ctime: time(0x0c, 0x84), // i_ctime, i_ctime_extra
  mtime: time(0x10, 0x88), // i_mtime, i_mtime_extra
  dtime: u32(0x14), // i_dtime
  gid: u16WithHigh(0x18, 0x7a), // i_gid, l_i_gid_high
  linkCount: u16(0x1a), // i_links_count
  sectorCount: u32WithHigh(0x1c, 0x74, 2), // i_blocks_lo, l_i_blocks_high
  flags: u32(0x20), // i_flags
  versionLow: u32(0x24), // l_i_version
  blockField: bytes(0x28, INODE_BLOCK_FIELD_SIZE_BYTES), // i_block
  generation: u32(0x64), // i_generation
  xattrBlock: u32WithHigh(0x68, 0x76, 2), // i_file_acl_lo, l_i_file_acl_high
  // i_obso_faddr (0x70) is the address of a fragment and was never used. l_i_checksum_lo (0x7c) and i_checksum_hi
  // (0x82) are sealed and verified, so they are not fields.
  crtime: time(0x90, 0x94), // i_crtime, i_crtime_extra
  versionHigh: optional(u32(0x98), 4), // i_version_hi
  projectId: optional(u32(0x9c), 4), // i_projid
};

/** Offsets of fields outside the table. */
export const INODE_AT = {
  sizeHigh: 0x6c, // i_size_high
  fragmentAddress: 0x70, // i_obso_faddr
  blocksHigh: 0x74, // l_i_blocks_high
  xattrBlockHigh: 0x76, // l_i_file_acl_high
  checksumLow: 0x7c, // l_i_checksum_lo
  extraSize: 0x80, // i_extra_isize
  checksumHigh: 0x82, // i_checksum_hi
} as const;

/** A time: seconds in one word, epoch and nanoseconds in another; either may be missing. */
function time(offset: number, extraOffset: number): Field<Timestamp> {
  const low = optional(u32(offset), 4);
  const extra = optional(u32(extraOffset), 4);
  return {
    offset,
    read: (structure) => timestampFromWords(low.read(structure), extra.read(structure)),
    write(structure, value, name) {
      low.write(structure, value.seconds >>> 0, name);
      extra.write(structure, timestampExtra(value), name);
    },
  };
}

/** An all-zero inode with the extra size for all current fields. */
export function defaultInode(): InodeRecord {
  return {
    ...neutralFields(INODE_FIELDS),
    extraSizeBytes: INODE_EXTRA_SIZE_BYTES,
    xattrArea: new Uint8Array(0),
  };
}

/** Part of an inode table. One view serves all slots: creating one per slot takes longer than filling it. */
export class InodeSlots {
  /** All slots; zeros where nothing was put. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #structure: Structure;
  readonly #firstInode: number;
  readonly #slotSizeBytes: number;
  /** What a checksum covers: the inode's key, then its slot. */
  readonly #covered: Uint8Array;
  readonly #checksumOf: ((covered: Uint8Array) => number) | undefined;

  /** @param seed the file system's checksum seed; undefined without METADATA_CSUM */
  constructor(
    firstInode: number,
    slotCount: number,
    slotSizeBytes: number,
    seed: number | undefined,
  ) {
    this.bytes = new Uint8Array(slotCount * slotSizeBytes);
    this.#structure = { view: viewOf(this.bytes), at: 0, sizeBytes: 0 };
    this.#firstInode = firstInode;
    this.#slotSizeBytes = slotSizeBytes;
    this.#covered = new Uint8Array(INODE_SEED_KEY_SIZE_BYTES + slotSizeBytes);
    this.#checksumOf = seed === undefined ? undefined : crc32cOfLength(seed, this.#covered.length);
  }

  /** Writes an inode into its slot, once. Fields beyond the extra size must be zero. */
  put(inodeNumber: number, inode: InodeRecord): void {
    const slotSizeBytes = this.#slotSizeBytes;
    const at = (inodeNumber - this.#firstInode) * slotSizeBytes;
    invariant(at >= 0 && at < this.bytes.length, "an inode has a slot in its table");
    const { extraSizeBytes, xattrArea } = inode;
    const fieldsEnd = INODE_BASE_SIZE_BYTES + extraSizeBytes;
    const fits = slotSizeBytes >= INODE_BASE_SIZE_BYTES && extraSizeBytes % 4 === 0 &&
      fieldsEnd + xattrArea.length <= slotSizeBytes;
    if (!fits) invariant(false, `inode does not fit a slot of ${slotSizeBytes} bytes`);
    const structure = this.#structure;
    structure.at = at;
    structure.sizeBytes = fieldsEnd;
    writeFields(INODE_FIELDS, this.bytes, inode, structure);
    const { view } = structure;
    if (extraSizeBytes > 0) view.setUint16(at + INODE_AT.extraSize, extraSizeBytes, true);
    if (xattrArea.length > 0) this.bytes.set(xattrArea, at + fieldsEnd);
    if (this.#checksumOf === undefined) return;
    this.#covered.set(inodeSeedKey(inodeNumber, inode.generation));
    this.#covered.set(this.bytes.subarray(at, at + slotSizeBytes), INODE_SEED_KEY_SIZE_BYTES);
    const checksum = this.#checksumOf(this.#covered);
    view.setUint16(at + INODE_AT.checksumLow, checksum & 0xffff, true);
    if (extraSizeBytes >= 4) view.setUint16(at + INODE_AT.checksumHigh, checksum >>> 16, true);
  }
}

/**
 * Reads an inode's slot. Throws InputError if i_extra_isize exceeds it or the size is over 2^53 bytes. The caller
 * compares the checksum (inodeChecksum(), storedInodeChecksum()).
 *
 * @param what names the inode in errors
 */
export function decodeInode(slot: Uint8Array, what = "inode"): InodeRecord {
  invariant(slot.length >= INODE_BASE_SIZE_BYTES, `an inode slot of ${slot.length} bytes`);
  const view = viewOf(slot);
  const room = slot.length - INODE_BASE_SIZE_BYTES;
  const extraSizeBytes = room === 0 ? 0 : view.getUint16(INODE_AT.extraSize, true);
  if (extraSizeBytes > room || extraSizeBytes % 4 !== 0) {
    throw new InputError(
      what,
      `its i_extra_isize is ${extraSizeBytes}, not a multiple of 4 up to ${room}`,
      { data: { offset: INODE_AT.extraSize, actual: extraSizeBytes } },
    );
  }
  const sizeBytes = INODE_BASE_SIZE_BYTES + extraSizeBytes;
  if (view.getUint32(INODE_AT.sizeHigh, true) >= 2 ** 21) {
    const high = BigInt(view.getUint32(INODE_AT.sizeHigh, true));
    const size = (high << 32n) + BigInt(view.getUint32(INODE_FIELDS.sizeBytes.offset, true));
    throw new InputError(what, `its size of ${size} bytes is over 2^53 - 1`);
  }
  return {
    ...readFields(INODE_FIELDS, slot, { view, at: 0, sizeBytes }),
    extraSizeBytes,
    xattrArea: slot.slice(sizeBytes),
  };
}

/**
 * The correct checksum of a slot: 32 bits, of which a slot without i_checksum_hi stores the low 16.
 *
 * @param view of the slot, if the caller has one
 */
export function inodeChecksum(
  slot: Uint8Array,
  options: { readonly inodeNumber: number; readonly seed: number },
  view = viewOf(slot),
): number {
  const generation = view.getUint32(INODE_FIELDS.generation.offset, true);
  const key = inodeSeedKey(options.inodeNumber, generation);
  const isWide = hasChecksumHigh(view);
  const highAt = isWide ? INODE_AT.checksumHigh : slot.length;
  const parts = [
    key,
    slot.subarray(0, INODE_AT.checksumLow),
    TWO_ZEROS,
    slot.subarray(INODE_AT.checksumLow + 2, highAt),
  ];
  // Both halves of the field are covered as zeros.
  if (isWide) parts.push(TWO_ZEROS, slot.subarray(highAt + 2));
  const checksum = crc32c(options.seed, ...parts);
  return isWide ? checksum : checksum & 0xffff;
}

const TWO_ZEROS = new Uint8Array(2);

/** Writes a slot's checksum, or zeros without a seed. */
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
 * The checksum stored in a slot: 32 bits, or 16 in a slot without i_checksum_hi.
 *
 * @param view of the slot, if the caller has one
 */
export function storedInodeChecksum(slot: Uint8Array, view = viewOf(slot)): number {
  const low = view.getUint16(INODE_AT.checksumLow, true);
  return hasChecksumHigh(view) ? view.getUint16(INODE_AT.checksumHigh, true) * 0x10000 + low : low;
}

function hasChecksumHigh(view: DataView<ArrayBufferLike>): boolean {
  return view.byteLength > INODE_BASE_SIZE_BYTES && view.getUint16(INODE_AT.extraSize, true) >= 4;
}
