/**
 * Puts a file together from a chunk store. Every chunk is checked, wherever it comes from; chunks of zeros are holes.
 *
 * A file grows beside its final name, under one name for all tries: what an interrupted try has written is looked at
 * first, and only what is missing is fetched. A block device is looked at in the same way, and written in place.
 *
 * @module
 */
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  statSync,
  writeSync,
} from "node:fs";
import { setImmediate } from "node:timers/promises";
import { InputError, IoError, throwIfAborted } from "../errors.ts";
import { readFileInto } from "../io/file_source.ts";
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
  const device = statIfThere(path)?.isBlockDevice() === true;
  const finalPath = device ? path : checkOutput(path, { force: options.force ?? false });
  const partialPath = device ? path : `${finalPath}${PARTIAL_ENDING}`;
  const seeds = await findInSeeds(index, options);
  const isResumed = device || statIfThere(partialPath) !== undefined;
  const descriptor = openOutput(partialPath, isResumed);
  try {
    const work = new Restorer(index, descriptor, { ...options, path, seeds, isResumed });
    if (device) work.checkRoom(partialPath);
    else ftruncateSync(descriptor, index.sizeBytes);
    const counts = await work.run();
    fsyncSync(descriptor);
    if (!device) renameSync(partialPath, finalPath);
    return counts;
  } finally {
    closeSync(descriptor);
    for (const { descriptor } of new Set([...seeds.values()].map(({ file }) => file))) {
      closeSync(descriptor);
    }
  }
}

interface SeedFile {
  readonly descriptor: number;
}

interface SeedChunk {
  readonly file: SeedFile;
  readonly offset: number;
}

interface Work extends Omit<RestoreOptions, "seeds"> {
  readonly path: string;
  readonly seeds: ReadonlyMap<string, SeedChunk>;
  readonly isResumed: boolean;
}

class Restorer {
  readonly #index: ChunkIndex;
  readonly #descriptor: number;
  readonly #work: Work;
  readonly #counts = { chunks: 0, zeroBytes: 0, keptBytes: 0, seedBytes: 0, fetchedBytes: 0 };
  readonly #zeroIds = new Map<number, string>();

  constructor(index: ChunkIndex, descriptor: number, work: Work) {
    this.#index = index;
    this.#descriptor = descriptor;
    this.#work = work;
  }

  /** A device has no size of its own to ask for, but its last byte can be read or not. */
  checkRoom(path: string): void {
    const { sizeBytes } = this.#index;
    if (sizeBytes === 0 || this.#read(1, sizeBytes - 1).length === 1) return;
    throw new InputError(displayPath(path), `is too small: wanted ${sizeBytes} bytes`);
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
      const there = this.#read(sizeBytes, offset);
      if (there.length === sizeBytes && chunkId(there, digest) === id) {
        if (!isZero) this.#counts.keptBytes += sizeBytes;
        return;
      }
    }
    if (isZero) return this.#write(new Uint8Array(sizeBytes), offset);
    const seeded = this.#fromSeed(id, sizeBytes);
    if (seeded !== undefined) {
      this.#counts.seedBytes += sizeBytes;
      await setImmediate();
      return this.#write(seeded, offset);
    }
    const chunk = { id, digest, contentBytes: sizeBytes };
    this.#write(await fetchChunk(this.#work.store, chunk, signal), offset);
    this.#counts.fetchedBytes += sizeBytes;
  }

  /** Undefined also when the seed has changed since it was looked through. */
  #fromSeed(id: string, sizeBytes: number): Uint8Array | undefined {
    const found = this.#work.seeds.get(id);
    if (found === undefined) return undefined;
    const bytes = readUpTo(found.file.descriptor, sizeBytes, found.offset);
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

  #read(sizeBytes: number, offset: number): Uint8Array {
    try {
      return readUpTo(this.#descriptor, sizeBytes, offset);
    } catch (cause) {
      throw ioErrorFrom(this.#work.path, `cannot be read at offset ${offset}`, cause);
    }
  }

  #write(bytes: Uint8Array, offset: number): void {
    try {
      for (let done = 0; done < bytes.length;) {
        done += writeSync(this.#descriptor, bytes, done, bytes.length - done, offset + done);
      }
    } catch (cause) {
      throw ioErrorFrom(this.#work.path, `cannot be written at offset ${offset}`, cause);
    }
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

function readUpTo(descriptor: number, sizeBytes: number, offset: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  let done = 0;
  while (done < sizeBytes) {
    const count = readSync(descriptor, bytes, done, sizeBytes - done, offset + done);
    if (count === 0) break;
    done += count;
  }
  return bytes.subarray(0, done);
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
    const file: SeedFile = { descriptor: openSeed(path) };
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
