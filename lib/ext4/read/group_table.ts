/**
 * Group descriptors of an image, each checked when it is first asked for.
 *
 * @module
 */
import { divCeil } from "../../bytes/arithmetic.ts";
import { InputError, invariant } from "../../errors.ts";
import { checkChecksum } from "../format/checksum.ts";
import { GROUP_FLAG, INCOMPAT, RO_COMPAT } from "../format/constants.ts";
import {
  decodeGroupDescriptor,
  type GroupDescriptor,
  groupDescriptorChecksum,
  groupDescriptorCrc16,
  storedGroupDescriptorChecksum,
} from "../format/group_descriptor.ts";
import { metadataSeed, type Superblock } from "../format/superblock.ts";
import { descriptorPlace, groupBlocks, type ImageGeometry } from "./geometry.ts";

/** A descriptor as it was found. */
export interface FoundDescriptor {
  readonly descriptor: GroupDescriptor;
  /** Stored and computed checksum; undefined for a file system without them. */
  readonly checksum: { readonly stored: number; readonly computed: number } | undefined;
}

/** What a table needs of an image. */
interface TableSource {
  readonly superblock: Superblock;
  readonly geometry: ImageGeometry;
  readBlock(blockNumber: number, what: string): Uint8Array;
}

/** Most descriptors that are kept. */
const KEPT_COUNT = 16384;

/** Reads one descriptor; nothing is judged. */
export function readGroupDescriptor(source: TableSource, groupIndex: number): FoundDescriptor {
  const { superblock, geometry } = source;
  const { blockNumber, offsetBytes } = descriptorPlace(superblock, geometry, groupIndex);
  const block = source.readBlock(blockNumber, nameOf(groupIndex));
  const encoded = block.subarray(offsetBytes, offsetBytes + geometry.descriptorSizeBytes);
  const computed = computedChecksum(encoded, groupIndex, superblock);
  const checksum = computed === undefined
    ? undefined
    : { stored: storedGroupDescriptorChecksum(encoded), computed };
  return { descriptor: decodeGroupDescriptor(encoded), checksum };
}

/** The descriptors of one image. */
export class GroupTable {
  readonly #source: TableSource;
  readonly #known = new Map<number, GroupDescriptor>();

  constructor(source: TableSource) {
    this.#source = source;
  }

  /** A descriptor whose checksum is right and whose places are in the file system. */
  get(groupIndex: number): GroupDescriptor {
    invariant(groupIndex < this.#source.geometry.groupCount, `a group ${groupIndex}`);
    const known = this.#known.get(groupIndex);
    if (known !== undefined) return known;
    const { descriptor, checksum } = readGroupDescriptor(this.#source, groupIndex);
    const what = nameOf(groupIndex);
    if (checksum !== undefined) checkChecksum(what, checksum.stored, checksum.computed);
    this.#checkPlaces(descriptor, groupIndex);
    if (this.#known.size >= KEPT_COUNT) this.#known.clear();
    this.#known.set(groupIndex, descriptor);
    return descriptor;
  }

  /** How many of a group's inodes were ever used: no more than these can be in use. */
  initialisedInodes(groupIndex: number): number {
    const { geometry, superblock } = this.#source;
    const descriptor = this.get(groupIndex);
    const hasUninit = RO_COMPAT.METADATA_CSUM | RO_COMPAT.GDT_CSUM;
    if ((superblock.featureRoCompat & hasUninit) === 0) return geometry.inodesPerGroup;
    if ((descriptor.flags & GROUP_FLAG.INODE_UNINIT) !== 0) return 0;
    return geometry.inodesPerGroup - descriptor.itableUnusedCount;
  }

  #checkPlaces(descriptor: GroupDescriptor, groupIndex: number): void {
    const { superblock, geometry } = this.#source;
    const { inodesPerGroup, inodeSizeBytes, blockSizeBytes, firstDataBlock } = geometry;
    const what = nameOf(groupIndex);
    const isFlexible = (superblock.featureIncompat & INCOMPAT.FLEX_BG) !== 0;
    const group = groupBlocks(geometry, groupIndex);
    const least = isFlexible ? firstDataBlock : group.startBlock;
    const end = isFlexible ? geometry.blocksCount : group.startBlock + group.blockCount;
    const within = (field: string, startBlock: number, blockCount: number): void => {
      if (startBlock >= Math.max(1, least) && startBlock + blockCount <= end) return;
      throw new InputError(
        what,
        `${field} is ${startBlock}, not within blocks ${Math.max(1, least)} to ${end - blockCount}`,
        { data: { field, actual: startBlock } },
      );
    };
    within("bg_block_bitmap", descriptor.blockBitmapBlock, 1);
    within("bg_inode_bitmap", descriptor.inodeBitmapBlock, 1);
    const tableBlocks = divCeil(inodesPerGroup * inodeSizeBytes, blockSizeBytes);
    within("bg_inode_table", descriptor.inodeTableBlock, tableBlocks);
    if (descriptor.itableUnusedCount > inodesPerGroup) {
      const found = descriptor.itableUnusedCount;
      throw new InputError(what, `bg_itable_unused is ${found}, over ${inodesPerGroup}`);
    }
  }
}

function computedChecksum(
  encoded: Uint8Array,
  groupIndex: number,
  superblock: Superblock,
): number | undefined {
  const seed = metadataSeed(superblock);
  if (seed !== undefined) return groupDescriptorChecksum(encoded, { groupIndex, seed });
  if ((superblock.featureRoCompat & RO_COMPAT.GDT_CSUM) === 0) return undefined;
  return groupDescriptorCrc16(encoded, { groupIndex, uuid: superblock.uuid });
}

function nameOf(groupIndex: number): string {
  return `descriptor of group ${groupIndex}`;
}
