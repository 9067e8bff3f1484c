/**
 * The GUID partition table (UEFI specification, chapter 5): a protective MBR, the header and its entries at the start of
 * the disk, and copies of both at its end. Partition types are those of the Discoverable Partitions Specification
 * (uapi-group.org).
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { formatUuid, uuidBytes } from "../bytes/digest.ts";
import { bytesFromByteString, byteStringFromBytes } from "../bytes/byte_string.ts";
import { InputError, invariant, optionError } from "../errors.ts";
import type { RandomReader } from "../io/random_reader.ts";

/** The only sector size that is written; every virtual disk has it. */
export const SECTOR_BYTES = 512;
/** Another sector size that can be read. */
export const SECTOR_BYTES_MAX = 4096;

/** One partition. */
export interface GptPartition {
  /** A GUID as text. */
  readonly typeGuid: string;
  /** The PARTUUID as text. */
  readonly guid: string;
  /** The start in bytes, a multiple of 512. */
  readonly startBytes: number;
  /** The size in bytes, a multiple of 512. */
  readonly sizeBytes: number;
  /** The name, at most 36 UTF-16 units. */
  readonly name: string;
  /**
   * Sets bit 60: tools that mount the partition by its type do so read-only (Discoverable Partitions Specification).
   */
  readonly isReadOnly: boolean;
}

/** A partition table and its disk. */
export interface Gpt {
  /** A GUID as text. */
  readonly diskGuid: string;
  /** The size of the whole disk, in whole sectors. */
  readonly diskBytes: number;
  /** The partitions in the order of their numbers, starting at 1. */
  readonly partitions: readonly GptPartition[];
}

/** A partition that was read from a disk. */
export interface FoundPartition extends GptPartition {
  /** The partition number, starting at 1, as in `/dev/sda1`. */
  readonly number: number;
}

/** The encoded tables at the start and the end of a disk. */
export interface EncodedGpt {
  /** The bytes at offset 0. */
  readonly head: Uint8Array;
  /** The last bytes of the disk. */
  readonly tail: Uint8Array;
}

const SIGNATURE = "EFI PART";
const REVISION = 0x00010000;
const HEADER_BYTES = 92;
const ENTRY_BYTES = 128;
/** The minimum is 16 KiB of entries (section 5.3.1). */
const ENTRY_COUNT_MIN = 128;
/** The most entries that are read, as in libblkid. */
const ENTRY_COUNT_MAX = 1024;
const NAME_UNITS_MAX = 36;
const READ_ONLY_BIT = 1n << 60n;

/** Offsets in the header (section 5.3.2). */
const HEADER_AT = {
  revision: 8,
  headerBytes: 12,
  headerCrc: 16,
  ownSector: 24,
  otherSector: 32,
  firstUsable: 40,
  lastUsable: 48,
  diskGuid: 56,
  entriesSector: 72,
  entryCount: 80,
  entryBytes: 84,
  entriesCrc: 88,
} as const;

/** Offsets in an entry (section 5.3.3). */
const ENTRY_AT = {
  typeGuid: 0,
  guid: 16,
  firstSector: 32,
  lastSector: 40,
  attributes: 48,
  name: 56,
} as const;

function entriesBytes(partitionCount: number): number {
  return Math.max(ENTRY_COUNT_MIN, Math.ceil(partitionCount / 4) * 4) * ENTRY_BYTES;
}

/** The size of the table at the start of a disk: MBR, header, entries. */
export function gptHeadBytes(partitionCount: number): number {
  return 2 * SECTOR_BYTES + entriesBytes(partitionCount);
}

/** The size of the table at the end of a disk: entries, header. */
export function gptTailBytes(partitionCount: number): number {
  return SECTOR_BYTES + entriesBytes(partitionCount);
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
  const { diskGuid, diskBytes, partitions } = gpt;
  const lastSector = diskBytes / SECTOR_BYTES - 1;
  invariant(Number.isSafeInteger(lastSector), `a disk of ${diskBytes} bytes`);
  const headBytes = gptHeadBytes(partitions.length);
  const tailBytes = gptTailBytes(partitions.length);
  for (const { startBytes, sizeBytes } of partitions) {
    invariant(
      startBytes >= headBytes && startBytes + sizeBytes <= diskBytes - tailBytes,
      `a partition of ${sizeBytes} bytes at ${startBytes}`,
    );
  }
  const entries = encodeEntries(partitions);
  const header = (ownSector: number, otherSector: number, entriesSector: number) => {
    const bytes = new Uint8Array(SECTOR_BYTES);
    const view = new DataView(bytes.buffer);
    const setSector = (at: number, sector: number) => view.setBigUint64(at, BigInt(sector), true);
    bytes.set(bytesFromByteString(SIGNATURE), 0);
    view.setUint32(HEADER_AT.revision, REVISION, true);
    view.setUint32(HEADER_AT.headerBytes, HEADER_BYTES, true);
    setSector(HEADER_AT.ownSector, ownSector);
    setSector(HEADER_AT.otherSector, otherSector);
    setSector(HEADER_AT.firstUsable, headBytes / SECTOR_BYTES);
    setSector(HEADER_AT.lastUsable, lastSector - tailBytes / SECTOR_BYTES);
    bytes.set(encodeGuid(diskGuid), HEADER_AT.diskGuid);
    setSector(HEADER_AT.entriesSector, entriesSector);
    view.setUint32(HEADER_AT.entryCount, entries.length / ENTRY_BYTES, true);
    view.setUint32(HEADER_AT.entryBytes, ENTRY_BYTES, true);
    view.setUint32(HEADER_AT.entriesCrc, crc32(entries), true);
    view.setUint32(HEADER_AT.headerCrc, crc32(bytes.subarray(0, HEADER_BYTES)), true);
    return bytes;
  };
  const head = new Uint8Array(headBytes);
  head.set(protectiveMbr(lastSector), 0);
  head.set(header(1, lastSector, 2), SECTOR_BYTES);
  head.set(entries, 2 * SECTOR_BYTES);
  const tail = new Uint8Array(tailBytes);
  tail.set(entries, 0);
  tail.set(header(lastSector, 1, lastSector - entries.length / SECTOR_BYTES), entries.length);
  return { head, tail };
}

/** Section 5.2.3: one partition of type 0xee over the whole disk, so that old tools consider it full. */
function protectiveMbr(lastSector: number): Uint8Array {
  const mbr = new Uint8Array(SECTOR_BYTES);
  const view = new DataView(mbr.buffer);
  // Starts at cylinder 0, head 0, sector 2; the end is beyond the largest such address.
  mbr.set([0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff], 446);
  view.setUint32(454, 1, true);
  view.setUint32(458, Math.min(lastSector, 0xffffffff), true);
  view.setUint16(510, 0xaa55, true);
  return mbr;
}

function encodeEntries(partitions: readonly GptPartition[]): Uint8Array {
  const entries = new Uint8Array(entriesBytes(partitions.length));
  const view = new DataView(entries.buffer);
  for (
    const [i, { typeGuid, guid, startBytes, sizeBytes, name, isReadOnly }] of partitions.entries()
  ) {
    const at = i * ENTRY_BYTES;
    invariant(
      startBytes % SECTOR_BYTES === 0 && sizeBytes % SECTOR_BYTES === 0 && sizeBytes > 0,
      `a partition of ${sizeBytes} bytes at ${startBytes}`,
    );
    invariant(name.length <= NAME_UNITS_MAX, `a partition name of ${name.length} units`);
    const lastSector = (startBytes + sizeBytes) / SECTOR_BYTES - 1;
    entries.set(encodeGuid(typeGuid), at + ENTRY_AT.typeGuid);
    entries.set(encodeGuid(guid), at + ENTRY_AT.guid);
    view.setBigUint64(at + ENTRY_AT.firstSector, BigInt(startBytes / SECTOR_BYTES), true);
    view.setBigUint64(at + ENTRY_AT.lastSector, BigInt(lastSector), true);
    view.setBigUint64(at + ENTRY_AT.attributes, isReadOnly ? READ_ONLY_BIT : 0n, true);
    for (let unit = 0; unit < name.length; unit++) {
      view.setUint16(at + ENTRY_AT.name + 2 * unit, name.charCodeAt(unit), true);
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

/** Whether a disk has a GPT. @param sectorBytes 512, or 4096 for a disk with 4 KiB sectors */
export function hasGpt(reader: RandomReader, sectorBytes = SECTOR_BYTES): boolean {
  const sector = new Uint8Array(SECTOR_BYTES);
  return reader.readAt(sector, sectorBytes) === SECTOR_BYTES &&
    byteStringFromBytes(sector, 0, 8) === SIGNATURE;
}

/**
 * Reads the table at the start of a disk. Empty entries are left out.
 *
 * @param sectorBytes 512, or 4096 for a disk with 4 KiB sectors
 * @throws {InputError} when the table is damaged or does not fit the disk
 */
export function readGpt(
  reader: RandomReader,
  sectorBytes = SECTOR_BYTES,
): Gpt & { readonly partitions: readonly FoundPartition[] } {
  const fault = (why: string) => new InputError(reader.name, `the partition table ${why}`);
  const checkCrc = (part: string, found: number, wanted: number) => {
    if (found === wanted) return;
    throw fault(`is damaged: the checksum of its ${part} is ${found}, wanted ${wanted}`);
  };
  if (!hasGpt(reader, sectorBytes)) throw fault("is missing: wanted a GPT");
  const sector = new Uint8Array(SECTOR_BYTES);
  reader.readAt(sector, sectorBytes);
  const view = new DataView(sector.buffer);
  const headerBytes = view.getUint32(HEADER_AT.headerBytes, true);
  if (headerBytes < HEADER_BYTES || headerBytes > SECTOR_BYTES) {
    throw fault(`has a header of ${headerBytes} bytes: wanted ${HEADER_BYTES} to ${SECTOR_BYTES}`);
  }
  const headerCrc = view.getUint32(HEADER_AT.headerCrc, true);
  view.setUint32(HEADER_AT.headerCrc, 0, true);
  checkCrc("header", crc32(sector.subarray(0, headerBytes)), headerCrc);
  const count = view.getUint32(HEADER_AT.entryCount, true);
  const entryBytes = view.getUint32(HEADER_AT.entryBytes, true);
  if (count > ENTRY_COUNT_MAX || entryBytes < ENTRY_BYTES || entryBytes > 4096) {
    throw fault(`has ${count} entries of ${entryBytes} bytes: wanted at most 1024 of 128 to 4096`);
  }
  const entries = new Uint8Array(count * entryBytes);
  const entriesOffset = sectorAt(view, HEADER_AT.entriesSector) * sectorBytes;
  if (reader.readAt(entries, entriesOffset) !== entries.length) {
    throw fault(`has its entries at ${entriesOffset}, past the end at ${reader.sizeBytes}`);
  }
  checkCrc("entries", crc32(entries), view.getUint32(HEADER_AT.entriesCrc, true));
  const partitions: FoundPartition[] = [];
  for (let i = 0; i < count; i++) {
    const entry = entries.subarray(i * entryBytes, (i + 1) * entryBytes);
    if (entry.subarray(0, 16).every((byte) => byte === 0)) continue;
    const partition = decodeEntry(entry, sectorBytes);
    const end = partition.startBytes + partition.sizeBytes;
    if (partition.sizeBytes <= 0 || end > reader.sizeBytes) {
      throw fault(
        `has a partition ${i + 1} from ${partition.startBytes} to ${end}: the disk has ` +
          `${reader.sizeBytes} bytes`,
      );
    }
    partitions.push({ number: i + 1, ...partition });
  }
  return { diskGuid: guidAt(sector, HEADER_AT.diskGuid), diskBytes: reader.sizeBytes, partitions };
}

function decodeEntry(entry: Uint8Array, sectorBytes: number): GptPartition {
  const view = new DataView(entry.buffer, entry.byteOffset, entry.byteLength);
  const firstSector = sectorAt(view, ENTRY_AT.firstSector);
  let name = "";
  for (let at: number = ENTRY_AT.name; at < ENTRY_BYTES; at += 2) {
    name += String.fromCharCode(view.getUint16(at, true));
  }
  return {
    typeGuid: guidAt(entry, ENTRY_AT.typeGuid),
    guid: guidAt(entry, ENTRY_AT.guid),
    startBytes: firstSector * sectorBytes,
    sizeBytes: (sectorAt(view, ENTRY_AT.lastSector) + 1 - firstSector) * sectorBytes,
    name: name.replace(/\0.*$/s, ""),
    isReadOnly: (view.getBigUint64(ENTRY_AT.attributes, true) & READ_ONLY_BIT) !== 0n,
  };
}

function guidAt(bytes: Uint8Array, at: number): string {
  return formatUuid(swapped(bytes.subarray(at, at + 16)));
}

/** Reads a sector number, capped so that its byte offset is a safe integer. */
function sectorAt(view: DataView, at: number): number {
  const sector = view.getBigUint64(at, true);
  const most = BigInt(Number.MAX_SAFE_INTEGER) / BigInt(2 * SECTOR_BYTES_MAX);
  return Number(sector < most ? sector : most);
}

/** The role of a partition. */
export type PartitionRole = "esp" | "root" | "root-verity" | "root-verity-sig" | "layer";

type RootRole = "root" | "root-verity" | "root-verity-sig";

/** Keyed by the architecture's name in OCI platforms. */
const ROOT_TYPES: Readonly<Record<string, Readonly<Record<RootRole, string>>>> = {
  amd64: {
    "root": "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    "root-verity": "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5",
    "root-verity-sig": "41092b05-9fc8-4523-994f-2def0408b176",
  },
  arm64: {
    "root": "b921b045-1df0-41c3-af44-4c6f280d3fae",
    "root-verity": "df3300ce-d69f-4c92-978c-9bfb0f38d820",
    "root-verity-sig": "6db69de6-29f4-4758-a7a5-962190f00ce3",
  },
};

const EFI_SYSTEM = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
/** Linux file system data, which tools do not mount automatically. */
const LINUX_DATA = "0fc63daf-8483-4772-8e79-3d69d8477de4";

/**
 * The type of a partition.
 *
 * @param architecture as OCI names it, such as `amd64`
 * @throws {UsageError} for a root partition of an unsupported architecture
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { partitionType } from "./gpt.ts";
 * assertEquals(partitionType("root", "amd64"), "4f68bce3-e8cd-4db1-96e7-fbcaf984b709");
 * ```
 */
export function partitionType(role: PartitionRole, architecture: string): string {
  if (role === "esp") return EFI_SYSTEM;
  if (role === "layer") return LINUX_DATA;
  if (Object.hasOwn(ROOT_TYPES, architecture)) return ROOT_TYPES[architecture]![role];
  throw optionError(
    "disk",
    `no root partition type for the architecture \`${architecture}\`: wanted ` +
      Object.keys(ROOT_TYPES).join(" or "),
  );
}

/** The role of a root type, for any architecture; undefined for other types. */
export function rootRoleOf(typeGuid: string): RootRole | undefined {
  const types = Object.values(ROOT_TYPES).flatMap((roles) => Object.entries(roles));
  return types.find(([, guid]) => guid === typeGuid)?.[0] as RootRole | undefined;
}
