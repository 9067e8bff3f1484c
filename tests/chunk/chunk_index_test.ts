import { assertEquals, assertThrows } from "@std/assert";
import { Buffer } from "node:buffer";
import { InputError } from "../../lib/errors.ts";
import {
  chunkCount,
  type ChunkIndex,
  decodeChunkIndex,
  encodeChunkIndex,
} from "../../lib/chunk/chunk_index.ts";
import { CHUNK_BYTES, idAt, MemoryStore, sampleFile, store, uploaderOf } from "./helpers.ts";

/** `casync make --chunk-size=131072:131072:131072 [--digest=sha256]` of the sample. */
const GOLDEN = {
  "sha512-256": `
    3000000000000000f99f127b9c4d829600000000000000b0000002000000000000000200000000000000020000000000
    ffffffffffffffff7d41172f119e5be7
    0000020000000000e9ad2e3ef745d855d4c794409925c4909dcdf55821423f4325e40a1a9760a926
    000004000000000099ebf423818423d06dbef83065deee646a5c32ddaf444cccd0a520fd92b5cded
    0000060000000000e9ad2e3ef745d855d4c794409925c4909dcdf55821423f4325e40a1a9760a926
    05000600000000008daa72b7cb6bb81488230b2c5245b31efa0fe3ef277a166cbebfd24a240d7089
    000000000000000000000000000000003000000000000000d800000000000000d1ec49550e054f4b`,
  "sha256": `
    3000000000000000f99f127b9c4d82960000000000000090000002000000000000000200000000000000020000000000
    ffffffffffffffff7d41172f119e5be7
    00000200000000009a49a3ecb397dcb2a33f81ef0c6dcb3e51bab75a3343f9971bafcfd935a70aa3
    0000040000000000fa43239bcee7b97ca62f007cc68487560a39e19f74f3dde7486db3f98df8e471
    00000600000000009a49a3ecb397dcb2a33f81ef0c6dcb3e51bab75a3343f9971bafcfd935a70aa3
    050006000000000001025336be19202eedfabc03b42cab846efcc72caf321eeeacd781c0e12fa25d
    000000000000000000000000000000003000000000000000d800000000000000d1ec49550e054f4b`,
};

function golden(digest: keyof typeof GOLDEN): Uint8Array {
  return Buffer.from(GOLDEN[digest].replace(/\s/g, ""), "hex");
}

function indexOf(sizeBytes: number, chunkBytes = CHUNK_BYTES): ChunkIndex {
  const index = { digest: "sha512-256", chunkBytes, sizeBytes } as const;
  const ids = new Uint8Array(chunkCount(index) * 32).map((_, i) => i);
  return { ...index, ids };
}

for (const digest of ["sha512-256", "sha256"] as const) {
  Deno.test(`encodeChunkIndex gives the bytes that casync gives, ${digest}`, async () => {
    const { index } = await store(sampleFile(), uploaderOf(new MemoryStore()), { digest });
    assertEquals(
      Buffer.from(encodeChunkIndex(index)).toString("hex"),
      Buffer.from(golden(digest)).toString("hex"),
    );
    assertEquals(decodeChunkIndex(golden(digest), "golden"), index);
    assertEquals(idAt(index, 0), idAt(index, 2));
  });
}

Deno.test("decodeChunkIndex reads what was encoded, for sizes around whole chunks", () => {
  for (const chunkBytes of [4096, CHUNK_BYTES, 1 << 20]) {
    for (const sizeBytes of [0, 1, chunkBytes - 1, chunkBytes, chunkBytes + 1, 5 * chunkBytes]) {
      const index = indexOf(sizeBytes, chunkBytes);
      const bytes = encodeChunkIndex(index);
      assertEquals(bytes.length, 104 + 40 * Math.ceil(sizeBytes / chunkBytes));
      assertEquals(decodeChunkIndex(bytes, "x"), index);
    }
  }
});

Deno.test("decodeChunkIndex refuses every index that is cut short or lengthened", () => {
  const bytes = encodeChunkIndex(indexOf(3 * CHUNK_BYTES));
  for (let length = 0; length < bytes.length; length++) {
    assertThrows(() => decodeChunkIndex(bytes.subarray(0, length), "x"), InputError, "x: ");
  }
  const longer = new Uint8Array(bytes.length + 40);
  longer.set(bytes);
  assertThrows(() => decodeChunkIndex(longer, "x"), InputError, "x: ");
});

Deno.test("decodeChunkIndex finds every flipped bit outside of ids and flags", () => {
  const good = encodeChunkIndex(indexOf(2 * CHUNK_BYTES + 77));
  const isId = (at: number) => at >= 64 && at < 64 + 120 && (at - 64) % 40 >= 8;
  const isFlag = (at: number) => at >= 16 && at < 24;
  // Where the last chunk ends says how long the file is, so many values are right there.
  const isLastEnd = (at: number) => at >= 144 && at < 152;
  // Sizes that differ are those of chunks that were cut by content.
  const isSize = (at: number) => at >= 24 && at < 48;
  for (let at = 0; at < good.length; at++) {
    if (isId(at) || isFlag(at) || isLastEnd(at) || isSize(at)) continue;
    for (let bit = 0; bit < 8; bit++) {
      const bad = good.slice();
      bad[at]! ^= 1 << bit;
      assertThrows(() => decodeChunkIndex(bad, "x"), InputError, "x: ");
    }
  }
});

Deno.test("decodeChunkIndex names the offset, what it found and what it wanted", () => {
  const bytes = Uint8Array.from(golden("sha256"));
  bytes[104] = 1;
  const wrongEnd = assertThrows(() => decodeChunkIndex(bytes, "a.caibx"), InputError);
  assertEquals(
    wrongEnd.message,
    "a.caibx: offset 104: the end of chunk 1 is 0x40001, wanted 0x40000",
  );
  const mixed = Uint8Array.from(golden("sha256"));
  mixed[26] = 3;
  assertThrows(() => decodeChunkIndex(mixed, "a"), InputError, "chunks of 196608 to 131072 bytes");
  mixed[26] = 2;
  mixed[43] = 2;
  assertThrows(() => decodeChunkIndex(mixed, "a"), InputError, "wanted at most 16777216");
});
