import { assertEquals } from "@std/assert";
import { littleEndianWords } from "../../lib/bytes/words.ts";

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
