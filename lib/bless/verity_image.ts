/**
 * Hash trees of existing images: finds a tree and its data (behind an ext4 file system or other data, in the partitions
 * of a disk, or where the caller says), and makes a tree, behind the data or in a separate file.
 *
 * @module
 */
import { hasGpt, readGpt, rootRoleOf } from "../disk/gpt.ts";
import { hasVhdFooter, VHD_FOOTER_BYTES } from "../disk/disk_layout.ts";
import { BlessfsError, InputError, optionError } from "../errors.ts";
import {
  SUPERBLOCK_MAGIC,
  SUPERBLOCK_OFFSET_BYTES,
  SUPERBLOCK_SIZE_BYTES,
} from "../ext4/format/constants.ts";
import { decodeSuperblock } from "../ext4/format/superblock.ts";
import { PositionedFile } from "../io/device_sink.ts";
import { openFileReader, type RandomReader } from "../io/random_reader.ts";
import {
  dataBlocksWithin,
  hasVerityMagic,
  treeShape,
  VERITY_BLOCK_BYTES,
  type VerityReport,
  type VeritySuperblock,
} from "../verity/format.ts";
import { dataBlocksOf, TreeSink, verityReport } from "../verity/verity_sink.ts";
import { readRootHash, readVeritySuperblock, type VerityPlace } from "../verity/verify_tree.ts";
import { Buffer } from "node:buffer";
import { formatUuid } from "../bytes/digest.ts";
import { closeSync, fstatSync, ftruncateSync, openSync, type Stats, statSync } from "node:fs";
import { readFileInto } from "../io/streams.ts";
import type { ImageSink } from "../io/sink.ts";
import { displayPath, ioErrorFrom } from "../io/system_error.ts";
import type { ThreadOptions } from "../io/thread.ts";
import { NO_PROGRESS, type Progress } from "../progress.ts";
import type { HashTree } from "../verity/hash_tree.ts";

import { copyReader, partitionGuidsOf } from "./envelope.ts";

/** Where to look for a hash tree. */
export interface VerityQuery {
  /** The image, disk or device. */
  readonly image: string;
  /** The file of the tree, if it is not behind the data. */
  readonly hashFile?: string | undefined;
  /** The offset of the superblock in its file; searched for when left out. */
  readonly hashOffset?: number | undefined;
  /** The root hash in hexadecimal; selects the partitions of a disk with several roots. */
  readonly rootHash?: string | undefined;
}

/** A hash tree that was found. */
export interface FoundVerity {
  /** The input for verifyTree(). */
  readonly place: VerityPlace;
  /** The superblock as read. */
  readonly superblock: VeritySuperblock;
  /**
   * The facts as in the report of the program that made the tree. Offsets count from the start of the file or
   * partition.
   */
  readonly report: VerityReport;
  /** Closes the files. */
  close(): void;
}

/**
 * Opens an image and finds its tree.
 *
 * @throws {InputError} when there is no tree, or it is cut off
 * @throws {UsageError} when the offset is not a multiple of 4096, or the root hash is invalid
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

/** A reader for the data that the tree covers. Closing it has no effect. */
export function verityData({ place, superblock }: FoundVerity): RandomReader {
  return partReader(place.data, place.dataOffset ?? 0, superblock.dataBlocks * VERITY_BLOCK_BYTES);
}

/** Throws a UsageError for anything but a SHA-256 in hexadecimal. */
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
  throw new InputError(image.name, "has no hash tree after its data", {
    code: "notFound",
    remedies: [
      { option: "hashFile", change: "set", to: "name the file of the tree" },
      { option: "hashOffset", change: "set", to: "say where it begins" },
    ],
  });
}

/**
 * The offset of the tree behind the data; undefined when there is none. Two places are tried: the end of an ext4 file
 * system, and the one offset that leaves exactly enough room for a tree.
 */
function appendedTreeOffset(image: RandomReader): number | undefined {
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

/** The size of the file system at the start of an image; undefined if it is not ext4. */
function ext4Bytes(image: RandomReader): number | undefined {
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
 * Finds the root partition of a disk and its tree. Their PARTUUIDs are the first and the last half of the root hash
 * (Discoverable Partitions Specification); layers have their tree behind the data in the same partition.
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

/** A reader for a part of another reader. Closing it has no effect. */
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

/** How to make a hash tree. */
export interface FormatVerityOptions extends ThreadOptions {
  /** The image, a regular file or a block device. */
  readonly image: string;
  /** The salt, which is hashed before every block; at most 256 bytes. */
  readonly salt: Uint8Array;
  /** How much of the image to hash; all of it when left out. */
  readonly dataBytes?: number | undefined;
  /** Receives the tree; when left out, it goes behind the data. */
  readonly hashSink?: ImageSink | undefined;
  /** Replace an existing tree, or anything else behind the data. */
  readonly force?: boolean | undefined;
  /** Stops the work when aborted. */
  readonly signal?: AbortSignal | undefined;
  /** Progress reporter. */
  readonly progress?: Progress | undefined;
}

/**
 * Hashes an image and writes its tree. Behind the data, the superblock is written last, when the rest is on the disk,
 * so that an incomplete tree is never mistaken for a tree. On failure, the image is cut back to its data.
 *
 * @throws {InputError} when the image is not whole blocks, or has something behind its data
 * @throws {IoError} when reading or writing fails
 * @throws {InterruptedError} when the signal is aborted
 */
export async function formatVerity(options: FormatVerityOptions): Promise<VerityReport> {
  const { image, hashSink } = options;
  let tree: HashTree | undefined;
  try {
    const reader = openFileReader(image, { what: "an image" });
    let dataBytes: number;
    try {
      const before = statOf(image);
      dataBytes = dataBytesOf(reader, before.isFile(), options);
      tree = await hashImage(reader, dataBytes, options);
      checkUnchanged(image, before);
    } finally {
      reader.close();
    }
    if (hashSink === undefined) {
      await appendTree(image, tree, dataBytes);
      return verityReport(tree, dataBytes);
    }
    await tree.writeTo(hashSink, 0);
    await hashSink.finish(tree.shape.sizeBytes);
    return verityReport(tree, 0);
  } catch (error) {
    await hashSink?.abort();
    throw error;
  } finally {
    tree?.close();
  }
}

function statOf(path: string): Stats {
  try {
    return statSync(path);
  } catch (cause) {
    throw ioErrorFrom(path, "cannot be looked at", cause);
  }
}

function checkUnchanged(path: string, before: Stats): void {
  const after = statOf(path);
  if (after.size === before.size && after.mtimeMs === before.mtimeMs) return;
  throw new InputError(displayPath(path), "changed while it was hashed", {
    code: "changed",
    hint: "unmount it, and let nothing write to it meanwhile",
  });
}

function dataBytesOf(
  reader: RandomReader,
  isFile: boolean,
  options: FormatVerityOptions,
): number {
  const { hashSink, force = false } = options;
  const shown = displayPath(reader.name);
  const known = hashSink === undefined ? appendedTreeOffset(reader) : undefined;
  if (known !== undefined && !force) {
    throw new InputError(shown, `has a hash tree already, at offset ${known}`, {
      code: "alreadyExists",
      remedies: [{ option: "force", change: "set", to: "replace it" }],
    });
  }
  const dataBytes = options.dataBytes ?? known ?? dataEnd(reader, isFile, options);
  const dataBlocks = dataBlocksOf(dataBytes);
  if (dataBlocks === undefined) {
    throw new InputError(shown, `has ${dataBytes} bytes: wanted a multiple of 4096`, {
      remedies: [{ option: "dataBytes", change: "set", to: "hash a part of it" }],
    });
  }
  if (dataBytes > reader.sizeBytes) {
    throw new InputError(shown, `has ${reader.sizeBytes} bytes: wanted ${dataBytes} of data`);
  }
  if (hashSink !== undefined) return dataBytes;
  const neededBytes = dataBytes + treeShape(dataBlocks).sizeBytes;
  if (!isFile && neededBytes > reader.sizeBytes) {
    const why = `has ${reader.sizeBytes} bytes: data and tree need ${neededBytes}`;
    throw new InputError(shown, why, {
      code: "doesNotFit",
      remedies: [
        { option: "dataBytes", change: "set", to: "hash a part of it" },
        { option: "hashFile", change: "set", to: "put the tree elsewhere" },
      ],
    });
  }
  if (isFile && !force && dataBytes < reader.sizeBytes) {
    throw new InputError(shown, `has ${reader.sizeBytes - dataBytes} bytes after its data`, {
      code: "alreadyExists",
      remedies: [{ option: "force", change: "set", to: "replace them" }],
    });
  }
  return dataBytes;
}

/** The bytes behind a file system may be an unfinished tree, so they are not treated as data. */
function dataEnd(
  reader: RandomReader,
  isFile: boolean,
  { hashSink, force = false }: FormatVerityOptions,
): number {
  const fileSystemBytes = ext4Bytes(reader);
  const behindBytes = reader.sizeBytes - (fileSystemBytes ?? reader.sizeBytes);
  if (fileSystemBytes === undefined || behindBytes <= 0 || hashSink !== undefined) {
    return reader.sizeBytes;
  }
  // A device has a fixed size; the space behind its file system is free.
  if (force || !isFile) return fileSystemBytes;
  const why = `has ${behindBytes} bytes after its file system of ${fileSystemBytes} bytes`;
  throw new InputError(displayPath(reader.name), why, {
    code: "alreadyExists",
    remedies: [
      { option: "force", change: "set", to: "replace them" },
      { option: "dataBytes", change: "set", to: "hash them too" },
    ],
  });
}

async function hashImage(
  reader: RandomReader,
  dataBytes: number,
  { salt, signal, progress = NO_PROGRESS, workerUrl }: FormatVerityOptions,
): Promise<HashTree> {
  const sink = new TreeSink({ dataBlocks: dataBlocksOf(dataBytes)!, salt, workerUrl });
  try {
    if (dataBytes === reader.sizeBytes) {
      // This skips holes.
      await readFileInto(reader.name, sink, { signal, progress, task: "verity" });
    } else {
      const task = progress.begin("verity", dataBytes);
      try {
        await copyReader(partReader(reader, 0, dataBytes), sink, { signal, task });
      } finally {
        task.end();
      }
      await sink.finish(dataBytes);
    }
    return sink.tree;
  } catch (error) {
    await sink.abort();
    throw error;
  }
}

/** Signals wait until the tree is complete: writing it takes a hundredth of the time of hashing. */
async function appendTree(path: string, tree: HashTree, dataBytes: number): Promise<void> {
  let descriptor: number;
  try {
    descriptor = openSync(path, "r+");
  } catch (cause) {
    throw ioErrorFrom(path, "cannot be opened for writing", cause);
  }
  const cutBack = () => {
    if (fstatSync(descriptor).isFile()) ftruncateSync(descriptor, dataBytes);
  };
  const file = new PositionedFile(path, descriptor);
  try {
    cutBack();
    const write = (bytes: Uint8Array, offset: number) => file.write(bytes, offset);
    await tree.writeLevelsTo({ write, finish: () => {}, abort: () => {} }, dataBytes);
    file.finish();
    file.write(tree.superblock, dataBytes);
    file.finish();
  } catch (cause) {
    try {
      cutBack();
    } catch {
      // Without a superblock, leftovers behind the data are not taken for a tree.
    }
    if (cause instanceof BlessfsError) throw cause;
    throw ioErrorFrom(path, "cannot take the hash tree", cause);
  } finally {
    closeSync(descriptor);
  }
}
