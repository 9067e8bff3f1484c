import { assertEquals } from "@std/assert";
import { NO_CHUNKS, sumOfCounts } from "../../lib/chunk/chunk_sink.ts";

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
