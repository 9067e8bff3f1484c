/**
 * Joins adjacent small writes into large ones, and has one of them on its way while the next is put together: a 4 KiB
 * write costs nearly as much as one of 1 MiB, and the kernel needs no help to copy.
 *
 * @module
 */
import { invariant } from "../errors.ts";

/** The size of the pieces that are passed on. */
export const PIECE_BYTES = 1 << 20;

/** Collects ascending writes and passes them on in pieces of at most `pieceBytes`, with the gaps between them kept. */
export class WriteGatherer {
  readonly #emit: (bytes: Uint8Array, offset: number) => void | Promise<void>;
  #buffer: Uint8Array;
  /** Of the same size. It is filled again once `#onItsWay` is done. */
  #otherBuffer: Uint8Array;
  #onItsWay: Promise<void> | undefined;
  #startOffset = 0;
  #filledBytes = 0;
  #endOffset = 0;

  /** @param emit gets bytes that are only valid until it is done; it is called when the call before is done */
  constructor(
    emit: (bytes: Uint8Array, offset: number) => void | Promise<void>,
    pieceBytes = PIECE_BYTES,
  ) {
    this.#emit = emit;
    this.#buffer = new Uint8Array(pieceBytes);
    this.#otherBuffer = new Uint8Array(pieceBytes);
  }

  /** The offset after the last byte that was written. */
  get endOffset(): number {
    return this.#endOffset;
  }

  /** What `emit` throws comes out of this or a later call, or out of `flush`. The bytes may be used again once it is done. */
  write(bytes: Uint8Array, offset: number): void | Promise<void> {
    if (offset < this.#endOffset) {
      invariant(false, `write at ${offset} after the end ${this.#endOffset}`);
    }
    const isAdjacent = offset === this.#endOffset;
    if (isAdjacent && bytes.length < this.#buffer.length - this.#filledBytes) {
      return this.#append(bytes);
    }
    return this.#writeSlowly(bytes, offset);
  }

  /** Passes on what is held back, and waits for it. */
  async flush(): Promise<void> {
    await this.#passOn();
    await this.#onItsWay;
  }

  async #writeSlowly(bytes: Uint8Array, offset: number): Promise<void> {
    if (offset !== this.#endOffset) {
      if (this.#filledBytes > 0) await this.#passOn();
      this.#startOffset = this.#endOffset = offset;
    }
    for (let at = 0; at < bytes.length;) {
      const count = Math.min(bytes.length - at, this.#buffer.length - this.#filledBytes);
      this.#append(bytes.subarray(at, at + count));
      at += count;
      if (this.#filledBytes === this.#buffer.length) await this.#passOn();
    }
  }

  #append(bytes: Uint8Array): void {
    this.#buffer.set(bytes, this.#filledBytes);
    this.#filledBytes += bytes.length;
    this.#endOffset += bytes.length;
  }

  async #passOn(): Promise<void> {
    await this.#onItsWay;
    const piece = this.#buffer.subarray(0, this.#filledBytes);
    const offset = this.#startOffset;
    this.#startOffset = this.#endOffset;
    this.#filledBytes = 0;
    if (piece.length === 0) return;
    this.#onItsWay = this.#emit(piece, offset) ?? undefined;
    if (this.#onItsWay === undefined) return;
    // Whoever waits for it next is told of its failure.
    this.#onItsWay.catch(() => {});
    [this.#buffer, this.#otherBuffer] = [this.#otherBuffer, this.#buffer];
  }
}
