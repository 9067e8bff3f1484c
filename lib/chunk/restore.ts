/**
 * Puts a file together from a chunk store. Every chunk is checked, wherever it comes from; chunks of zeros are holes.
 *
 * A file grows beside its final name, under one name for all tries: what an interrupted try has written is looked at
 * first, and only what is missing is fetched. A block device is looked at in the same way, and written in place.
 *
 * @module
 */
import { closeSync, fstatSync, ftruncateSync, openSync, renameSync, statSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { IoError, throwIfAborted } from "../errors.ts";
import { readFileInto } from "../io/file_source.ts";
import {
  checkRoom,
  claimDevice,
  type ClaimedDevice,
  deviceFacts,
  isBlockDevice,
} from "../io/block_device.ts";
import { DevicePatch, PositionedFile } from "../io/device_patch.ts";
import { checkOutput, statIfThere } from "../io/paths.ts";
import { displayPath, ioErrorFrom } from "../io/system_error.ts";
import { NO_PROGRESS, type Progress } from "../progress.ts";
import { chunkId } from "./chunk.ts";
import { type ChunkIndex, chunksOf } from "./chunk_index.ts";
import { ChunkCutter, ContentCutter } from "./chunk_sink.ts";
import type { ChunkStore } from "./chunk_store.ts";
import { fetchChunk } from "./chunk_uploader.ts";
import { fastCdcParameters } from "./fastcdc.ts";

/** How a file is restored. */
export interface RestoreOptions {
  /** Where the chunks are. */
  readonly store: ChunkStore;
  /** Files that may have some of the chunks, such as an older image. */
  readonly seeds?: readonly string[] | undefined;
  /** Replace a file that is there. */
  readonly force?: boolean | undefined;
  /** Ends the work with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Progress reporter. */
  readonly progress?: Progress | undefined;
  /** Chunks that are fetched at the same time; default 16. */
  readonly concurrency?: number | undefined;
}

/** Where the bytes came from. */
export interface RestoreCounts {
  /** Of the file. */
  readonly sizeBytes: number;
  /** How many there are. */
  readonly chunks: number;
  /** Nothing but zeros. */
  readonly zeroBytes: number;
  /** There already, from an earlier try or on the device. */
  readonly keptBytes: number;
  /** Out of seeds. */
  readonly seedBytes: number;
  /** Out of the store, as content. */
  readonly fetchedBytes: number;
}

/** What the file of an unfinished restore is called, behind the name of the output. */
export const PARTIAL_ENDING = ".restoring";

const DEFAULT_CONCURRENCY = 16;

/**
 * Restores the file that an index describes to a new file or a block device.
 *
 * @throws {InputError} when a chunk is missing or damaged
 * @throws {IoError} when the output exists, or cannot be written; what was written so far stays for the next try
 */
export async function restoreFile(
  index: ChunkIndex,
  path: string,
  options: RestoreOptions,
): Promise<RestoreCounts> {
  const device = isBlockDevice(path);
  const finalPath = device ? path : checkOutput(path, { force: options.force ?? false });
  const partialPath = device ? path : `${finalPath}${PARTIAL_ENDING}`;
  const seeds = await findInSeeds(index, options);
  const isResumed = device || statIfThere(partialPath) !== undefined;
  let claim: ClaimedDevice | undefined;
  let descriptor: number | undefined;
  try {
    if (device) {
      checkRoom(path, deviceFacts(path).sizeBytes, index.sizeBytes);
      claim = await claimDevice(path);
    }
    descriptor = claim?.descriptor ?? openOutput(partialPath, isResumed);
    if (!device) ftruncateSync(descriptor, index.sizeBytes);
    const output = device
      ? new DevicePatch(path, descriptor, index.sizeBytes)
      : new PositionedFile(path, descriptor);
    const counts = await new Restorer(index, output, { ...options, seeds, isResumed }).run();
    output.finish();
    if (!device) renameSync(partialPath, finalPath);
    return counts;
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
    await claim?.release();
    for (const { descriptor } of new Set([...seeds.values()].map(({ file }) => file))) {
      closeSync(descriptor);
    }
  }
}

interface SeedFile {
  readonly descriptor: number;
  readonly content: PositionedFile;
}

interface SeedChunk {
  readonly file: SeedFile;
  readonly offset: number;
}

interface Work extends Omit<RestoreOptions, "seeds"> {
  readonly seeds: ReadonlyMap<string, SeedChunk>;
  readonly isResumed: boolean;
}

class Restorer {
  readonly #index: ChunkIndex;
  readonly #output: PositionedFile;
  readonly #work: Work;
  readonly #counts = { chunks: 0, zeroBytes: 0, keptBytes: 0, seedBytes: 0, fetchedBytes: 0 };
  readonly #zeroIds = new Map<number, string>();

  constructor(index: ChunkIndex, output: PositionedFile, work: Work) {
    this.#index = index;
    this.#output = output;
    this.#work = work;
  }

  async run(): Promise<RestoreCounts> {
    const { progress = NO_PROGRESS, concurrency = DEFAULT_CONCURRENCY } = this.#work;
    const task = progress.begin("restore", this.#index.sizeBytes);
    const chunks = chunksOf(this.#index);
    const stop = new AbortController();
    const lane = async () => {
      // All lanes take from one iterator, so each chunk comes once.
      for (const chunk of chunks) {
        throwIfAborted(this.#work.signal);
        if (stop.signal.aborted) return;
        await this.#restore(chunk, stop.signal);
        this.#counts.chunks++;
        task.advance(chunk.sizeBytes);
      }
    };
    const lanes = Array.from({ length: concurrency }, () =>
      lane().catch((error) => {
        stop.abort();
        throw error;
      }));
    const outcomes = await Promise.allSettled(lanes);
    task.end();
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    if (failed !== undefined) throw failed.reason;
    return { sizeBytes: this.#index.sizeBytes, ...this.#counts };
  }

  async #restore(
    { id, offset, sizeBytes }: {
      readonly id: string;
      readonly offset: number;
      readonly sizeBytes: number;
    },
    signal: AbortSignal,
  ): Promise<void> {
    const { digest } = this.#index;
    const isZero = this.#zeroIdOf(sizeBytes) === id;
    if (isZero) this.#counts.zeroBytes += sizeBytes;
    if (isZero && !this.#work.isResumed) return;
    if (this.#work.isResumed) {
      // Signals are served, and other lanes get on.
      await setImmediate();
      const there = this.#output.read(sizeBytes, offset);
      if (there.length === sizeBytes && chunkId(there, digest) === id) {
        if (!isZero) this.#counts.keptBytes += sizeBytes;
        return;
      }
    }
    if (isZero) return this.#output.write(new Uint8Array(sizeBytes), offset);
    const seeded = this.#fromSeed(id, sizeBytes);
    if (seeded !== undefined) {
      this.#counts.seedBytes += sizeBytes;
      await setImmediate();
      return this.#output.write(seeded, offset);
    }
    const chunk = { id, digest, contentBytes: sizeBytes };
    this.#output.write(await fetchChunk(this.#work.store, chunk, signal), offset);
    this.#counts.fetchedBytes += sizeBytes;
  }

  /** Undefined also when the seed has changed since it was looked through. */
  #fromSeed(id: string, sizeBytes: number): Uint8Array | undefined {
    const found = this.#work.seeds.get(id);
    if (found === undefined) return undefined;
    const bytes = found.file.content.read(sizeBytes, found.offset);
    return chunkId(bytes, this.#index.digest) === id ? bytes : undefined;
  }

  #zeroIdOf(sizeBytes: number): string {
    let id = this.#zeroIds.get(sizeBytes);
    if (id === undefined) {
      id = chunkId(new Uint8Array(sizeBytes), this.#index.digest);
      this.#zeroIds.set(sizeBytes, id);
    }
    return id;
  }
}

function openOutput(path: string, isThere: boolean): number {
  try {
    const descriptor = openSync(path, isThere ? "r+" : "wx+");
    const stats = fstatSync(descriptor);
    if (stats.isFile() || stats.isBlockDevice()) return descriptor;
    closeSync(descriptor);
  } catch (cause) {
    throw ioErrorFrom(path, "cannot be opened", cause);
  }
  throw new IoError(displayPath(path), "is neither a file nor a block device");
}

/** Where seeds have chunks that the index names: they are cut as the index says that its file was. */
async function findInSeeds(
  index: ChunkIndex,
  { seeds = [], signal, progress = NO_PROGRESS }: RestoreOptions,
): Promise<Map<string, SeedChunk>> {
  const found = new Map<string, SeedChunk>();
  if (seeds.length === 0) return found;
  const wanted = new Set<string>();
  for (const { id } of chunksOf(index)) wanted.add(id);
  for (const path of seeds) {
    const descriptor = openSeed(path);
    const file: SeedFile = { descriptor, content: new PositionedFile(path, descriptor) };
    const note = (bytes: Uint8Array, offset: number) => {
      const id = chunkId(bytes, index.digest);
      if (wanted.has(id) && !found.has(id)) found.set(id, { file, offset });
    };
    await readFileInto(path, seedSink(index, note), { signal, progress, task: "seed" });
  }
  return found;
}

function openSeed(path: string): number {
  try {
    statSync(path);
    return openSync(path, "r");
  } catch (cause) {
    throw ioErrorFrom(path, "cannot be opened", cause);
  }
}

/** A sink that cuts what it is given and says where each chunk lies. */
function seedSink(
  { chunkBytes, cut }: Pick<ChunkIndex, "chunkBytes" | "cut">,
  note: (bytes: Uint8Array, offset: number) => void,
): {
  write(bytes: Uint8Array, offset: number): void;
  finish(sizeBytes: number): void;
  abort(): void;
} {
  let end = 0;
  const take = (piece: Uint8Array | { readonly zeroBytes: number }) => {
    if (!(piece instanceof Uint8Array)) {
      end += piece.zeroBytes;
      return;
    }
    note(piece, end);
    end += piece.length;
  };
  if (cut === undefined) {
    const cutter = new ChunkCutter(chunkBytes);
    const takeAll = (pieces: ReturnType<ChunkCutter["write"]>) => {
      for (const piece of pieces) {
        take(piece instanceof Uint8Array ? piece : { zeroBytes: piece.zeroChunks * chunkBytes });
      }
    };
    return {
      write: (bytes, offset) => takeAll(cutter.write(bytes, offset)),
      finish: (sizeBytes) => takeAll(cutter.finish(sizeBytes)),
      abort: () => {},
    };
  }
  const cutter = new ContentCutter(
    fastCdcParameters(cut.averageBytes, cut.minBytes, chunkBytes),
    take,
  );
  return {
    write: (bytes, offset) => cutter.write(bytes, offset),
    finish: (sizeBytes) => cutter.finish(sizeBytes),
    abort: () => {},
  };
}
