import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { ChunkSink } from "../../lib/chunk/chunk_sink.ts";
import { chunkId, decompressChunk } from "../../lib/chunk/chunk.ts";
import { CHUNK_BYTES, idAt, MemoryStore, noise, sampleFile, store, uploaderOf } from "./helpers.ts";

const OPTIONS = { chunkBytes: CHUNK_BYTES, digest: "sha512-256" } as const;

Deno.test("ChunkSink puts a file into the store that its index gives back", async () => {
  for (const file of [sampleFile(), noise(70 * 4096 + 1), new Uint8Array(0), noise(1)]) {
    const memory = new MemoryStore();
    const { index, counts } = await store(file, uploaderOf(memory), { chunkBytes: 4096 });
    const pieces = Array.from(
      { length: counts.chunks },
      (_, i) => decompressChunk(memory.chunks.get(idAt(index, i))!, 4096)!,
    );
    assertEquals(Uint8Array.from(pieces.flatMap((piece) => [...piece])), file);
    assertEquals(index.sizeBytes, file.length);
    assertEquals(memory.chunks.size, counts.distinctChunks);
  }
});

Deno.test("ChunkSink takes holes for zeros and stores one chunk of them", async () => {
  const memory = new MemoryStore();
  const sink = new ChunkSink(uploaderOf(memory), OPTIONS);
  await sink.write(noise(100), 5 * CHUNK_BYTES + 7);
  await sink.finish(5000 * CHUNK_BYTES);
  const { counts, index } = sink;
  assertEquals([counts.chunks, counts.zeroChunks, counts.distinctChunks], [5000, 4999, 2]);
  assertEquals([counts.newChunks, memory.chunks.size], [2, 2]);
  const zeroId = chunkId(new Uint8Array(CHUNK_BYTES), "sha512-256");
  assertEquals(memory.chunks.get(zeroId)!.length, 22);
  for (const i of [0, 4, 6, 4999]) assertEquals(idAt(index, i), zeroId);
  assert(idAt(index, 5) !== zeroId);
});

Deno.test("ChunkSink gives the same index however the file is written", async () => {
  const file = sampleFile();
  const wanted = (await store(file, uploaderOf(new MemoryStore()))).index;
  for (const step of [1000, 4096, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES]) {
    const sink = new ChunkSink(uploaderOf(new MemoryStore()), OPTIONS);
    for (let at = 0; at < file.length; at += step) {
      await sink.write(file.subarray(at, at + step), at);
    }
    await sink.finish(file.length);
    assertEquals(sink.index, wanted);
  }
});

Deno.test("ChunkSink has no index before its end, and its chunks are settled then", async () => {
  const memory = new MemoryStore();
  const sink = new ChunkSink(uploaderOf(memory), OPTIONS);
  await sink.write(noise(CHUNK_BYTES), 0);
  assertThrows(() => sink.index, Error, "has not ended");
  await sink.finish(CHUNK_BYTES);
  assertEquals([sink.index.ids.length, memory.settledCount], [32, 1]);
});

Deno.test("ChunkSink refuses an image with more chunks than an index can have", async () => {
  const sink = new ChunkSink(uploaderOf(new MemoryStore()), { ...OPTIONS, chunkBytes: 4096 });
  await assertRejects(
    async () => await sink.finish(4096 * (2 ** 25 + 1)),
    InputError,
    "more than 33554432 chunks of 4096 bytes",
  );
});
