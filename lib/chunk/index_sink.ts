/**
 * Writes the index of an image when the image has ended.
 *
 * @module
 */
import type { ImageSink } from "../io/sink.ts";
import { encodeChunkIndex } from "./chunk_index.ts";
import type { ChunkSink } from "./chunk_sink.ts";

/**
 * A sink that takes nothing of the image, and at its end writes what the chunk sink has found out. It belongs behind the
 * chunk sink, so that an index is seen only when all its chunks are in the store.
 *
 * @param target takes the index as a file
 */
export function createIndexSink(chunks: ChunkSink, target: ImageSink): ImageSink {
  return {
    write: () => {},
    async finish() {
      const bytes = encodeChunkIndex(chunks.index);
      await target.write(bytes, 0);
      await target.finish(bytes.length);
    },
    abort: () => target.abort(),
  };
}
