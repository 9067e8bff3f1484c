/**
 * Operations on whole chunk stores: opening a store by name, removing unreferenced chunks, and verifying all chunks.
 *
 * @module
 */
import { BlessfsError, InputError, optionError, throwIfAborted } from "../errors.ts";
import { type CertificateFiles, readCertificates } from "../io/http_fetch.ts";
import { displayPath } from "../io/system_error.ts";
import { NO_PROGRESS, type Progress } from "../progress.ts";
import { type Environment, readAwsSettings } from "./aws_settings.ts";
import {
  CHUNK_BYTES_MAX,
  CHUNK_DIGESTS,
  chunkId,
  type ChunkStore,
  decompressChunk,
  isMissingChunk,
  LOCK_FOLDER,
  type StoredObject,
} from "./chunk.ts";
import { type ChunkIndex, chunksOf } from "./chunk_index.ts";
import { DirectoryStore } from "./directory_store.ts";
import { isS3Address, parseS3Address } from "./s3_request.ts";
import { S3Store } from "./s3_store.ts";
import { lockStore } from "./store_lock.ts";

/** Options for opening a store. */
export interface OpenStoreOptions {
  /** The environment, which is searched first for S3 keys. */
  readonly env: Environment;
  /** Aborts pending requests. */
  readonly signal?: AbortSignal | undefined;
  /** Create the directory if it does not exist; otherwise, a misspelled name is an error. Default false. */
  readonly createStore?: boolean | undefined;
  /** Certificates for S3, in addition to the publicly trusted ones. */
  readonly certificates?: CertificateFiles | undefined;
}

/**
 * Opens a directory or `s3+https://HOST/BUCKET/PREFIX`, and checks that it can be used.
 *
 * @throws {UsageError} when the name is invalid, or there are no keys for it
 * @throws {IoError} when the store cannot be used
 */
export async function openChunkStore(
  text: string,
  options: OpenStoreOptions,
): Promise<ChunkStore> {
  const store = await newStore(text, options);
  await store.open();
  return store;
}

async function newStore(text: string, options: OpenStoreOptions): Promise<ChunkStore> {
  const { env, signal, createStore = false, certificates = {} } = options;
  if (text.includes("\ufffd")) {
    throw optionError("store", `${displayPath(text)} is not UTF-8: such names are not supported`);
  }
  if (isS3Address(text)) {
    // Reports an invalid address before looking for keys.
    parseS3Address(text);
    const connection = { environment: env, certificates: readCertificates(certificates) };
    return new S3Store(text, { settings: await readAwsSettings(env), signal, connection });
  }
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(text)?.[1];
  if (scheme === undefined) return new DirectoryStore(text, { signal, mustExist: !createStore });
  throw optionError("store", `${scheme}:// is not a store that can be written to`, {
    hint: "name a directory, or s3+https://HOST/BUCKET/PREFIX",
  });
}

/** What to remove. */
export interface PruneOptions {
  /** The indexes of all files to keep; at least one. */
  readonly indexes: readonly ChunkIndex[];
  /** Chunks younger than this are kept: they may belong to a run that has not ended. */
  readonly graceMs: number;
  /** Only count; remove nothing. */
  readonly dryRun?: boolean | undefined;
  /** Stops the work when aborted. */
  readonly signal?: AbortSignal | undefined;
  /** Progress reporter. */
  readonly progress?: Progress | undefined;
}

/** The result of a prune. Byte counts are stored sizes. */
export interface PruneCounts {
  /** Chunks in an index. */
  keptChunks: number;
  /** Their stored bytes. */
  keptBytes: number;
  /** Chunks in no index that are within the grace period. */
  youngChunks: number;
  /** Their stored bytes. */
  youngBytes: number;
  /** Chunks in no index that were removed. */
  removedChunks: number;
  /** Their stored bytes. */
  removedBytes: number;
  /** Leftovers of crashes, also removed. */
  leftovers: number;
  /** Chunks in an index that are missing from the store. */
  missingChunks: number;
}

/** Leftovers of crashes: `.tmp-cacnk...` of desync and of this program. */
const LEFTOVER = /(^|\/)\.tmp-cacnk/;

/**
 * Removes chunks that are in no index. Other writers of this program wait meanwhile; chunks of other programs are
 * protected only by the grace period. After an interruption, the next run removes the rest.
 *
 * @throws {IoError} when the store is being written to
 */
export async function pruneStore(store: ChunkStore, options: PruneOptions): Promise<PruneCounts> {
  const { indexes, graceMs, dryRun = false, signal, progress = NO_PROGRESS } = options;
  if (indexes.length === 0) {
    throw new InputError(store.name, "no index is given: everything would be removed");
  }
  const wanted = new Set<string>();
  for (const index of indexes) for (const { id } of chunksOf(index)) wanted.add(id);
  const counts = {
    keptChunks: 0,
    keptBytes: 0,
    youngChunks: 0,
    youngBytes: 0,
    removedChunks: 0,
    removedBytes: 0,
    leftovers: 0,
    missingChunks: 0,
  };
  const lock = await lockStore(store, "prune", { graceMs: lockGraceMs(graceMs), signal });
  const task = progress.begin("prune");
  try {
    for await (const object of store.list(undefined, signal)) {
      throwIfAborted(signal);
      const isOld = lock.nowMs - object.storedMs >= graceMs;
      if (countObject(object, isOld, wanted, counts) && !dryRun) {
        await store.remove(object.path, signal);
      }
      task.advance(object.sizeBytes);
    }
  } finally {
    task.end();
    await lock.release();
  }
  counts.missingChunks = wanted.size;
  return counts;
}

/** Runs rarely take longer than this. Marks are respected at least this long, however short the grace period. */
function lockGraceMs(graceMs: number): number {
  return Math.max(graceMs, 3600 * 1000);
}

/** Counts an object, and deletes its id from `wanted`. @returns whether to remove the object */
function countObject(
  { id, path, sizeBytes }: StoredObject,
  isOld: boolean,
  wanted: Set<string>,
  counts: PruneCounts,
): boolean {
  if (id === undefined) {
    const isLeftover = isOld && LEFTOVER.test(path) && !path.startsWith(LOCK_FOLDER);
    if (isLeftover) counts.leftovers++;
    return isLeftover;
  }
  if (wanted.delete(id)) {
    counts.keptChunks++;
    counts.keptBytes += sizeBytes;
    return false;
  }
  if (!isOld) {
    counts.youngChunks++;
    counts.youngBytes += sizeBytes;
    return false;
  }
  counts.removedChunks++;
  counts.removedBytes += sizeBytes;
  return true;
}

/** A chunk whose content does not match its name. */
export interface DamagedChunk {
  /** The path in the store. */
  readonly path: string;
  /** The reason. */
  readonly why: string;
}

/** The result of verifying a store. */
export interface StoreFindings {
  /** The number of chunks. */
  readonly chunks: number;
  /** Their total stored size. */
  readonly storedBytes: number;
  /** The total size of intact content. */
  readonly contentBytes: number;
  /** Damaged chunks, in the order of their paths. */
  readonly damaged: readonly DamagedChunk[];
}

const CONCURRENCY = 8;

/** Reads every chunk of a store and compares its content with its name. */
export async function verifyStore(
  store: ChunkStore,
  { signal, progress = NO_PROGRESS }: {
    readonly signal?: AbortSignal | undefined;
    readonly progress?: Progress | undefined;
  } = {},
): Promise<StoreFindings> {
  const sums = { chunks: 0, storedBytes: 0, contentBytes: 0 };
  const damaged: DamagedChunk[] = [];
  const task = progress.begin("verify");
  const objects = store.list(undefined, signal)[Symbol.asyncIterator]();
  const lane = async () => {
    for (let next = await objects.next(); !next.done; next = await objects.next()) {
      throwIfAborted(signal);
      const { id, path, sizeBytes } = next.value;
      if (id === undefined) continue;
      const found = await contentOf(store, id, signal);
      sums.chunks++;
      sums.storedBytes += sizeBytes;
      if (typeof found === "string") damaged.push({ path, why: found });
      else sums.contentBytes += found;
      task.advance(sizeBytes);
    }
  };
  try {
    await Promise.all(Array.from({ length: CONCURRENCY }, lane));
  } finally {
    task.end();
  }
  damaged.sort((a, b) => a.path < b.path ? -1 : 1);
  return { ...sums, damaged };
}

/** The size of a chunk's content, or what is wrong with the chunk. */
async function contentOf(
  store: ChunkStore,
  id: string,
  signal: AbortSignal | undefined,
): Promise<number | string> {
  let stored: Uint8Array;
  try {
    stored = await store.get(id, signal);
  } catch (error) {
    if (error instanceof BlessfsError && (isMissingChunk(error) || error.category === "input")) {
      return error.why;
    }
    throw error;
  }
  const content = decompressChunk(stored, CHUNK_BYTES_MAX);
  if (content === undefined) return `its ${stored.length} bytes are not a whole zstd frame`;
  // A store does not state which digest its names are.
  const isRight = CHUNK_DIGESTS.some((digest) => chunkId(content, digest) === id);
  return isRight ? content.length : `its ${content.length} bytes of content have another digest`;
}
