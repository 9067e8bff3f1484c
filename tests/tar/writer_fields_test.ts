import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { HEADER_FIELDS } from "../../lib/tar/format.ts";
import { checkHeaderSum, headerFormat } from "../../lib/tar/header.ts";
import { readNumberField } from "../../lib/tar/numbers.ts";
import { fitsOctal, putName, putNumber, sealHeader } from "../../lib/tar/writer_fields.ts";

Deno.test("putNumber writes what readNumberField reads, for any number that fits the field", () => {
  fc.assert(fc.property(fc.maxSafeInteger(), (value) => {
    const block = new Uint8Array(12);
    if (value === Number.MAX_SAFE_INTEGER || value === Number.MIN_SAFE_INTEGER) return;
    putNumber(block, { offset: 0, lengthBytes: 12 }, value);
    assertEquals(readNumberField(block, 0, { offset: 0, lengthBytes: 12 }), value);
  }));
  fc.assert(fc.property(fc.integer({ min: -(2 ** 31), max: 2 ** 32 - 1 }), (value) => {
    const block = new Uint8Array(9);
    putNumber(block, { offset: 1, lengthBytes: 8 }, value);
    assertEquals(readNumberField(block, 0, { offset: 1, lengthBytes: 8 }), value);
  }));
});

Deno.test("putNumber writes octal digits and a NUL where they fit, as fitsOctal says", () => {
  const text = (value: number) => {
    const block = new Uint8Array(8);
    putNumber(block, { offset: 0, lengthBytes: 8 }, value);
    return String.fromCharCode(...block);
  };
  const field = { offset: 0, lengthBytes: 8 };
  assertEquals(text(0o644), "0000644\0");
  assertEquals([text(8 ** 7 - 1), fitsOctal(8 ** 7 - 1, field)], ["7777777\0", true]);
  assertEquals([text(8 ** 7), fitsOctal(8 ** 7, field)], ["\x80\0\0\0\0\x20\0\0", false]);
  assertEquals([text(-1), fitsOctal(-1, field)], ["\xff".repeat(8), false]);
});

Deno.test("putName cuts a name at the end of its field", () => {
  const block = new Uint8Array(512);
  putName(block, HEADER_FIELDS.name, "\xff".repeat(200));
  assertEquals([block[99], block[100]], [0xff, 0]);
});

Deno.test("sealHeader makes a POSIX header whose checksum holds", () => {
  const block = new Uint8Array(512).fill(0xc8, 0, 100);
  sealHeader(block);
  assertEquals(headerFormat(block, 0), "ustar");
  checkHeaderSum(block, 0, { tarName: "t", headerOffset: 0, path: "" });
  assertEquals(String.fromCharCode(...block.subarray(148, 156)), "050657\0 ");
});
