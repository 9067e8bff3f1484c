/**
 * What tests of chunk stores share: a file to cut, a store in memory, faults.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { ChunkSink, ChunkUploader, type ChunkUploaderOptions } from "../../lib/chunk/chunk_sink.ts";
import {
  CHUNK_ID_BYTES,
  chunkIdOf,
  chunkPath,
  type ChunkStore,
  type PutOutcome,
  type StoredObject,
} from "../../lib/chunk/chunk.ts";
import type { ChunkIndex } from "../../lib/chunk/chunk_index.ts";

export const KIB = 1024;
export const CHUNK_BYTES = 128 * KIB;

/**
 * Three chunks and five bytes: something, zeros, the first again, a short one. `casync make` was run on it for the
 * golden indexes.
 */
export function sampleFile(): Uint8Array {
  const bytes = new Uint8Array(3 * CHUNK_BYTES + 5);
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * i + (i >> 8)) & 255;
  return bytes.fill(0, CHUNK_BYTES, 2 * CHUNK_BYTES);
}

/** Bytes that do not repeat and hardly compress. */
export function noise(sizeBytes: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  let state = seed >>> 0 || 1;
  for (let i = 0; i < sizeBytes; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state & 255;
  }
  return bytes;
}

export { withTemporaryDirectory as withDirectory } from "../oracle/command.ts";

/** A store in memory that can be slow or fail. */
export class MemoryStore implements ChunkStore {
  readonly name = "memory";
  readonly chunks = new Map<string, Uint8Array>();
  readonly asked: string[] = [];
  /** Puts at the same time: now, and the most there were. */
  underway = 0;
  mostUnderway = 0;
  settledCount = 0;
  readonly marks = new Set<string>();
  /** Runs within each put. */
  duringPut: (id: string) => Promise<void> = () => Promise.resolve();

  open(): Promise<void> {
    return Promise.resolve();
  }

  has(id: string): boolean {
    this.asked.push(id);
    return this.chunks.has(id);
  }

  get(id: string): Promise<Uint8Array> {
    return Promise.resolve(this.chunks.get(id)!);
  }

  async put(id: string, stored: Uint8Array): Promise<PutOutcome> {
    this.mostUnderway = Math.max(this.mostUnderway, ++this.underway);
    try {
      await this.duringPut(id);
    } finally {
      this.underway--;
    }
    if (this.chunks.has(id)) return "present";
    this.chunks.set(id, stored);
    return "added";
  }

  settle(): Promise<void> {
    this.settledCount++;
    return Promise.resolve();
  }

  async *list(folder?: string): AsyncGenerator<StoredObject> {
    const marks = [...this.marks].map((path) => ({
      path,
      id: undefined,
      sizeBytes: 1,
      storedMs: 0,
    }));
    yield* marks;
    if (folder !== undefined) return;
    for (const [id, stored] of this.chunks) {
      yield { path: chunkPath(id), id, sizeBytes: stored.length, storedMs: await 0 };
    }
  }

  mark(path: string): Promise<boolean> {
    const isFree = !this.marks.has(path);
    this.marks.add(path);
    return Promise.resolve(isFree);
  }

  remove(path: string): Promise<void> {
    this.marks.delete(path);
    this.chunks.delete(chunkIdOf(path) ?? "");
    return Promise.resolve();
  }
}

/** An uploader in front of a store. */
export function uploaderOf(
  store: ChunkStore,
  more: Partial<ChunkUploaderOptions> = {},
): ChunkUploader {
  return new ChunkUploader({ store, zstdLevel: 1, ...more });
}

/** Cuts bytes into a store. */
export async function store(
  bytes: Uint8Array,
  uploader: ChunkUploader,
  more: Partial<ConstructorParameters<typeof ChunkSink>[1]> = {},
): Promise<ChunkSink> {
  const sink = new ChunkSink(uploader, { chunkBytes: CHUNK_BYTES, digest: "sha512-256", ...more });
  try {
    await sink.write(bytes, 0);
    await sink.finish(bytes.length);
  } catch (error) {
    await sink.abort();
    throw error;
  } finally {
    await uploader.close();
  }
  return sink;
}

/** The id of a chunk of an index, in hex. */
export function idAt({ ids }: Pick<ChunkIndex, "ids">, i: number): string {
  return Buffer.from(ids).toString("hex", i * CHUNK_ID_BYTES, (i + 1) * CHUNK_ID_BYTES);
}
