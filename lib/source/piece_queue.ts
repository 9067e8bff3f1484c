/**
 * Pieces of a stream on their way into a worker.
 *
 * @module
 */

/** Pieces that were sent and not read yet, in order. */
export class PieceQueue implements AsyncIterable<Uint8Array> {
  readonly #pieces: Uint8Array[] = [];
  readonly #taken: (piece: Uint8Array) => void;
  #ended = false;
  #wake: (() => void) | undefined;

  /** @param taken is told when the reader is done with a piece */
  constructor(taken: (piece: Uint8Array) => void) {
    this.#taken = taken;
  }

  add(piece: Uint8Array): void {
    this.#pieces.push(piece);
    this.#wake?.();
  }

  /** Says that no more pieces will come. */
  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      const piece = this.#pieces.shift();
      if (piece) {
        yield piece;
        this.#taken(piece);
      } else if (this.#ended) return;
      else await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }
}
