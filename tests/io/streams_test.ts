import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { InputError, InterruptedError, IoError } from "../../lib/errors.ts";
import { memoryReader, type RandomReader } from "../../lib/io/random_reader.ts";
import {
  type AsyncReader,
  type BytesSource,
  byteStream,
  MemorySink,
  readerOf,
  toWritable,
} from "../../lib/io/streams.ts";

const MIB = 1 << 20;

Deno.test("MemorySink keeps an image with its holes, whatever its size", () => {
  for (const [offset, sizeBytes] of [[0, 4], [5, 100], [3 * MIB, 3 * MIB + 4], [7, 9 * MIB]]) {
    const sink = new MemorySink();
    assertThrows(() => sink.bytes, TypeError);
    sink.write(Uint8Array.of(1, 2, 3, 4), offset!);
    sink.finish(sizeBytes!);
    assertEquals(sink.bytes.length, sizeBytes);
    assertEquals([...sink.bytes.subarray(offset, offset! + 4)], [1, 2, 3, 4]);
    assertEquals(sink.bytes.reduce((sum, byte) => sum + byte, 0), 10);
    assertThrows(() => sink.write(Uint8Array.of(1), 0), Error, "after the end");
    sink.abort();
    assertThrows(() => sink.bytes, TypeError);
  }
});

Deno.test("toWritable writes every byte in order, and closes the stream", async () => {
  const pieces: Uint8Array[] = [];
  let isClosed = false;
  const sink = toWritable(
    new WritableStream({
      write: (piece) => void pieces.push(piece),
      close: () => void (isClosed = true),
    }),
  );
  await sink.write(Uint8Array.of(1, 2), 0);
  await sink.write(new Uint8Array(2 * MIB).fill(7), MIB + 3);
  await sink.finish(5 * MIB);
  assert(isClosed);
  const image = new Uint8Array(await new Blob(pieces as BlobPart[]).arrayBuffer());
  assertEquals(image.length, 5 * MIB);
  assertEquals([image[0], image[1], image[2], image[MIB + 3], image[3 * MIB + 3]], [1, 2, 0, 7, 0]);
});

Deno.test("toWritable waits for the reader, and tells of a stream that fails", async () => {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const sink = toWritable(writable);
  let isWritten = false;
  const written = Promise.resolve(sink.write(new Uint8Array(3 * MIB), 0)).then(() => {
    isWritten = true;
  });
  const reader = readable.getReader();
  assertEquals((await reader.read()).value?.length, MIB);
  assert(!isWritten);
  await reader.cancel(new Error("no more"));
  await assertRejects(() => written, Error, "no more");
  await sink.abort();
  let reason: unknown;
  const dropped = toWritable(new WritableStream({ abort: (why) => void (reason = why) }));
  await dropped.write(Uint8Array.of(1), 0);
  await dropped.abort();
  await dropped.abort();
  assertEquals((reason as Error).message, "the image was dropped");
});

function laterReader(bytes: Uint8Array, stepBytes: number): AsyncReader {
  const reader = memoryReader(bytes);
  return {
    sizeBytes: bytes.length,
    read: (target, position) =>
      Promise.resolve(reader.readAt(target.subarray(0, stepBytes), position)),
  };
}

Deno.test("readerOf reads bytes from everywhere", async () => {
  const directory = mkdtempSync(join(tmpdir(), "streams-"));
  try {
    const bytes = new Uint8Array(3 * MIB + 5).map((_, i) => i % 251);
    writeFileSync(join(directory, "file"), bytes);
    const sources: BytesSource[] = [
      join(directory, "file"),
      bytes,
      memoryReader(bytes),
      laterReader(bytes, 1000),
      laterReader(bytes, 2 * MIB),
      new Blob([bytes]).stream(),
      (async function* () {
        yield bytes.subarray(0, 3);
        yield await Promise.resolve(bytes.subarray(3));
      })(),
    ];
    for (const source of sources) {
      using reader = await readerOf(source, { temporaryDirectory: directory });
      assertEquals(reader.sizeBytes, bytes.length);
      const found = new Uint8Array(bytes.length);
      assertEquals(reader.readAt(found, 0), bytes.length);
      assertEquals(found, bytes);
      assertEquals(reader.readAt(found, bytes.length - 2), 2);
    }
    // Temporary files have no names.
    assertEquals(readdirSync(directory), ["file"]);
    const pieces: Uint8Array[] = [];
    for await (const piece of byteStream(memoryReader(bytes))) pieces.push(piece);
    assertEquals(new Uint8Array(await new Blob(pieces as BlobPart[]).arrayBuffer()), bytes);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

Deno.test("readerOf tells what went wrong, and closes what it is disposed of", async () => {
  const missing = await assertRejects(() => readerOf("/nowhere/file"), InputError);
  assertEquals(missing.code, "notFound");
  const short: AsyncReader = { sizeBytes: 10, read: () => Promise.resolve(0) };
  await assertRejects(() => readerOf(short), InputError, "ends at 0 of 10 bytes");
  await assertRejects(
    () => readerOf(new Blob(["x"]).stream(), { temporaryDirectory: "/nowhere" }),
    IoError,
  );
  const signal = AbortSignal.abort(new Error("enough"));
  const aborted = await assertRejects(
    () => readerOf(new Blob(["x"]).stream(), { signal }),
    InterruptedError,
  );
  assertEquals(aborted.cause, signal.reason);
  const stalled = new ReadableStream<Uint8Array>({ pull: () => new Promise<void>(() => {}) });
  const controller = new AbortController();
  const waiting = assertRejects(
    () => readerOf(stalled, { signal: controller.signal }),
    InterruptedError,
  );
  controller.abort();
  await waiting;
  let closes = 0;
  const inner: RandomReader = { ...memoryReader(new Uint8Array(1)), close: () => void closes++ };
  {
    using reader = await readerOf(inner);
    assertEquals(reader.name, "memory");
  }
  assertEquals(closes, 1);
});

Deno.test("readerOf and byteStream read streams of Node, which have a method read as well", async () => {
  const pieces = () => Readable.from([Uint8Array.of(1, 2), Uint8Array.of(3)]);
  using reader = await readerOf(pieces());
  assertEquals(reader.sizeBytes, 3);
  const read: number[] = [];
  for await (const piece of byteStream(pieces())) read.push(...piece);
  assertEquals(read, [1, 2, 3]);
});
