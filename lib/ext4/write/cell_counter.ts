/**
 * Counts the cells of the grid that hold a byte that is not zero: what a block store keeps of an image.
 *
 * @module
 */

/** Counts cells while bytes go by in ascending order. */
export class CellCounter {
  readonly #cellBytes: number;
  #count = 0;
  #lastCell = -1;

  constructor(cellBytes: number) {
    this.#cellBytes = cellBytes;
  }

  /** Cells counted so far, in bytes. */
  get storedBytes(): number {
    return this.#count * this.#cellBytes;
  }

  /** Counts the cells that `bytes` at `offset` put something into. */
  add(bytes: Uint8Array, offset: number): void {
    const cellBytes = this.#cellBytes;
    const end = offset + bytes.length;
    for (let at = offset; at < end;) {
      const cell = Math.floor(at / cellBytes);
      const cellEnd = Math.min((cell + 1) * cellBytes, end);
      if (cell !== this.#lastCell && hasNonZero(bytes, at - offset, cellEnd - offset)) {
        this.#lastCell = cell;
        this.#count++;
      }
      at = cellEnd;
    }
  }
}

function hasNonZero(bytes: Uint8Array, start: number, end: number): boolean {
  for (let i = start; i < end; i++) if (bytes[i] !== 0) return true;
  return false;
}
