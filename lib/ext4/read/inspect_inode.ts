/**
 * What one inode says about itself; what of it is damaged is told, not enforced.
 *
 * @module
 */
import type { ByteString } from "../../bytes/byte_string.ts";
import { INODE_FLAG } from "../format/constants.ts";
import {
  decodeInode,
  inodeChecksum,
  type InodeRecord,
  storedInodeChecksum,
} from "../format/inode.ts";
import { blockRuns } from "./block_map.ts";
import { inlineContent } from "./content.ts";
import { readDirectory } from "./directory.ts";
import { FaultCollector } from "./fault_collector.ts";
import type { BlockPlace } from "./geometry.ts";
import { hasFlag, kindOfMode, unjudgedInode } from "./inode.ts";
import type { ChecksumPair } from "./inspect_image.ts";
import { deviceNumbers } from "./node_reader.ts";
import { isFastSymlink, readSymlink } from "./symlink.ts";
import type { Ext4Image, ImageInode, MapBlock, MappedRun, NodeKind } from "./types.ts";
import { type StoredXattr, XattrReader } from "./xattrs.ts";

/** How an inode keeps its content. */
export type ContentPlace = "extents" | "block pointers" | "inode" | "none";

/** What a look at an inode shows. */
export interface InodeInspection {
  /** Its number. */
  readonly inodeNumber: number;
  /** Where its slot is. */
  readonly place: BlockPlace;
  /** Undefined for a mode that no file has, and an inode that was never used. */
  readonly kind: NodeKind | undefined;
  /** Its fields. */
  readonly record: InodeRecord;
  /** Names of the bits of its flags, as lsattr -l has them. */
  readonly flagNames: readonly string[];
  /** Undefined without metadata_csum. */
  readonly checksum: ChecksumPair | undefined;
  /** How it keeps its content. */
  readonly contentPlace: ContentPlace;
  /** The first of them, up to the number asked for. */
  readonly runs: readonly MappedRun[];
  /** The first blocks of the map, up to the same number. */
  readonly mapBlocks: readonly MapBlock[];
  /** How many runs and blocks of the map there are in all. */
  readonly runCount: number;
  /** Blocks of the map in all. */
  readonly mapBlockCount: number;
  /** Bytes kept in the inode. */
  readonly inlineSizeBytes: number | undefined;
  /** Attributes as they are stored. */
  readonly xattrs: readonly StoredXattr[];
  /** Of a symlink. */
  readonly target: ByteString | undefined;
  /** Of a device. */
  readonly device: { readonly deviceMajor: number; readonly deviceMinor: number } | undefined;
  /** Of a directory. */
  readonly directory:
    | { readonly parentInodeNumber: number; readonly nameCount: number }
    | undefined;
  /** What is damaged. */
  readonly faults: readonly string[];
}

/** i_flags by the names of lsattr -l. */
const FLAG_NAMES: readonly (readonly [number, string])[] = [
  [0x1, "Secure_Deletion"],
  [0x2, "Undelete"],
  [0x4, "Compression_Requested"],
  [0x8, "Synchronous_Updates"],
  [INODE_FLAG.IMMUTABLE, "Immutable"],
  [INODE_FLAG.APPEND, "Append_Only"],
  [0x40, "No_Dump"],
  [0x80, "No_Atime"],
  [INODE_FLAG.ENCRYPT, "Encrypted"],
  [INODE_FLAG.INDEX, "Indexed_directory"],
  [0x4000, "Journaled_Data"],
  [0x8000, "No_Tailmerging"],
  [0x10000, "Synchronous_Directory_Updates"],
  [0x20000, "Top_of_Directory_Hierarchies"],
  [INODE_FLAG.HUGE_FILE, "Huge_file"],
  [INODE_FLAG.EXTENTS, "Extents"],
  [INODE_FLAG.VERITY, "Verity"],
  [INODE_FLAG.EA_INODE, "EA_inode"],
  [0x2000000, "DAX"],
  [INODE_FLAG.INLINE_DATA, "Inline_Data"],
  [INODE_FLAG.PROJINHERIT, "Project_Hierarchy"],
  [INODE_FLAG.CASEFOLD, "Casefold"],
];

/**
 * Looks at an inode, in use or not.
 *
 * @param options.maxRunCount how many runs and map blocks are listed; all are counted
 * @throws {InputError} for a number that the file system does not have
 */
export function inspectInode(
  image: Ext4Image,
  inodeNumber: number,
  options: { readonly maxRunCount: number },
): InodeInspection {
  const slot = image.inodeSlot(inodeNumber);
  const { seed } = image;
  const checksum = seed === undefined ? undefined : {
    stored: storedInodeChecksum(slot),
    computed: inodeChecksum(slot, { inodeNumber, seed }),
  };
  const record = decodeInode(slot, `inode ${inodeNumber}`);
  const collector = new FaultCollector();
  const isUsed = record.linkCount > 0;
  if (isUsed) collector.attempt(() => image.inode(inodeNumber));
  const inode = unjudgedInode(image, inodeNumber, record);
  return {
    inodeNumber,
    place: image.inodePlace(inodeNumber),
    kind: kindOfMode(record.mode),
    record,
    flagNames: FLAG_NAMES.filter(([flag]) => hasFlag(inode, flag)).map(([, name]) => name),
    checksum,
    ...content(image, inode, isUsed, options.maxRunCount, collector),
    xattrs: isUsed ? collector.attempt(() => new XattrReader(image).stored(inode)) ?? [] : [],
    ...details(image, inode, isUsed, collector),
    faults: collector.faults,
  };
}

type ContentInspection = Pick<
  InodeInspection,
  "contentPlace" | "runs" | "mapBlocks" | "runCount" | "mapBlockCount" | "inlineSizeBytes"
>;

function content(
  image: Ext4Image,
  inode: ImageInode,
  isUsed: boolean,
  maxCount: number,
  collector: FaultCollector,
): ContentInspection {
  const contentPlace = isUsed ? placeOfContent(inode) : "none";
  const runs: MappedRun[] = [];
  const mapBlocks: MapBlock[] = [];
  let [runCount, mapBlockCount] = [0, 0];
  const onMapBlock = (block: MapBlock): void => {
    if (++mapBlockCount <= maxCount) mapBlocks.push(block);
  };
  if (contentPlace === "extents" || contentPlace === "block pointers") {
    collector.attempt(() => {
      for (const run of blockRuns(image, inode, { onMapBlock })) {
        if (++runCount <= maxCount) runs.push(run);
      }
    });
  }
  const inlineSizeBytes = contentPlace === "inode" && hasFlag(inode, INODE_FLAG.INLINE_DATA)
    ? collector.attempt(() => {
      const { first, rest } = inlineContent(inode);
      return first.length + rest.length;
    })
    : undefined;
  return { contentPlace, runs, mapBlocks, runCount, mapBlockCount, inlineSizeBytes };
}

function placeOfContent(inode: ImageInode): ContentPlace {
  if (hasFlag(inode, INODE_FLAG.INLINE_DATA)) return "inode";
  const mapsBlocks = inode.kind === "file" || inode.kind === "directory";
  if (inode.kind === "symlink" && isFastSymlink(inode)) return "inode";
  if (!mapsBlocks && inode.kind !== "symlink") return "none";
  return hasFlag(inode, INODE_FLAG.EXTENTS) ? "extents" : "block pointers";
}

function details(
  image: Ext4Image,
  inode: ImageInode,
  isUsed: boolean,
  collector: FaultCollector,
): Pick<InodeInspection, "target" | "device" | "directory"> {
  const { kind } = inode;
  const isDevice = kind === "characterDevice" || kind === "blockDevice";
  return {
    target: isUsed && kind === "symlink"
      ? collector.attempt(() => readSymlink(image, inode))
      : undefined,
    device: isUsed && isDevice ? deviceNumbers(inode) : undefined,
    directory: isUsed && kind === "directory"
      ? collector.attempt(() => {
        const { parentInodeNumber, names } = readDirectory(image, inode);
        return { parentInodeNumber, nameCount: names.length };
      })
      : undefined,
  };
}
