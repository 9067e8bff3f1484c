import { assertEquals, assertRejects } from "@std/assert";
import { truncateSync, writeFileSync } from "node:fs";
import { crc32 } from "node:zlib";
import { InputError, InterruptedError } from "../../lib/errors.ts";
import {
  CHECKSUM_PIECE_BYTES,
  ChecksumSink,
  findDamage,
} from "../../lib/bless/layered_checksums.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";
import { withDirectory } from "../source/helpers.ts";

const SIZES = [0, 1, 4096, CHECKSUM_PIECE_BYTES - 1, CHECKSUM_PIECE_BYTES, CHECKSUM_PIECE_BYTES + 1]
  .flatMap((size) => [size, size + 2 * CHECKSUM_PIECE_BYTES]);

function sampleBytes(sizeBytes: number): Uint8Array {
  return new Uint8Array(sizeBytes).map((_, i) => (i * 7 + (i >> 9)) & 0xff);
}

function checksumsOf(bytes: Uint8Array) {
  const sink = new ChecksumSink();
  sink.write(bytes, 0);
  sink.finish(bytes.length);
  return sink.checksums;
}

Deno.test("ChecksumSink gives the CRC-32 of every piece, however the bytes come", () => {
  for (const sizeBytes of SIZES) {
    const bytes = sampleBytes(sizeBytes);
    const wanted: number[] = [];
    for (let at = 0; at < sizeBytes; at += CHECKSUM_PIECE_BYTES) {
      wanted.push(crc32(bytes.subarray(at, at + CHECKSUM_PIECE_BYTES)));
    }
    assertEquals(checksumsOf(bytes), { sizeBytes, crc32s: wanted });
    const sink = new ChecksumSink();
    for (let at = 0; at < sizeBytes; at += 300_001) {
      sink.write(bytes.subarray(at, at + 300_001), at);
    }
    sink.finish(sizeBytes);
    assertEquals(sink.checksums.crc32s, wanted);
  }
});

Deno.test("ChecksumSink takes holes for zeros, at the end too", () => {
  const bytes = new Uint8Array(3 * CHECKSUM_PIECE_BYTES + 500);
  const at = CHECKSUM_PIECE_BYTES + 77;
  bytes.fill(9, at, at + 1000);
  const sink = new ChecksumSink();
  sink.write(bytes.subarray(at, at + 1000), at);
  sink.finish(bytes.length);
  assertEquals(sink.checksums, checksumsOf(bytes));
});

Deno.test("findDamage accepts a whole file and finds a changed byte anywhere, and another length", async () => {
  await withDirectory(async (directory) => {
    const path = `${directory}/file`;
    const options = { progress: NO_PROGRESS };
    const bytes = sampleBytes(2 * CHECKSUM_PIECE_BYTES + 5);
    const checksums = checksumsOf(bytes);
    writeFileSync(path, bytes);
    assertEquals(await findDamage(path, checksums, options), undefined);
    const ends = [0, CHECKSUM_PIECE_BYTES - 1, CHECKSUM_PIECE_BYTES, bytes.length - 1];
    for (const at of ends) {
      bytes[at]! ^= 0x10;
      writeFileSync(path, bytes);
      bytes[at]! ^= 0x10;
      const start = at - at % CHECKSUM_PIECE_BYTES;
      const end = Math.min(start + CHECKSUM_PIECE_BYTES, bytes.length) - 1;
      const found = await findDamage(path, checksums, options);
      assertEquals(found?.startsWith(`was changed in bytes ${start} to ${end}: `), true, found);
    }
    truncateSync(path, bytes.length - 1);
    const found = await findDamage(path, checksums, options);
    assertEquals(found, `has ${bytes.length - 1} bytes: wanted ${bytes.length}`);
    const missing = () => findDamage(`${directory}/none`, checksums, options);
    await assertRejects(missing, InputError, "does not exist: wanted an image of a layer");
  });
});

Deno.test("findDamage stops when it is told to", async () => {
  await withDirectory(async (directory) => {
    const path = `${directory}/file`;
    writeFileSync(path, "");
    truncateSync(path, 80 * CHECKSUM_PIECE_BYTES);
    const sink = new ChecksumSink();
    sink.finish(80 * CHECKSUM_PIECE_BYTES);
    const signal = AbortSignal.abort();
    await assertRejects(
      () => findDamage(path, sink.checksums, { signal, progress: NO_PROGRESS }),
      InterruptedError,
    );
  });
});
