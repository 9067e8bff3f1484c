/**
 * Which files are the same in two images and yet lie in cells that only one of them has: where the layout loses.
 *
 * @module
 */
import type { ByteString } from "../lib/bytes/byte_string.ts";
import type { FileLayout, ImagePlan } from "../lib/ext4/plan/image_plan.ts";
import type { Payload } from "../lib/model/payload.ts";
import { BLOCK_SIZE_BYTES } from "../lib/model/payload.ts";
import type { CellListener, MainSchemeWatch } from "./measure.ts";
import type { Scheme } from "./schemes.ts";
import type { ImageUnits } from "./units/store.ts";

/** A file that an earlier image has as well. */
export interface LostFile {
  /** In the later image. */
  readonly path: ByteString;
  /** Of the whole file. */
  readonly sizeBytes: number;
  /** From 0: the first image that has the same file, and the one that stores part of it again. */
  readonly images: readonly [earlier: number, later: number];
  /** Bytes of its blocks in cells that no earlier image has. */
  readonly lostBytes: number;
}

/** The files that are listed. */
const FILES_MOST = 20;

interface WatchedPart {
  readonly imageIndex: number;
  readonly files: readonly FileLayout[];
  readonly contentOf: ReadonlyMap<Payload, number>;
  readonly contentOfCell: Map<number, number>;
}

/** Remembers which file lies in which cells. Memory grows with files and cells. */
export class LostFileWatch implements MainSchemeWatch {
  readonly scheme: Scheme;
  readonly #parts: WatchedPart[] = [];
  #imageIndex = -1;

  constructor(scheme: Scheme) {
    this.scheme = scheme;
  }

  /** What comes now is of the next image. */
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

  /** The files that lose most, worst first. */
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

/** By content, the first image that has it. */
function firstImages(images: readonly ImageUnits[]): Map<number, number> {
  const first = new Map<number, number>();
  for (const [index, { contents }] of images.entries()) {
    for (const content of contents) if (!first.has(content)) first.set(content, index);
  }
  return first;
}
