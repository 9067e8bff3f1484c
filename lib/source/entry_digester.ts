/**
 * What names a tree that comes without a digest of its own.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { throwIfAborted } from "../errors.ts";
import { Digester } from "../io/digest.ts";
import { dataSegments, readPayload } from "../model/payload.ts";
import { encodeTarEntry } from "../tar/writer.ts";
import type { TarItem } from "../tree/entries.ts";

const PIECE_BYTES = 1 << 20;
const YIELD_AFTER_BYTES = 16 * PIECE_BYTES;

/**
 * SHA-256 over the headers and the data of a tar of the entries, without what fills its blocks. Blocks of zeros are
 * holes there, so that the work follows the data and not the sizes: a disk image can be a hundred times as long as
 * what is in it, and no runtime can ask where the holes of a file are (SEEK_DATA).
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
    const segments = payload && dataSegments(payload);
    const index = payload && segments && { ...payload, segments };
    const { head, storedRanges } = encodeTarEntry({ ...entry, payload: index });
    this.#digester.update(head);
    if (payload === undefined) return;
    for (const { fileOffset, lengthBytes } of storedRanges) {
      for (let done = 0; done < lengthBytes; done += PIECE_BYTES) {
        const piece = this.#buffer.subarray(0, Math.min(PIECE_BYTES, lengthBytes - done));
        readPayload(payload, piece, fileOffset + done);
        this.#digester.update(piece);
        await this.#pause(piece.length);
      }
    }
  }

  /** Ends the computation: `sha256:...`. */
  digest(): string {
    return this.#digester.digest();
  }

  async #pause(bytes: number): Promise<void> {
    this.#sinceYieldBytes += bytes;
    if (this.#sinceYieldBytes < YIELD_AFTER_BYTES) return;
    this.#sinceYieldBytes = 0;
    await setImmediate();
    throwIfAborted(this.#signal);
  }
}
