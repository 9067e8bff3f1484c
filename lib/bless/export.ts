/**
 * Writes a source as one tar: an ext4 image, or any other source with its layers applied.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import type { ByteString } from "../bytes/byte_string.ts";
import { formatUuid } from "../bytes/uuid.ts";
import { throwIfAborted } from "../errors.ts";
import type { ImageSink } from "../io/sink.ts";
import {
  BLOCK_SIZE_BYTES,
  type Payload,
  type PayloadIndex,
  readPayload,
  wholeSegment,
} from "../model/payload.ts";
import type { Progress } from "../progress.ts";
import type { SourceOptions } from "../source/source.ts";
import { uuidComment } from "../tar/pax.ts";
import { type EncodedTarEntry, encodeTarEntry, END_OF_ARCHIVE_SIZE_BYTES } from "../tar/writer.ts";
import { layerItems, type TarItem, treeItems } from "../tree/entries.ts";
import { rankPayloads } from "../tree/first_layers.ts";
import { WHITEOUT_PREFIX } from "../tree/whiteouts.ts";
import type { WarningSummary } from "../warnings.ts";
import { withTree } from "./load_tree.ts";
import { deriveUuid } from "./plan_image.ts";

/** What to export, and where to. */
export interface ExportOptions extends SourceOptions {
  /** As on the command line: an ext4 image, or any other source. */
  readonly source: string;
  /** Receives the tar; it is finished on success and aborted otherwise. */
  readonly sink: ImageSink;
  /** Treat the tree as a layer for overlayfs: its whiteout devices and opaque attributes become OCI markers. */
  readonly layer?: boolean | undefined;
  /** Unix time for everything that the source gives no time for; default 0. */
  readonly timestamp?: number | undefined;
}

/** Entries of a tar, by kind. */
export interface TarCounts {
  /** Regular files, each under its first name. */
  files: number;
  /** Directories, the root included. */
  directories: number;
  /** Symbolic links. */
  symlinks: number;
  /** Devices and fifos. */
  specialFiles: number;
  /** Hard links to earlier entries. */
  hardLinks: number;
  /** Whiteouts and opaque markers. */
  whiteouts: number;
}

/** What was written. */
export interface ExportReport extends Readonly<TarCounts> {
  /** As it was given. */
  readonly source: string;
  /** The UUID of an image that is blessed from the tar. */
  readonly uuid: string;
  /** Of the tar. */
  readonly sizeBytes: number;
  /** What was left out or changed. */
  readonly warnings: readonly WarningSummary[];
}

/** In a layer, up to this many bytes of holes a file are written as zeros. */
export const LAYER_HOLE_BYTES_MAX = 64 << 20;

/**
 * Exports a source. The tar depends on the source alone, and blessing it with the same options gives the same bytes as
 * blessing the source. To that end it states the UUID, and the payload order of files that are not in path order.
 *
 * Throws what blessMerged() throws, after aborting the sink.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
 * import { tmpdir } from "node:os";
 * import { join } from "node:path";
 * import { createFileSink } from "../io/file_sink.ts";
 * import { NO_PROGRESS } from "../progress.ts";
 * import { Warnings } from "../warnings.ts";
 * import { exportTar } from "./export.ts";
 * const directory = mkdtempSync(join(tmpdir(), "export-"));
 * writeFileSync(join(directory, "empty.tar"), new Uint8Array(1024));
 * const { directories, sizeBytes } = await exportTar({
 *   source: `tar:${join(directory, "empty.tar")}`,
 *   sink: createFileSink(join(directory, "out.tar")),
 *   progress: NO_PROGRESS,
 *   warnings: new Warnings(),
 * });
 * assertEquals(directories, 1);
 * assertEquals(readFileSync(join(directory, "out.tar")).length, sizeBytes);
 * rmSync(directory, { recursive: true });
 * ```
 */
export async function exportTar(options: ExportOptions): Promise<ExportReport> {
  const { source, sink, layer = false, warnings } = options;
  try {
    return await withTree(source, options, async ({ tree, identity }) => {
      const uuid = formatUuid(deriveUuid(identity));
      const counts = noCounts();
      rankPayloads(tree, ({ firstLayer = 0 }) => firstLayer);
      const items = layer ? layerItems(tree, warnings) : treeItems(tree, warnings);
      const sizeBytes = await writeTar(counted(items, counts, layer), sink, {
        comment: uuidComment(uuid),
        denseHoleBytesMax: layer ? LAYER_HOLE_BYTES_MAX : 0,
        signal: options.signal,
        progress: options.progress,
      });
      return { source, uuid, sizeBytes, ...counts, warnings: warnings.list() };
    });
  } catch (error) {
    await sink.abort();
    throw error;
  }
}

/** Counts that start at zero. */
export function noCounts(): TarCounts {
  return { files: 0, directories: 0, symlinks: 0, specialFiles: 0, hardLinks: 0, whiteouts: 0 };
}

/** Counts entries while passing them on. In a layer, `.wh.` names are whiteouts. */
export function* counted(
  items: Iterable<TarItem>,
  counts: TarCounts,
  isLayer: boolean,
): Generator<TarItem> {
  for (const item of items) {
    const { kind, path } = item.entry;
    const name = path.slice(path.lastIndexOf("/") + 1);
    if (isLayer && name.startsWith(WHITEOUT_PREFIX)) counts.whiteouts++;
    else if (kind === "file") counts.files++;
    else if (kind === "directory") counts.directories++;
    else if (kind === "symlink") counts.symlinks++;
    else if (kind === "hardlink") counts.hardLinks++;
    else counts.specialFiles++;
    yield item;
  }
}

/** How a tar is written. */
export interface WriteTarOptions {
  /** A comment on the whole tar, stored with its first entry. */
  readonly comment?: ByteString | undefined;
  /**
   * Files with more bytes of holes than this are written sparse, others with zeros. Layers should not have sparse files
   * (OCI image-spec, layer.md), but a hole of a terabyte must not be written out.
   */
  readonly denseHoleBytesMax: number;
  readonly signal?: AbortSignal | undefined;
  readonly progress: Progress;
}

const PIECE_BYTES = 1 << 20;
const YIELD_AFTER_BYTES = 8 << 20;

/**
 * Writes a whole tar and finishes the sink.
 *
 * @returns the length of the tar in bytes
 * @throws InputError when a payload cannot be read
 */
export async function writeTar(
  items: Iterable<TarItem>,
  sink: ImageSink,
  options: WriteTarOptions,
): Promise<number> {
  const writer = new TarWriter(sink, options);
  try {
    for (const item of items) await writer.add(item);
    return await writer.finish();
  } finally {
    writer.end();
  }
}

class TarWriter {
  readonly #sink: ImageSink;
  readonly #options: WriteTarOptions;
  readonly #bar;
  readonly #buffer = new Uint8Array(PIECE_BYTES);
  #offset = 0;
  #sinceYieldBytes = 0;

  constructor(sink: ImageSink, options: WriteTarOptions) {
    this.#sink = sink;
    this.#options = options;
    this.#bar = options.progress.begin("tar");
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.#sink.write(bytes, this.#offset);
    this.#offset += bytes.length;
    this.#bar.advance(bytes.length);
    this.#sinceYieldBytes += bytes.length;
    if (this.#sinceYieldBytes < YIELD_AFTER_BYTES) return;
    this.#sinceYieldBytes = 0;
    await setImmediate();
    throwIfAborted(this.#options.signal);
  }

  async add({ entry, payload }: TarItem): Promise<void> {
    const comment = this.#offset === 0 ? this.#options.comment : undefined;
    if (payload === undefined) return await this.write(encodeTarEntry(entry, comment).head);
    const index = this.#indexOf(payload);
    const encoded = encodeTarEntry({ ...entry, payload: index }, comment);
    await this.write(encoded.head);
    await this.#copy(payload, encoded);
    if (encoded.paddingSizeBytes > 0) await this.write(new Uint8Array(encoded.paddingSizeBytes));
  }

  async finish(): Promise<number> {
    await this.write(new Uint8Array(END_OF_ARCHIVE_SIZE_BYTES));
    throwIfAborted(this.#options.signal);
    await this.#sink.finish(this.#offset);
    return this.#offset;
  }

  end(): void {
    this.#bar.end();
  }

  #indexOf(payload: Payload): PayloadIndex {
    const { sizeBytes, dataRuns } = payload;
    // Blocks of zeros are holes whatever the source had there, so that equal content gives equal tars.
    const data = dataRuns.map(({ startBlock, blockCount }) => {
      const fileOffset = startBlock * BLOCK_SIZE_BYTES;
      const end = Math.min(fileOffset + blockCount * BLOCK_SIZE_BYTES, sizeBytes);
      return { fileOffset, storeOffset: 0, lengthBytes: end - fileOffset };
    });
    const stored = data.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    const isDense = sizeBytes - stored <= this.#options.denseHoleBytesMax;
    const segments = isDense ? wholeSegment(sizeBytes) : data;
    return { sizeBytes, segments, dataRuns, contentHash: 0 };
  }

  async #copy(payload: Payload, { storedRanges }: EncodedTarEntry): Promise<void> {
    for (const { fileOffset, lengthBytes } of storedRanges) {
      for (let done = 0; done < lengthBytes; done += PIECE_BYTES) {
        const piece = this.#buffer.subarray(0, Math.min(PIECE_BYTES, lengthBytes - done));
        readPayload(payload, piece, fileOffset + done);
        await this.write(piece);
      }
    }
  }
}
