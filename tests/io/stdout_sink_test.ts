import { assertEquals, assertLessOrEqual, assertRejects, assertThrows } from "@std/assert";
import { Buffer } from "node:buffer";
import { InterruptedError } from "../../lib/errors.ts";
import { createStdoutSink } from "../../lib/io/sink.ts";

const MIB = 1 << 20;

/** Collects copies of what is written, and fails when a write begins before the one before it ended. */
function collector() {
  const pieces: Uint8Array[] = [];
  let busy = false;
  return {
    pieces,
    async write(bytes: Uint8Array): Promise<void> {
      if (busy) throw new Error("two writes at a time");
      busy = true;
      await Promise.resolve();
      pieces.push(bytes.slice());
      busy = false;
    },
  };
}

Deno.test("createStdoutSink emits holes as zeros, in pieces of at most 1 MiB, waiting for each", async () => {
  const out = collector();
  const sink = createStdoutSink(out.write);
  const expected = Buffer.alloc(7 * MIB + 5);
  const pieces: [offset: number, length: number, fill: number][] = [
    [3, 10, 1],
    [4096, MIB - 4096, 2],
    [MIB, 1, 3],
    [MIB + 2, 2 * MIB + 1, 4],
    [6 * MIB, 0, 0],
    [6 * MIB + 1, MIB - 1, 5],
  ];
  for (const [offset, length, fill] of pieces) {
    const bytes = new Uint8Array(length).fill(fill);
    expected.set(bytes, offset);
    await sink.write(bytes, offset);
    bytes.fill(0xee);
  }
  await sink.finish(expected.length);
  for (const piece of out.pieces) assertLessOrEqual(piece.length, MIB);
  assertEquals(Buffer.concat(out.pieces).equals(expected), true);
});

Deno.test("createStdoutSink makes an image of zeros without any write", async () => {
  const out = collector();
  const sink = createStdoutSink(out.write);
  await sink.finish(2 * MIB + 1);
  assertEquals(out.pieces.map((piece) => piece.length), [MIB, MIB, 1]);
});

Deno.test("createStdoutSink holds small writes back and emits nothing for an empty image", async () => {
  const out = collector();
  const sink = createStdoutSink(out.write);
  assertEquals(sink.write(new Uint8Array(10), 0), undefined);
  assertEquals(out.pieces.length, 0);
  const empty = collector();
  await createStdoutSink(empty.write).finish(0);
  assertEquals(empty.pieces, []);
});

Deno.test("createStdoutSink passes on the writer's failure and emits nothing after abort", async () => {
  const failing = createStdoutSink(() => Promise.reject(new Error("the pipe is closed")));
  await failing.write(new Uint8Array(MIB + 1), 0);
  await assertRejects(async () => await failing.finish(MIB + 1), Error, "the pipe is closed");
  const out = collector();
  const sink = createStdoutSink(out.write);
  await sink.write(new Uint8Array(10), 0);
  sink.abort();
  await assertRejects(async () => await sink.finish(10), InterruptedError);
  assertThrows(() => sink.write(new Uint8Array(10), 10), InterruptedError);
  assertEquals(out.pieces, []);
});

Deno.test("createStdoutSink refuses to go back", async () => {
  const sink = createStdoutSink(collector().write);
  await sink.write(new Uint8Array(10), 5);
  assertThrows(() => sink.write(new Uint8Array(1), 14), Error, "write at 14");
  await assertRejects(async () => await sink.finish(14), Error, "image ends at 14");
});
