/**
 * The previous image that a new one is laid out like: opened, verified, and read into what a plan needs of it.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { Buffer } from "node:buffer";
import { InputError, optionError, throwIfAborted } from "../errors.ts";
import type { KeptFacts } from "../ext4/plan/image_plan.ts";
import type { Continuation } from "../ext4/plan/plan_ext4.ts";
import type { PreviousImage } from "../ext4/plan/previous.ts";
import { resolveSettings } from "../ext4/plan/settings.ts";
import { openExt4Image } from "../ext4/read/image.ts";
import { readPrevious } from "../ext4/read/previous.ts";
import { verifyImage } from "../ext4/verify/verify.ts";
import { describeLocation, describeProblem } from "../ext4/volume/judge.ts";
import { Digester } from "../bytes/digest.ts";
import { type RandomReader, readExactly } from "../io/random_reader.ts";
import type { BlockRange } from "../layout/blocks.ts";
import { isZero } from "../bytes/arithmetic.ts";
import { BLOCK_SIZE_BYTES } from "../model/node.ts";
import { NO_PROGRESS, type Progress } from "../progress.ts";
import { openNamedImage } from "../source/image_file.ts";
import type { SourceOptions } from "../source/types.ts";
import { Warnings } from "../warnings.ts";
import type { LayoutOptions } from "./options.ts";

/** Laying an image out like a previous one. */
export interface LikeOptions {
  /** The previous image: `FILE`, `ext4:FILE` or `FILE#PARTITION`. */
  readonly like?: string | undefined;
  /**
   * Blocks that are given up keep the bytes that they have in the previous image: its removed content stays readable on
   * the raw device. Default false.
   */
  readonly keepStale?: boolean | undefined;
}

/** What became of a previous image. */
export interface LikeReport extends Omit<KeptFacts, "afresh" | "staleCleared"> {
  /** As it was given. */
  readonly previous: string;
  /** SHA-256 of the bytes of its file system, `sha256:...`. */
  readonly digest: string;
  /** Why all stale bytes were cleared although they should be kept; null when they were not. */
  readonly staleCleared: string | null;
  /** Why the image was laid out afresh; null when it was not. */
  readonly afresh: string | null;
  /** Cells of the new image with data: as they were, changed, and where there was no data before. */
  readonly cells: CellCounts;
}

/** Cells of the grid that hold data. */
export interface CellCounts {
  /** Equal to those of the previous image. */
  readonly kept: number;
  /** Other data than in the previous image. */
  readonly changed: number;
  /** No data in the previous image. */
  readonly new: number;
}

/** How a previous image is opened, and what the new one will be. */
export interface PreviousOptions extends SourceOptions {
  /** The layout of the new image; that of the previous one has to be the same. */
  readonly layout: LayoutOptions;
}

/** A previous image that is open. */
export interface OpenedPrevious {
  /** For the plan of the new image. */
  readonly continuation: Continuation;
  /** Takes the bytes of the new file system in ascending order, to compare them. */
  onBytes(bytes: Uint8Array, offset: number): void;
  /** To be called when all bytes are written, with what the plan says. */
  report(kept: KeptFacts): LikeReport;
  /** Closes the image; the plan must not be used any more. */
  close(): void;
}

const PIECE_BYTES = 1 << 20;
const YIELD_AFTER_BYTES = 16 * PIECE_BYTES;

/** Refuses options that mean nothing without a previous image. */
export function checkLike({ like, keepStale = false }: LikeOptions): void {
  if (!keepStale || like !== undefined) return;
  throw optionError("keepStale", "there is no previous image whose bytes could stay", {
    remedies: [{ option: "like", change: "set", to: "name one" }],
  });
}

/**
 * Opens a previous image, verifies it and reads it once; gives undefined if none is named. `blessMerged` does it by itself
 * when it has the option `like`.
 *
 * @throws {InputError} for one that is damaged, not ext4, or was made with other options
 * @example
 * ```ts
 * import { assertEquals, assertRejects } from "@std/assert";
 * import { MERGED_DEFAULTS } from "./options.ts";
 * import { openPrevious } from "./previous_image.ts";
 * const options = { layout: MERGED_DEFAULTS };
 * assertEquals(await openPrevious({}, options), undefined);
 * await assertRejects(() => openPrevious({ like: "no-such.ext4" }, options));
 * ```
 */
export async function openPrevious(
  { like, keepStale = false }: LikeOptions,
  options: PreviousOptions,
): Promise<OpenedPrevious | undefined> {
  if (like === undefined) return undefined;
  const { layout, signal, timestamp = 0, progress = NO_PROGRESS } = options;
  const warnings = new Warnings();
  const { reader } = await openNamedImage(like, {
    ...options,
    progress,
    warnings,
    replay: true,
    externalJournal: undefined,
  });
  try {
    const settings = resolveSettings(layout, { derivedUuid: new Uint8Array(16), timestamp });
    const image = openExt4Image(reader, { warnings });
    await checkWhole(reader, signal);
    const found = await readPrevious(image, settings, signal);
    const sizeBytes = image.geometry.blocksCount * BLOCK_SIZE_BYTES;
    const scan = await scanBlocks(reader, sizeBytes, progress, signal);
    const read = (startBlock: number, blockCount: number) => {
      const bytes = new Uint8Array(blockCount * BLOCK_SIZE_BYTES);
      const length = Math.max(0, Math.min(bytes.length, sizeBytes - startBlock * BLOCK_SIZE_BYTES));
      readExactly(reader, bytes.subarray(0, length), startBlock * BLOCK_SIZE_BYTES);
      return bytes;
    };
    const previous: PreviousImage = { ...found, dataRanges: scan.dataRanges, read };
    const counter = new CellComparison(previous, layout.gridBytes);
    return {
      continuation: { previous, keepsStale: keepStale },
      onBytes: (bytes, offset) => counter.add(bytes, offset),
      report: ({ afresh, staleCleared, ...kept }) => ({
        previous: like,
        digest: scan.digest,
        ...kept,
        staleCleared: staleCleared ?? null,
        afresh: afresh ?? null,
        cells: counter.finish(),
      }),
      close: () => reader.close(),
    };
  } catch (error) {
    reader.close();
    throw error;
  }
}

/** Blocks that two files claim, or that a bitmap has as free, would make a wrong image of a new one. */
async function checkWhole(reader: RandomReader, signal: AbortSignal | undefined): Promise<void> {
  const report = await verifyImage(reader, { signal });
  if (report.clean) return;
  const finding = report.findings.find(({ severity }) => severity !== "note")!;
  const where = describeLocation(finding.structure, finding);
  throw new InputError(
    reader.name,
    `is damaged, and cannot be continued: ${where}: ${describeProblem(finding)}`,
    { hint: "repair it with e2fsck, or lay the image out afresh" },
  );
}

/** Reads a whole image: its digest, and which of its blocks are not all zeros. */
async function scanBlocks(
  reader: RandomReader,
  sizeBytes: number,
  progress: Progress,
  signal: AbortSignal | undefined,
): Promise<{ readonly digest: string; readonly dataRanges: readonly BlockRange[] }> {
  const digester = new Digester("sha256");
  const buffer = Buffer.alloc(PIECE_BYTES);
  const ranges: { startBlock: number; blockCount: number }[] = [];
  const task = progress.begin(reader.name, sizeBytes);
  try {
    for (let at = 0; at < sizeBytes; at += PIECE_BYTES) {
      const piece = buffer.subarray(0, Math.min(PIECE_BYTES, sizeBytes - at));
      readExactly(reader, piece, at);
      digester.update(piece);
      for (let inset = 0; inset < piece.length; inset += BLOCK_SIZE_BYTES) {
        if (isZero(piece, inset, inset + BLOCK_SIZE_BYTES)) continue;
        const startBlock = (at + inset) / BLOCK_SIZE_BYTES;
        const last = ranges.at(-1);
        if (last?.startBlock === startBlock - (last?.blockCount ?? 0)) last!.blockCount++;
        else ranges.push({ startBlock, blockCount: 1 });
      }
      task.advance(piece.length);
      if (at % YIELD_AFTER_BYTES !== 0) continue;
      await setImmediate();
      throwIfAborted(signal);
    }
  } finally {
    task.end();
  }
  return { digest: digester.digest(), dataRanges: ranges };
}

/** Compares the cells of a new image with those of the previous one, from its bytes in ascending order. */
class CellComparison {
  readonly #previous: PreviousImage;
  readonly #cellBytes: number;
  readonly #cell: Buffer;
  readonly #counts = { kept: 0, changed: 0, new: 0 };
  #index = 0;
  #filled = 0;

  constructor(previous: PreviousImage, cellBytes: number) {
    this.#previous = previous;
    this.#cellBytes = cellBytes;
    this.#cell = Buffer.alloc(cellBytes);
  }

  /** Takes the next bytes; what lies between them is zeros. */
  add(bytes: Uint8Array, offset: number): void {
    for (let done = 0; done < bytes.length;) {
      const index = Math.floor((offset + done) / this.#cellBytes);
      if (index !== this.#index) this.#flush(index);
      const inset = offset + done - index * this.#cellBytes;
      const length = Math.min(bytes.length - done, this.#cellBytes - inset);
      this.#cell.fill(0, this.#filled, inset);
      this.#cell.set(bytes.subarray(done, done + length), inset);
      this.#filled = inset + length;
      done += length;
    }
  }

  /** The counts, when all bytes were there. */
  finish(): CellCounts {
    this.#flush(this.#index);
    return { ...this.#counts };
  }

  #flush(nextIndex: number): void {
    if (this.#filled > 0) {
      this.#cell.fill(0, this.#filled);
      this.#filled = 0;
      const blocks = this.#cellBytes / BLOCK_SIZE_BYTES;
      const before = this.#previous.read(this.#index * blocks, blocks);
      if (!isZero(this.#cell)) {
        if (this.#cell.equals(before)) this.#counts.kept++;
        else if (isZero(before)) this.#counts.new++;
        else this.#counts.changed++;
      }
    }
    this.#index = nextIndex;
  }
}
