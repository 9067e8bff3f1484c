/**
 * The grid cells that a plan will write, without writing them: how many differ from another plan's, and their ids in a
 * chunk store.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers/promises";
import { type ChunkDigest, chunkId } from "../chunk/chunk.ts";
import { throwIfAborted } from "../errors.ts";
import type { ImagePlan } from "../ext4/plan/image_plan.ts";
import { BLOCK_SIZE_BYTES, type Payload, readPayload } from "../model/node.ts";

/** A run of bytes of an image. */
interface Run {
  readonly offsetBytes: number;
  readonly sizeBytes: number;
  /** Metadata, or a part of a file. */
  readonly content: Uint8Array | { readonly payload: Payload; readonly fileOffset: number };
}

/** The data written into one cell; the rest of the cell is zeros. */
interface Cell {
  readonly index: number;
  readonly runs: readonly Run[];
}

const YIELD_AFTER_CELLS = 1024;
const YIELD_AFTER_HASHES = 256;

/**
 * Counts the cells that differ between `plan` and `other`: what a store needs for one image in addition to the other. A
 * cell missing from one plan counts as all zeros; payload that both take from the same place is not read. This encodes
 * the metadata, so the plans cannot be written afterwards.
 *
 * @param plan a plan with the same grid as `other`
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

/**
 * The ids of cells in order, including all-zero cells. Reads their payload.
 *
 * @param range the offset of the first cell and the total length; the last cell may be short
 */
export async function cellIds(
  plan: ImagePlan,
  range: { readonly offset: number; readonly length: number },
  { digest, signal }: {
    readonly digest: ChunkDigest;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<string[]> {
  const cellBytes = plan.gridBlocks * BLOCK_SIZE_BYTES;
  const end = range.offset + range.length;
  const cell = new Uint8Array(cellBytes);
  const zeroId = chunkId(cell, digest);
  const cells = cellsOf(plan, cellBytes, range.offset, end);
  let found = next(cells);
  const ids: string[] = [];
  for (let start = range.offset; start < end; start += cellBytes) {
    const isThere = found?.index === start / cellBytes;
    if (!isThere && start + cellBytes <= end) {
      ids.push(zeroId);
      continue;
    }
    fill(cell, isThere ? found!.runs : [], start);
    ids.push(chunkId(cell.subarray(0, end - start), digest));
    if (isThere) found = next(cells);
    if (ids.length % YIELD_AFTER_HASHES !== 0) continue;
    await setImmediate();
    throwIfAborted(signal);
  }
  return ids;
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

/** The cells with data in ascending order, either all or those in a range of whole cells. */
function* cellsOf(plan: ImagePlan, cellBytes: number, start = 0, end = Infinity): Generator<Cell> {
  let index = 0;
  let runs: Run[] = [];
  for (const run of runsOf(plan, start, end)) {
    const { offsetBytes, sizeBytes, content } = run;
    const runEnd = Math.min(offsetBytes + sizeBytes, end);
    for (let at = Math.max(offsetBytes, start); at < runEnd;) {
      const cell = Math.floor(at / cellBytes);
      const partEnd = Math.min(runEnd, (cell + 1) * cellBytes);
      if (cell !== index && runs.length > 0) {
        yield { index, runs };
        runs = [];
      }
      index = cell;
      const inset = at - offsetBytes;
      const part = content instanceof Uint8Array
        ? content.subarray(inset, partEnd - offsetBytes)
        : { payload: content.payload, fileOffset: content.fileOffset + inset };
      runs.push({ offsetBytes: at, sizeBytes: partEnd - at, content: part });
      at = partEnd;
    }
  }
  if (runs.length > 0) yield { index, runs };
}

/** The metadata and payload that overlap a range, in writing order. */
function* runsOf({ metadata, payload }: ImagePlan, start: number, end: number): Generator<Run> {
  let at = 0;
  const metadataUpTo = function* (limit: number): Generator<Run> {
    for (; at < metadata.length && metadata[at]!.offsetBytes < limit; at++) {
      const { offsetBytes, sizeBytes, encode } = metadata[at]!;
      if (offsetBytes + sizeBytes > start) yield { offsetBytes, sizeBytes, content: encode() };
    }
  };
  for (const { startBlock, blockCount, logicalBlock, payload: content } of payload) {
    const offsetBytes = startBlock * BLOCK_SIZE_BYTES;
    const sizeBytes = blockCount * BLOCK_SIZE_BYTES;
    if (offsetBytes >= end) break;
    if (offsetBytes + sizeBytes <= start) continue;
    yield* metadataUpTo(offsetBytes);
    const fileOffset = logicalBlock * BLOCK_SIZE_BYTES;
    yield { offsetBytes, sizeBytes, content: { payload: content, fileOffset } };
  }
  yield* metadataUpTo(end);
}
