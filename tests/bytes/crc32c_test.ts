import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { crc32c, crc32cRange, crc32cWords, crc32cZeroWords } from "../../lib/bytes/crc32c.ts";
import { littleEndianWords } from "../../lib/bytes/words.ts";

/** One bit at a time, straight from the definition. */
function crc32cByBits(seed: number, bytes: Uint8Array): number {
  let register = seed;
  for (const byte of bytes) {
    register ^= byte;
    for (let bit = 0; bit < 8; bit++) {
      register = (register >>> 1) ^ (register & 1 ? 0x82f63b78 : 0);
    }
  }
  return register >>> 0;
}

Deno.test("crc32c gives the check value on the raw register", () => {
  assertEquals(crc32c(0xffffffff, new TextEncoder().encode("123456789")), 0x1cf96d7c);
});

Deno.test("crc32c of nothing is its seed", () => {
  for (const seed of [0, 1, 0x80000000, 0xffffffff]) {
    assertEquals(crc32c(seed), seed);
    assertEquals(crc32c(seed, new Uint8Array(0)), seed);
  }
});

Deno.test("crc32c equals the definition for any seed and any cut", () => {
  const seeds = fc.nat({ max: 0xffffffff });
  fc.assert(fc.property(seeds, fc.uint8Array({ maxLength: 300 }), fc.nat(), (seed, bytes, cut) => {
    const at = bytes.length === 0 ? 0 : cut % bytes.length;
    const expected = crc32cByBits(seed, bytes);
    assertEquals(crc32c(seed, bytes), expected);
    assertEquals(crc32c(seed, bytes.subarray(0, at), bytes.subarray(at)), expected);
    assertEquals(crc32c(crc32c(seed, bytes.subarray(0, at)), bytes.subarray(at)), expected);
  }));
});

Deno.test("crc32c is the same for short and long parts, cut anywhere", () => {
  const bytes = Uint8Array.from({ length: 5000 }, (_, i) => (i * 31 + (i >> 8)) & 0xff);
  const whole = crc32c(0x12345678, bytes);
  for (const cut of [0, 1, 3, 4, 5, 255, 2047, 2048, 2049, 4999, 5000]) {
    assertEquals(crc32c(0x12345678, bytes.subarray(0, cut), bytes.subarray(cut)), whole);
  }
  for (const length of [0, 1, 2, 3, 4, 7, 8, 256]) {
    const parts = Array.from(bytes.subarray(5, 5 + length), (byte) => Uint8Array.of(byte));
    assertEquals(crc32cRange(0xffffffff, bytes, 5, 5 + length), crc32c(0xffffffff, ...parts));
  }
  assertEquals(crc32c(0xffffffff, new Uint8Array(5000)), crc32c(0xffffffff, ...ZERO_BLOCKS));
});

const ZERO_BLOCKS = Array.from({ length: 50 }, () => new Uint8Array(100));

Deno.test("crc32c skips zeros at the end, however many and behind whatever", () => {
  const counts = [0, 1, 7, 8, 9, 15, 16, 31, 100, 512, 1000, 1023, 1024, 5000];
  for (const count of counts) {
    for (const front of [[], [1], [0, 0, 0x80000000], [5, 0, 0, 0, 7]]) {
      const words = Int32Array.from([...front, ...new Uint8Array(count)]);
      const bytes = new Uint8Array(4 * words.length);
      words.forEach((word, i) => new DataView(bytes.buffer).setInt32(4 * i, word, true));
      for (const seed of [0, 0xffffffff, 0x94361cb2]) {
        const wanted = crc32cByBits(seed, bytes);
        assertEquals(crc32cWords(seed, words, 0, words.length), wanted);
        assertEquals(crc32c(seed, bytes), wanted);
        assertEquals(crc32cZeroWords(seed, count), crc32cByBits(seed, new Uint8Array(4 * count)));
      }
    }
  }
});

Deno.test("crc32cWords feeds a part of the words, low bytes first", () => {
  const bytes = Uint8Array.from({ length: 400 }, (_, i) => (i * 37 + (i >> 4)) & 0xff);
  const words = littleEndianWords(bytes);
  for (const [start, end] of [[0, 100], [1, 100], [3, 8], [5, 5], [7, 93]] as const) {
    const wanted = crc32cByBits(0x12345678, bytes.subarray(4 * start, 4 * end));
    assertEquals(crc32cWords(0x12345678, words, start, end), wanted);
  }
  assertThrows(() => crc32cWords(0, words, 0, 101), Error, "words 0 to 101 of 100");
  assertThrows(() => crc32cRange(0, bytes, 0, 401), Error, "bytes 0 to 401 of 400");
});
