/**
 * What names a tree that comes without a digest of its own.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers/promises";
import { throwIfAborted } from "../errors.ts";
import { Digester } from "../io/digest.ts";
import { BLOCK_SIZE_BYTES, readPayload, wholeSegment } from "../model/payload.ts";
import { encodeTarEntry } from "../tar/writer.ts";
import type { TarItem } from "../tree/entries.ts";

const PIECE_BYTES = 1 << 20;
const YIELD_AFTER_BYTES = 16 * PIECE_BYTES;

/**
 * SHA-256 over the headers of a tar of the entries, each followed by how many runs of data a file has, and by each run's
 * first block, its length in blocks and its bytes. Blocks of zeros are in no run, so that the work follows the data and
 * not the sizes: a disk image can be a hundred times as long as what is in it, and no runtime can ask where the holes
 * of a file are (SEEK_DATA).
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

  /** Takes the next entry, and reads its bytes. Their data runs must be known. */
  async add({ entry, payload }: TarItem): Promise<void> {
    // A header says how long a file is. A map of its holes, which may be millions, would be made in memory.
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

  /** Ends the computation: `sha256:...`. */
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
