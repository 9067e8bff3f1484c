/**
 * Finding a hash tree and the data that it is for: behind an ext4 file system or any other data, in partitions of a disk,
 * or where the caller says.
 *
 * @module
 */
import { hasGpt, readGpt, rootRoleOf } from "../disk/gpt.ts";
import { hasVhdFooter, VHD_FOOTER_BYTES } from "../disk/disk_layout.ts";
import { InputError, optionError } from "../errors.ts";
import {
  SUPERBLOCK_MAGIC,
  SUPERBLOCK_OFFSET_BYTES,
  SUPERBLOCK_SIZE_BYTES,
} from "../ext4/format/constants.ts";
import { decodeSuperblock } from "../ext4/format/superblock.ts";
import { openFileReader, type RandomReader } from "../io/random_reader.ts";
import {
  dataBlocksWithin,
  hasVerityMagic,
  treeShape,
  VERITY_BLOCK_BYTES,
  type VeritySuperblock,
} from "../verity/format.ts";
import type { VerityReport } from "../verity/verity_sink.ts";
import { readRootHash, readVeritySuperblock, type VerityPlace } from "../verity/verify_tree.ts";
import { Buffer } from "node:buffer";
import { formatUuid } from "../bytes/uuid.ts";

/** Where to look. */
export interface VerityQuery {
  /** The image, a disk or a device. */
  readonly image: string;
  /** The file of the tree, where it is not behind the data. */
  readonly hashFile?: string | undefined;
  /** Of the superblock in the file that it is in; found when left out. */
  readonly hashOffset?: number | undefined;
  /** In hexadecimal; picks the partitions of a disk that has several roots. */
  readonly rootHash?: string | undefined;
}

/** A tree that was found. */
export interface FoundVerity {
  /** What verifyTree() needs. */
  readonly place: VerityPlace;
  /** As it was found. */
  readonly superblock: VeritySuperblock;
  /** As a report of the one who made it says. Offsets count from the start of the file or partition. */
  readonly report: VerityReport;
  /** Closes the files. */
  close(): void;
}

/**
 * Opens an image and finds its tree.
 *
 * @throws {InputError} when there is none, or it is not whole
 * @throws {UsageError} for an offset that is not whole blocks, or a root hash that is not one
 */
export function openVerity(query: VerityQuery): FoundVerity {
  const { image, hashFile, hashOffset, rootHash } = query;
  checkRootHash(rootHash);
  if (hashOffset !== undefined && hashOffset % VERITY_BLOCK_BYTES !== 0) {
    throw optionError("hashOffset", `wanted a multiple of 4096, found ${hashOffset}`);
  }
  const opened: RandomReader[] = [];
  const open = (path: string, what: string) => {
    const reader = openFileReader(path, { what });
    opened.push(reader);
    return reader;
  };
  const close = () => opened.forEach((reader) => reader.close());
  try {
    const data = open(image, "an image with a hash tree");
    const hash = hashFile === undefined ? data : open(hashFile, "a hash tree");
    const place = hashFile !== undefined || hashOffset !== undefined
      ? { data, hash, hashOffset: hashOffset ?? 0 }
      : findPlace(data, rootHash);
    const superblock = readVeritySuperblock(place.hash, place.hashOffset);
    return { place, superblock, report: reportOf(place, superblock), close };
  } catch (error) {
    close();
    throw error;
  }
}

/** The data alone, as far as the tree covers it. Closing it closes nothing. */
export function verityData({ place, superblock }: FoundVerity): RandomReader {
  return partReader(place.data, place.dataOffset ?? 0, superblock.dataBlocks * VERITY_BLOCK_BYTES);
}

/** Throws a UsageError for what is not a SHA-256 in hexadecimal. */
export function checkRootHash(rootHash: string | undefined): void {
  if (rootHash === undefined || /^[0-9a-f]{64}$/i.test(rootHash)) return;
  throw optionError("rootHash", `wanted 64 hex digits, found ${rootHash.length} characters`, {
    hint: "only trees of SHA-256 are supported",
  });
}

function reportOf(place: VerityPlace, superblock: VeritySuperblock): VerityReport {
  return {
    rootHash: readRootHash(place, superblock),
    salt: Buffer.from(superblock.salt).toString("hex"),
    uuid: formatUuid(superblock.uuid),
    dataBlocks: superblock.dataBlocks,
    hashOffset: place.hashOffset - (place.hashStart ?? 0),
    hashBytes: treeShape(superblock.dataBlocks).sizeBytes,
  };
}

function findPlace(image: RandomReader, rootHash: string | undefined): VerityPlace {
  if (hasGpt(image)) return placeOnDisk(image, rootHash?.toLowerCase());
  const hashOffset = appendedTreeOffset(image);
  if (hashOffset !== undefined) return { data: image, hash: image, hashOffset };
  throw new InputError(image.name, "has no hash tree behind its data", {
    code: "notFound",
    remedies: [
      { option: "hashFile", change: "set", to: "name the file of the tree" },
      { option: "hashOffset", change: "set", to: "say where it begins" },
    ],
  });
}

/**
 * Where the tree behind the data begins; undefined when there is none. The end of an ext4 file system is tried, and the
 * one place that leaves just the room that a tree needs.
 */
export function appendedTreeOffset(image: RandomReader): number | undefined {
  const wholeBlocks = Math.floor(sizeWithoutFooter(image) / VERITY_BLOCK_BYTES);
  const candidates = [ext4Bytes(image), dataBlocksWithin(wholeBlocks) * VERITY_BLOCK_BYTES];
  const head = new Uint8Array(512);
  return candidates.find((offset) =>
    offset !== undefined && offset > 0 && offset % VERITY_BLOCK_BYTES === 0 &&
    image.readAt(head, offset) === head.length && hasVerityMagic(head)
  );
}

function sizeWithoutFooter(image: RandomReader): number {
  const footer = new Uint8Array(VHD_FOOTER_BYTES);
  const start = image.sizeBytes - VHD_FOOTER_BYTES;
  if (start < 0) return image.sizeBytes;
  image.readAt(footer, start);
  return hasVhdFooter(footer) ? start : image.sizeBytes;
}

/** How long the file system at the start of an image is; undefined if it is not ext4. */
export function ext4Bytes(image: RandomReader): number | undefined {
  const encoded = new Uint8Array(SUPERBLOCK_SIZE_BYTES);
  if (image.readAt(encoded, SUPERBLOCK_OFFSET_BYTES) !== encoded.length) return undefined;
  if ((encoded[0x38]! | (encoded[0x39]! << 8)) !== SUPERBLOCK_MAGIC) return undefined;
  try {
    const { blocksCount, logBlockSize } = decodeSuperblock(encoded);
    return blocksCount * 2 ** (10 + logBlockSize);
  } catch (error) {
    if (error instanceof InputError) return undefined;
    throw error;
  }
}

/**
 * The root of a disk and its tree. Their PARTUUIDs are the first and the last half of the root hash (Discoverable
 * Partitions Specification); layers have their tree behind them in the same partition.
 */
function placeOnDisk(disk: RandomReader, rootHash: string | undefined): VerityPlace {
  const { partitions } = readGpt(disk);
  const [dataGuid, hashGuid] = rootHash === undefined ? [] : partitionGuidsOf(rootHash);
  const trees = partitions.filter(({ typeGuid, guid }) =>
    rootRoleOf(typeGuid) === "root-verity" && (hashGuid === undefined || guid === hashGuid)
  );
  for (const { startBytes } of trees) {
    const superblock = readVeritySuperblock(disk, startBytes);
    const tree = { data: disk, hash: disk, hashOffset: startBytes, hashStart: startBytes };
    const known = dataGuid ?? partitionGuidsOf(readRootHash(tree, superblock))[0];
    const root = partitions.find(({ typeGuid, guid }) =>
      rootRoleOf(typeGuid) === "root" && guid === known
    );
    if (root !== undefined && trees.length === 1) return { ...tree, dataOffset: root.startBytes };
  }
  for (const { guid, startBytes, sizeBytes } of partitions) {
    if (guid !== dataGuid) continue;
    const offset = appendedTreeOffset(partReader(disk, startBytes, sizeBytes));
    if (offset === undefined) continue;
    const hashOffset = startBytes + offset;
    return { data: disk, dataOffset: startBytes, hash: disk, hashOffset, hashStart: startBytes };
  }
  const found = trees.length > 1
    ? `has ${trees.length} hash trees`
    : rootHash === undefined
    ? "has no partition with a hash tree"
    : "has no partitions for this root hash";
  throw new InputError(disk.name, found, {
    remedies: [{ option: "rootHash", change: "set", to: "pick one by its root hash" }],
  });
}

/** The PARTUUIDs of data and tree. @param rootHash in hexadecimal */
export function partitionGuidsOf(rootHash: string): readonly [data: string, hash: string] {
  const bytes = Buffer.from(rootHash, "hex");
  return [formatUuid(bytes.subarray(0, 16)), formatUuid(bytes.subarray(-16))];
}

/** A part of what a reader reads. Closing it closes nothing. */
function partReader(whole: RandomReader, startBytes: number, sizeBytes: number): RandomReader {
  return {
    sizeBytes,
    name: whole.name,
    readAt(target, position) {
      const length = Math.max(0, Math.min(target.length, sizeBytes - position));
      return whole.readAt(target.subarray(0, length), startBytes + position);
    },
    close() {},
  };
}
