/**
 * The previous image that a new one is laid out like: opens it, verifies it, and reads what a plan needs.
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

/** Options to lay an image out like a previous one. */
export interface LikeOptions {
  /** The previous image: `FILE`, `ext4:FILE` or `FILE#PARTITION`. */
  readonly like?: string | undefined;
  /**
   * Keep the old bytes of blocks that are no longer used: removed content stays readable on the raw device. Default
   * false.
   */
  readonly keepStale?: boolean | undefined;
}

/** How a previous image was used. */
export interface LikeReport extends Omit<KeptFacts, "afresh" | "staleCleared"> {
  /** The previous image as given. */
  readonly previous: string;
  /** The SHA-256 of its file system's bytes, `sha256:...`. */
  readonly digest: string;
  /** Why stale bytes were cleared although `keepStale` was set; null if they were not. */
  readonly staleCleared: string | null;
  /** Why the image was laid out afresh; null if it was not. */
  readonly afresh: string | null;
  /** The new image's cells with data: unchanged, changed, and new. */
  readonly cells: CellCounts;
}

/** Counts of grid cells that hold data. */
export interface CellCounts {
  /** Cells equal to those of the previous image. */
  readonly kept: number;
  /** Cells with other data than in the previous image. */
  readonly changed: number;
  /** Cells that had no data in the previous image. */
  readonly new: number;
}

/** How a previous image is opened, and the layout of the new one. */
export interface PreviousOptions extends SourceOptions {
  /** The layout of the new image; the previous image must have the same. */
  readonly layout: LayoutOptions;
}

/** An open previous image. */
export interface OpenedPrevious {
  /** The input for the plan of the new image. */
  readonly continuation: Continuation;
  /** Receives the bytes of the new file system in ascending order, for comparison. */
  onBytes(bytes: Uint8Array, offset: number): void;
  /** Makes the report from the plan's facts. Call it when all bytes are written. */
  report(kept: KeptFacts): LikeReport;
  /** Closes the image; the plan must not be used afterwards. */
  close(): void;
}

const PIECE_BYTES = 1 << 20;
const YIELD_AFTER_BYTES = 16 * PIECE_BYTES;

/** Refuses options that have no effect without a previous image. */
export function checkLike({ like, keepStale = false }: LikeOptions): void {
  if (!keepStale || like !== undefined) return;
  throw optionError("keepStale", "there is no previous image whose bytes could stay", {
    remedies: [{ option: "like", change: "set", to: "name one" }],
  });
}

/**
 * Opens a previous image, verifies it and reads it once; returns undefined if none is given. `blessMerged` does this
 * itself when it has the option `like`.
 *
 * @throws {InputError} when the image is damaged, not ext4, or was made with other options
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

/** Blocks that two files claim, or that a bitmap marks as free, would corrupt the new image. */
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

/** Reads a whole image to find its digest and the blocks that are not all zeros. */
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

/** Compares the cells of a new image, whose bytes come in ascending order, with those of the previous one. */
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

  /** Adds the next bytes; gaps are zeros. */
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

  /** The counts, once all bytes have been added. */
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
