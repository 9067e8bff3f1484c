/**
 * Chunk stores of casync and desync, in a directory or on S3, and their indexes.
 *
 * @example Put an image into a chunk store
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { blessMerged } from "@blessfs/blessfs";
 * import { ChunkSink, ChunkUploader, openChunkStore } from "@blessfs/blessfs/chunk";
 * import { mkdtempSync, rmSync } from "node:fs";
 *
 * const directory = mkdtempSync("/tmp/blessfs-");
 * const store = await openChunkStore(directory, { env: {} });
 * const uploader = new ChunkUploader({ store, zstdLevel: 3 });
 * const sink = new ChunkSink(uploader, { chunkBytes: 128 * 1024, digest: "sha512-256" });
 * await blessMerged({ source: "oci:fixtures/oci-tiny", sink });
 * const { newChunks, distinctChunks } = sink.counts;
 * assertEquals(newChunks, distinctChunks);
 * assertEquals(sink.index.chunkBytes, 128 * 1024);
 * rmSync(directory, { recursive: true });
 * ```
 *
 * @module
 */
export { openChunkStore, pruneStore, verifyStore } from "./store.ts";
export type {
  DamagedChunk,
  OpenStoreOptions,
  PruneCounts,
  PruneOptions,
  StoreFindings,
} from "./store.ts";
export type { ChunkDigest, ChunkStore, PutOutcome, StoredObject } from "./chunk.ts";
export { ChunkSink, ChunkUploader, createIndexSink } from "./chunk_sink.ts";
export type {
  ChunkCounts,
  ChunkSinkOptions,
  ChunkUploaderOptions,
  OfferedChunk,
} from "./chunk_sink.ts";
export { type ChunkIndex, decodeChunkIndex, encodeChunkIndex } from "./chunk_index.ts";
export { type RestoreCounts, restoreFile, type RestoreOptions } from "./restore.ts";
export type { Environment } from "./aws_settings.ts";
