/**
 * Puts a file together from a chunk store. Every chunk is checked, wherever it comes from; chunks of zeros are holes.
 *
 * A file grows beside its final name, under one name for all tries: what an interrupted try has written is looked at
 * first, and only what is missing is fetched. A block device is looked at in the same way, and written in place.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { closeSync, fstatSync, ftruncateSync, openSync, renameSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { IoError, throwIfAborted } from "../errors.ts";
import { readFileInto } from "../io/streams.ts";
import {
  checkRoom,
  claimDevice,
  type ClaimedDevice,
  deviceFacts,
  isBlockDevice,
} from "../io/block_device.ts";
import { DevicePatch, PositionedFile } from "../io/device_sink.ts";
import { checkOutput, statIfThere } from "../io/paths.ts";
import { displayPath, ioErrorFrom } from "../io/system_error.ts";
import { NO_PROGRESS, type Progress } from "../progress.ts";
import { chunkId, type ChunkStore, fetchChunk } from "./chunk.ts";
import { type ChunkIndex, chunksOf, type IndexedChunk } from "./chunk_index.ts";
import { createCutter } from "./chunk_sink.ts";
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
      claim = claimDevice(path);
    }
    descriptor = claim?.descriptor ?? openOutput(partialPath, isResumed);
    if (!device) ftruncateSync(descriptor, index.sizeBytes);
    const output = device
      ? new DevicePatch(path, descriptor, index.sizeBytes)
      : new PositionedFile(path, descriptor);
    const counts = await restoreChunks(index, output, { ...options, seeds, isResumed });
    output.finish();
    if (!device) renameSync(partialPath, finalPath);
    return counts;
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
    claim?.release();
    seeds.close();
  }
}

/** A chunk in a seed. */
interface SeedChunk {
  readonly file: PositionedFile;
  readonly offset: number;
}

/** What seeds have of the chunks that are wanted. */
interface Seeds {
  readonly chunks: ReadonlyMap<string, SeedChunk>;
  close(): void;
}

/** All lanes take from one iterator, so each chunk comes once. */
async function restoreChunks(
  index: ChunkIndex,
  output: PositionedFile,
  options: Omit<RestoreOptions, "seeds"> & { readonly seeds: Seeds; readonly isResumed: boolean },
): Promise<RestoreCounts> {
  const { progress = NO_PROGRESS, concurrency = DEFAULT_CONCURRENCY, signal } = options;
  const { store, seeds, isResumed } = options;
  const { digest, sizeBytes: totalBytes } = index;
  const counts = { chunks: 0, zeroBytes: 0, keptBytes: 0, seedBytes: 0, fetchedBytes: 0 };
  const stop = new AbortController();
  const idsOfZeros = zeroIds(index);
  const restore = async ({ id, offset, sizeBytes }: IndexedChunk) => {
    const isHole = idsOfZeros.get(sizeBytes) === id;
    if (isHole) counts.zeroBytes += sizeBytes;
    if (isResumed) {
      // Signals are served, and other lanes get on.
      await setImmediate();
      const there = output.read(sizeBytes, offset);
      if (there.length === sizeBytes && chunkId(there, digest) === id) {
        if (!isHole) counts.keptBytes += sizeBytes;
        return;
      }
    } else if (isHole) return;
    if (isHole) return output.write(new Uint8Array(sizeBytes), offset);
    const seed = seeds.chunks.get(id);
    const seeded = seed?.file.read(sizeBytes, seed.offset);
    // The seed may have changed since it was looked through.
    if (seeded !== undefined && chunkId(seeded, digest) === id) {
      counts.seedBytes += sizeBytes;
      await setImmediate();
      return output.write(seeded, offset);
    }
    const chunk = { id, digest, contentBytes: sizeBytes };
    output.write(await fetchChunk(store, chunk, stop.signal), offset);
    counts.fetchedBytes += sizeBytes;
  };
  const task = progress.begin("restore", totalBytes);
  const chunks = chunksOf(index);
  const lane = async () => {
    try {
      for (const chunk of chunks) {
        throwIfAborted(signal);
        if (stop.signal.aborted) return;
        await restore(chunk);
        counts.chunks++;
        task.advance(chunk.sizeBytes);
      }
    } catch (error) {
      stop.abort();
      throw error;
    }
  };
  const outcomes = await Promise.allSettled(Array.from({ length: concurrency }, lane));
  task.end();
  const failed = outcomes.find((outcome) => outcome.status === "rejected");
  if (failed !== undefined) throw failed.reason;
  return { sizeBytes: totalBytes, ...counts };
}

/** The ids of zeros for every size that a chunk of the index has. The zeros are hashed once, up to the largest. */
function zeroIds(index: ChunkIndex): ReadonlyMap<number, string> {
  const sizes = new Set<number>();
  for (const { sizeBytes } of chunksOf(index)) sizes.add(sizeBytes);
  const ids = new Map<number, string>();
  const hash = createHash(index.digest);
  let hashedBytes = 0;
  for (const sizeBytes of [...sizes].sort((a, b) => a - b)) {
    hash.update(new Uint8Array(sizeBytes - hashedBytes));
    hashedBytes = sizeBytes;
    ids.set(sizeBytes, hash.copy().digest("hex"));
  }
  return ids;
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
): Promise<Seeds> {
  const found = new Map<string, SeedChunk>();
  const descriptors: number[] = [];
  const close = () => descriptors.forEach((descriptor) => closeSync(descriptor));
  const wanted = new Set<string>();
  for (const { id } of seeds.length === 0 ? [] : chunksOf(index)) wanted.add(id);
  const { digest, chunkBytes, cut } = index;
  const chunker = cut && fastCdcParameters(cut.averageBytes, cut.minBytes, chunkBytes);
  try {
    for (const path of seeds) {
      const descriptor = openSeed(path);
      descriptors.push(descriptor);
      const file = new PositionedFile(path, descriptor);
      let offset = 0;
      const cutter = createCutter({ chunkBytes, chunker }, (piece) => {
        if (!(piece instanceof Uint8Array)) {
          offset += piece.zeroBytes;
          return;
        }
        const id = chunkId(piece, digest);
        if (wanted.has(id) && !found.has(id)) found.set(id, { file, offset });
        offset += piece.length;
      });
      const sink = {
        write: (bytes: Uint8Array, at: number) => cutter.write(bytes, at),
        finish: (sizeBytes: number) => cutter.finish(sizeBytes),
        abort: () => {},
      };
      await readFileInto(path, sink, { signal, progress, task: "seed" });
    }
  } catch (error) {
    close();
    throw error;
  }
  return { chunks: found, close };
}

function openSeed(path: string): number {
  try {
    return openSync(path, "r");
  } catch (cause) {
    throw ioErrorFrom(path, "cannot be opened", cause);
  }
}
