import { assertEquals, assertRejects } from "@std/assert";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { decodeChunkIndex } from "../../lib/chunk/chunk_index.ts";
import { ChunkSink, createIndexSink } from "../../lib/chunk/chunk_sink.ts";
import { IoError } from "../../lib/errors.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { teeSink } from "../../lib/io/sink.ts";
import { CHUNK_BYTES, MemoryStore, sampleFile, uploaderOf, withDirectory } from "./helpers.ts";

const OPTIONS = { chunkBytes: CHUNK_BYTES, digest: "sha512-256" } as const;

Deno.test("createIndexSink writes the index when all chunks are in the store", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "x.caibx");
    const memory = new MemoryStore();
    const seen: boolean[] = [];
    memory.duringPut = async () => {
      await new Promise((resolve) => setTimeout(resolve, 2));
      seen.push(existsSync(path));
    };
    const chunks = new ChunkSink(uploaderOf(memory), OPTIONS);
    const sink = teeSink(chunks, createIndexSink(chunks, createFileSink(path)));
    await sink.write(sampleFile(), 0);
    await sink.finish(sampleFile().length);
    assertEquals(seen, [false, false, false]);
    assertEquals(decodeChunkIndex(new Uint8Array(readFileSync(path)), "x"), chunks.index);
  });
});

Deno.test("createIndexSink writes nothing when the store fails", async () => {
  await withDirectory(async (directory) => {
    const memory = new MemoryStore();
    memory.duringPut = () => Promise.reject(new IoError("store", "is full"));
    const chunks = new ChunkSink(uploaderOf(memory), OPTIONS);
    const path = join(directory, "x.caibx");
    const sink = teeSink(chunks, createIndexSink(chunks, createFileSink(path)));
    await sink.write(sampleFile(), 0);
    await assertRejects(async () => await sink.finish(sampleFile().length), IoError, "is full");
    await sink.abort();
    assertEquals(readdirSync(directory), []);
  });
});
