import { assertEquals } from "@std/assert";
import { releaseAsWritten } from "../../lib/bless/release_stores.ts";
import type { PayloadWrite } from "../../lib/ext4/plan/image_plan.ts";
import type { RandomReader } from "../../lib/io/random_reader.ts";
import type { DataSegment } from "../../lib/model/payload.ts";

/** A store that notes what it gives back. */
function storeOf(name: string, freed: string[], partCount?: number): RandomReader {
  return {
    name,
    sizeBytes: 1 << 20,
    readAt: () => 0,
    close: () => freed.push(name),
    ...partCount === undefined ? {} : {
      parts: {
        count: partCount,
        partBytes: 8192,
        release: (index: number) => freed.push(`${name}${index}`),
      },
    },
  };
}

function write(
  store: RandomReader,
  segments: readonly DataSegment[],
  logicalBlock = 0,
  blockCount = 1,
): PayloadWrite {
  const payload = { sizeBytes: 1 << 20, segments, dataRuns: [], contentHash: 0, store };
  return { startBlock: 0, blockCount, logicalBlock, payload };
}

function segment(storeOffset: number, lengthBytes: number, fileOffset = 0): DataSegment {
  return { fileOffset, storeOffset, lengthBytes };
}

/** What is freed before the first write, and after each. */
function schedule(payload: PayloadWrite[], stores: RandomReader[], freed: string[]): string[][] {
  const onWritten = releaseAsWritten(stores, { payload });
  const steps = [freed.splice(0)];
  for (const one of payload) {
    onWritten(one);
    steps.push(freed.splice(0));
  }
  return steps;
}

Deno.test("releaseAsWritten closes a store after the last write that reads it, others at once", () => {
  const freed: string[] = [];
  const [a, b, unread] = [storeOf("a", freed), storeOf("b", freed), storeOf("unread", freed)];
  const other = storeOf("not one of the layers", freed);
  const of = (store: RandomReader) => write(store, [segment(0, 4096)]);
  assertEquals(
    schedule([of(a), of(b), of(other), of(a), of(b)], [a, b, unread], freed),
    [["unread"], [], [], [], ["a"], ["b"]],
  );
});

Deno.test("releaseAsWritten frees each part of a store after the last write that reads it", () => {
  const freed: string[] = [];
  const store = storeOf("s", freed, 5);
  const writes = [
    write(store, [segment(512, 4096)]),
    // Over the border of two parts, and one of them is read again.
    write(store, [segment(8191, 2)]),
    write(store, [segment(8192, 8192)], 0, 2),
    // Only the second half of this file.
    write(store, [segment(16_384, 16_384)], 2, 2),
  ];
  assertEquals(schedule(writes, [store], freed), [["s2", "s4"], [], ["s0"], ["s1"], ["s3"]]);
});

Deno.test("releaseAsWritten takes a sparse file for one stretch, and what is behind the parts for the last", () => {
  const freed: string[] = [];
  const store = storeOf("s", freed, 3);
  const sparse = [segment(20, 100), segment(8000, 8000, 1 << 16), segment(100_000, 5, 1 << 19)];
  const writes = [write(store, sparse), write(store, sparse, 16), write(store, [segment(0, 1)])];
  assertEquals(schedule(writes, [store], freed), [[], [], ["s1", "s2"], ["s0"]]);
});
