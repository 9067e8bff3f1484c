import { assert, assertEquals, assertThrows } from "@std/assert";
import { createCutter, type CutPiece } from "../../lib/chunk/chunk_sink.ts";
import { noise } from "./helpers.ts";

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
