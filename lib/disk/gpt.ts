/**
 * The GUID partition table (UEFI specification, chapter 5): a protective MBR, the header and its entries at the start of
 * the disk, and copies of both at its end.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { formatUuid, uuidBytes } from "../bytes/uuid.ts";
import { bytesFromByteString, byteStringFromBytes } from "../bytes/byte_string.ts";
import { InputError, invariant } from "../errors.ts";
import type { RandomReader } from "../io/random_reader.ts";

/** The only sector size that is written: what every virtual disk has. */
export const SECTOR_BYTES = 512;
/** What is read, too. */
export const SECTOR_BYTES_MAX = 4096;

/** One partition. */
export interface GptPartition {
  /** In its usual form. */
  readonly typeGuid: string;
  /** The PARTUUID, in its usual form. */
  readonly guid: string;
  /** A multiple of 512. */
  readonly startBytes: number;
  /** A multiple of 512. */
  readonly sizeBytes: number;
  /** At most 36 UTF-16 units. */
  readonly name: string;
  /** Sets bit 60: what mounts it by its type does so read-only (Discoverable Partitions Specification). */
  readonly isReadOnly: boolean;
}

/** A table and the disk that it is for. */
export interface Gpt {
  /** In its usual form. */
  readonly diskGuid: string;
  /** Of the whole disk, whole sectors. */
  readonly diskBytes: number;
  /** In the order of their numbers, from 1 on. */
  readonly partitions: readonly GptPartition[];
}

const SIGNATURE = "EFI PART";
const REVISION = 0x00010000;
const HEADER_BYTES = 92;
const ENTRY_BYTES = 128;
/** Fewer are not allowed: 16 KiB of entries (section 5.3.1). */
const ENTRY_COUNT_MIN = 128;
/** What a reader accepts; libblkid takes no more. */
const ENTRY_COUNT_MAX = 1024;
const NAME_UNITS_MAX = 36;
const READ_ONLY_BIT = 1n << 60n;

/** A partition of a disk that was read. */
export interface FoundPartition extends GptPartition {
  /** From 1 on, as in `/dev/sda1`. */
  readonly number: number;
}

/** How many entries a table for so many partitions has. */
function entryCountFor(partitionCount: number): number {
  return Math.max(ENTRY_COUNT_MIN, Math.ceil(partitionCount / 4) * 4);
}

/** Bytes at the start of a disk with so many partitions: MBR, header, entries. */
export function gptHeadBytes(partitionCount: number): number {
  return 2 * SECTOR_BYTES + entryCountFor(partitionCount) * ENTRY_BYTES;
}

/** Bytes at its end: entries, header. */
export function gptTailBytes(partitionCount: number): number {
  return gptHeadBytes(partitionCount) - SECTOR_BYTES;
}

/** The bytes at the start of the disk and those at its end. */
export interface EncodedGpt {
  /** At offset 0. */
  readonly head: Uint8Array;
  /** Ends with the disk. */
  readonly tail: Uint8Array;
}

/**
 * Encodes a table.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { encodeGpt } from "./gpt.ts";
 * const { head, tail } = encodeGpt({
 *   diskGuid: "00000000-0000-8000-8000-000000000001",
 *   diskBytes: 1 << 20,
 *   partitions: [],
 * });
 * assertEquals([head.length, tail.length], [34 * 512, 33 * 512]);
 * ```
 */
export function encodeGpt(gpt: Gpt): EncodedGpt {
  const { diskBytes, partitions } = gpt;
  const lastSector = diskBytes / SECTOR_BYTES - 1;
  invariant(Number.isSafeInteger(lastSector), `a disk of ${diskBytes} bytes`);
  const headBytes = gptHeadBytes(partitions.length);
  const tailBytes = gptTailBytes(partitions.length);
  const entries = encodeEntries(partitions);
  const entrySectors = entries.length / SECTOR_BYTES;
  const facts = {
    gpt,
    entries,
    firstUsable: headBytes / SECTOR_BYTES,
    lastUsable: lastSector - tailBytes / SECTOR_BYTES,
  };
  for (const { startBytes, sizeBytes } of partitions) {
    invariant(
      startBytes >= headBytes && startBytes + sizeBytes <= diskBytes - tailBytes,
      `a partition of ${sizeBytes} bytes at ${startBytes}`,
    );
  }
  const head = new Uint8Array(headBytes);
  head.set(protectiveMbr(lastSector), 0);
  head.set(
    encodeHeader({ ...facts, ownSector: 1, otherSector: lastSector, entriesSector: 2 }),
    512,
  );
  head.set(entries, 2 * SECTOR_BYTES);
  const tail = new Uint8Array(tailBytes);
  tail.set(entries, 0);
  tail.set(
    encodeHeader({
      ...facts,
      ownSector: lastSector,
      otherSector: 1,
      entriesSector: lastSector - entrySectors,
    }),
    entries.length,
  );
  return { head, tail };
}

/** Section 5.2.3: one partition of type 0xee over the whole disk, so that old tools take it for full. */
function protectiveMbr(lastSector: number): Uint8Array {
  const mbr = new Uint8Array(SECTOR_BYTES);
  const view = new DataView(mbr.buffer);
  // Starts at cylinder 0, head 0, sector 2; ends where no such address reaches.
  mbr.set([0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff], 446);
  view.setUint32(454, 1, true);
  view.setUint32(458, Math.min(lastSector, 0xffffffff), true);
  view.setUint16(510, 0xaa55, true);
  return mbr;
}

function encodeHeader(facts: {
  readonly gpt: Gpt;
  readonly entries: Uint8Array;
  readonly firstUsable: number;
  readonly lastUsable: number;
  readonly ownSector: number;
  readonly otherSector: number;
  readonly entriesSector: number;
}): Uint8Array {
  const { gpt, entries } = facts;
  const header = new Uint8Array(SECTOR_BYTES);
  const view = new DataView(header.buffer);
  header.set(bytesFromByteString(SIGNATURE), 0);
  view.setUint32(8, REVISION, true);
  view.setUint32(12, HEADER_BYTES, true);
  view.setBigUint64(24, BigInt(facts.ownSector), true);
  view.setBigUint64(32, BigInt(facts.otherSector), true);
  view.setBigUint64(40, BigInt(facts.firstUsable), true);
  view.setBigUint64(48, BigInt(facts.lastUsable), true);
  header.set(encodeGuid(gpt.diskGuid), 56);
  view.setBigUint64(72, BigInt(facts.entriesSector), true);
  view.setUint32(80, entries.length / ENTRY_BYTES, true);
  view.setUint32(84, ENTRY_BYTES, true);
  view.setUint32(88, crc32(entries), true);
  view.setUint32(16, crc32(header.subarray(0, HEADER_BYTES)), true);
  return header;
}

function encodeEntries(partitions: readonly GptPartition[]): Uint8Array {
  const entries = new Uint8Array(entryCountFor(partitions.length) * ENTRY_BYTES);
  const view = new DataView(entries.buffer);
  for (const [i, partition] of partitions.entries()) {
    const at = i * ENTRY_BYTES;
    const { startBytes, sizeBytes, name } = partition;
    invariant(
      startBytes % SECTOR_BYTES === 0 && sizeBytes % SECTOR_BYTES === 0 && sizeBytes > 0,
      `a partition of ${sizeBytes} bytes at ${startBytes}`,
    );
    invariant(name.length <= NAME_UNITS_MAX, `a partition name of ${name.length} units`);
    entries.set(encodeGuid(partition.typeGuid), at);
    entries.set(encodeGuid(partition.guid), at + 16);
    view.setBigUint64(at + 32, BigInt(startBytes / SECTOR_BYTES), true);
    view.setBigUint64(at + 40, BigInt((startBytes + sizeBytes) / SECTOR_BYTES - 1), true);
    view.setBigUint64(at + 48, partition.isReadOnly ? READ_ONLY_BIT : 0n, true);
    for (let unit = 0; unit < name.length; unit++) {
      view.setUint16(at + 56 + 2 * unit, name.charCodeAt(unit), true);
    }
  }
  return entries;
}

/** The first three parts of a GUID are little-endian on a disk (appendix A). */
function encodeGuid(text: string): Uint8Array {
  const bytes = uuidBytes(text);
  invariant(bytes !== undefined, `the GUID ${text}`);
  return swapped(bytes);
}

function swapped(bytes: Uint8Array): Uint8Array {
  const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
  return Uint8Array.from(order, (from) => bytes[from]!);
}

/** Whether a disk begins as one with a GPT does. @param sectorBytes 512, or 4096 for a disk that has no smaller ones */
export function hasGpt(reader: RandomReader, sectorBytes = SECTOR_BYTES): boolean {
  const sector = new Uint8Array(SECTOR_BYTES);
  return reader.readAt(sector, sectorBytes) === SECTOR_BYTES &&
    byteStringFromBytes(sector, 0, 8) === SIGNATURE;
}

/**
 * Reads the table at the start of a disk. Empty entries are left out.
 *
 * @param sectorBytes 512, or 4096 for a disk that has no smaller ones
 * @throws {InputError} when it is damaged, or does not fit the disk
 */
export function readGpt(
  reader: RandomReader,
  sectorBytes = SECTOR_BYTES,
): Gpt & { readonly partitions: readonly FoundPartition[] } {
  const sector = new Uint8Array(SECTOR_BYTES);
  const fault = (why: string) => new InputError(reader.name, `the partition table ${why}`);
  if (!hasGpt(reader, sectorBytes)) throw fault("is missing: wanted a GPT");
  reader.readAt(sector, sectorBytes);
  const view = new DataView(sector.buffer);
  const headerBytes = view.getUint32(12, true);
  if (headerBytes < HEADER_BYTES || headerBytes > SECTOR_BYTES) {
    throw fault(`has a header of ${headerBytes} bytes: wanted ${HEADER_BYTES} to ${SECTOR_BYTES}`);
  }
  const headerCrc = view.getUint32(16, true);
  view.setUint32(16, 0, true);
  checkCrc("header", crc32(sector.subarray(0, headerBytes)), headerCrc, fault);
  const count = view.getUint32(80, true);
  const entryBytes = view.getUint32(84, true);
  if (count > ENTRY_COUNT_MAX || entryBytes < ENTRY_BYTES || entryBytes > 4096) {
    throw fault(`has ${count} entries of ${entryBytes} bytes: wanted at most 1024 of 128 to 4096`);
  }
  const entries = new Uint8Array(count * entryBytes);
  const entriesOffset = safeNumber(view.getBigUint64(72, true)) * sectorBytes;
  if (reader.readAt(entries, entriesOffset) !== entries.length) {
    throw fault(`has its entries at ${entriesOffset}, behind the end at ${reader.sizeBytes}`);
  }
  checkCrc("entries", crc32(entries), view.getUint32(88, true), fault);
  const partitions: FoundPartition[] = [];
  for (let i = 0; i < count; i++) {
    const entry = entries.subarray(i * entryBytes, (i + 1) * entryBytes);
    const partition = decodeEntry(entry, sectorBytes);
    if (partition === undefined) continue;
    const end = partition.startBytes + partition.sizeBytes;
    if (partition.sizeBytes <= 0 || end > reader.sizeBytes) {
      throw fault(
        `has a partition ${i + 1} from ${partition.startBytes} to ${end}: the disk has ` +
          `${reader.sizeBytes} bytes`,
      );
    }
    partitions.push({ number: i + 1, ...partition });
  }
  const diskGuid = formatUuid(swapped(sector.subarray(56, 72)));
  return { diskGuid, diskBytes: reader.sizeBytes, partitions };
}

function checkCrc(
  part: string,
  found: number,
  wanted: number,
  fault: (why: string) => InputError,
): void {
  if (found !== wanted) {
    throw fault(`is damaged: the checksum of its ${part} is ${found}, wanted ${wanted}`);
  }
}

function decodeEntry(entry: Uint8Array, sectorBytes: number): GptPartition | undefined {
  if (entry.subarray(0, 16).every((byte) => byte === 0)) return undefined;
  const view = new DataView(entry.buffer, entry.byteOffset, entry.byteLength);
  const startSector = safeNumber(view.getBigUint64(32, true));
  const lastSector = safeNumber(view.getBigUint64(40, true));
  let name = "";
  for (let at = 56; at < ENTRY_BYTES; at += 2) {
    name += String.fromCharCode(view.getUint16(at, true));
  }
  return {
    typeGuid: formatUuid(swapped(entry.subarray(0, 16))),
    guid: formatUuid(swapped(entry.subarray(16, 32))),
    startBytes: startSector * sectorBytes,
    sizeBytes: (lastSector + 1 - startSector) * sectorBytes,
    name: name.replace(/\0.*$/s, ""),
    isReadOnly: (view.getBigUint64(48, true) & READ_ONLY_BIT) !== 0n,
  };
}

/** Sectors further than any file has them stand for the last that a number can name. */
function safeNumber(sector: bigint): number {
  const most = BigInt(Number.MAX_SAFE_INTEGER) / BigInt(2 * SECTOR_BYTES_MAX);
  return Number(sector < most ? sector : most);
}
