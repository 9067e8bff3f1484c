import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { crc32c, crc32cBehindZeros, crc32cOfLength } from "../../lib/bytes/crc32c.ts";

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

Deno.test("crc32c is the same for parts of any length, the hasher's own buffer of 16 KiB among them", () => {
  const bytes = Uint8Array.from({ length: 50_000 }, (_, i) => (i * 31 + (i >> 8)) & 0xff);
  const whole = crc32cByBits(0x12345678, bytes);
  for (const cut of [0, 1, 255, 2048, 16_383, 16_384, 16_385, 32_768, 49_999, 50_000]) {
    assertEquals(crc32c(0x12345678, bytes.subarray(0, cut), bytes.subarray(cut)), whole);
  }
});

Deno.test("crc32cOfLength equals crc32c for any seed and length", () => {
  const seeds = fc.nat({ max: 0xffffffff });
  fc.assert(fc.property(seeds, fc.uint8Array({ maxLength: 300 }), (seed, bytes) => {
    const sum = crc32cOfLength(seed, bytes.length);
    assertEquals(sum(bytes), crc32c(seed, bytes));
    assertEquals(sum(bytes.map((byte) => ~byte)), crc32c(seed, bytes.map((byte) => ~byte)));
  }));
});

Deno.test("crc32c gives the vectors of ext4: a UUID's seed, an inode's, and bitmaps", () => {
  const uuid = Uint8Array.from(
    "12345678123412341234123456789abc".match(/../g)!,
    (byte) => parseInt(byte, 16),
  );
  const seed = crc32c(0xffffffff, uuid);
  assertEquals(seed, 0x94361cb2);
  assertEquals(crc32c(seed, Uint8Array.of(12, 0, 0, 0), new Uint8Array(4)), 0x16fbffac);
  assertEquals(crc32c(seed, new Uint8Array(4096).fill(0xff)), 0xe8c090ee);
  assertEquals(crc32c(seed, new Uint8Array(4096)), 0x55f82f74);
});

Deno.test("crc32cBehindZeros joins the sums of two parts", () => {
  for (const [first, second] of [[0, 1], [5, 3], [300, 264], [1, 4096]] as const) {
    const bytes = new Uint8Array(first + second).map((_, i) => (i * 7919) >>> 3);
    const behindZeros = crc32cBehindZeros(second);
    for (const seed of [0, 1, 0x80000000, 0x94361cb2, 0xffffffff]) {
      assertEquals(behindZeros(seed), crc32c(seed, new Uint8Array(second)));
      const joined = behindZeros(crc32c(seed, bytes.subarray(0, first))) ^
        crc32c(0, bytes.subarray(first));
      assertEquals(joined >>> 0, crc32c(seed, bytes));
    }
  }
});
