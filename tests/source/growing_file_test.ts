import { assertEquals, assertRejects } from "@std/assert";
import { growingPieces } from "../../lib/source/growing_file.ts";
import { PIECE_BYTES } from "../../lib/source/layer_job.ts";
import { noise } from "./helpers.ts";

/** A file that is as long as `lengths` says, look by look, and its whole content. */
function growing(bytes: Uint8Array, lengths: readonly number[]) {
  let looks = 0;
  const length = () => lengths[Math.min(looks, lengths.length) - 1] ?? 0;
  return {
    isComplete: () => ++looks >= lengths.length,
    readAt: (target: Uint8Array, position: number) => {
      const part = bytes.subarray(position, Math.min(position + target.length, length()));
      target.set(part);
      return part.length;
    },
  };
}

Deno.test("growingPieces gives all of a file, however it grows, in full pieces", async () => {
  const bytes = noise(2 * PIECE_BYTES + 5);
  const ways = [
    [bytes.length],
    [0, 0, 1, 1, PIECE_BYTES, bytes.length],
    [PIECE_BYTES - 1, PIECE_BYTES + 1, 2 * PIECE_BYTES, bytes.length],
    // All of it was there before it was known to be all.
    [bytes.length, bytes.length, bytes.length, bytes.length],
  ];
  for (const lengths of ways) {
    const { readAt, isComplete } = growing(bytes, lengths);
    const found = new Uint8Array(bytes.length);
    const sizes: number[] = [];
    let at = 0;
    for await (const piece of growingPieces(readAt, isComplete)) {
      found.set(piece, at);
      at += piece.length;
      sizes.push(piece.length);
    }
    assertEquals(sizes, [PIECE_BYTES, PIECE_BYTES, 5]);
    assertEquals(found, bytes);
  }
});

Deno.test("growingPieces ends with the last full piece, and gives nothing of an empty file", async () => {
  for (const count of [0, 1, 2]) {
    const { readAt, isComplete } = growing(noise(count * PIECE_BYTES), [0, count * PIECE_BYTES]);
    let pieces = 0;
    for await (const piece of growingPieces(readAt, isComplete)) {
      assertEquals(piece.length, PIECE_BYTES);
      pieces++;
    }
    assertEquals(pieces, count);
  }
});

Deno.test("growingPieces gives up when it is told that the file will not be whole", async () => {
  let looks = 0;
  const isComplete = () => {
    if (++looks === 3) throw new Error("the program died");
    return false;
  };
  const read = async () => {
    for await (const piece of growingPieces(() => 0, isComplete)) assertEquals(piece.length, 0);
  };
  await assertRejects(read, Error, "the program died");
});
