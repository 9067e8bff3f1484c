import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { InputError } from "../../lib/errors.ts";
import { memoryReader } from "../../lib/io/random_reader.ts";
import {
  type DataSegment,
  EMPTY_PAYLOAD_INDEX,
  type Payload,
  readPayload,
  runFromStart,
  wholeSegment,
} from "../../lib/model/node.ts";

function payloadOf(
  segments: readonly DataSegment[],
  store: Uint8Array,
  sizeBytes: number,
): Payload {
  return { ...EMPTY_PAYLOAD_INDEX, sizeBytes, segments, store: memoryReader(store) };
}

Deno.test("readPayload equals the file for any segments and any window", () => {
  const pieces = fc.array(fc.tuple(fc.nat({ max: 20 }), fc.uint8Array({ maxLength: 30 })), {
    maxLength: 8,
  });
  fc.assert(fc.property(pieces, fc.nat({ max: 200 }), fc.nat({ max: 300 }), (list, at, length) => {
    const segments: DataSegment[] = [];
    const file: number[] = [];
    const store: number[] = [];
    for (const [gap, bytes] of list) {
      for (let i = 0; i < gap; i++) file.push(0);
      const segment = { fileOffset: file.length, storeOffset: store.length };
      segments.push({ ...segment, lengthBytes: bytes.length });
      file.push(...bytes);
      store.push(...bytes);
    }
    const target = new Uint8Array(length).fill(0xee);
    readPayload(payloadOf(segments, Uint8Array.from(store), file.length), target, at);
    const expected = new Uint8Array(length);
    expected.set(file.slice(at, at + length));
    assertEquals(target, expected);
  }));
});

Deno.test("readPayload refuses a store that ends too early", () => {
  const payload = payloadOf(
    [{ fileOffset: 0, storeOffset: 2, lengthBytes: 10 }],
    new Uint8Array(8),
    10,
  );
  assertThrows(() => readPayload(payload, new Uint8Array(10), 0), InputError, "ends at offset 8");
});

Deno.test("runFromStart is one run from the first block, and one list for all small files", () => {
  for (const blockCount of [1, 64, 65, 1_000_000]) {
    assertEquals(runFromStart(blockCount), [{ startBlock: 0, blockCount }]);
  }
  assertStrictEquals(runFromStart(64), runFromStart(64));
  const runs = runFromStart(1);
  assertEquals([Object.isFrozen(runs), Object.isFrozen(runs[0])], [true, true]);
});

Deno.test("wholeSegment is all of a file, and nothing of an empty one", () => {
  assertEquals(wholeSegment(0), []);
  assertEquals(wholeSegment(7), [{ fileOffset: 0, storeOffset: 0, lengthBytes: 7 }]);
});
