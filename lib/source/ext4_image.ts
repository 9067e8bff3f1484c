/**
 * `ext4:FILE`: the tree of an ext4 image, as an image of one layer whose store is the file itself.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers/promises";
import { throwIfAborted } from "../errors.ts";
import { HASH_SEED } from "../ext4/format/htree.ts";
import { Digester, formatUuid } from "../bytes/digest.ts";
import { type Ext4Image, openExt4Image } from "../ext4/read/image.ts";
import { faultInImage } from "../ext4/volume/judge.ts";
import { readTree } from "../ext4/read/tree.ts";
import type { RandomReader } from "../io/random_reader.ts";
import {
  BLOCK_SIZE_BYTES,
  type Payload,
  type PayloadIndex,
  readPayload,
  wholeSegment,
} from "../model/node.ts";
import type { TarEntry } from "../tar/entry.ts";
import { encodeTarEntry } from "../tar/writer.ts";
import { type TarItem, treeItems } from "../tree/tar.ts";
import { rankPayloads } from "../tree/layer.ts";
import { openImageFile } from "./image_file.ts";
import type { SourceFile } from "./source_file.ts";
import { loadedTree } from "./tree_image.ts";
import type { LoadedLayer, OpenedImage, ResolvedOptions } from "./types.ts";

/**
 * Reads an image's whole tree, and its files' bytes once. Takes ownership of the file, even on failure.
 *
 * @throws InputError if the image is damaged or not supported
 */
export async function openExt4Source(
  source: string,
  file: SourceFile,
  options: ResolvedOptions,
  partition?: number,
): Promise<OpenedImage> {
  const { name } = file;
  const { reader } = await openImageFile(file, { partition }, options);
  try {
    return loadedTree({ source, kind: "ext4", name, layer: await loadImage(reader, options) });
  } catch (error) {
    reader.close();
    throw faultInImage(reader.name, error);
  }
}

async function loadImage(reader: RandomReader, options: ResolvedOptions): Promise<LoadedLayer> {
  const { warnings, signal, progress } = options;
  const image = openExt4Image(reader, { warnings });
  const { onUnreadable: onFault } = options;
  const faults = onFault === undefined ? {} : { onFault };
  const tree = await readTree(image, { warnings, scanContent: true, signal, ...faults });
  const isBlessed = isAsBlessed(image);
  // Blessing orders files by (first layer, path): their positions reveal the first layer.
  if (isBlessed) rankPayloads(tree, ({ payload }) => placeIn(payload, reader));
  const store = new ImageStore(reader);
  const entries: TarEntry[] = [];
  const digester = new EntryDigester(signal);
  const task = progress.begin(reader.name);
  try {
    for (const item of treeItems(tree, warnings)) {
      const { entry, payload } = item;
      await digester.add(item);
      task.advance(payload?.segments.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0) ?? 0);
      entries.push({
        ...entry,
        payload: payload && store.indexOf(payload),
        headerOffset: 0,
      });
    }
  } finally {
    task.end();
  }
  const digest = digester.digest();
  return {
    name: reader.name,
    digest,
    diffId: digest,
    mediaType: undefined,
    sizeBytes: reader.sizeBytes,
    uncompressedBytes: reader.sizeBytes,
    whiteouts: false,
    statedUuid: isBlessed ? formatUuid(image.superblock.uuid) : undefined,
    entries,
    store,
  };
}

/**
 * Whether the image was made by this program and not modified since. If so, its UUID identifies its content. A kernel
 * counts mounts and the kilobytes it writes; e2fsprogs, including debugfs and resize2fs, update the write time.
 */
function isAsBlessed({ superblock }: Ext4Image): boolean {
  return superblock.hashSeed.every((word, i) => word === HASH_SEED[i]) &&
    superblock.mountCount === 0 && superblock.kbytesWritten === 0 &&
    superblock.writeTime === superblock.mkfsTime;
}

/** Where a file begins in the image; undefined if it is stored in its inode. */
function placeIn({ store, segments }: Payload, image: RandomReader): number | undefined {
  return store === image ? segments[0]?.storeOffset : undefined;
}

/** The image's bytes, followed by those of files stored in their inodes. */
class ImageStore implements RandomReader {
  readonly #image: RandomReader;
  readonly #inline: { readonly offset: number; readonly payload: Payload }[] = [];
  #sizeBytes: number;

  constructor(image: RandomReader) {
    this.#image = image;
    this.#sizeBytes = image.sizeBytes;
  }

  get name(): string {
    return this.#image.name;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Converts a payload of the image to one of this store. */
  indexOf(payload: Payload): PayloadIndex {
    const { sizeBytes, dataRuns, contentHash } = payload;
    if (payload.store === this.#image || payload.segments.length === 0) {
      return { sizeBytes, segments: payload.segments, dataRuns, contentHash };
    }
    const offset = this.#sizeBytes;
    this.#inline.push({ offset, payload });
    this.#sizeBytes += sizeBytes;
    const segments = payload.segments.map((segment) => ({
      ...segment,
      storeOffset: offset + segment.storeOffset,
    }));
    return { sizeBytes, segments, dataRuns, contentHash };
  }

  readAt(target: Uint8Array, position: number): number {
    if (position < this.#image.sizeBytes) return this.#image.readAt(target, position);
    let [low, high] = [0, this.#inline.length];
    while (low + 1 < high) {
      const middle = (low + high) >>> 1;
      if (this.#inline[middle]!.offset <= position) low = middle;
      else high = middle;
    }
    const found = this.#inline[low];
    return found === undefined ? 0 : found.payload.store.readAt(target, position - found.offset);
  }

  close(): void {
    this.#image.close();
  }
}

const PIECE_BYTES = 1 << 20;
const YIELD_AFTER_BYTES = 16 * PIECE_BYTES;

/**
 * SHA-256 over the tar headers of the entries, each followed by the number of the file's data runs, and each run's first
 * block, length in blocks and bytes. Blocks of zeros are in no run, so the work is proportional to the data and not the
 * sizes: a disk image can be a hundred times as long as its content, and no runtime can find the holes of a file
 * (SEEK_DATA).
 */
export class EntryDigester {
  readonly #digester = new Digester("sha256");
  readonly #buffer = new Uint8Array(PIECE_BYTES);
  readonly #signal: AbortSignal | undefined;
  #sinceYieldBytes = 0;

  /** @param signal stops the work */
  constructor(signal: AbortSignal | undefined) {
    this.#signal = signal;
  }

  /** Adds the next entry and reads its bytes. Its data runs must be known. */
  async add({ entry, payload }: TarItem): Promise<void> {
    // A header contains the file's length. A map of its holes, which may number millions, would be built in memory.
    const dense = payload && { ...payload, segments: wholeSegment(payload.sizeBytes) };
    this.#digester.update(encodeTarEntry({ ...entry, payload: dense }).head);
    if (payload === undefined) return;
    this.#addLine(`${payload.dataRuns.length}`);
    for (const { startBlock, blockCount } of payload.dataRuns) {
      this.#addLine(`${startBlock} ${blockCount}`);
      const start = startBlock * BLOCK_SIZE_BYTES;
      const end = Math.min(start + blockCount * BLOCK_SIZE_BYTES, payload.sizeBytes);
      for (let at = start; at < end; at += PIECE_BYTES) {
        const piece = this.#buffer.subarray(0, Math.min(PIECE_BYTES, end - at));
        readPayload(payload, piece, at);
        this.#digester.update(piece);
        this.#sinceYieldBytes += piece.length;
        if (this.#sinceYieldBytes >= YIELD_AFTER_BYTES) await this.#pause();
      }
    }
  }

  /** Finishes the computation: `sha256:...`. */
  digest(): string {
    return this.#digester.digest();
  }

  #addLine(text: string): void {
    this.#digester.update(Buffer.from(`${text}\n`, "latin1"));
  }

  async #pause(): Promise<void> {
    this.#sinceYieldBytes = 0;
    await setImmediate();
    throwIfAborted(this.#signal);
  }
}
