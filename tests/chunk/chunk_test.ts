import { assert, assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../lib/errors.ts";
import {
  checkChunkSize,
  checkZstdLevel,
  CHUNK_DIGESTS,
  chunkFolder,
  chunkId,
  chunkPath,
  compressChunk,
  decompressChunk,
  STORED_BYTES_MAX,
} from "../../lib/chunk/chunk.ts";
import { Buffer } from "node:buffer";
import { CHUNK_BYTES, noise, sampleFile } from "./helpers.ts";

Deno.test("chunkId is the digest that casync calls 128 KiB of zeros by", () => {
  assertEquals(CHUNK_DIGESTS.map((digest) => chunkId(new Uint8Array(131072), digest)), [
    "99ebf423818423d06dbef83065deee646a5c32ddaf444cccd0a520fd92b5cded",
    "fa43239bcee7b97ca62f007cc68487560a39e19f74f3dde7486db3f98df8e471",
  ]);
});

Deno.test("chunkPath has a folder of four digits and the ending of compressed chunks", () => {
  const id = "0123456789abcdef".repeat(4);
  assertEquals(chunkFolder(id), "0123");
  assertEquals(chunkPath(id), `0123/${id}.cacnk`);
});

Deno.test("checkChunkSize takes what a grid can be and nothing else", () => {
  for (let bytes = 4096; bytes <= 1 << 24; bytes *= 2) checkChunkSize(bytes, "--grid");
  for (const bytes of [0, 1, 2048, 4095, 4097, 131073, 2 << 24, NaN, Infinity, -4096, 4096.5]) {
    assertThrows(
      () => checkChunkSize(bytes, "--grid"),
      UsageError,
      "--grid: wanted a power of two",
    );
  }
});

/** A frame with one raw block, made by hand: magic, a single segment of a four-byte size, the block. */
function rawFrame(content: Uint8Array): Buffer {
  const frame = Buffer.alloc(12 + content.length);
  frame.writeUInt32LE(0xfd2fb528, 0);
  frame[4] = 0xa0;
  frame.writeUInt32LE(content.length, 5);
  frame.writeUIntLE(1 | content.length << 3, 9, 3);
  frame.set(content, 12);
  return frame;
}

/** Bytes compare as equal only when they are of one class. */
function contentOf(stored: Uint8Array, mostBytes: number): Uint8Array {
  return Uint8Array.from(decompressChunk(stored, mostBytes) ?? []);
}

Deno.test("compressChunk makes one frame that states its size, and nothing behind it", () => {
  const contents = [1, 255, 256, 4096, 65535, 65536, 65791, 65792, CHUNK_BYTES, 1 << 20]
    .flatMap((size) => [noise(size), new Uint8Array(size), sampleFile().subarray(0, size)]);
  for (const content of contents) {
    for (const level of [1, 3, 9]) {
      const stored = compressChunk(content, level);
      assert(stored.length <= STORED_BYTES_MAX);
      assertEquals(contentOf(stored, content.length), Uint8Array.from(content));
      // With an empty frame behind, as casync would refuse it.
      const longer = Buffer.concat([stored, Buffer.from("28b52ffd2000010000", "hex")]);
      assertEquals(decompressChunk(longer, content.length), undefined);
      assertEquals(Buffer.compare(compressChunk(content, level), stored), 0);
    }
  }
  assertEquals(compressChunk(new Uint8Array(CHUNK_BYTES), 3).length, 22);
});

Deno.test("decompressChunk reads frames of other writers", () => {
  const content = noise(5000);
  assertEquals(contentOf(rawFrame(content), 5000), content);
});

Deno.test("decompressChunk gives nothing, and no exception, for what is no whole chunk", () => {
  const stored = compressChunk(sampleFile().subarray(0, CHUNK_BYTES), 3);
  for (let length = 0; length < stored.length; length += length < 40 ? 1 : 997) {
    assertEquals(decompressChunk(stored.subarray(0, length), CHUNK_BYTES), undefined);
  }
  assertEquals(decompressChunk(noise(4000), CHUNK_BYTES), undefined);
  assertEquals(decompressChunk(stored, CHUNK_BYTES - 1), undefined);
  for (let at = 4; at < stored.length; at += 13) {
    const bad = stored.slice();
    bad[at]! ^= 0x10;
    const content = decompressChunk(bad, CHUNK_BYTES);
    assert(content === undefined || content.length <= CHUNK_BYTES);
  }
});

Deno.test("decompressChunk does not unpack a bomb", () => {
  // Says 100 bytes; repeats a byte 128 KiB at a time.
  const block = Buffer.from([0x02, 0x00, 0x10, 0x00]);
  const bomb = Buffer.concat([
    Buffer.from("28b52ffd0058", "hex"),
    ...Array.from({ length: 20_000 }, () => block),
    Buffer.from([0x01, 0x00, 0x00]),
  ]);
  assertEquals(decompressChunk(bomb, CHUNK_BYTES), undefined);
});

Deno.test("checkZstdLevel takes 1 to 19", () => {
  for (let level = 1; level <= 19; level++) checkZstdLevel(level);
  for (const level of [0, 20, -1, 1.5, NaN]) {
    assertThrows(() => checkZstdLevel(level), UsageError, "zstdLevel: wanted 1 to 19");
  }
});
