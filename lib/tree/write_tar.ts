/**
 * Writes the entries of a tree or a layer as a tar.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import type { ByteString } from "../bytes/byte_string.ts";
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
import { type EncodedTarEntry, encodeTarEntry, END_OF_ARCHIVE_SIZE_BYTES } from "../tar/writer.ts";
import type { TarItem } from "./entries.ts";

/** In a layer, up to this many bytes of holes a file are written as zeros. */
export const LAYER_HOLE_BYTES_MAX = 64 << 20;

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
