import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { ZstdFrameWalker } from "../../lib/io/zstd_frames.ts";
import { joinBytes } from "../tar/build.ts";
import { skippableFrame } from "./compressed_samples.ts";

const MAGIC = [0x28, 0xb5, 0x2f, 0xfd];

/** A frame of one raw block. `descriptor` and `fields` are its header. */
function frame(descriptor: number, fields: readonly number[], content: readonly number[] = []) {
  const blockHeader = (content.length << 3) | 1;
  return new Uint8Array([
    ...MAGIC,
    descriptor,
    ...fields,
    blockHeader & 0xff,
    blockHeader >> 8,
    0,
    ...content,
    ...((descriptor & 4) !== 0 ? [1, 2, 3, 4] : []),
  ]);
}

/** The parts of a stream that comes in pieces of one size. */
function walk(bytes: Uint8Array, pieceBytes: number, cutsBlocks = true): Uint8Array[] {
  const walker = new ZstdFrameWalker("sample", cutsBlocks);
  const parts: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    parts.push(...walker.walk(bytes.subarray(at, at + pieceBytes)));
  }
  walker.end();
  return parts;
}

Deno.test("ZstdFrameWalker finds the ends of frames with every kind of header", () => {
  const frames = [
    frame(0x00, [0x50], [1, 2, 3]), // a window
    frame(0x04, [0x50], [1, 2, 3]), // a window and a checksum
    frame(0x20, [3], [1, 2, 3]), // a single segment of a size in 1 byte
    frame(0x60, [0, 0], [1]), // 2 bytes
    frame(0xa4, [0, 0, 0, 0]), // 4 bytes
    frame(0xe0, [0, 0, 0, 0, 0, 0, 0, 0]), // 8 bytes
    frame(0x01, [0x50, 0], [9]), // a dictionary id of 0, which is none
    frame(0xc3, [0x50, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], [9]),
  ];
  const all = joinBytes(frames.flatMap((bytes) => [bytes, skippableFrame(3)]));
  for (const pieceBytes of [1, 2, 3, 5, 1000]) {
    assertEquals(joinBytes(walk(all, pieceBytes)), joinBytes(frames));
    assertEquals(joinBytes(walk(all, pieceBytes, false)), joinBytes(frames));
  }
  assertEquals(walk(all, 1000, false), frames);
  const lengths = frames.flatMap((bytes) =>
    (bytes[4]! & 4) === 0 ? bytes.length : [bytes.length - 4, 4]
  );
  assertEquals(walk(all, 1000).map(({ length }) => length), lengths);
});

Deno.test("ZstdFrameWalker passes repeated and several blocks", () => {
  const bytes = new Uint8Array([
    ...MAGIC,
    0x00,
    0x50,
    ...[0x02 | 0x00, 0x80, 0x00, 0x41], // kind 1, 4096 times one byte
    ...[0x10, 0, 0, 7, 8], // raw, 2 bytes
    ...[0x01, 0, 0], // raw, empty, the last
  ]);
  assertEquals(joinBytes(walk(bytes, 1)), bytes);
  assertEquals(walk(bytes, 100).map(({ length }) => length), [10, 5, 3]);
  assertEquals(walk(bytes, 100, false), [bytes]);
  assertThrows(() => walk(bytes.subarray(0, bytes.length - 1), 4), InputError, "too early");
});

Deno.test("ZstdFrameWalker allows a window of 128 MiB and refuses a bigger one", () => {
  // Window descriptors: exponent in the upper 5 bits, above 2^10; eighths in the lower 3.
  assertEquals(walk(frame(0x00, [17 << 3]), 100).length, 1);
  assertThrows(() => walk(frame(0x00, [(17 << 3) | 1]), 100), InputError, "window");
  assertThrows(() => walk(frame(0x00, [0xff]), 100), InputError, "window");
  assertEquals(walk(frame(0xa0, [0, 0, 0, 8]), 100).length, 1);
  assertThrows(() => walk(frame(0xa0, [1, 0, 0, 8]), 100), InputError, "window");
});

Deno.test("ZstdFrameWalker refuses dictionaries, reserved bits and bad blocks", () => {
  assertThrows(() => walk(frame(0x01, [0x50, 7]), 100), InputError, "dictionary");
  assertThrows(() => walk(frame(0x08, [0x50]), 100), InputError, "reserved");
  const badBlock = new Uint8Array([...MAGIC, 0, 0x50, 0x07, 0, 0]);
  assertThrows(() => walk(badBlock, 100), InputError, "bad block");
  const bigBlock = new Uint8Array([...MAGIC, 0, 0x50, 0x09, 0, 0x10]);
  assertThrows(() => walk(bigBlock, 100), InputError, "bad block");
});

Deno.test("ZstdFrameWalker names the offset of what is no frame", async () => {
  const bytes = joinBytes([frame(0, [0x50]), new Uint8Array([1, 2, 3, 4])]);
  const error = await assertRejects(() => Promise.resolve().then(() => walk(bytes, 3)), InputError);
  assertEquals(error.message, "sample: no zstd frame at offset 9: found 0x04030201");
});
