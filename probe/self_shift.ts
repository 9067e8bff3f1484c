/**
 * The control: how much of an image a store with a fixed grid finds again when the same bytes lie a little further on.
 *
 * @module
 */
import type { ImageSink } from "../lib/io/sink.ts";
import { CellCutter } from "./units/cutters.ts";
import type { ContentTable } from "./units/store.ts";

/** One shift. */
export interface SelfShift {
  /** How far the image was shifted. */
  readonly shiftBytes: number;
  /** Raw bytes of the shifted image's units. */
  readonly raw: number;
  /** Those of them in units that the image itself has. */
  readonly sharedRaw: number;
  /** The second over the first. */
  readonly shared: number;
}

const KIB = 1024;

/** Nothing, parts of a cell, one and two cells. */
export function shiftsOf(gridBytes: number): number[] {
  const shifts = [0, 4 * KIB, 8 * KIB, 64 * KIB, gridBytes, 2 * gridBytes];
  return [...new Set(shifts)].sort((a, b) => a - b);
}

/** Cuts shifted copies of an image whose own units are known. */
export class SelfShiftMeter {
  readonly #table: ContentTable;
  readonly #own: ReadonlySet<number>;
  readonly #gridBytes: number;
  readonly #results: { shiftBytes: number; raw: number; sharedRaw: number }[] = [];

  constructor(table: ContentTable, own: ReadonlySet<number>, gridBytes: number) {
    this.#table = table;
    this.#own = own;
    this.#gridBytes = gridBytes;
  }

  /** The sinks that the image's bytes go to, one a shift. */
  cutters(): ImageSink[] {
    return shiftsOf(this.#gridBytes).map((shiftBytes) => {
      const result = { shiftBytes, raw: 0, sharedRaw: 0 };
      this.#results.push(result);
      const seen = new Set<string>();
      return new CellCutter(this.#gridBytes, (cell, _cellIndex, rawBytes) => {
        const id = this.#table.idOfBytes(cell);
        if (seen.has(id)) return;
        seen.add(id);
        result.raw += rawBytes;
        const content = this.#table.find(id);
        if (content !== undefined && this.#own.has(content)) result.sharedRaw += rawBytes;
      }, shiftBytes);
    });
  }

  /** What the sinks found, by shift. */
  results(): SelfShift[] {
    return this.#results.map((result) => ({
      ...result,
      shared: result.raw === 0 ? 0 : result.sharedRaw / result.raw,
    }));
  }
}
