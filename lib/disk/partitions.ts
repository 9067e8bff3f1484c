/**
 * The partitions of a disk with either kind of table: a GPT, or an MBR in the first sector with its chain of logical
 * partitions. Numbers match the kernel's (block/partitions/msdos.c): 1 to 4 in the first sector, logical ones from 5.
 *
 * @module
 */
import { InputError } from "../errors.ts";
import type { RandomReader } from "../io/random_reader.ts";
import { type FoundPartition, hasGpt, readGpt, SECTOR_BYTES, SECTOR_BYTES_MAX } from "./gpt.ts";

/** A partition table. */
export interface PartitionTable {
  readonly kind: "GPT" | "MBR";
  /** The partitions in the order of their numbers; those of an MBR have an empty name. */
  readonly partitions: readonly Pick<
    FoundPartition,
    "number" | "startBytes" | "sizeBytes" | "name"
  >[];
}

const SIGNATURE_AT = 510;
const ENTRIES_AT = 446;
const ENTRY_BYTES = 16;
const ENTRY_COUNT = 4;
const ENTRY_AT = { status: 0, type: 4, startSector: 8, sectorCount: 12 } as const;
/** The statuses of valid entries; a boot sector has code or names there. */
const STATUSES: readonly number[] = [0x00, 0x80];
const EXTENDED_TYPES: readonly number[] = [0x05, 0x0f, 0x85];
/** A GPT is preceded by an MBR with one partition of this type over the whole disk. */
const PROTECTIVE_TYPE = 0xee;
const FIRST_LOGICAL = 5;
/** More logical partitions than the kernel numbers; a longer chain is a loop. */
const LOGICAL_COUNT_MAX = 256;

type Entry = Readonly<Record<keyof Omit<typeof ENTRY_AT, "status">, number>>;

/**
 * Reads the partition table of a disk; undefined when there is none.
 *
 * @throws {InputError} when a GPT is damaged
 */
export function readPartitions(disk: RandomReader): PartitionTable | undefined {
  const sectorBytes = [SECTOR_BYTES, SECTOR_BYTES_MAX].find((size) => hasGpt(disk, size));
  if (sectorBytes !== undefined) {
    return { kind: "GPT", partitions: readGpt(disk, sectorBytes).partitions };
  }
  const entries = readEntries(disk, 0);
  if (entries === undefined || entries.some(({ type }) => type === PROTECTIVE_TYPE)) {
    return undefined;
  }
  const primary = entries.flatMap((entry, i) => isUsed(entry) ? [{ number: i + 1, ...entry }] : []);
  if (primary.length === 0) return undefined;
  const extended = primary.find(({ type }) => EXTENDED_TYPES.includes(type));
  const found = [
    ...primary.filter(({ type }) => !EXTENDED_TYPES.includes(type)),
    ...extended === undefined ? [] : readLogical(disk, extended.startSector),
  ];
  return {
    kind: "MBR",
    partitions: found.map(({ number, startSector, sectorCount }) => ({
      number,
      startBytes: startSector * SECTOR_BYTES,
      sizeBytes: sectorCount * SECTOR_BYTES,
      name: "",
    })),
  };
}

/**
 * Opens a partition like a disk of its own. Closing it closes the disk.
 *
 * @throws {InputError} when the disk has no partition with that number, or the partition extends past its end
 */
export function openPartition(disk: RandomReader, number: number): RandomReader {
  const table = readPartitions(disk);
  if (table === undefined) {
    throw new InputError(disk.name, `has no partition table: wanted partition ${number}`, {
      code: "notFound",
    });
  }
  const partition = table.partitions.find((one) => one.number === number);
  if (partition === undefined) {
    const numbers = table.partitions.map((one) => one.number).join(", ");
    throw new InputError(disk.name, `has no partition ${number}: it has ${numbers || "none"}`, {
      code: "notFound",
    });
  }
  const { startBytes, sizeBytes } = partition;
  if (startBytes + sizeBytes > disk.sizeBytes) {
    const end = startBytes + sizeBytes;
    throw new InputError(
      disk.name,
      `its partition ${number} ends at ${end}, but it has ${disk.sizeBytes} bytes`,
    );
  }
  return {
    sizeBytes,
    name: `${disk.name}#${number}`,
    readAt(target, position) {
      const length = Math.max(0, Math.min(target.length, sizeBytes - position));
      return disk.readAt(target.subarray(0, length), startBytes + position);
    },
    close: () => disk.close(),
  };
}

/**
 * Each logical partition is preceded by a sector with two entries: the partition itself, relative to that sector, and
 * the next such sector, relative to the first of them.
 */
function readLogical(disk: RandomReader, firstSector: number): (Entry & { number: number })[] {
  const found: (Entry & { number: number })[] = [];
  let sector = firstSector;
  for (let passed = 0; passed < LOGICAL_COUNT_MAX; passed++) {
    const entries = readEntries(disk, sector);
    if (entries === undefined) break;
    const own = entries.find((entry) => isUsed(entry) && !EXTENDED_TYPES.includes(entry.type));
    if (own !== undefined) {
      const number = FIRST_LOGICAL + found.length;
      found.push({ ...own, number, startSector: sector + own.startSector });
    }
    const next = entries.find((entry) => isUsed(entry) && EXTENDED_TYPES.includes(entry.type));
    if (next === undefined) break;
    sector = firstSector + next.startSector;
  }
  return found;
}

/** The four entries of a sector; undefined if the sector has no table. */
function readEntries(disk: RandomReader, sector: number): Entry[] | undefined {
  const bytes = new Uint8Array(SECTOR_BYTES);
  if (disk.readAt(bytes, sector * SECTOR_BYTES) !== SECTOR_BYTES) return undefined;
  const view = new DataView(bytes.buffer);
  if (view.getUint16(SIGNATURE_AT, true) !== 0xaa55) return undefined;
  const entries: Entry[] = [];
  for (let i = 0; i < ENTRY_COUNT; i++) {
    const at = ENTRIES_AT + i * ENTRY_BYTES;
    if (!STATUSES.includes(bytes[at + ENTRY_AT.status]!)) return undefined;
    entries.push({
      type: bytes[at + ENTRY_AT.type]!,
      startSector: view.getUint32(at + ENTRY_AT.startSector, true),
      sectorCount: view.getUint32(at + ENTRY_AT.sectorCount, true),
    });
  }
  return entries;
}

function isUsed({ type, startSector, sectorCount }: Entry): boolean {
  return type !== 0 && startSector !== 0 && sectorCount !== 0;
}
