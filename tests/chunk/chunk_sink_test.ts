import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { InputError, InterruptedError, IoError, UsageError } from "../../lib/errors.ts";
import {
  ChunkSink,
  createCutter,
  createIndexSink,
  type CutPiece,
  NO_CHUNKS,
  sumOfCounts,
} from "../../lib/chunk/chunk_sink.ts";
import { chunkId, compressChunk, decompressChunk } from "../../lib/chunk/chunk.ts";
import {
  CHUNK_BYTES,
  idAt,
  MemoryStore,
  noise,
  sampleFile,
  store,
  uploaderOf,
  withDirectory,
} from "./helpers.ts";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { decodeChunkIndex } from "../../lib/chunk/chunk_index.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { teeSink } from "../../lib/io/sink.ts";
import { Buffer } from "node:buffer";

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

const SIZE = 4096;

/** Puts the pieces together again; zeros are counted apart. */
function cut(writes: readonly [offset: number, bytes: Uint8Array][], sizeBytes: number) {
  const lengths: number[] = [];
  let zeroChunks = 0;
  const whole: number[] = [];
  const cutter = createCutter({ chunkBytes: SIZE }, (piece) => {
    if (piece instanceof Uint8Array) {
      lengths.push(piece.length);
      whole.push(...piece);
    } else {
      zeroChunks += piece.zeroBytes / SIZE;
      for (let i = 0; i < piece.zeroBytes; i++) whole.push(0);
    }
  });
  for (const [offset, bytes] of writes) cutter.write(bytes, offset);
  cutter.finish(sizeBytes);
  return { whole: Uint8Array.from(whole), zeroChunks, lengths };
}

Deno.test("a cutter of chunks of one size cuts what any writes make up, holes as zeros", () => {
  const content = noise(20 * SIZE + 300, 5);
  content.fill(0, 2 * SIZE, 5 * SIZE).fill(0, 7 * SIZE + 9, 9 * SIZE + 1);
  let state = 1;
  const next = (below: number) => (state = state * 48271 % 2147483647) % below;
  for (let round = 0; round < 60; round++) {
    const writes: [number, Uint8Array][] = [];
    const expected = new Uint8Array(content.length);
    for (let at = next(3 * SIZE); at < content.length;) {
      const bytes = content.subarray(at, at + 1 + next(3 * SIZE));
      writes.push([at, bytes]);
      expected.set(bytes, at);
      at += bytes.length + (next(2) === 0 ? 0 : next(3 * SIZE));
    }
    const { whole, lengths } = cut(writes, content.length);
    assertEquals(whole, expected);
    assert(lengths.slice(0, -1).every((length) => length === SIZE));
  }
});

Deno.test("a cutter of chunks of one size counts chunks of zeros however they come", () => {
  const zeros = new Uint8Array(SIZE);
  assertEquals(cut([], 10 * SIZE), {
    whole: new Uint8Array(10 * SIZE),
    zeroChunks: 10,
    lengths: [],
  });
  assertEquals(cut([[0, zeros]], SIZE).zeroChunks, 1);
  assertEquals(cut([[100, zeros.subarray(0, 50)]], SIZE).zeroChunks, 1);
  assertEquals(cut([[0, Uint8Array.of(1)]], 3 * SIZE), {
    whole: Uint8Array.of(1, ...new Uint8Array(3 * SIZE - 1)),
    zeroChunks: 2,
    lengths: [SIZE],
  });
});

Deno.test("a cutter of chunks of one size gives the short last chunk as bytes, zeros or not", () => {
  assertEquals(cut([], 5).lengths, [5]);
  assertEquals(cut([[0, Uint8Array.of(1, 2)]], SIZE + 2), {
    whole: Uint8Array.of(1, 2, ...new Uint8Array(SIZE)),
    zeroChunks: 0,
    lengths: [SIZE, 2],
  });
  assertEquals(cut([], 0), { whole: new Uint8Array(0), zeroChunks: 0, lengths: [] });
});

Deno.test("a cutter of chunks of one size refuses to go back", () => {
  assertThrows(() => cut([[10, Uint8Array.of(1)], [10, Uint8Array.of(1)]], 20), Error, "at 10");
  assertThrows(() => cut([[10, Uint8Array.of(1)]], 10), Error, "the end 10");
});

Deno.test("a cutter of chunks of one size skips a hole of a terabyte at once", () => {
  const pieces: CutPiece[] = [];
  createCutter({ chunkBytes: SIZE }, (piece) => pieces.push(piece)).finish(2 ** 40);
  assertEquals(pieces, [{ zeroBytes: 2 ** 40 }]);
});

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

Deno.test("sumOfCounts adds every figure, and leaves what it is given alone", () => {
  const one = { ...NO_CHUNKS, chunks: 5, zeroChunks: 1, newBytes: 10 };
  const two = { ...NO_CHUNKS, chunks: 2, sentBytes: 7, reusedChunks: 3 };
  assertEquals(sumOfCounts([one, two]), {
    ...NO_CHUNKS,
    chunks: 7,
    zeroChunks: 1,
    newBytes: 10,
    sentBytes: 7,
    reusedChunks: 3,
  });
  assertEquals(sumOfCounts([]), { ...NO_CHUNKS });
  assertEquals(one.chunks, 5);
});
