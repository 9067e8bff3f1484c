import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { crc32 } from "node:zlib";
import { EMPTY_PAYLOAD_INDEX } from "../../lib/model/node.ts";
import { PayloadCollector, type PayloadScan, PayloadScanner } from "../../lib/tar/payload.ts";

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

/** What a scan must find, done the slow way over the whole content. */
function expectedScan(content: Uint8Array): PayloadScan {
  const dataRuns: { startBlock: number; blockCount: number }[] = [];
  let contentHash = 0;
  for (let block = 0; block * 4096 < content.length; block++) {
    const bytes = new Uint8Array(4096);
    bytes.set(content.subarray(block * 4096, block * 4096 + 4096));
    if (bytes.every((byte) => byte === 0)) continue;
    contentHash = crc32(bytes, contentHash);
    const last = dataRuns.at(-1);
    if (last && last.startBlock + last.blockCount === block) last.blockCount++;
    else dataRuns.push({ startBlock: block, blockCount: 1 });
  }
  return { dataRuns, contentHash };
}

/** Scans pieces `[fileOffset, end)` of the content, each cut at the given lengths, at a given alignment in memory. */
function scanPieces(
  scanner: PayloadScanner,
  content: Uint8Array,
  pieces: readonly (readonly [number, number])[],
  cuts: readonly number[],
  misalign = 0,
): PayloadScan {
  let turn = 0;
  for (const [start, end] of pieces) {
    for (let at = start; at < end;) {
      const length = Math.min(end - at, cuts[turn++ % cuts.length]!);
      const chunk = new Uint8Array(length + misalign + 1).fill(0xee);
      chunk.set(content.subarray(at, at + length), misalign);
      scanner.push(at, chunk, misalign, misalign + length);
      at += length;
    }
  }
  return scanner.finish();
}

function contentOf(sizeBytes: number, marks: readonly number[]): Uint8Array {
  const content = new Uint8Array(sizeBytes);
  for (const mark of marks) if (mark < sizeBytes) content[mark] = 1 + mark % 255;
  return content;
}

Deno.test("PayloadScanner finds single bytes at the edges of blocks, in any cut", () => {
  const content = contentOf(10 * 4096 + 5, [
    4095,
    3 * 4096,
    4 * 4096 + 4095,
    8 * 4096,
    10 * 4096 + 4,
  ]);
  const expected = expectedScan(content);
  assertEquals(expected.dataRuns.length, 4);
  for (const cut of [1, 511, 512, 4095, 4096, 4097, 8192, 100000]) {
    for (const misalign of [0, 1, 2, 4]) {
      const scan = scanPieces(
        new PayloadScanner(),
        content,
        [[0, content.length]],
        [cut],
        misalign,
      );
      assertEquals(scan, expected, `cut ${cut}, misaligned by ${misalign}`);
    }
  }
});

Deno.test("PayloadScanner gives the same scan for stored zeros and for holes", () => {
  const content = contentOf(9 * 4096, [5000, 5100, 20000, 24575, 24576]);
  const expected = expectedScan(content);
  const holes = [[5000, 5101], [20000, 20001], [24575, 24577]] as const;
  assertEquals(scanPieces(new PayloadScanner(), content, holes, [1]), expected);
  assertEquals(scanPieces(new PayloadScanner(), content, holes, [4096]), expected);
  assertEquals(scanPieces(new PayloadScanner(), content, [[0, content.length]], [4096]), expected);
});

Deno.test("PayloadScanner takes a block of nothing but stored zeros for a hole", () => {
  const scan = scanPieces(
    new PayloadScanner(),
    new Uint8Array(20000),
    [[100, 200], [5000, 15000]],
    [700],
  );
  assertEquals(scan, { dataRuns: [], contentHash: 0 });
});

Deno.test("PayloadScanner is ready for the next file after finish, and gives each its own runs", () => {
  const scanner = new PayloadScanner();
  const first = contentOf(6000, [10, 5000]);
  const second = contentOf(5000, [4999]);
  const a = scanPieces(scanner, first, [[0, 6000]], [6000]);
  const b = scanPieces(scanner, second, [[0, 5000]], [6000]);
  assertEquals(a, expectedScan(first));
  assertEquals(b, expectedScan(second));
});

Deno.test("PayloadScanner agrees with a scan of the whole content for any pieces and cuts", () => {
  const bounds = fc.array(fc.nat(40000), { minLength: 2, maxLength: 12 });
  fc.assert(
    fc.property(
      bounds,
      fc.array(fc.integer({ min: 1, max: 9000 }), { minLength: 1, maxLength: 5 }),
      fc.array(fc.nat(40000), { maxLength: 12 }),
      (edges, cuts, marks) => {
        const sorted = [...new Set(edges)].sort((a, b) => a - b);
        const pieces: [number, number][] = [];
        for (let i = 0; i + 1 < sorted.length; i += 2) pieces.push([sorted[i]!, sorted[i + 1]!]);
        const content = new Uint8Array(40001);
        for (const mark of marks) {
          if (pieces.some(([start, end]) => mark >= start && mark < end)) content[mark] = 7;
        }
        assertEquals(
          scanPieces(new PayloadScanner(), content, pieces, cuts),
          expectedScan(content),
        );
      },
    ),
    { numRuns: 300 },
  );
});
