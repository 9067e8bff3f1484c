import { assertEquals } from "@std/assert";
import { EMPTY_PAYLOAD_INDEX } from "../../lib/model/payload.ts";
import { PayloadCollector } from "../../lib/tar/payload_collector.ts";

Deno.test("PayloadCollector takes what belongs to the payload and leaves the rest of the chunk", () => {
  const collector = new PayloadCollector();
  const segments = [
    { fileOffset: 10, storeOffset: 512, lengthBytes: 3 },
    { fileOffset: 4090, storeOffset: 515, lengthBytes: 10 },
  ];
  collector.begin(segments, 9000, 13);
  const chunk = new Uint8Array(20).fill(1);
  assertEquals([collector.push(chunk, 18), collector.remaining], [2, 11]);
  assertEquals([collector.push(chunk, 5), collector.remaining], [11, 0]);
  assertEquals(collector.extraPieces, 1);
  const payload = collector.finish();
  assertEquals(payload.dataRuns, [{ startBlock: 0, blockCount: 2 }]);
  assertEquals([payload.sizeBytes, payload.segments], [9000, segments]);
});

Deno.test("PayloadCollector counts segments and runs beyond the first of each", () => {
  const collector = new PayloadCollector();
  const sizeBytes = 5 * 4096;
  const data = new Uint8Array(sizeBytes);
  for (const block of [0, 2, 4]) data[block * 4096] = 1;
  collector.begin(
    [{ fileOffset: 0, storeOffset: 0, lengthBytes: sizeBytes }],
    sizeBytes,
    sizeBytes,
  );
  assertEquals(collector.extraPieces, 0);
  collector.push(data, 0);
  assertEquals(collector.extraPieces, 2);
  assertEquals(collector.finish().dataRuns.length, 3);
});

Deno.test("PayloadCollector gives empty files one and the same index, and goes on after them", () => {
  const collector = new PayloadCollector();
  collector.begin([], 0, 0);
  assertEquals(collector.finish() === EMPTY_PAYLOAD_INDEX, true);
  collector.begin([], 5000, 0);
  assertEquals(collector.finish(), { sizeBytes: 5000, segments: [], dataRuns: [], contentHash: 0 });
});
