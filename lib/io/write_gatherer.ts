/**
 * Joins adjacent small writes into large ones: a 4 KiB write costs nearly as much as one of 1 MiB.
 *
 * @module
 */
import { invariant } from "../errors.ts";

/** The size of the pieces that are passed on. */
export const PIECE_BYTES = 1 << 20;

/** Collects ascending writes and passes them on in pieces of at most `pieceBytes`, with the gaps between them kept. */
export class WriteGatherer {
  readonly #emit: (bytes: Uint8Array, offset: number) => void;
  readonly #buffer: Uint8Array;
  #startOffset = 0;
  #filledBytes = 0;
  #endOffset = 0;

  /** @param emit gets bytes that are only valid until it returns */
  constructor(emit: (bytes: Uint8Array, offset: number) => void, pieceBytes = PIECE_BYTES) {
    this.#emit = emit;
    this.#buffer = new Uint8Array(pieceBytes);
  }

  /** The offset after the last byte that was written. */
  get endOffset(): number {
    return this.#endOffset;
  }

  write(bytes: Uint8Array, offset: number): void {
    invariant(offset >= this.#endOffset, `write at ${offset} after the end ${this.#endOffset}`);
    if (offset !== this.#endOffset) this.flush();
    if (this.#filledBytes === 0) this.#startOffset = offset;
    this.#endOffset = offset + bytes.length;
    let rest = bytes;
    while (rest.length > 0) {
      if (this.#filledBytes === 0 && rest.length >= this.#buffer.length) {
        const piece = rest.subarray(0, this.#buffer.length);
        this.#emit(piece, this.#startOffset);
        this.#startOffset += piece.length;
        rest = rest.subarray(piece.length);
        continue;
      }
      const piece = rest.subarray(0, this.#buffer.length - this.#filledBytes);
      this.#buffer.set(piece, this.#filledBytes);
      this.#filledBytes += piece.length;
      rest = rest.subarray(piece.length);
      if (this.#filledBytes === this.#buffer.length) this.flush();
    }
  }

  /** Passes on what is held back. */
  flush(): void {
    if (this.#filledBytes === 0) return;
    const piece = this.#buffer.subarray(0, this.#filledBytes);
    const offset = this.#startOffset;
    this.#startOffset += this.#filledBytes;
    this.#filledBytes = 0;
    this.#emit(piece, offset);
  }
}
