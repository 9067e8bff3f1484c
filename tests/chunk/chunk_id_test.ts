import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../lib/errors.ts";
import {
  checkChunkSize,
  CHUNK_DIGESTS,
  chunkFolder,
  chunkId,
  chunkPath,
} from "../../lib/chunk/chunk.ts";

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
