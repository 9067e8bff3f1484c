import { assertEquals, assertThrows } from "@std/assert";
import { crc32 } from "node:zlib";
import { isAndroidSparse, openAndroidSparse } from "../../lib/disk/android_sparse.ts";
import { InputError } from "../../lib/errors.ts";
import { memoryReader, type RandomReader } from "../../lib/io/random_reader.ts";
import { hasCommand, mustRun, withTemporaryDirectory } from "../oracle/command.ts";
import { Random } from "../oracle/noise.ts";
import { notRun } from "../oracle/notice.ts";

const BLOCK_BYTES = 4096;

type Chunk =
  | { readonly type: 0xcac1; readonly bytes: Uint8Array }
  | { readonly type: 0xcac2 | 0xcac4; readonly blocks: number; readonly word: number }
  | { readonly type: 0xcac3; readonly blocks: number };

/** A sparse image, byte by byte. */
function sparse(chunks: readonly Chunk[], blocks: number): Uint8Array<ArrayBuffer> {
  const parts = chunks.map((chunk) => {
    const data = chunk.type === 0xcac1
      ? chunk.bytes
      : chunk.type === 0xcac3
      ? new Uint8Array()
      : new Uint8Array(Uint32Array.of(chunk.word).buffer);
    const header = new DataView(new ArrayBuffer(12));
    header.setUint16(0, chunk.type, true);
    const count = chunk.type === 0xcac1 ? data.length / BLOCK_BYTES : chunk.blocks;
    header.setUint32(4, count, true);
    header.setUint32(8, 12 + data.length, true);
    return [new Uint8Array(header.buffer), data];
  });
  const header = new DataView(new ArrayBuffer(28));
  header.setUint32(0, 0xed26ff3a, true);
  header.setUint16(4, 1, true);
  header.setUint16(8, 28, true);
  header.setUint16(10, 12, true);
  header.setUint32(12, BLOCK_BYTES, true);
  header.setUint32(16, blocks, true);
  header.setUint32(20, chunks.length, true);
  const all = [new Uint8Array(header.buffer), ...parts.flat()];
  const file = new Uint8Array(all.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of all) {
    file.set(part, at);
    at += part.length;
  }
  return file;
}

function open(file: Uint8Array): RandomReader {
  return openAndroidSparse(memoryReader(file, "sparse.img"));
}

function whole(reader: RandomReader): Uint8Array {
  const bytes = new Uint8Array(reader.sizeBytes);
  assertEquals(reader.readAt(bytes, 0), bytes.length);
  return bytes;
}

const RAW = new Random(1).bytes(2 * BLOCK_BYTES);
const CHUNKS: readonly Chunk[] = [
  { type: 0xcac3, blocks: 1 },
  { type: 0xcac1, bytes: RAW },
  { type: 0xcac2, blocks: 2, word: 0x04030201 },
  { type: 0xcac3, blocks: 0 },
  { type: 0xcac2, blocks: 1, word: 0xffffffff },
];

Deno.test("openAndroidSparse reads any part of any chunk", () => {
  const reader = open(sparse(CHUNKS, 6));
  const image = whole(reader);
  assertEquals(image.length, 6 * BLOCK_BYTES);
  assertEquals(image.subarray(BLOCK_BYTES, 3 * BLOCK_BYTES), RAW);
  assertEquals([...image.subarray(3 * BLOCK_BYTES - 0, 3 * BLOCK_BYTES + 5)], [1, 2, 3, 4, 1]);
  assertEquals(image.at(-1), 0xff);
  const random = new Random(2);
  for (let i = 0; i < 500; i++) {
    const start = random.below(image.length);
    const target = new Uint8Array(random.below(3 * BLOCK_BYTES));
    const count = reader.readAt(target, start);
    assertEquals(count, Math.min(target.length, image.length - start));
    assertEquals(target.subarray(0, count), image.subarray(start, start + count));
  }
  assertEquals(reader.readAt(new Uint8Array(10), image.length), 0);
});

Deno.test("openAndroidSparse checks checksums in the image", () => {
  const image = whole(open(sparse(CHUNKS, 6)));
  const right: Chunk = { type: 0xcac4, blocks: 0, word: crc32(image) };
  assertEquals(whole(open(sparse([...CHUNKS, right], 6))), image);
  const wrong = { ...right, word: right.word ^ 1 };
  assertThrows(() => open(sparse([...CHUNKS, wrong], 6)), InputError, "its checksum is");
});

Deno.test("openAndroidSparse refuses what is damaged", () => {
  const file = sparse(CHUNKS, 6);
  assertEquals(isAndroidSparse(file), true);
  assertEquals(isAndroidSparse(new Uint8Array(2)), false);
  const changed = (at: number, value: number) => {
    const copy = file.slice();
    new DataView(copy.buffer).setUint32(at, value, true);
    return copy;
  };
  const faults: readonly (readonly [Uint8Array, string])[] = [
    [file.subarray(0, 20), "has no header"],
    [changed(4, 2), "has version 2"],
    [changed(8, 5), "has headers of 5 and 0 bytes"],
    [changed(12, 0), "has blocks of 0 bytes"],
    [changed(12, 4095), "has blocks of 4095 bytes"],
    [changed(16, 7), "has 6 blocks: its header says 7"],
    [changed(16, 5), "has more blocks than it says"],
    [changed(20, 6), "ends before its chunk 5"],
    [changed(20, 0xffffffff), "has 4294967295 chunks"],
    [changed(28, 0xcac9), "has a chunk of type 0xcac9 at offset 28"],
    [changed(28 + 12 + 8, 99), "has a chunk of 99 bytes at offset 40"],
    [file.subarray(0, 5000), "has a chunk of 8204 bytes at offset 40"],
  ];
  for (const [bytes, message] of faults) assertThrows(() => open(bytes), InputError, message);
});

Deno.test("openAndroidSparse reads what img2simg makes", () => {
  if (!hasCommand("img2simg")) return notRun("images of img2simg", "img2simg is missing");
  withTemporaryDirectory((directory) => {
    const random = new Random(3);
    const image = new Uint8Array(300 * BLOCK_BYTES);
    for (let block = 0; block < 300; block++) {
      const kind = random.below(4);
      const at = block * BLOCK_BYTES;
      if (kind === 0) image.set(random.bytes(BLOCK_BYTES), at);
      if (kind === 1) image.fill(0x5a, at, at + BLOCK_BYTES);
    }
    Deno.writeFileSync(`${directory}/image`, image);
    mustRun("img2simg", [`${directory}/image`, `${directory}/sparse`]);
    assertEquals(whole(open(Deno.readFileSync(`${directory}/sparse`))), image);
  });
});
