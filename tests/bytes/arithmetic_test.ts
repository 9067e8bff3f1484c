import {
  alignDown,
  alignUp,
  divCeil,
  firstIndex,
  isPowerOfTwo,
  littleEndianWords,
  rotateLeft,
} from "../../lib/bytes/arithmetic.ts";
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";

Deno.test("divCeil, alignUp and alignDown round the way they say", () => {
  assertEquals([divCeil(0, 4), divCeil(1, 4), divCeil(4, 4), divCeil(5, 4)], [0, 1, 1, 2]);
  assertEquals([alignUp(0, 8), alignUp(1, 8), alignUp(8, 8)], [0, 8, 8]);
  assertEquals([alignDown(0, 8), alignDown(7, 8), alignDown(8, 8)], [0, 0, 8]);
});

Deno.test("alignUp and alignDown enclose every value within one step", () => {
  fc.assert(fc.property(fc.nat(), fc.integer({ min: 1, max: 1 << 20 }), (value, step) => {
    const [low, high] = [alignDown(value, step), alignUp(value, step)];
    assert(low <= value && value <= high && high - low <= step);
    assertEquals([low % step, high % step], [0, 0]);
  }));
});

Deno.test("isPowerOfTwo knows the powers and nothing else", () => {
  for (let power = 0; power < 50; power++) {
    assert(isPowerOfTwo(2 ** power));
    if (power > 1) assert(!isPowerOfTwo(2 ** power - 1));
  }
  for (const value of [0, -1, -4, 3, 0.3, NaN]) assert(!isPowerOfTwo(value), `${value}`);
});

Deno.test("rotateLeft loses no bit", () => {
  assertEquals(rotateLeft(0x12345678, 8) >>> 0, 0x34567812);
  assertEquals(rotateLeft(0x80000001, 1) >>> 0, 3);
  assertEquals(rotateLeft(1, 31) >>> 0, 0x80000000);
});

Deno.test("firstIndex finds where a condition begins to hold, and the count where it never does", () => {
  const numbers = [1, 3, 3, 7];
  const first = (value: number) => firstIndex(numbers.length, (i) => numbers[i]! >= value);
  assertEquals([0, 1, 2, 3, 4, 7, 8].map(first), [0, 0, 1, 1, 3, 3, 4]);
  assertEquals(firstIndex(0, () => true), 0);
});

const BYTES = Uint8Array.of(9, 1, 2, 3, 0x84, 5, 6, 7, 8, 9, 10, 11, 12);

Deno.test("littleEndianWords gives whole words, wherever the bytes begin and on any machine", () => {
  const wanted = [-0x7bfcfdff, 0x08070605];
  for (const isLittleEndian of [true, false]) {
    assertEquals([...littleEndianWords(BYTES.subarray(1, 10), isLittleEndian)], wanted);
    assertEquals([...littleEndianWords(BYTES.slice(1, 10), isLittleEndian)], wanted);
    assertEquals([...littleEndianWords(new Uint8Array(3), isLittleEndian)], []);
  }
});

Deno.test("littleEndianWords shares aligned memory on a little-endian machine", () => {
  const bytes = new Uint8Array(8);
  const words = littleEndianWords(bytes, true);
  bytes[4] = 7;
  assertEquals(words[1], 7);
});
