/**
 * Cuts a planned image into the cells of a fixed grid. A cell made of the same blocks of the same files as an earlier
 * one, in any image and layout, is recognised from the plan without reading it.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { invariant, throwIfAborted } from "../../lib/errors.ts";
import type { ImagePlan, PayloadWrite } from "../../lib/ext4/plan/image_plan.ts";
import { BLOCK_SIZE_BYTES, type Payload, readPayload } from "../../lib/model/node.ts";
import type { Progress } from "../../lib/progress.ts";
import { pause, type StoredSizes } from "./stored_sizes.ts";
import { countNonZeroBytes } from "./cutters.ts";

/** A cell that is not all zeros: the number of its content, and its bytes outside zero blocks. */
export interface KnownCell {
  readonly content: number;
  readonly rawBytes: number;
}

/** Called for each cell that is not all zeros, in ascending order. */
export type KnownCellReceiver = (cell: KnownCell, cellIndex: number) => void;

/** Cells by their composition. Memory grows with the number of different cells. */
export class CellCompositions {
  readonly #cells = new Map<string, KnownCell | undefined>();

  /** The cell with that composition. `make` is called once to compute it, and returns undefined for all zeros. */
  cellOf(composition: string, make: () => KnownCell | undefined): KnownCell | undefined {
    const key = composition.length <= KEY_LENGTH_MOST ? composition : shortKey(composition);
    if (this.#cells.has(key)) return this.#cells.get(key);
    const cell = make();
    this.#cells.set(key, cell);
    return cell;
  }
}

const KEY_LENGTH_MOST = 64;
/** Signals are checked after this many bytes read, or this many cells. */
const YIELD_AFTER_BYTES = 16 * 1024 * 1024;
const YIELD_AFTER_CELLS = 4096;

function shortKey(composition: string): string {
  return createHash("sha256").update(composition).digest().toString("latin1");
}

export interface PlanCutterContext {
  readonly compositions: CellCompositions;
  /** The content number of each file, the same for equal files. */
  readonly contentOf: ReadonlyMap<Payload, number>;
  /** The content number of a cell's bytes, which are only valid during the call. */
  readonly numberOf: (cell: Uint8Array) => number;
  readonly progress: Progress;
  /** Undefined when nothing is compressed. */
  readonly sizes?: StoredSizes | undefined;
  readonly signal: AbortSignal | undefined;
}

type Part =
  & { readonly inset: number; readonly sizeBytes: number }
  & (
    | { readonly bytes: Uint8Array }
    | { readonly payload: Payload; readonly logicalBlock: number }
  );

export class PlanCutter {
  readonly #plan: ImagePlan;
  readonly #context: PlanCutterContext;
  readonly #receive: KnownCellReceiver;
  readonly #cellBytes: number;
  readonly #cell: Uint8Array;
  #cellIndex = 0;
  #parts: Part[] = [];
  #bytesSinceYield = 0;
  #cellsSinceYield = 0;

  /** The cell size is the plan's grid. */
  constructor(plan: ImagePlan, context: PlanCutterContext, receive: KnownCellReceiver) {
    this.#plan = plan;
    this.#context = context;
    this.#receive = receive;
    this.#cellBytes = plan.gridBlocks * BLOCK_SIZE_BYTES;
    this.#cell = new Uint8Array(this.#cellBytes);
  }

  async run(): Promise<void> {
    const { metadata, payload, totalBlocks } = this.#plan;
    const task = this.#context.progress.begin("cut", totalBlocks * BLOCK_SIZE_BYTES);
    throwIfAborted(this.#context.signal);
    let next = 0;
    let reportedBytes = 0;
    const addMetadataBefore = (offsetBytes: number) => {
      while (next < metadata.length && metadata[next]!.offsetBytes < offsetBytes) {
        const write = metadata[next++]!;
        this.#addBytes(write.encode(), write.offsetBytes);
      }
    };
    for (const write of payload) {
      addMetadataBefore(write.startBlock * BLOCK_SIZE_BYTES);
      this.#addPayload(write);
      if (!this.#isYieldDue()) continue;
      const doneBytes = this.#cellIndex * this.#cellBytes;
      task.advance(doneBytes - reportedBytes);
      reportedBytes = doneBytes;
      await pause(this.#context.sizes, this.#context.signal);
    }
    addMetadataBefore(Infinity);
    this.#flush();
    task.advance(totalBlocks * BLOCK_SIZE_BYTES - reportedBytes);
    task.end();
  }

  #isYieldDue(): boolean {
    if (
      this.#bytesSinceYield < YIELD_AFTER_BYTES && this.#cellsSinceYield < YIELD_AFTER_CELLS
    ) return false;
    this.#bytesSinceYield = 0;
    this.#cellsSinceYield = 0;
    return true;
  }

  #addBytes(bytes: Uint8Array, offsetBytes: number): void {
    for (let done = 0; done < bytes.length;) {
      const inset = this.#enter(offsetBytes + done);
      const sizeBytes = Math.min(this.#cellBytes - inset, bytes.length - done);
      this.#parts.push({ inset, sizeBytes, bytes: bytes.subarray(done, done + sizeBytes) });
      done += sizeBytes;
    }
  }

  #addPayload({ startBlock, blockCount, logicalBlock, payload }: PayloadWrite): void {
    const sizeBytes = blockCount * BLOCK_SIZE_BYTES;
    for (let done = 0; done < sizeBytes;) {
      const inset = this.#enter(startBlock * BLOCK_SIZE_BYTES + done);
      const partBytes = Math.min(this.#cellBytes - inset, sizeBytes - done);
      const block = logicalBlock + done / BLOCK_SIZE_BYTES;
      this.#parts.push({ inset, sizeBytes: partBytes, payload, logicalBlock: block });
      done += partBytes;
    }
  }

  /** Makes the cell at that offset the current one; returns the offset within it. */
  #enter(offsetBytes: number): number {
    const cellIndex = Math.floor(offsetBytes / this.#cellBytes);
    invariant(cellIndex >= this.#cellIndex, "writes ascend");
    if (cellIndex > this.#cellIndex) {
      this.#flush();
      this.#cellIndex = cellIndex;
    }
    return offsetBytes - cellIndex * this.#cellBytes;
  }

  #flush(): void {
    if (this.#parts.length === 0) return;
    const composition = this.#composition();
    const cell = composition === undefined
      ? this.#read()
      : this.#context.compositions.cellOf(composition, () => this.#read());
    this.#cellsSinceYield++;
    this.#parts = [];
    if (cell !== undefined) this.#receive(cell, this.#cellIndex);
  }

  /** The files and blocks in the current cell; undefined if it contains metadata. */
  #composition(): string | undefined {
    let composition = `${this.#sizeBytes()}`;
    for (const part of this.#parts) {
      if ("bytes" in part) return undefined;
      const content = this.#context.contentOf.get(part.payload);
      invariant(content !== undefined, "a file with data has a content");
      composition += ` ${part.inset}:${content}:${part.logicalBlock}:${part.sizeBytes}`;
    }
    return composition;
  }

  /** The last cell may be shorter than the others. */
  #sizeBytes(): number {
    const imageBytes = this.#plan.totalBlocks * BLOCK_SIZE_BYTES;
    return Math.min(this.#cellBytes, imageBytes - this.#cellIndex * this.#cellBytes);
  }

  #read(): KnownCell | undefined {
    const cell = this.#cell.subarray(0, this.#sizeBytes());
    let filled = 0;
    for (const part of this.#parts) {
      cell.fill(0, filled, part.inset);
      filled = part.inset + part.sizeBytes;
      const target = cell.subarray(part.inset, filled);
      if ("bytes" in part) target.set(part.bytes);
      else readPayload(part.payload, target, part.logicalBlock * BLOCK_SIZE_BYTES);
    }
    cell.fill(0, filled);
    this.#bytesSinceYield += cell.length;
    const rawBytes = countNonZeroBytes(cell);
    return rawBytes === 0 ? undefined : { content: this.#context.numberOf(cell), rawBytes };
  }
}
