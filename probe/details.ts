/**
 * Details that a probe shows for one row: which files the layout stores again, and how much of an image is still shared
 * with itself after a shift.
 *
 * @module
 */
import type { ByteString } from "../lib/bytes/byte_string.ts";
import type { FileLayout, ImagePlan } from "../lib/ext4/plan/image_plan.ts";
import type { ImageSink } from "../lib/io/sink.ts";
import { BLOCK_SIZE_BYTES, type Payload } from "../lib/model/node.ts";
import type { CellListener, MainSchemeWatch } from "./measure.ts";
import type { Scheme } from "./schemes.ts";
import { CellCutter } from "./units/cutters.ts";
import type { ContentTable, ImageUnits } from "./units/store.ts";

/** A file that an earlier image contains as well. */
export interface LostFile {
  /** Path in the later image. */
  readonly path: ByteString;
  /** Size of the whole file. */
  readonly sizeBytes: number;
  /** Counted from 0: the first image with the same file, and the one that stores part of it again. */
  readonly images: readonly [earlier: number, later: number];
  /** Bytes of its blocks in cells that are in no earlier image. */
  readonly lostBytes: number;
}

/** How many files are listed. */
const FILES_MOST = 20;

interface WatchedPart {
  readonly imageIndex: number;
  readonly files: readonly FileLayout[];
  readonly contentOf: ReadonlyMap<Payload, number>;
  readonly contentOfCell: Map<number, number>;
}

/** Records which file lies in which cells. Memory grows with the number of files and cells. */
export class LostFileWatch implements MainSchemeWatch {
  readonly scheme: Scheme;
  readonly #parts: WatchedPart[] = [];
  #imageIndex = -1;

  constructor(scheme: Scheme) {
    this.scheme = scheme;
  }

  beginImage(): void {
    this.#imageIndex++;
  }

  beginPart(plan: ImagePlan, contentOf: ReadonlyMap<Payload, number>): CellListener {
    const contentOfCell = new Map<number, number>();
    this.#parts.push({
      imageIndex: this.#imageIndex,
      files: plan.files,
      contentOf,
      contentOfCell,
    });
    return (cellIndex, content) => contentOfCell.set(cellIndex, content);
  }

  /** The files with the largest losses, worst first. */
  worst(images: readonly ImageUnits[]): LostFile[] {
    const firstHolder = new Map<number, number>();
    const firstOfCell = firstImages(images);
    const lost: LostFile[] = [];
    for (const part of this.#parts) {
      for (const file of part.files) {
        const content = part.contentOf.get(file.payload);
        if (content === undefined) continue;
        const earlier = firstHolder.get(content);
        if (earlier === undefined) firstHolder.set(content, part.imageIndex);
        if (earlier === undefined || earlier === part.imageIndex) continue;
        const lostBytes = this.#lostBytes(file, part, firstOfCell);
        if (lostBytes === 0) continue;
        lost.push({
          path: file.draft.path,
          sizeBytes: file.payload.sizeBytes,
          images: [earlier, part.imageIndex],
          lostBytes,
        });
      }
    }
    return lost
      .sort((a, b) => b.lostBytes - a.lostBytes || (a.path < b.path ? -1 : 1))
      .slice(0, FILES_MOST);
  }

  #lostBytes(
    file: FileLayout,
    part: WatchedPart,
    firstOfCell: ReadonlyMap<number, number>,
  ): number {
    const gridBlocks = this.scheme.gridBytes / BLOCK_SIZE_BYTES;
    let blocks = 0;
    for (const { startBlock, blockCount } of file.extents) {
      const end = startBlock + blockCount;
      for (let at = startBlock; at < end;) {
        const cell = Math.floor(at / gridBlocks);
        const next = Math.min((cell + 1) * gridBlocks, end);
        const content = part.contentOfCell.get(cell);
        if (content !== undefined && firstOfCell.get(content) === part.imageIndex) {
          blocks += next - at;
        }
        at = next;
      }
    }
    return blocks * BLOCK_SIZE_BYTES;
  }
}

/** The first image that contains each content. */
function firstImages(images: readonly ImageUnits[]): Map<number, number> {
  const first = new Map<number, number>();
  for (const [index, { contents }] of images.entries()) {
    for (const content of contents) if (!first.has(content)) first.set(content, index);
  }
  return first;
}

/** The result for one shift. */
export interface SelfShift {
  /** How far the image was shifted. */
  readonly shiftBytes: number;
  /** Raw bytes of the shifted image's units. */
  readonly raw: number;
  /** The part of `raw` in units that the original image also has. */
  readonly sharedRaw: number;
  /** `sharedRaw` divided by `raw`. */
  readonly shared: number;
}

const KIB = 1024;

/** The shifts tried: none, fractions of a cell, one cell and two cells. */
function shiftsOf(gridBytes: number): number[] {
  const shifts = [0, 4 * KIB, 8 * KIB, 64 * KIB, gridBytes, 2 * gridBytes];
  return [...new Set(shifts)].sort((a, b) => a - b);
}

/** Cuts shifted copies of an image and compares them with the image's own units. */
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

  /** The sinks for the image's bytes, one per shift. */
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

  /** The results, by shift. */
  results(): SelfShift[] {
    return this.#results.map((result) => ({
      ...result,
      shared: result.raw === 0 ? 0 : result.sharedRaw / result.raw,
    }));
  }
}
