/**
 * What inodes contain: their map of blocks, the targets of symlinks, and files as payloads of the model, whose bytes stay
 * in the image, which is the store.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { type ByteString, byteStringFromBytes } from "../../bytes/byte_string.ts";
import { InputError, throwIfAborted } from "../../errors.ts";
import { memoryReader, type RandomReader } from "../../io/random_reader.ts";
import {
  type BlockRun,
  type DataSegment,
  type Payload,
  readPayload,
  wholeSegment,
} from "../../model/payload.ts";
import { type PayloadScan, PayloadScanner } from "../../tar/payload.ts";
import { INCOMPAT, INODE_FLAG } from "../format/constants.ts";
import { INODE_BLOCK_FIELD_SIZE_BYTES } from "../format/inode.ts";
import { noKeyName } from "../format/htree.ts";
import { type BlockMap, type MapBlock, type MappedRun, readBlockMap } from "../volume/block_map.ts";
import {
  type InlineData,
  judgeSymlinkSize,
  judgeTarget,
  readInlineData,
  readInodeXattrs,
  readSymlinkBlock,
} from "../volume/content.ts";
import {
  type InodeView,
  judgeSize,
  reportInode,
  SECTOR_SIZE_BYTES,
  xattrBlockOf,
} from "../volume/inode.ts";
import {
  type BlockBudget,
  DEFAULT_READ_LIMITS,
  type Ext4Image,
  hasFlag,
  hasInlineData,
  type ImageInode,
} from "./image.ts";

export type { MapBlock, MappedRun } from "../volume/block_map.ts";

/** The longest path that the kernel follows, without its NUL. */
const TARGET_BYTES_MAX = 4095;

/** How a map is followed. */
export interface BlockMapOptions {
  /** Called for each block of the map, before what it maps. */
  readonly onMapBlock?: ((block: MapBlock) => void) | undefined;
}

/**
 * What an inode maps, in the order of its logical blocks. Each block of the map is checked before it is believed; runs
 * are within the file system and never more, with the blocks of the map, than it has. An inode with inline data maps
 * nothing, and so do devices, fifos, sockets and short symlinks: do not ask for them.
 *
 * @throws {InputError} for a map that is damaged
 */
export function blockRuns(
  image: Ext4Image,
  inode: ImageInode,
  options: BlockMapOptions = {},
): readonly MappedRun[] {
  if (hasInlineData(inode)) return [];
  return readBlockMap(image, inode.view, options).runs;
}

/** What an inode keeps in itself. Throws InputError when the attribute with the rest is not there. */
export function inlineData(image: Ext4Image, inode: ImageInode): InlineData {
  return readInlineData(image, inode.view, readInodeXattrs(image, inode.view));
}

/**
 * A symlink's target. One in i_block is as long as its size says; of any other the kernel takes what is before the first
 * NUL, as far as size and block go. Of an encrypted one it shows a name without the key.
 *
 * @throws {InputError} for what the kernel refuses, and a target without a byte, or with over 4095
 */
export function readSymlink(image: Ext4Image, inode: ImageInode): ByteString {
  const { view } = inode;
  const isEncrypted = hasFlag(inode, INODE_FLAG.ENCRYPT);
  const isFast = !hasInlineData(inode) && isShortForKernel(image, view);
  if (isFast && !isEncrypted) judgeFastSymlink(image, view);
  const bytes = hasInlineData(inode)
    ? inlineData(image, inode).bytes
    : isFast
    ? view.blockField
    : slowTarget(image, inode);
  if (isEncrypted) return encryptedTarget(inode, bytes);
  if (!isFast) {
    const severity = hasInlineData(inode) ? { severity: "note" as const } : {};
    judgeTarget(image, view, bytes, { isReadable: true, ...severity });
  }
  const most = isFast || hasInlineData(inode) ? bytes.length : image.blockSizeBytes - 1;
  const end = bytes.indexOf(0);
  const sizeBytes = Math.min(view.sizeBytes, most, end < 0 ? Infinity : end);
  if (sizeBytes === 0 || sizeBytes > TARGET_BYTES_MAX) {
    const why = `the target of the symlink has ${sizeBytes} bytes, not 1 to ${TARGET_BYTES_MAX}`;
    throw new InputError(inode.what, why);
  }
  return byteStringFromBytes(bytes, 0, sizeBytes);
}

/** ext4_inode_is_fast_symlink(): before ea_inode there were attributes that count no blocks, so blocks decide. */
function isShortForKernel(image: Ext4Image, view: InodeView): boolean {
  if (image.hasIncompat(INCOMPAT.EA_INODE)) {
    return view.sizeBytes > 0 && view.sizeBytes < INODE_BLOCK_FIELD_SIZE_BYTES;
  }
  const clusterSectors = image.geometry.clusterBlocks * image.blockSizeBytes / SECTOR_SIZE_BYTES;
  return view.sectorCount === (xattrBlockOf(image, view) === 0 ? 0 : clusterSectors);
}

/** The kernel refuses a target in i_block that does not end where the size says. */
function judgeFastSymlink(image: Ext4Image, view: InodeView): void {
  const end = view.blockField.indexOf(0);
  const found = view.sizeBytes;
  if (found > 0 && found < INODE_BLOCK_FIELD_SIZE_BYTES && found === end) return;
  const wanted = end > 0 ? end : `1 to ${INODE_BLOCK_FIELD_SIZE_BYTES - 1}`;
  reportInode(image, view, "i_size of a symlink", { found, wanted });
}

/** The first block of a symlink; more of them are not looked at. */
function slowTarget(image: Ext4Image, inode: ImageInode): Uint8Array {
  const { view } = inode;
  judgeSymlinkSize(image, view, { isReadable: true });
  const { runs } = readBlockMap(image, view, { endBlock: 1 });
  const bytes = readSymlinkBlock(image, view, runs, { isReadable: true });
  if (bytes !== undefined) return bytes;
  throw new InputError(inode.what, "the target of the symlink is a hole");
}

/** struct fscrypt_symlink_data: a length of 16 bits, and the ciphertext. */
function encryptedTarget(inode: ImageInode, bytes: Uint8Array): ByteString {
  const length = bytes[0]! + 256 * bytes[1]!;
  if (length === 0 || 2 + length > bytes.length) {
    throw new InputError(inode.what, `its encrypted target has ${length} bytes`);
  }
  return noKeyName(byteStringFromBytes(bytes, 2, 2 + length), { hash: 0, minor: 0 });
}

/** Bounds that several files share. */
export interface PayloadBounds {
  /** Counts the blocks of all files. */
  readonly budget?: BlockBudget | undefined;
  /** Most runs of data; 4,194,304 by default. */
  readonly maxSegmentCount?: number | undefined;
}

const PIECE_BYTES = 1024 * 1024;
/** Signals are seen between pieces of about this many bytes. */
const YIELD_AFTER_BYTES = 16 * PIECE_BYTES;

/**
 * A file's payload. What is written of it are its segments; what was allocated only is a hole. `dataRuns` and
 * `contentHash` need the bytes: they are read when first asked for, or by `scan()`, a piece at a time.
 */
export class ImagePayload implements Payload {
  readonly sizeBytes: number;
  readonly segments: readonly DataSegment[];
  readonly store: RandomReader;
  #scan: PayloadScan | undefined;

  /** The segments point into the store. */
  constructor(sizeBytes: number, segments: readonly DataSegment[], store: RandomReader) {
    this.sizeBytes = sizeBytes;
    this.segments = segments;
    this.store = store;
  }

  get dataRuns(): readonly BlockRun[] {
    return this.#scanned().dataRuns;
  }

  get contentHash(): number {
    return this.#scanned().contentHash;
  }

  /** Reads the bytes now, and can be stopped in the middle of a large file. Does nothing the second time. */
  async scan(signal?: AbortSignal): Promise<void> {
    if (this.#scan !== undefined) return;
    const scanner = new PayloadScanner();
    let sinceYield = 0;
    for (const pieceBytes of scanPieces(this, scanner)) {
      sinceYield += pieceBytes;
      if (sinceYield < YIELD_AFTER_BYTES) continue;
      sinceYield = 0;
      await setImmediate();
      throwIfAborted(signal);
    }
    this.#scan = scanner.finish();
  }

  #scanned(): PayloadScan {
    if (this.#scan === undefined) {
      const scanner = new PayloadScanner();
      for (const _ of scanPieces(this, scanner));
      this.#scan = scanner.finish();
    }
    return this.#scan;
  }
}

/**
 * The payload of a regular file.
 *
 * @throws {InputError} for a file that is encrypted, or whose map is damaged
 */
export function filePayload(
  image: Ext4Image,
  inode: ImageInode,
  bounds: PayloadBounds = {},
): ImagePayload {
  if (inode.kind !== "file") throw new InputError(inode.what, `it is a ${inode.kind}`);
  if (hasFlag(inode, INODE_FLAG.ENCRYPT)) {
    throw new InputError(inode.what, "the file is encrypted, and that is not supported", {
      code: "unsupported",
    });
  }
  const { sizeBytes } = inode.view;
  if (!hasInlineData(inode)) {
    const endBlock = Math.ceil(sizeBytes / image.blockSizeBytes);
    const map = readBlockMap(image, inode.view, { endBlock });
    judgeSize(image, inode.view, map);
    const segments = fileSegments(image, inode, map, bounds);
    return new ImagePayload(sizeBytes, segments, image.reader);
  }
  const { bytes, isHole } = inlineData(image, inode);
  if (isHole) return new ImagePayload(sizeBytes, [], image.reader);
  // What the size says is behind the bytes reads as zeros.
  const storedBytes = Math.min(sizeBytes, bytes.length);
  const store = memoryReader(bytes.slice(0, storedBytes), image.name);
  return new ImagePayload(sizeBytes, wholeSegment(storedBytes), store);
}

function fileSegments(
  image: Ext4Image,
  inode: ImageInode,
  map: BlockMap,
  bounds: PayloadBounds,
): DataSegment[] {
  const { blockSizeBytes } = image;
  const { sizeBytes } = inode.view;
  const maxSegmentCount = bounds.maxSegmentCount ?? DEFAULT_READ_LIMITS.maxSegmentCount;
  const segments: { fileOffset: number; storeOffset: number; lengthBytes: number }[] = [];
  bounds.budget?.add(map.blockCount, inode.what);
  for (const { logicalBlock, blockCount, startBlock, unwritten } of map.runs) {
    if (unwritten) continue;
    const fileOffset = logicalBlock * blockSizeBytes;
    const endOffset = fileOffset + blockCount * blockSizeBytes;
    const lengthBytes = Math.min(endOffset, sizeBytes) - fileOffset;
    if (lengthBytes <= 0) continue;
    const storeOffset = startBlock * blockSizeBytes;
    const last = segments.at(-1);
    const follows = last !== undefined && last.fileOffset + last.lengthBytes === fileOffset &&
      last.storeOffset + last.lengthBytes === storeOffset;
    if (follows) last.lengthBytes += lengthBytes;
    else segments.push({ fileOffset, storeOffset, lengthBytes });
    if (segments.length > maxSegmentCount) {
      throw new InputError(inode.what, `it has more than ${maxSegmentCount} runs of data`);
    }
  }
  return segments.slice(); // with no more room than it needs
}

/** Feeds the bytes of all segments to a scanner; gives the length of each piece. */
function* scanPieces(payload: Payload, scanner: PayloadScanner): Generator<number> {
  const longest = payload.segments.reduce(
    (most, { lengthBytes }) => Math.max(most, lengthBytes),
    0,
  );
  const buffer = new Uint8Array(Math.min(PIECE_BYTES, longest));
  for (const { fileOffset, lengthBytes } of payload.segments) {
    for (let done = 0; done < lengthBytes; done += PIECE_BYTES) {
      const piece = buffer.subarray(0, Math.min(PIECE_BYTES, lengthBytes - done));
      readPayload(payload, piece, fileOffset + done);
      scanner.push(fileOffset + done, piece, 0, piece.length);
      yield piece.length;
    }
  }
}
