import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Buffer } from "node:buffer";
import { InputError, InterruptedError, IoError, UsageError } from "../../lib/errors.ts";
import { chunkId, compressChunk } from "../../lib/chunk/chunk.ts";
import { NO_CHUNKS } from "../../lib/chunk/chunk_sink.ts";
import { CHUNK_BYTES, MemoryStore, noise, store, uploaderOf } from "./helpers.ts";

const SMALL = { chunkBytes: 4096 };

Deno.test("ChunkUploader sends what is missing and counts what is there", async () => {
  const memory = new MemoryStore();
  const first = noise(10 * CHUNK_BYTES, 1);
  const { counts } = await store(first, uploaderOf(memory));
  assertEquals([counts.newChunks, counts.newBytes], [10, first.length]);
  assertEquals(counts.sentBytes, [...memory.chunks.values()].reduce((sum, c) => sum + c.length, 0));
  const second = first.slice();
  second[5 * CHUNK_BYTES]! ^= 1;
  const again = (await store(second, uploaderOf(memory))).counts;
  assertEquals([again.chunks, again.newChunks, again.reusedChunks], [10, 1, 9]);
  assertEquals(again.reusedBytes, 9 * CHUNK_BYTES);
  assertEquals(memory.chunks.size, 11);
});

Deno.test("ChunkUploader asks for and sends a chunk once, also for several files", async () => {
  const memory = new MemoryStore();
  const uploader = uploaderOf(memory);
  const file = noise(8 * CHUNK_BYTES);
  const doubled = new Uint8Array(2 * file.length);
  doubled.set(file);
  doubled.set(file, file.length);
  const one = await store(doubled, uploader);
  const two = await store(file, uploader);
  assertEquals([one.counts.chunks, one.counts.distinctChunks, one.counts.newChunks], [16, 8, 8]);
  assertEquals([two.counts.newChunks, two.counts.reusedChunks, memory.asked.length], [0, 8, 8]);
});

Deno.test("ChunkUploader keeps a bounded number of chunks on their way", async () => {
  const memory = new MemoryStore();
  memory.duringPut = () => new Promise((resolve) => setTimeout(resolve));
  const file = noise(200 * 4096);
  const { counts } = await store(file, uploaderOf(memory, { concurrency: 5 }), SMALL);
  assertEquals([counts.newChunks, memory.chunks.size, memory.underway], [200, 200, 0]);
  assert(memory.mostUnderway <= 5 && memory.mostUnderway > 1, `${memory.mostUnderway}`);
});

Deno.test("ChunkUploader remembers so many different chunks, over all files, and refuses one more", async () => {
  const memory = new MemoryStore();
  const uploader = uploaderOf(memory, { distinctChunksMax: 8 });
  const file = noise(8 * CHUNK_BYTES, 1);
  await store(file.subarray(0, 5 * CHUNK_BYTES), uploader);
  await store(file, uploader);
  await store(file, uploader);
  const why = "more than 8 different chunks";
  await assertRejects(() => store(noise(CHUNK_BYTES, 2), uploader), InputError, why);
  assertEquals(memory.chunks.size, 8);
});

Deno.test("ChunkUploader has the bytes of a chunk copied before the call returns", async () => {
  const memory = new MemoryStore();
  memory.duringPut = () => new Promise((resolve) => setTimeout(resolve));
  const uploader = uploaderOf(memory, { verifyStore: true });
  const bytes = noise(4096);
  const id = chunkId(bytes, "sha256");
  uploader.offer({ id, digest: "sha256", bytes, counts: { ...NO_CHUNKS } });
  bytes.fill(0);
  await uploader.settle();
  assertEquals(Buffer.compare(memory.chunks.get(id)!, compressChunk(noise(4096), 1)), 0);
});

Deno.test("ChunkUploader gives up at the first failure, waits for the rest, and settles nothing", async () => {
  const memory = new MemoryStore();
  let count = 0;
  memory.duringPut = async () => {
    await new Promise((resolve) => setTimeout(resolve, 1));
    if (++count === 20) throw new IoError("store", "is full");
  };
  const uploader = uploaderOf(memory, { concurrency: 4 });
  await assertRejects(() => store(noise(400 * 4096), uploader, SMALL), IoError, "store: is full");
  assertEquals([memory.underway, memory.settledCount], [0, 0]);
  assert(memory.chunks.size < 30);
});

Deno.test("ChunkUploader stops when it is told to", async () => {
  const memory = new MemoryStore();
  const controller = new AbortController();
  let count = 0;
  memory.duringPut = async () => {
    await Promise.resolve();
    if (++count === 9) controller.abort();
  };
  const uploader = uploaderOf(memory, { signal: controller.signal });
  await assertRejects(() => store(noise(100 * 4096), uploader, SMALL), InterruptedError);
  assertEquals([memory.underway, memory.settledCount], [0, 0]);
});

Deno.test("ChunkUploader in a dry run stores nothing and says how much it would", async () => {
  const real = new MemoryStore();
  const dry = new MemoryStore();
  const file = noise(6 * CHUNK_BYTES);
  await store(file.subarray(0, 2 * CHUNK_BYTES), uploaderOf(dry));
  await store(file.subarray(0, 2 * CHUNK_BYTES), uploaderOf(real));
  const { counts } = await store(file, uploaderOf(dry, { dryRun: true }));
  assertEquals([counts.newChunks, counts.reusedChunks, dry.chunks.size], [4, 2, 2]);
  assertEquals(counts, (await store(file, uploaderOf(real))).counts);
});

Deno.test("ChunkUploader that verifies finds a chunk that is not what it is called", async () => {
  const file = noise(3 * CHUNK_BYTES);
  const spoil: ((stored: Uint8Array) => Uint8Array)[] = [
    () => compressChunk(noise(CHUNK_BYTES, 9), 1),
    () => compressChunk(noise(CHUNK_BYTES - 1, 9), 1),
    (stored) => stored.subarray(0, stored.length - 1),
    (stored) => Buffer.concat([stored, Uint8Array.of(0)]),
    () => noise(300),
  ];
  for (const change of spoil) {
    const memory = new MemoryStore();
    await store(file, uploaderOf(memory));
    assertEquals(
      (await store(file, uploaderOf(memory, { verifyStore: true }))).counts.reusedChunks,
      3,
    );
    const id = chunkId(file.subarray(CHUNK_BYTES, 2 * CHUNK_BYTES), "sha512-256");
    memory.chunks.set(id, change(memory.chunks.get(id)!));
    await store(file, uploaderOf(memory));
    const error = await assertRejects(
      () => store(file, uploaderOf(memory, { verifyStore: true })),
      InputError,
    );
    assert(error.message.startsWith(`memory: chunk ${id.slice(0, 4)}/${id}.cacnk: is damaged: `));
    assert(error.hint?.includes("remove it"));
  }
});

Deno.test("ChunkUploader refuses a level that zstd has not", () => {
  assertThrows(() => uploaderOf(new MemoryStore(), { zstdLevel: 20 }), UsageError, "zstdLevel");
});

Deno.test("ChunkUploader counts a chunk that somebody else stored meanwhile as reused", async () => {
  const memory = new MemoryStore();
  memory.duringPut = (id) => {
    memory.chunks.set(id, Uint8Array.of(1));
    return Promise.resolve();
  };
  const { counts } = await store(noise(4 * 4096), uploaderOf(memory), SMALL);
  assertEquals([counts.newChunks, counts.reusedChunks, counts.sentBytes], [0, 4, 0]);
});
