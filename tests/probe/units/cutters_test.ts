import { assertEquals, assertThrows } from "@std/assert";
import { crc32 } from "node:zlib";
import type { ImageSink } from "../../../lib/io/sink.ts";
import {
  Chunker,
  type ChunkerParameters,
  fastCdcParameters,
  GEAR_PARAMETERS,
} from "../../../lib/chunk/fastcdc.ts";
import { CellCutter, ChunkCutter, countNonZeroBytes } from "../../../probe/units/cutters.ts";
import { Random } from "../../oracle/noise.ts";

const BLOCK = 4096;

/** An image with runs of data and holes, and the writes that make it. */
function sparseImage(seed: number, sizeBytes: number) {
  const random = new Random(seed);
  const image = new Uint8Array(sizeBytes);
  const writes: [offset: number, bytes: Uint8Array][] = [];
  for (let at = random.below(3) * BLOCK; at < sizeBytes;) {
    const length = Math.min(1 + random.below(9 * BLOCK), sizeBytes - at);
    const bytes = Uint8Array.from({ length }, () => random.below(256));
    // Written zeros are as good as holes, and a zero block may lie inside a write.
    if (random.below(4) === 0) bytes.fill(0);
    if (random.below(4) === 0) bytes.fill(0, 0, Math.floor(length / 2));
    image.set(bytes, at);
    writes.push([at, bytes]);
    at += length + (random.below(3) === 0 ? random.below(300 * BLOCK) : random.below(2 * BLOCK));
  }
  return { image, writes };
}

function feed(sink: ImageSink, { image, writes }: ReturnType<typeof sparseImage>): void {
  for (const [offset, bytes] of writes) sink.write(bytes, offset);
  sink.finish(image.length);
}

/** Bytes from `start` to `end` in blocks of the image that are not all zeros. */
function rawBytesOf(image: Uint8Array, start: number, end: number): number {
  let count = 0;
  for (let at = start - start % BLOCK; at < end; at += BLOCK) {
    if (!image.subarray(at, at + BLOCK).some((byte) => byte !== 0)) continue;
    count += Math.max(0, Math.min(at + BLOCK, end, image.length) - Math.max(at, start));
  }
  return count;
}

Deno.test("CellCutter gives each cell that is not all zeros, whole, with its raw bytes", () => {
  for (let seed = 0; seed < 4; seed++) {
    const made = sparseImage(seed, 70 * BLOCK * (1 + seed) + (seed % 3) * 1000);
    for (const cellBytes of [2 * BLOCK, 32 * BLOCK]) {
      for (const shift of [0, 8192, cellBytes]) {
        const shifted = new Uint8Array(made.image.length + shift);
        shifted.set(made.image, shift);
        const expected: unknown[] = [];
        for (let at = 0; at < shifted.length; at += cellBytes) {
          const cell = shifted.slice(at, at + cellBytes);
          const raw = rawBytesOf(shifted, at, at + cell.length);
          if (raw > 0) expected.push([at / cellBytes, raw, crc32(cell)]);
        }
        const found: unknown[] = [];
        const receive = (cell: Uint8Array, index: number, raw: number) =>
          found.push([index, raw, crc32(cell)]);
        feed(new CellCutter(cellBytes, receive, shift), made);
        assertEquals(found, expected);
      }
    }
  }
});

Deno.test("CellCutter refuses writes that go back", () => {
  const cutter = new CellCutter(BLOCK, () => {});
  cutter.write(new Uint8Array(5000).fill(1), 0);
  assertThrows(() => cutter.write(new Uint8Array(1), 4999));
});

function expectedChunks(parameters: ChunkerParameters, image: Uint8Array): unknown[] {
  const expected: unknown[] = [];
  const chunker = new Chunker(parameters, (chunk, offset) => {
    if (chunk.every((byte) => byte === 0)) return;
    expected.push([crc32(chunk), rawBytesOf(image, offset, offset + chunk.length)]);
  });
  chunker.push(image);
  chunker.finish();
  return expected;
}

Deno.test("ChunkCutter gives the chunks of the whole image, with the bytes outside its zero blocks", () => {
  for (let seed = 0; seed < 3; seed++) {
    const made = sparseImage(seed, 300 * BLOCK + seed * 777);
    for (const parameters of [fastCdcParameters(16384), fastCdcParameters(1024), GEAR_PARAMETERS]) {
      const found: unknown[] = [];
      feed(new ChunkCutter(parameters, (chunk, raw) => found.push([crc32(chunk), raw])), made);
      assertEquals(found, expectedChunks(parameters, made.image));
    }
  }
});

Deno.test("countNonZeroBytes sees negative zeros, last bytes and short ends", () => {
  assertEquals(countNonZeroBytes(new Uint8Array(3 * BLOCK)), 0);
  const bytes = new Uint8Array(2 * BLOCK + 10);
  bytes[BLOCK - 1] = 0x80;
  assertEquals(countNonZeroBytes(bytes), BLOCK);
  bytes[2 * BLOCK + 9] = 1;
  assertEquals(countNonZeroBytes(bytes), BLOCK + 10);
});
