/**
 * How many cells of the grid differ between two plans: what a store would hold anew of one beside the other.
 *
 * Payload that both plans take from the same place is the same, and is not read.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers/promises";
import { throwIfAborted } from "../errors.ts";
import type { ImagePlan } from "../ext4/plan/image_plan.ts";
import { BLOCK_SIZE_BYTES, type Payload, readPayload } from "../model/payload.ts";

/** A run of bytes of an image. */
interface Run {
  readonly offsetBytes: number;
  readonly sizeBytes: number;
  /** Metadata, or a part of a file. */
  readonly content: Uint8Array | { readonly payload: Payload; readonly fileOffset: number };
}

/** What is written into one cell; the rest of it is zeros. */
interface Cell {
  readonly index: number;
  readonly runs: readonly Run[];
}

const YIELD_AFTER_CELLS = 1024;

/**
 * Counts the cells of `other` and `plan` together whose bytes are not the same; a cell that one of them lacks is all zeros.
 * Metadata is made, so the plans cannot be written any more.
 *
 * @param plan of the same grid as `other`
 */
export async function differingCells(
  plan: ImagePlan,
  other: ImagePlan,
  signal?: AbortSignal,
): Promise<number> {
  const cellBytes = plan.gridBlocks * BLOCK_SIZE_BYTES;
  const [ours, theirs] = [cellsOf(plan, cellBytes), cellsOf(other, cellBytes)];
  const buffers = [new Uint8Array(cellBytes), new Uint8Array(cellBytes)] as const;
  let [mine, its] = [next(ours), next(theirs)];
  let count = 0;
  for (let step = 1; mine !== undefined || its !== undefined; step++) {
    const index = Math.min(mine?.index ?? Infinity, its?.index ?? Infinity);
    const a = mine?.index === index ? mine.runs : [];
    const b = its?.index === index ? its.runs : [];
    if (!areEqual(a, b, index * cellBytes, buffers)) count++;
    if (mine?.index === index) mine = next(ours);
    if (its?.index === index) its = next(theirs);
    if (step % YIELD_AFTER_CELLS !== 0) continue;
    await setImmediate();
    throwIfAborted(signal);
  }
  return count;
}

function next(cells: Iterator<Cell>): Cell | undefined {
  const { done, value } = cells.next();
  return done ? undefined : value;
}

function areEqual(
  a: readonly Run[],
  b: readonly Run[],
  start: number,
  [first, second]: readonly [Uint8Array, Uint8Array],
): boolean {
  if (a.length === b.length && a.every((run, i) => isSameRun(run, b[i]!))) return true;
  fill(first, a, start);
  fill(second, b, start);
  return Buffer.compare(first, second) === 0;
}

function isSameRun(a: Run, b: Run): boolean {
  if (a.offsetBytes !== b.offsetBytes || a.sizeBytes !== b.sizeBytes) return false;
  if (a.content instanceof Uint8Array || b.content instanceof Uint8Array) {
    return a.content instanceof Uint8Array && b.content instanceof Uint8Array &&
      Buffer.compare(a.content, b.content) === 0;
  }
  return a.content.fileOffset === b.content.fileOffset &&
    a.content.payload.store === b.content.payload.store &&
    a.content.payload.segments === b.content.payload.segments;
}

function fill(cell: Uint8Array, runs: readonly Run[], start: number): void {
  cell.fill(0);
  for (const { offsetBytes, sizeBytes, content } of runs) {
    const target = cell.subarray(offsetBytes - start, offsetBytes - start + sizeBytes);
    if (content instanceof Uint8Array) target.set(content);
    else readPayload(content.payload, target, content.fileOffset);
  }
}

/** The cells that anything is written into, ascending. */
function* cellsOf(plan: ImagePlan, cellBytes: number): Generator<Cell> {
  let index = 0;
  let runs: Run[] = [];
  for (const run of runsOf(plan)) {
    for (let done = 0; done < run.sizeBytes;) {
      const at = run.offsetBytes + done;
      const cell = Math.floor(at / cellBytes);
      const sizeBytes = Math.min(run.sizeBytes - done, (cell + 1) * cellBytes - at);
      if (cell !== index && runs.length > 0) {
        yield { index, runs };
        runs = [];
      }
      index = cell;
      runs.push(partOf(run, done, sizeBytes));
      done += sizeBytes;
    }
  }
  if (runs.length > 0) yield { index, runs };
}

function partOf(run: Run, offset: number, sizeBytes: number): Run {
  const offsetBytes = run.offsetBytes + offset;
  const { content } = run;
  return content instanceof Uint8Array
    ? { offsetBytes, sizeBytes, content: content.subarray(offset, offset + sizeBytes) }
    : {
      offsetBytes,
      sizeBytes,
      content: { payload: content.payload, fileOffset: content.fileOffset + offset },
    };
}

/** Metadata and payload in the order in which they are written. */
function* runsOf({ metadata, payload }: ImagePlan): Generator<Run> {
  let at = 0;
  const metadataUpTo = function* (endBytes: number): Generator<Run> {
    for (; at < metadata.length && metadata[at]!.offsetBytes < endBytes; at++) {
      const { offsetBytes, sizeBytes, encode } = metadata[at]!;
      yield { offsetBytes, sizeBytes, content: encode() };
    }
  };
  for (const { startBlock, blockCount, logicalBlock, payload: content } of payload) {
    const offsetBytes = startBlock * BLOCK_SIZE_BYTES;
    yield* metadataUpTo(offsetBytes);
    yield {
      offsetBytes,
      sizeBytes: blockCount * BLOCK_SIZE_BYTES,
      content: { payload: content, fileOffset: logicalBlock * BLOCK_SIZE_BYTES },
    };
  }
  yield* metadataUpTo(Infinity);
}
