/**
 * Blocks that no file may have: superblocks, descriptors and the room kept for them, bitmaps, inode tables and the journal.
 * The kernel refuses an inode that maps one of them (ext4_setup_system_zone(), fs/ext4/block_validity.c).
 *
 * @module
 */
import { firstIndex } from "../../bytes/arithmetic.ts";
import { InputError } from "../../errors.ts";
import { COMPAT } from "../format/constants.ts";
import type { GroupDescriptor } from "../format/group_descriptor.ts";
import { readBlockMap } from "../volume/block_map.ts";
import { viewOfInode } from "../volume/inode.ts";
import type { Volume } from "../volume/volume.ts";

interface Zone {
  readonly start: number;
  end: number;
}

/** File systems of more groups, of 16 TiB and more at 4 KiB, are not held against it: every descriptor has to be read. */
const GROUPS_MAX = 131_072;

/** The blocks of a volume that are its own, in order. */
export class SystemZones {
  readonly #zones: readonly Zone[];

  constructor(volume: Volume) {
    this.#zones = volume.groupCount > GROUPS_MAX
      ? []
      : joined([...groupZones(volume), ...journalZones(volume)]);
  }

  /** Whether one of some blocks is among them. */
  overlap(startBlock: number, blockCount: number): boolean {
    const at = firstIndex(this.#zones.length, (i) => this.#zones[i]!.end > startBlock);
    return at < this.#zones.length && this.#zones[at]!.start < startBlock + blockCount;
  }
}

function* groupZones(volume: Volume): Generator<Zone> {
  const zone = (start: number, count: number): Zone => ({ start, end: start + count });
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

/** A group without one costs what is in it, and not all that is elsewhere. */
function descriptorOf(volume: Volume, group: number): GroupDescriptor | undefined {
  try {
    return volume.group(group).descriptor;
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    volume.judge.reportError("group descriptor", { group }, error, {
      isReadable: true,
      outcome: "what is in the group cannot be read",
    });
    return undefined;
  }
}

/** Those of a journal that can be read. */
function journalZones(volume: Volume): Zone[] {
  const { journalInode } = volume.superblock;
  if (!volume.hasCompat(COMPAT.HAS_JOURNAL) || journalInode === 0) return [];
  const view = viewOfInode(volume, journalInode);
  if (view === undefined) return [];
  try {
    const { runs } = readBlockMap(volume, view);
    return runs.map(({ startBlock, blockCount }) => ({
      start: startBlock,
      end: startBlock + blockCount,
    }));
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return [];
  }
}

/** Zones in order, those that touch as one. */
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
