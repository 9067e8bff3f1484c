/**
 * Cuts an image into the cells of a fixed grid while it goes by.
 *
 * @module
 */
import { invariant } from "../../lib/errors.ts";
import { alignDown } from "../../lib/bytes/arithmetic.ts";
import type { ImageSink } from "../../lib/io/sink.ts";
import { countNonZeroBytes } from "./zero_blocks.ts";

/** Takes a cell that is not all zeros, with the bytes in it that lie in no zero block. The bytes are only lent. */
export type CellReceiver = (cell: Uint8Array, cellIndex: number, rawBytes: number) => void;

/** A sink that keeps one cell. */
export class CellCutter implements ImageSink {
  readonly #cellBytes: number;
  readonly #receive: CellReceiver;
  readonly #shiftBytes: number;
  readonly #cell: Uint8Array;
  /** The cell that is being filled; its bytes up to `filled` are set. */
  #cellIndex = 0;
  #filled = 0;

  /** @param shiftBytes zeros in front of the image, which move it on the grid */
  constructor(cellBytes: number, receive: CellReceiver, shiftBytes = 0) {
    this.#cellBytes = cellBytes;
    this.#receive = receive;
    this.#shiftBytes = shiftBytes;
    this.#cell = new Uint8Array(cellBytes);
  }

  write(bytes: Uint8Array, offset: number): void {
    const cellBytes = this.#cellBytes;
    let at = offset + this.#shiftBytes;
    invariant(at >= this.#cellIndex * cellBytes + this.#filled, "writes ascend");
    for (let done = 0; done < bytes.length;) {
      const start = alignDown(at, cellBytes);
      if (start !== this.#cellIndex * cellBytes) this.#nextCell(start / cellBytes);
      const count = Math.min(bytes.length - done, start + cellBytes - at);
      const part = bytes.subarray(done, done + count);
      if (count === cellBytes) this.#emit(part);
      else this.#fill(part, at - start);
      done += count;
      at += count;
    }
  }

  /** The last cell may be shorter than the others. */
  finish(sizeBytes: number): void {
    const end = sizeBytes + this.#shiftBytes;
    const start = this.#cellIndex * this.#cellBytes;
    invariant(end >= start + this.#filled, "an image ends behind its last byte");
    if (this.#filled > 0) this.#flush(Math.min(this.#cellBytes, end - start));
  }

  abort(): void {
    this.#filled = 0;
  }

  #fill(part: Uint8Array, inset: number): void {
    this.#cell.fill(0, this.#filled, inset);
    this.#cell.set(part, inset);
    this.#filled = inset + part.length;
  }

  #nextCell(cellIndex: number): void {
    if (this.#filled > 0) this.#flush(this.#cellBytes);
    this.#cellIndex = cellIndex;
  }

  #flush(sizeBytes: number): void {
    this.#cell.fill(0, this.#filled, sizeBytes);
    this.#filled = 0;
    this.#emit(this.#cell.subarray(0, sizeBytes));
  }

  #emit(cell: Uint8Array): void {
    const rawBytes = countNonZeroBytes(cell);
    if (rawBytes > 0) this.#receive(cell, this.#cellIndex, rawBytes);
  }
}
