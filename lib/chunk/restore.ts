/**
 * Restores a file from a chunk store. Every chunk is verified, whatever its origin; all-zero chunks become holes.
 *
 * A file is assembled beside its final name, under the same temporary name for every attempt: chunks from an
 * interrupted attempt are checked first, and only missing ones are fetched. A block device is handled in the same way,
 * but written in place.
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
  /** The store to fetch chunks from. */
  readonly store: ChunkStore;
  /** Files that may contain some of the chunks, such as an older image. */
  readonly seeds?: readonly string[] | undefined;
  /** Replace an existing file. */
  readonly force?: boolean | undefined;
  /** Stops the work when aborted. */
  readonly signal?: AbortSignal | undefined;
  /** Progress reporter. */
  readonly progress?: Progress | undefined;
  /** The number of chunks to fetch concurrently; default 16. */
  readonly concurrency?: number | undefined;
}

/** Where the bytes came from. */
export interface RestoreCounts {
  /** The size of the file. */
  readonly sizeBytes: number;
  /** The number of chunks. */
  readonly chunks: number;
  /** Bytes of all-zero chunks. */
  readonly zeroBytes: number;
  /** Bytes that existed already, from an earlier attempt or on the device. */
  readonly keptBytes: number;
  /** Bytes copied from seeds. */
  readonly seedBytes: number;
  /** Bytes of content fetched from the store. */
  readonly fetchedBytes: number;
}

/** The suffix of an unfinished output file. */
export const PARTIAL_ENDING = ".restoring";

const DEFAULT_CONCURRENCY = 16;

/**
 * Restores the file that an index describes to a new file or a block device.
 *
 * @throws {InputError} when a chunk is missing or damaged
 * @throws {IoError} when the output exists or cannot be written; what was written so far stays for the next attempt
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

/** The wanted chunks found in seeds. */
interface Seeds {
  readonly chunks: ReadonlyMap<string, SeedChunk>;
  close(): void;
}

/** All lanes share one iterator, so each chunk is handled once. */
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
      // Lets signals be handled and other lanes run.
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
    // The seed may have changed since it was scanned.
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

/** The ids of all-zero chunks for every chunk size in the index. The zeros are hashed once, up to the largest size. */
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

/** Finds chunks of the index in seeds, which are cut with the parameters of the index. */
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
