import { assertEquals } from "@std/assert";
import { PieceQueue } from "../../lib/source/piece_queue.ts";

Deno.test("PieceQueue gives pieces in order, whether they are there before the reader or after", async () => {
  const taken: number[] = [];
  const queue = new PieceQueue((piece) => taken.push(piece[0]!));
  const read: number[] = [];
  queue.add(new Uint8Array([1]));
  queue.add(new Uint8Array([2]));
  const reading = (async () => {
    for await (const piece of queue) read.push(piece[0]!);
  })();
  await new Promise((resolve) => setTimeout(resolve, 1));
  assertEquals(read, [1, 2]);
  queue.add(new Uint8Array([3]));
  queue.end();
  await reading;
  assertEquals(read, [1, 2, 3]);
  assertEquals(taken, [1, 2, 3]);
});

Deno.test("PieceQueue tells of a piece only when its reader asks for the next", async () => {
  const taken: number[] = [];
  const queue = new PieceQueue((piece) => taken.push(piece[0]!));
  queue.add(new Uint8Array([1]));
  const pieces = queue[Symbol.asyncIterator]();
  assertEquals((await pieces.next()).value, new Uint8Array([1]));
  assertEquals(taken, []);
  queue.end();
  assertEquals((await pieces.next()).done, true);
  assertEquals(taken, [1]);
});
