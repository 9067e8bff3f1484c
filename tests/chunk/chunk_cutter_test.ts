import { assert, assertEquals, assertThrows } from "@std/assert";
import { ChunkCutter } from "../../lib/chunk/chunk_sink.ts";
import { noise } from "./helpers.ts";

const SIZE = 4096;

/** Puts the pieces together again; zeros are counted apart. */
function cut(writes: readonly [offset: number, bytes: Uint8Array][], sizeBytes: number) {
  const cutter = new ChunkCutter(SIZE);
  const lengths: number[] = [];
  let zeroChunks = 0;
  const whole: number[] = [];
  const take = (pieces: ReturnType<ChunkCutter["write"]>) => {
    for (const piece of pieces) {
      if (piece instanceof Uint8Array) {
        lengths.push(piece.length);
        whole.push(...piece);
      } else {
        zeroChunks += piece.zeroChunks;
        for (let i = 0; i < piece.zeroChunks * SIZE; i++) whole.push(0);
      }
    }
  };
  for (const [offset, bytes] of writes) take(cutter.write(bytes, offset));
  take(cutter.finish(sizeBytes));
  return { whole: Uint8Array.from(whole), zeroChunks, lengths };
}

Deno.test("ChunkCutter cuts what any writes make up, holes as zeros", () => {
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

Deno.test("ChunkCutter counts chunks of zeros however they come", () => {
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

Deno.test("ChunkCutter gives the short last chunk as bytes, zeros or not", () => {
  assertEquals(cut([], 5).lengths, [5]);
  assertEquals(cut([[0, Uint8Array.of(1, 2)]], SIZE + 2), {
    whole: Uint8Array.of(1, 2, ...new Uint8Array(SIZE)),
    zeroChunks: 0,
    lengths: [SIZE, 2],
  });
  assertEquals(cut([], 0), { whole: new Uint8Array(0), zeroChunks: 0, lengths: [] });
});

Deno.test("ChunkCutter refuses to go back", () => {
  assertThrows(() => cut([[10, Uint8Array.of(1)], [10, Uint8Array.of(1)]], 20), Error, "at 10");
  assertThrows(() => cut([[10, Uint8Array.of(1)]], 10), Error, "the end 10");
});

Deno.test("ChunkCutter skips a hole of a terabyte at once", () => {
  const cutter = new ChunkCutter(SIZE);
  assertEquals([...cutter.finish(2 ** 40)], [{ zeroChunks: 2 ** 28 }]);
});
