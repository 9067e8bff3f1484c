import {
  assertEquals,
  assertLessOrEqual,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { WriteGatherer } from "../../lib/io/sink.ts";

/** A gatherer with small pieces, and copies of what it passed on. */
function setUp(pieceBytes = 8, isLater = false) {
  const emitted: [offset: number, bytes: number[]][] = [];
  const gatherer = new WriteGatherer((bytes, offset) => {
    if (!isLater) return void emitted.push([offset, [...bytes]]);
    return Promise.resolve().then(() => void emitted.push([offset, [...bytes]]));
  }, pieceBytes);
  return { emitted, gatherer };
}

Deno.test("WriteGatherer joins what is adjacent and parts at a gap", async () => {
  const { emitted, gatherer } = setUp();
  await gatherer.write(Uint8Array.of(1, 2), 0);
  await gatherer.write(Uint8Array.of(3), 2);
  await gatherer.write(Uint8Array.of(4), 5);
  assertEquals(emitted, [[0, [1, 2, 3]]]);
  await gatherer.flush();
  await gatherer.flush();
  assertEquals(emitted, [[0, [1, 2, 3]], [5, [4]]]);
  assertEquals(gatherer.endOffset, 6);
});

Deno.test("WriteGatherer passes on the same bytes whatever the sizes and gaps", async () => {
  let state = 7;
  const random = (below: number) => (state = state * 48271 % 0x7fffffff) % below;
  for (let round = 0; round < 300; round++) {
    const { emitted, gatherer } = setUp(1 + random(9), round % 2 === 1);
    const expected = new Uint8Array(400);
    for (let offset = 0; offset < 300;) {
      const bytes = Uint8Array.from({ length: random(30) }, () => 1 + random(255));
      expected.set(bytes, offset);
      await gatherer.write(bytes, offset);
      bytes.fill(0);
      offset += bytes.length + (random(3) === 0 ? random(20) : 0);
    }
    await gatherer.flush();
    const found = new Uint8Array(400);
    let end = 0;
    for (const [offset, bytes] of emitted) {
      assertLessOrEqual(end, offset);
      end = offset + bytes.length;
      found.set(bytes, offset);
    }
    assertEquals(found, expected);
  }
});

Deno.test("WriteGatherer passes large writes on in whole pieces", async () => {
  const { emitted, gatherer } = setUp(4);
  await gatherer.write(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9), 4);
  assertEquals(emitted, [[4, [1, 2, 3, 4]], [8, [5, 6, 7, 8]]]);
  await gatherer.flush();
  assertEquals(emitted[2], [12, [9]]);
});

Deno.test("WriteGatherer passes a large write on as it is where nothing comes before it", async () => {
  const emitted: [offset: number, bytes: Uint8Array][] = [];
  const gatherer = new WriteGatherer(
    (bytes, offset) => void emitted.push([offset, bytes]),
    1 << 18,
  );
  const [large, small] = [new Uint8Array(64 << 10).fill(7), Uint8Array.of(1, 2)];
  assertEquals(gatherer.write(large, 0), undefined);
  assertStrictEquals(emitted[0]![1], large);
  await gatherer.write(small, large.length);
  await gatherer.write(large, large.length + 2);
  assertEquals(emitted.length, 1);
  await gatherer.write(large, 200_000);
  assertEquals(emitted.map(([offset, { length }]) => [offset, length]), [
    [0, 65_536],
    [65_536, 65_538],
    [200_000, 65_536],
  ]);
  assertEquals(gatherer.endOffset, 265_536);
});

Deno.test("WriteGatherer goes on while one piece is on its way, and waits with a second", async () => {
  const waiting: (() => void)[] = [];
  const begun: number[][] = [];
  const gatherer = new WriteGatherer((bytes) => {
    begun.push([...bytes]);
    return new Promise((resolve) => waiting.push(resolve));
  }, 2);
  await gatherer.write(Uint8Array.of(1, 2), 0);
  await gatherer.write(Uint8Array.of(3), 2);
  let isDone = false;
  const second = Promise.resolve(gatherer.write(Uint8Array.of(4), 3)).then(() => isDone = true);
  await new Promise((resolve) => setTimeout(resolve));
  assertEquals([begun, isDone], [[[1, 2]], false]);
  waiting.shift()!();
  await second;
  assertEquals(begun, [[1, 2], [3, 4]]);
  waiting.shift()!();
  await gatherer.flush();
});

Deno.test("WriteGatherer tells of a failure at the piece behind it, or in the end", async () => {
  for (const count of [2, 3, 5]) {
    const gatherer = new WriteGatherer(() => Promise.reject(new Error("broken")), 2);
    await gatherer.write(Uint8Array.of(1, 2), 0);
    await new Promise((resolve) => setTimeout(resolve));
    await assertRejects(
      async () => {
        for (let at = 2; at < count; at++) await gatherer.write(Uint8Array.of(1), at);
        await gatherer.flush();
      },
      Error,
      "broken",
    );
  }
});

Deno.test("WriteGatherer refuses to go back", async () => {
  const { gatherer } = setUp();
  await gatherer.write(Uint8Array.of(1, 2), 10);
  assertThrows(() => gatherer.write(Uint8Array.of(3), 11), Error, "write at 11 after the end 12");
});
