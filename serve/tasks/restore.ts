/**
 * Putting an image together from a chunk store. A server runs this in a process of its own.
 *
 * @module
 */
import { closeSync, fsyncSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import process from "node:process";
import { CHUNK_ID_BYTES } from "../../lib/chunk/chunk.ts";
import { chunkCount, decodeChunkIndex } from "../../lib/chunk/chunk_index.ts";
import { fetchChunk } from "../../lib/chunk/chunk_uploader.ts";
import { openChunkStore } from "../../lib/chunk/open_store.ts";

/** Chunks that are asked for at the same time. */
const FETCHES_MAX = 16;

/**
 * Writes the file that an index describes. Every chunk is checked; zeros are holes.
 *
 * @throws {InputError} when a chunk is missing or damaged
 */
export async function restoreFile(
  indexPath: string,
  storeName: string,
  output: string,
  signal: AbortSignal,
): Promise<void> {
  const index = decodeChunkIndex(readFileSync(indexPath), indexPath);
  const store = await openChunkStore(storeName, { env: process.env, signal });
  const { digest, chunkBytes, sizeBytes, ids } = index;
  const count = chunkCount(index);
  const descriptor = openSync(output, "wx");
  let next = 0;
  const lane = async () => {
    while (next < count) {
      const number = next++;
      const id = Array.from(
        ids.subarray(number * CHUNK_ID_BYTES, (number + 1) * CHUNK_ID_BYTES),
        (byte) => byte.toString(16).padStart(2, "0"),
      ).join("");
      const contentBytes = Math.min(chunkBytes, sizeBytes - number * chunkBytes);
      const content = await fetchChunk(store, { id, digest, contentBytes }, signal);
      if (content.every((byte) => byte === 0)) continue;
      for (let at = 0; at < content.length;) {
        const position = number * chunkBytes + at;
        at += writeSync(descriptor, content, at, content.length - at, position);
      }
    }
  };
  try {
    await Promise.all(Array.from({ length: FETCHES_MAX }, lane));
    ftruncateSync(descriptor, sizeBytes);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
